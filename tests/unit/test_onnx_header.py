"""The ONNX header's reader: equal to the onnx package on sound files, ValueError and nothing else on the others."""

from __future__ import annotations

import ast
import re

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from tests.support.program import ROOT

from firstspike import onnx_header

MODELS = sorted((ROOT / "models").glob("*/*.onnx"))
SMALL = (ROOT / "models" / "mnist-lenet" / "ann.onnx").read_bytes()


def net(opset=13, shape=(1, 2, 4, 4), element=TensorProto.FLOAT, domains=(), metadata=None):
    kind = helper.tensor_dtype_to_np_dtype(element)
    weights = numpy_helper.from_array(np.ones((3, 2, 2, 2), kind), "w")
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("GlobalMaxPool", ["c"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", element, shape)],
        [helper.make_tensor_value_info("y", element, None)],
        [weights],
    )
    sets = [helper.make_opsetid("", opset), *(helper.make_opsetid(name, 1) for name in domains)]
    model = helper.make_model(graph, opset_imports=sets)
    helper.set_model_props(model, metadata or {})
    return model.SerializeToString()


@pytest.mark.parametrize("path", MODELS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_it_reads_what_the_onnx_package_reads(path):
    model = onnx.load(path)
    header = onnx_header.read(path.read_bytes())
    assert header.opsets == {entry.domain: entry.version for entry in model.opset_import}
    assert header.operators == sorted({node.op_type for node in model.graph.node})
    assert sum(header.elements.values()) == len(model.graph.initializer)
    for value, expected in ((header.inputs, model.graph.input), (header.outputs, model.graph.output)):
        assert [one.name for one in value] == [one.name for one in expected]
        assert [one.shape for one in value] == [
            tuple(dim.dim_value for dim in one.type.tensor_type.shape.dim) for one in expected
        ]
    channels, height, width = header.inputs[0].shape[1:]
    assert onnx_header.refusal(header, 13, (1, channels, height, width)) == ""


def test_types_shapes_and_metadata():
    data = net(element=TensorProto.FLOAT16, shape=(1, "c", 4, 4), metadata={onnx_header.POTENTIAL_UNIT: "4"})
    header = onnx_header.read(data)
    assert header.inputs == [onnx_header.Value("x", "float16", (1, None, 4, 4))]
    assert header.outputs == [onnx_header.Value("y", "float16", None)]
    assert header.elements == {"float16": 1}
    assert header.potential_unit == 4.0
    assert onnx_header.read(net()).potential_unit == 1.0


@pytest.mark.parametrize("unit", ["", "0", "-1", "nan", "inf", "four", "9" * 400])
def test_a_unit_of_the_potential_that_is_no_positive_number(unit):
    with pytest.raises(ValueError, match="positive number"):
        _ = onnx_header.read(net(metadata={onnx_header.POTENTIAL_UNIT: unit})).potential_unit


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (net(opset=14), "opset 14"),
        (net(opset=18), "export it with opset 13"),
        (net(domains=("com.microsoft",)), "com.microsoft"),
        (net(shape=("batch", 2, 4, 4)), "dynamic"),
        (net(shape=None), "dynamic"),
        (net(shape=(1, 2, 4, 5)), r"\(1, 2, 4, 5\), the model's of \(1, 2, 4, 4\)"),
    ],
)
def test_what_a_device_must_not_be_given_is_refused_by_name(data, text):
    assert re.search(text, onnx_header.refusal(onnx_header.read(data), 13, (1, 2, 4, 4)))


def test_weights_in_another_file_and_two_outputs_are_refused():
    model = onnx.load_from_string(net())
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL
    assert "another file" in onnx_header.refusal(onnx_header.read(model.SerializeToString()), 13, (1, 2, 4, 4))
    model = onnx.load_from_string(net())
    model.graph.output.append(helper.make_tensor_value_info("c", TensorProto.FLOAT, None))
    assert "2 outputs" in onnx_header.refusal(onnx_header.read(model.SerializeToString()), 13, (1, 2, 4, 4))


def test_an_initialiser_among_the_inputs_is_no_input():
    model = onnx.load_from_string(net())
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, (3, 2, 2, 2)))
    assert [one.name for one in onnx_header.read(model.SerializeToString()).inputs] == ["x"]


def test_the_higher_of_two_opsets_counts():
    model = onnx.load_from_string(net())
    model.opset_import.append(helper.make_opsetid("ai.onnx", 18))
    assert onnx_header.read(model.SerializeToString()).opset == 18


def test_no_cut_of_a_file_passes_for_the_whole():
    data = net()
    for end in range(len(data)):
        with pytest.raises(ValueError, match="not an ONNX model"):
            onnx_header.read(data[:end])


@given(st.binary(max_size=200))
def test_garbage_is_a_value_error(data):
    with pytest.raises(ValueError, match=r".+"):
        onnx_header.read(data)


@given(st.data())
def test_damaged_files_are_read_or_a_value_error(data):
    damaged = bytearray(
        net(metadata={"a": "b"}) if data.draw(st.booleans()) else SMALL[: data.draw(st.integers(0, 600))]
    )
    for _ in range(data.draw(st.integers(1, 8))):
        if damaged:
            at = data.draw(st.integers(0, len(damaged) - 1))
            damaged[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=12))
    try:
        header = onnx_header.read(bytes(damaged))
        onnx_header.refusal(header, 13, (1, 2, 4, 4))
        _ = header.potential_unit
    except ValueError:
        pass


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",  # a graph of 2**64 - 1 bytes
        b"\x3a" + b"\xff" * 11,  # a length that never ends
        b"\x42\x02\x10\x0d",  # an opset and no graph
        b"\x3a\x00",  # a graph and no opset
        b"\x3a\x00\x3a\x00\x42\x02\x10\x0d",
        b"\x38\x01",  # the graph as a number
        b"\x3b\x3c",  # groups, which protobuf gave up
        b"\x00\x00",
    ],
)
def test_huge_lengths_and_odd_structures(data):
    with pytest.raises(ValueError, match="not an ONNX model"):
        onnx_header.read(data)


def test_it_parses_as_the_workers_oldest_python():
    text = (ROOT / "runtime" / "firstspike" / "onnx_header.py").read_text("utf-8")
    ast.parse(text, feature_version=(3, 6))
    assert "from __future__" not in text

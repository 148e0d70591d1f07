"""Reading ONNX: the plain ANN computes what the ONNX reference evaluator computes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from onnx.reference import ReferenceEvaluator
from tests.support.onnx_nets import Net, lenet, nets

from firstspike.ttfs.convert.ann import Weighted, forward, logits
from firstspike.ttfs.convert.onnx_graph import load_ann
from firstspike.ttfs.network import MaxPool


def agree(net, path, samples=3):
    ann = load_ann(net.save(path))
    x = np.random.default_rng(1).random((samples, *net.given[1:]), np.float32)
    evaluator = ReferenceEvaluator(net.model())
    truth = np.concatenate([np.asarray(evaluator.run(None, {"p": one[None]})[0]).reshape(1, -1) for one in x])
    found = logits(ann.layers, x.reshape(samples, *ann.input_shape))
    np.testing.assert_allclose(found, truth, rtol=1e-3, atol=1e-4 * max(1, np.abs(truth).max()))
    return ann


@settings(deadline=None, max_examples=150)
@given(net=nets())
def test_equals_the_reference(net, tmp_path_factory):
    agree(net, tmp_path_factory.mktemp("net") / "n.onnx")


def test_lenet_is_what_it_says(tmp_path):
    ann = agree(lenet(), tmp_path / "n.onnx")
    assert [type(layer) for layer in ann.layers] == [Weighted, MaxPool] * 2 + [Weighted] * 2
    assert sum(layer.weights.size + layer.bias.size for layer in ann.weighted) == 26_338
    shapes = [out.shape[1:] for out in forward(ann.layers, np.zeros((1, 1, 28, 28), np.float32))]
    assert shapes == [(6, 24, 24), (6, 12, 12), (12, 8, 8), (12, 4, 4), (120, 1, 1), (10, 1, 1)]


def test_a_flat_input_is_a_row_of_pixels(tmp_path):
    net = Net((9,)).norm().dense(5, "matmul").relu().node("Dropout").dense(3)
    assert agree(net, tmp_path / "n.onnx").input_shape == (1, 1, 9)


@pytest.mark.parametrize("auto", ["SAME_UPPER", "VALID"])
def test_automatic_padding(auto, tmp_path):
    net = Net((1, 6, 6))
    side = 6 if auto != "VALID" else 4
    net.node("Conv", net.constant("w", net.rng.normal(size=(2, 1, 3, 3))), shape=(2, side, side), auto_pad=auto)
    agree(net.relu().flatten().dense(2), tmp_path / "n.onnx")


def test_an_average_before_padding_folds_where_the_border_agrees(tmp_path):
    net = Net((1, 8, 12)).conv(2, (1, 1)).relu().pool("AveragePool", (2, 3), (2, 3)).conv(3, (3, 3), padding=(2, 1))
    ann = agree(net.relu().flatten().dense(2), tmp_path / "n.onnx")
    assert ann.weighted[1].weights.shape == (3, 2, 6, 9)
    assert (ann.weighted[1].stride, ann.weighted[1].padding) == ((2, 3), (4, 3))


def test_a_convolution_can_give_the_answer(tmp_path):
    net = Net((1, 4, 4)).conv(3, (4, 4)).flatten().node("Softmax", axis=1)
    ann = load_ann(net.save(tmp_path / "n.onnx"))
    assert ann.layers[-1].weights.shape == (3, 1, 4, 4)
    assert ann.notes[0] == "node 'softmax2' (Softmax) is left out: it does not change the order of the answers"


def test_a_rectified_answer_is_read_before_the_rectifier(tmp_path):
    ann = load_ann(Net((1, 2, 2)).flatten().dense(3).relu().save(tmp_path / "n.onnx"))
    assert "rectifier after the last layer is left out" in ann.notes[0]
    x = np.zeros((1, 1, 2, 2), np.float32)
    assert logits(ann.layers, x).min() < 0


def test_constant_nodes_and_identities_are_constants(tmp_path):
    net = Net((1, 2, 2)).flatten()
    from onnx import helper, numpy_helper

    value = numpy_helper.from_array(net.rng.normal(size=(4, 3)).astype(np.float32))
    net.nodes.append(helper.make_node("Constant", [], ["c"], name="c", value=value))
    net.nodes.append(helper.make_node("Identity", ["c"], ["w"], name="i"))
    net.node("Identity").node("MatMul", "w", shape=(3,))
    agree(net, tmp_path / "n.onnx")

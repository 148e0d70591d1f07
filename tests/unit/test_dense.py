"""The dense form computes the network's own integers, under ONNX's reference implementation; what has no such form."""

from __future__ import annotations

import builtins
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator
from tests.unit.networks import cases, lenet

from firstspike.errors import BundleError, UnavailableError
from firstspike.ttfs.convert.dense import EXACT, UNIT, dense, slope, slope_f16
from firstspike.ttfs.definition import closed_form
from firstspike.ttfs.emulator import Emulator
from firstspike.ttfs.file import load
from firstspike.ttfs.network import Conv, Dense, Flatten, MaxPool, Network, Readout

MODELS = sorted(Path(__file__).parents[2].glob("models/*/network.npz"))


def answer(raw, network, times):
    """Potentials of a dense form, in the network's own unit."""
    model = onnx.load_from_string(raw)
    dtype = {1: np.float32, 10: np.float16}[model.graph.input[0].type.tensor_type.elem_type]
    x = (network.input_steps - times.astype(dtype))[None]
    (found,) = ReferenceEvaluator(model).run(None, {"activations": x})
    assert found.dtype == dtype
    unit = float(next(entry.value for entry in model.metadata_props if entry.key == UNIT))
    return found[0].astype(np.float32) * np.float32(unit)


@given(cases("gated"))
@settings(max_examples=150)
def test_the_dense_form_equals_the_definition(case):
    network, times = case
    np.testing.assert_array_equal(answer(dense(network), network, times), closed_form(network, times).potential)


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.parent.name)
def test_the_dense_form_of_each_shipped_network_equals_the_emulator(path):
    network, rng = load(path), np.random.default_rng(3)
    raw, emulator = dense(network), Emulator(network)
    for share in (0.0, 0.02, 0.1, 0.5, 1.0):
        drawn = rng.integers(0, network.input_steps + 1, network.input_shape)
        times = np.where(rng.random(network.input_shape) < share, drawn, network.input_steps).astype(np.uint8)
        np.testing.assert_array_equal(answer(raw, network, times), emulator.run(times).potential)


def test_layers_in_any_order_have_their_shapes():
    ones = np.ones(3, np.int16)
    readout = Readout(8, 5, 2)
    rng = np.random.default_rng(0)
    network = Network("gated", (2, 4, 4), 8, (
        Flatten(), Flatten(), Dense(rng.integers(-3, 9, (3, 32)).astype(np.int8), ones, readout),
        MaxPool((1, 1), (1, 1)), Conv(rng.integers(-3, 9, (3, 3, 1, 1)).astype(np.int8), ones, (1, 1), (0, 0), readout),
        Dense(rng.integers(-3, 9, (3, 3)).astype(np.int8), ones, readout),
        Conv(rng.integers(-3, 9, (3, 3, 1, 1)).astype(np.int8), ones, (2, 2), (0, 0), readout),
    ))  # fmt: skip
    times = rng.integers(0, 9, (2, 4, 4)).astype(np.uint8)
    np.testing.assert_array_equal(answer(dense(network), network, times), closed_form(network, times).potential)


@given(st.data())
def test_the_division_is_exact_next_to_each_step(data):
    steps = data.draw(st.integers(1, 255))
    ramp = data.draw(st.integers(1, EXACT // steps))
    m, top = np.float32(slope(Readout(steps, ramp, 0))), np.float32(ramp * (steps + 0.5))
    near = [*data.draw(st.lists(st.integers(-1, steps + 2))), 1, steps]
    n = np.array([level * ramp + by for level in near for by in (-2, -1, 0, 1)] + [1 - EXACT, EXACT - 1], np.int64)
    floored = np.floor(np.clip((n + 0.5).astype(np.float32), np.float32(0), top) * m)
    np.testing.assert_array_equal(floored, np.clip(n // ramp, 0, steps))


def test_every_division_of_a_byte_sized_network_is_exact():
    for ramp in [*range(1, 400), 1021, 4093, 16381, 32749]:
        for steps in (1, 8, 16, 127):
            n = np.arange(-2, ramp * (steps + 2)) if ramp < 400 else np.arange(1, steps + 2) * ramp - 1
            clipped = np.clip((n + 0.5).astype(np.float32), np.float32(0), np.float32(ramp * (steps + 0.5)))
            found = np.floor(clipped * np.float32(slope(Readout(steps, ramp, 0))))
            np.testing.assert_array_equal(found, np.clip(n // ramp, 0, steps))


def test_a_ramp_that_float32_cannot_divide_by_is_refused():
    slope(Readout(3, EXACT // 3, 0))
    with pytest.raises(BundleError, match=r"layer 3 \(Conv\): its ramp 2796204 times 3 steps"):
        slope(Readout(3, 2796204, 0), "layer 3 (Conv)")  # 3·2796204 > 2²³


def test_sums_that_float32_does_not_hold_are_refused():
    def network(rounding):
        wide = Dense(np.full((1, 254), 127, np.int8), np.full(1, 600, np.int16), Readout(255, 1 << 14, rounding))
        return Network("gated", (1, 1, 254), 255, (wide, Dense(*last, Readout(1, 1, 0))))

    last, most = (np.ones((1, 1), np.int8), np.zeros(1, np.int16)), (254 * 127 + 600) * 255
    assert most + (1 << 14) > EXACT > most
    full = np.zeros((1, 1, 254), np.uint8)
    for rounding in (0, EXACT - most - 1):
        found = answer(dense(network(rounding)), network(rounding), full)
        np.testing.assert_array_equal(found, closed_form(network(rounding), full).potential)
    with pytest.raises(BundleError, match=r"layer 0 \(Dense\): its potential with the rounding can reach 838860\d"):
        dense(network(EXACT - most))


def test_graph_metadata_and_types():
    for precision, kind in (("f32", 1), ("f16", 10)):
        model = onnx.load_from_string(dense(lenet("gated"), precision))
        assert [entry.version for entry in model.opset_import] == [13]
        assert model.graph.input[0].type.tensor_type.elem_type == kind
        assert model.graph.output[0].type.tensor_type.elem_type == kind
        assert {tensor.data_type for tensor in model.graph.initializer} == {kind}
        dims = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
        assert dims == [1, 1, 28, 28]


def test_the_same_network_gives_the_same_bytes():
    assert dense(lenet("gated")) == dense(lenet("gated"))


def test_no_product_follows_a_convolution_directly():
    """A compiler would fold it into the weights, which would no longer be whole."""
    model = onnx.load_from_string(dense(lenet("gated")))
    makes = {node.output[0]: node.op_type for node in model.graph.node}
    before = {makes[node.input[0]] for node in model.graph.node if node.op_type == "Mul"}
    assert before == {"Clip"}


def weights_of(raw, number):
    model = onnx.load_from_string(raw)
    return next(onnx.numpy_helper.to_array(one) for one in model.graph.initializer if one.name == f"w{number}")


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.parent.name)
def test_half_precision_weights_are_exact_and_nothing_overflows(path):
    network = load(path)
    raw = dense(network, "f16")
    for number, layer in enumerate(network.layers):
        if isinstance(layer, Conv | Dense):
            found = weights_of(raw, number).astype(np.float64)
            largest = np.abs(layer.weights.astype(np.int64)).max()
            unit = largest / np.abs(found).max()
            assert unit == 2.0 ** round(np.log2(unit))
            np.testing.assert_array_equal(found * unit, layer.weights)
            assert (np.abs(found[found != 0]) >= np.finfo(np.float16).smallest_normal).all()
    for times in (np.zeros(network.input_shape, np.uint8), np.full(network.input_shape, network.input_steps, np.uint8)):
        found = answer(raw, network, times)
        truth = closed_form(network, times).potential
        assert np.isfinite(found).all()
        # A potential of up to 2¹⁶ rounds to a multiple of 32; few of the activations that it sums may be one off.
        assert np.abs(found - truth).max() <= 64


@pytest.mark.parametrize("steps", [1, 4, 8])
def test_half_precision_divides_exactly_as_long_as_sums_are_exact(steps):
    for ramp in range(1, 2048 // (steps + 1)):
        unit = 2.0 ** round(np.log2(ramp))
        n = np.arange((steps + 1) * ramp)
        floored = np.floor((n / unit).astype(np.float16) * np.float16(slope_f16(Readout(steps, ramp, 0), unit)))
        assert (floored != n // ramp).sum() <= 0.005 * len(n), ramp


@pytest.mark.parametrize("neuron", ["quartz", "rate"])
def test_other_neurons_have_no_dense_form(neuron):
    network = replace(lenet("gated"), neuron=neuron)
    with pytest.raises(BundleError, match=rf'gated neurons have a dense form: {neuron} .*network = "ann"'):
        dense(network)


def test_without_onnx_the_error_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def no_onnx(name, *args, **kwargs):
        if name == "onnx":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_onnx)
    with pytest.raises(UnavailableError, match=r"pip install 'firstspike\[convert\]'"):
        dense(lenet("gated"))

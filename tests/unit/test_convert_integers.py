"""Normalisation, integers and the self-check: what they promise of any network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.support.onnx_nets import Net, lenet, nets

from firstspike.bundle import InputSpec
from firstspike.encode import define
from firstspike.errors import DataError
from firstspike.ttfs.convert.ann import Ann, Weighted, forward, logits
from firstspike.ttfs.convert.calibration import Samples, encode
from firstspike.ttfs.convert.normalise import normalise
from firstspike.ttfs.convert.onnx_graph import load_ann
from firstspike.ttfs.convert.quantise import Plan, quantise
from firstspike.ttfs.convert.report import compare
from firstspike.ttfs.convert.targets import look
from firstspike.ttfs.definition import closed_form, run
from firstspike.ttfs.emulator import Emulator
from firstspike.ttfs.limits import check
from firstspike.ttfs.network import Conv, Dense
from firstspike.types import EVENT


def samples(shape, n=40, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.random((n, *shape)) * (rng.random((n, *shape)) < 0.7)).astype(np.float32)


def ann_of(net: Net, folder: Path) -> Ann:
    return load_ann(net.save(folder / "n.onnx"))


def lively(ann, x, percentile=99.9):
    """Normalised, or a discarded example where a random layer happens to be silent."""
    return unless("silent", lambda: normalise(ann, x, percentile))


def unless(text, work):
    """The result, or a discarded example where a random network meets the one refusal that it may meet."""
    try:
        return work()
    except DataError as error:
        assert text in str(error)  # noqa: PT017 (every other refusal fails the test)
        assume(False)


@settings(deadline=None, max_examples=40)
@given(net=nets(), percentile=st.sampled_from([50, 98.5, 99.9, 100]))
def test_normalised_activations_are_the_originals_over_their_scale(net, percentile, tmp_path_factory):
    ann = ann_of(net, tmp_path_factory.mktemp("net"))
    x = samples(ann.input_shape)
    found = lively(ann, x, percentile)
    scales = iter(found.scales)
    scale = 1.0
    for layer, before, after in zip(ann.layers, forward(ann.layers, x), forward(found.ann.layers, x), strict=True):
        if isinstance(layer, Weighted):
            scale = next(scales)
            positive = before[before > 0]
            if positive.size:  # Algorithm 1: the percentile of every layer becomes 1
                assert np.percentile(positive, percentile) == pytest.approx(scale, rel=1e-4)
                assert np.percentile(after[after > 0], percentile) == pytest.approx(1, rel=1e-3)
        np.testing.assert_allclose(after, before / scale, rtol=1e-3, atol=1e-4)


@settings(deadline=None, max_examples=40)
@given(
    net=nets(), neuron=st.sampled_from(["gated", "quartz"]), bits=st.sampled_from([3, 5, 8]),
    steps=st.sampled_from([1, 4, 16, 255]), refit=st.sampled_from(["none", "bias", "weights"]), data=st.data(),
)  # fmt: skip
def test_integers_keep_every_limit(net, neuron, bits, steps, refit, data, tmp_path_factory):
    ann = ann_of(net, tmp_path_factory.mktemp("net"))
    x = samples(ann.input_shape)
    layers = tuple(data.draw(st.sampled_from([steps, 2, 16])) for _ in ann.weighted)
    normalised = lively(ann, x)
    # Weights of 3 bits and a T that grows from layer to layer can leave less than one unit for a step.
    network = unless(
        "no scale", lambda: quantise(normalised, look(ann, x), Plan(neuron, steps, layers, bits, refit))
    ).network
    check(network)
    weighted = [layer for layer in network.layers if isinstance(layer, Conv | Dense)]
    assert [layer.readout.steps for layer in weighted] == list(layers)
    for layer in weighted:
        assert np.abs(layer.weights.astype(int)).max() <= 2 ** (bits - 1) - 1
        if layer.weights.min() < 0 < layer.weights.max():
            assert not (layer.weights % 2).any()
        assert layer.readout.rounding == layer.readout.ramp // 2


@settings(deadline=None, max_examples=25)
@given(net=nets())
def test_with_many_steps_the_logits_are_the_anns(net, tmp_path_factory):
    """T = 255 and P = 100: what is left is the weights' rounding, well below the spread of the logits."""
    ann = ann_of(net, tmp_path_factory.mktemp("net"))
    x = samples(ann.input_shape)
    normalised = lively(ann, x, 100)
    made = quantise(normalised, look(ann, x), Plan("gated", 255, (255,) * len(ann.weighted)))
    found = np.stack([closed_form(made.network, one).potential for one in encode(x, 255)])
    truth = logits(ann.layers, x)
    off = found * made.logit * normalised.scales[-1] - truth
    assert np.sqrt(np.square(off).mean()) < 0.08 * np.abs(truth).max()


def test_steps_of_different_length_follow_each_other(tmp_path):
    """Per-layer T: each layer's ramp takes the steps before it into account."""
    ann = ann_of(lenet(), tmp_path)
    x = samples(ann.input_shape)
    normalised, truth = normalise(ann, x, 99.9), logits(ann.layers, x)
    found = {}
    for steps in ((64, 16, 64, 8), (16, 64, 8, 255)):
        made = quantise(normalised, look(ann, x), Plan("gated", 32, steps))
        emulator = Emulator(made.network)  # the definition would walk 300 steps of 4,354 neurons for each
        found[steps] = np.stack([emulator.run(one).potential for one in encode(x, 32)])
        off = found[steps] * made.logit * normalised.scales[-1] - truth
        assert np.sqrt(np.square(off).mean()) < 0.15 * truth.std()


def test_a_layer_of_one_sign_uses_every_weight(tmp_path):
    net = Net((1, 3, 3)).conv(2, (2, 2), bias=False).relu().flatten().dense(2)
    ann = ann_of(net, tmp_path)
    first = Weighted("c", np.abs(ann.weighted[0].weights), ann.weighted[0].bias)
    ann = Ann(ann.input_shape, (first, *ann.layers[1:]))
    x = samples(ann.input_shape)
    network = quantise(normalise(ann, x, 99.9), look(ann, x), Plan("gated", 16, (16, 16))).network
    assert (network.layers[0].weights % 2).any()


def test_large_weights_shrink_until_the_potential_fits(tmp_path):
    net = Net((2, 60, 60)).flatten().dense(4)
    ann = ann_of(net, tmp_path)
    wide = Weighted("d", np.abs(ann.weighted[0].weights) + 1, ann.weighted[0].bias)
    ann = Ann(ann.input_shape, (*ann.layers[:-1], wide))
    x = samples(ann.input_shape, 8)
    network = quantise(normalise(ann, x, 100), look(ann, x), Plan("gated", 255, (255,))).network
    # 7,200 inputs of 255 steps: 4 is the largest mean weight with |u| < 2²³.
    assert 1 <= network.layers[-1].weights.max() <= 8


@settings(deadline=None, max_examples=200)
@given(scale=st.integers(1, 999), steps=st.integers(1, 255), data=st.data())
def test_the_code_of_p_is_that_of_the_events_it_stands_for(scale, steps, data):
    spec = InputSpec(channels=1, height=1, width=1, encoding="count", steps=steps, count_scale=scale)
    n = data.draw(st.integers(0, scale))
    spikes = define(spec, 1, 1, np.zeros(n, EVENT), 0, 1)
    assert encode(np.float32([[[n / scale]]]), steps) == spikes.times


@pytest.mark.parametrize("neuron", ["gated", "quartz"])
def test_the_report_is_what_the_definition_says(neuron, tmp_path):
    net = Net((1, 10, 10), 5).conv(3, (3, 3)).relu().pool("MaxPool", (2, 2), (2, 2)).flatten().dense(4).relu()
    ann = ann_of(net.dense(3), tmp_path)
    x = samples(ann.input_shape, 70)  # more than a batch
    truth = np.arange(70) % 3
    normalised = normalise(ann, x, 95)
    made = quantise(normalised, look(ann, x), Plan(neuron, 4, (4, 8, 4)))
    report = compare(normalised, made, Samples(x, truth))
    results = [run(made.network, one) for one in encode(x, 4)]
    answers = np.array([result.potential.argmax() for result in results])
    ann_answers = logits(ann.layers, x).argmax(1)
    assert report.samples == 70
    assert report.agreement == report.layers[-1].agreement == (answers == ann_answers).mean()
    assert report.ann_accuracy == (ann_answers == truth).mean()
    assert report.snn_accuracy == report.layers[-1].accuracy == (answers == truth).mean()
    frames, bounds = made.network.frames(), check(made.network)
    layers = list(forward(normalised.ann.layers, x))
    for one in report.layers[:-1]:
        spikes = np.stack([result.spike_steps[one.number] for result in results])
        off = np.abs(frames[one.number].last - spikes - one.steps * layers[one.number])
        assert one.mean_error == pytest.approx(off.mean(), rel=1e-5)
        assert one.max_error == pytest.approx(off.max(), rel=1e-5)
        assert one.early == (spikes < frames[one.number].end).mean()
        assert one.active == (spikes < frames[one.number].last).mean()
        positive = layers[one.number][layers[one.number] > 0]
        assert one.saturated == pytest.approx((positive > 1).mean())
        assert (one.lowest, one.highest) == (bounds[one.number].lowest, bounds[one.number].highest)
        assert one.accumulator == ("int16" if max(-one.lowest, one.highest + 1) <= 32768 else "int32")
    assert (sum(one.early for one in report.layers) > 0) == (neuron == "quartz")
    # The hybrid after the last hidden layer, once more by hand.
    activations = 8 - (np.stack([result.spike_steps[3] for result in results]) - frames[3].end)
    after = logits(normalised.ann.layers[4:], (activations / 8).astype(np.float32)).argmax(1)
    assert report.layers[1].agreement == (after == ann_answers).mean()

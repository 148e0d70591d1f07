"""Scales, refits and the choice between them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.onnx_nets import Net, nets

from firstspike.errors import DataError
from firstspike.ttfs.convert.ann import Weighted, forward, logits, patches
from firstspike.ttfs.convert.calibration import encode
from firstspike.ttfs.convert.choose import MULTIPLES, choose, log_softmax
from firstspike.ttfs.convert.normalise import CLOSEST, Seen, closest, gather, normalise
from firstspike.ttfs.convert.onnx_graph import load_ann
from firstspike.ttfs.convert.quantise import Plan, quantise
from firstspike.ttfs.convert.refit import RIDGE, refit
from firstspike.ttfs.convert.targets import look
from firstspike.ttfs.definition import run


def samples(shape, n=64, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.random((n, *shape)) * (rng.random((n, *shape)) < 0.7)).astype(np.float32)


def small(folder, seed=2):
    net = Net((1, 7, 7), seed).conv(4, (3, 3)).relu().pool("MaxPool", (2, 2), (1, 1)).flatten().dense(6).relu()
    return load_ann(net.dense(3).save(folder / "n.onnx"))


@settings(deadline=None, max_examples=30)
@given(net=nets())
def test_targets_are_what_the_ann_gives_there(net, tmp_path_factory):
    ann = load_ann(net.save(tmp_path_factory.mktemp("net") / "n.onnx"))
    x = samples(ann.input_shape, 5)
    found = look(ann, x)
    weighted = [number for number, layer in enumerate(ann.layers) if isinstance(layer, Weighted)]
    outs = [x, *forward(ann.layers, x)]
    for place, number in enumerate(weighted):
        layer, wanted = ann.layers[number], found.wanted[place]
        rows = found.inputs(place, layer, outs[number])
        z = rows @ layer.weights.reshape(len(layer.weights), -1).T + layer.bias
        np.testing.assert_allclose(wanted, z, rtol=1e-3, atol=1e-4)
        assert all(len(set(one)) == len(one) for one in found.places[place])
        whole = patches(layer, outs[number]).shape
        assert found.places[place].shape == (5, whole[1] * whole[2])  # small layers are taken whole


def rounding_error(values, steps, scale):
    return np.square(np.clip(np.rint(values * steps / scale), 0, steps) * scale / steps - values).mean()


@settings(deadline=None, max_examples=60)
@given(steps=st.integers(1, 64), seed=st.integers(0, 2**32 - 1))
def test_the_closest_scale_is_the_best_of_those_tried(steps, seed):
    values = np.random.default_rng(seed).exponential(2.0, 400)
    scale, _ = closest(Seen((values.astype(np.float32),) * 2), (steps, steps))
    tried = np.percentile(values.astype(np.float32), 99.99) * CLOSEST
    best = min(rounding_error(values, steps, one) for one in tried)
    assert rounding_error(values, steps, scale) == pytest.approx(best, rel=1e-4)


@pytest.mark.parametrize("steps", [1, 2, 4, 8, 16, 32, 63])
def test_the_closest_scale_errs_less_than_any_percentile(steps):
    # Many values: on few of them the error zigzags with the scale by more than the grid of scales is wide.
    values = np.random.default_rng(steps).exponential(2.0, 20_000).astype(np.float32)
    scale, _ = closest(Seen((values, values)), (steps, steps))
    grid = [np.percentile(values, percentile) for percentile in (50, 80, 90, 95, 98.5, 99, 99.9, 100)]
    assert rounding_error(values, steps, scale) <= 1.02 * min(rounding_error(values, steps, one) for one in grid)


def test_a_refit_of_the_last_layer_is_ridge_regression():
    rng = np.random.default_rng(1)
    layer = Weighted("d", rng.normal(size=(3, 5)).astype(np.float32), rng.normal(size=3).astype(np.float32))
    given_ = rng.random((200, 5)).astype(np.float32)
    wanted = (given_ @ rng.normal(size=(5, 3)) + 0.3).astype(np.float32)
    found = refit(layer, given_, wanted, "weights", last=True, most=1.0)
    # The same by a stacked least-squares problem.
    inputs = np.concatenate([given_, np.ones((200, 1))], 1)
    start = np.concatenate([layer.weights, layer.bias[:, None]], 1)
    ridge = np.sqrt(RIDGE * np.square(inputs).sum() / 6)
    stacked = np.concatenate([inputs, ridge * np.eye(6)])
    truth = np.linalg.lstsq(stacked, np.concatenate([wanted, ridge * start.T]), rcond=None)[0].T
    np.testing.assert_allclose(np.concatenate([found.weights, found.bias[:, None]], 1), truth, rtol=1e-4, atol=1e-5)


def test_a_refit_makes_the_error_after_the_rectifier_smaller_and_keeps_zeros():
    rng = np.random.default_rng(2)
    weights = (rng.normal(0, 0.25, (6, 2, 3, 3)) * (rng.random((6, 2, 3, 3)) < 0.6)).astype(np.float32)
    layer = Weighted("c", weights, rng.normal(0.2, 0.2, 6).astype(np.float32))
    exact = rng.random((500, 18)).astype(np.float32)
    coarse = np.ceil(exact * 2) / np.float32(2)  # rounds up, as the input's code does
    wanted = exact @ weights.reshape(6, -1).T + layer.bias

    def error(one):
        found = coarse @ one.weights.reshape(6, -1).T + one.bias
        return np.square(np.clip(found, 0, 1) - np.clip(wanted, 0, 1)).mean()

    fitted = {how: refit(layer, coarse, wanted, how, last=False, most=1.0) for how in ("none", "bias", "weights")}
    assert fitted["none"] is layer
    assert error(fitted["weights"]) < 0.8 * error(layer)
    assert error(fitted["bias"]) < 0.8 * error(layer)
    assert np.array_equal(fitted["bias"].weights, layer.weights)
    assert not fitted["weights"].weights[weights == 0].any()


@pytest.mark.parametrize("neuron", ["gated", "quartz"])
def test_the_choice_is_the_try_that_answers_most_like_the_ann(neuron, tmp_path):
    ann, told = small(tmp_path), []
    x = samples(ann.input_shape)
    found = choose(ann, x, Plan(neuron, 4, (4, 4, 4)), told.append)
    assert len(told) == len(found.tries) == len({(one.multiple, one.refit) for one in found.tries})
    assert [one.multiple for one in found.tries if one.refit == "none"] == list(MULTIPLES)
    assert {one.refit for one in found.tries} == {"none", "bias", "weights"}
    assert found.best.divergence == min(one.divergence for one in found.tries)
    judged = x[1::2]
    potential = np.stack([run(found.quantised.network, one).potential for one in encode(judged, 4)])
    p = np.exp(log_softmax(logits(ann.layers, judged)))
    q = log_softmax(potential * found.quantised.logit * found.normalised.scales[-1])
    assert found.best.divergence == pytest.approx((p * (np.log(p) - q)).sum(1).mean())
    scales = [one * found.best.multiple for one in closest(gather(ann, x), (4, 4, 4))[:-1]]
    assert list(found.normalised.scales[:-1]) == scales


def test_the_choice_beats_a_percentile(tmp_path):
    """On samples that neither has seen, with few steps, where scales matter most."""
    ann = small(tmp_path)
    x, fresh = samples(ann.input_shape, 400), samples(ann.input_shape, 400, seed=9)
    truth = logits(ann.layers, fresh)

    def off(normalised, made):
        potential = np.stack([run(made.network, one).potential for one in encode(fresh, 3)])
        return np.square(potential * made.logit * normalised.scales[-1] - truth).mean()

    plan = Plan("gated", 3, (3, 3, 3))
    found, plain = choose(ann, x, plan, lambda _: None), normalise(ann, x, 99.9)
    assert off(found.normalised, found.quantised) < 0.8 * off(plain, quantise(plain, look(ann, x), plan))


def test_one_sample_is_enough_and_no_integers_are_named(tmp_path):
    ann = small(tmp_path)
    assert choose(ann, samples(ann.input_shape, 1), Plan("gated", 4, (4, 4, 4)), lambda _: None).tries
    steep = Weighted("steep", ann.weighted[0].weights, np.float32([1e9, 0, 0, 0]))
    ann = type(ann)(ann.input_shape, (ann.layers[0], *ann.layers[1:-1], ann.layers[-1]))
    faulty = type(ann)(ann.input_shape, (steep, *ann.layers[1:]))
    with pytest.raises(DataError, match="steep: no scale gives whole numbers"):
        # Percentile 99.99 of the activations is the constant channel's; T = 1 after 255 leaves no ramp below the limit.
        quantise(normalise(faulty, samples(ann.input_shape, 4), 1), look(faulty, samples(ann.input_shape, 4)),
                 Plan("gated", 1, (255, 255, 255), 3))  # fmt: skip

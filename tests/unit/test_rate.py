"""The rate-coded baseline: its definition, its emulator, its limits and its file."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.unit.networks import inputs, lenet, networks

from firstspike.errors import BundleError, DataError
from firstspike.ttfs import definition, rate
from firstspike.ttfs.emulator import Emulator
from firstspike.ttfs.file import load, save
from firstspike.ttfs.limits import POTENTIAL_LIMIT, check
from firstspike.ttfs.network import Conv, Dense, Flatten, MaxPool, Network, Readout
from firstspike.ttfs.rate_emulator import RateEmulator, emulator


def coded(network, duration):
    """The rate-coded network of the same weights; thresholds near the sizes of its currents."""
    layers, full = [], network.input_steps
    for layer in network.layers:
        if isinstance(layer, Conv | Dense):
            ramp = layer.readout.ramp * full
            rounding = {0: 0, layer.readout.ramp - 1: ramp - 1}.get(layer.readout.rounding, ramp // 2)
            layer, full = replace(layer, readout=Readout(1, ramp, rounding)), 1
        layers.append(layer)
    return replace(network, neuron="rate", layers=tuple(layers), duration=duration)


@st.composite
def cases(draw):
    network = coded(draw(networks("gated")), draw(st.sampled_from([1, 2, 7, 25, 60])))
    try:
        check(network)
    except BundleError as error:
        assert "its current can reach" in str(error)  # noqa: PT017 (the one way in which it may not be allowed)
        assume(False)
    return network, draw(inputs(network))


def neuron(weight, bias, threshold, start, duration, *, value=1, steps=1):
    """One neuron with one input; its number of spikes, its charge, its first spike."""
    layer = Dense(np.int8([[weight]]), np.int16([bias]), Readout(1, threshold, start))
    network = Network("rate", (1, 1, 1), steps, (layer,), duration)
    found = rate.run(network, np.uint8([[[steps - value]]]))
    return int(found.counts[0][0, 0, 0]), int(found.potential[0]), int(found.first_spike[0])


def test_a_constant_current_is_counted_in_thresholds():
    for current, threshold, start, duration in [(3, 10, 0, 20), (3, 10, 5, 20), (9, 10, 9, 7), (10, 10, 0, 5)]:
        count, charge, first = neuron(current, 0, threshold, start, duration)
        assert count == (start + duration * current) // threshold
        assert charge == duration * current
        assert first == -(-(threshold - start) // current) - 1


def test_what_one_neuron_cannot_say():
    assert neuron(30, 0, 10, 0, 20)[0] == 20  # at most a spike a step
    assert neuron(-5, 0, 10, 9, 20) == (0, -100, 20)  # never: its first spike is the duration
    assert neuron(2, 1, 10, 0, 20, value=3, steps=4)[:2] == (20, 20 * (2 * 3 + 4))  # a bias as strong as a full input


def test_what_a_neuron_owes_is_paid_by_subtraction():
    """12, then 12 more: the reset keeps the rest of the first spike."""
    assert neuron(12, 0, 20, 0, 5) == (3, 60, 1)


def test_the_membrane_stops_at_24_bits():
    """Strong inhibition for 100 steps, as deep as 24 bits; without the stop the answer would need the rest as well."""
    first = Dense(np.int8([[127], [-127]]), np.int16([0, 0]), Readout(1, 127 * 255, 0))
    last = Dense(np.int8([[1, 1]]), np.int16([0]), Readout(1, 1, 0))
    network = Network("rate", (1, 1, 1), 255, (first, Flatten(), last), 400)
    found = rate.run(network, np.uint8([[[0]]]))
    assert found.counts[0].ravel().tolist() == [400, 0]
    assert check(network)[0].lowest == 1 - POTENTIAL_LIMIT
    np.testing.assert_array_equal(RateEmulator(network).trace(np.uint8([[[0]]])).potential, found.potential)


def test_a_pool_counts_what_its_strongest_input_counts():
    rng = np.random.default_rng(4)
    conv = Conv(
        rng.integers(-40, 90, (3, 1, 2, 2)).astype(np.int8), np.zeros(3, np.int16), (1, 1), (0, 0), Readout(1, 900, 450)
    )
    dense = Dense(rng.integers(-90, 90, (2, 12)).astype(np.int8), np.zeros(2, np.int16), Readout(1, 90, 45))
    network = Network("rate", (1, 5, 5), 8, (conv, MaxPool((2, 2), (2, 2)), Flatten(), dense), 50)
    found = rate.run(network, rng.integers(0, 9, (1, 5, 5)).astype(np.uint8))
    blocks = found.counts[0].reshape(3, 2, 2, 2, 2).max((2, 4))
    np.testing.assert_array_equal(found.counts[1], blocks)
    np.testing.assert_array_equal(found.counts[2].ravel(), blocks.ravel())
    assert len(np.unique(blocks)) > 3


def test_rates_approach_the_activations_that_times_say_at_once():
    """The same integers, rate against time: with many steps the count is the activation of the closed form."""
    timed = lenet("gated", 16)
    random = np.random.default_rng(3)
    times = np.where(random.random((1, 28, 28)) < 0.8, 16, random.integers(0, 17, (1, 28, 28))).astype(np.uint8)
    steps = [layer.readout.ramp for layer in timed.layers if isinstance(layer, Conv | Dense)]
    layers, number = [], 0
    for layer in timed.layers:
        if isinstance(layer, Conv | Dense):
            theta = steps[number] * (16 if number == 0 else 1)
            layer, number = replace(layer, readout=Readout(1, theta, theta // 2)), number + 1
        layers.append(layer)
    found = RateEmulator(replace(timed, neuron="rate", layers=tuple(layers), duration=512)).trace(times)
    wanted = definition.closed_form(timed, times)
    activation = timed.frames()[0].last - wanted.spike_steps[0]
    off = np.abs(found.counts[0] / 512 * 16 - activation)
    assert off.max() < 0.6  # half a step of rounding
    assert np.corrcoef(found.potential, wanted.potential)[0, 1] > 0.99


@settings(deadline=None, max_examples=200)
@given(cases())
def test_the_emulator_equals_the_definition(case):
    network, times = case
    expected, native = rate.run(network, times), RateEmulator(network)
    for _ in range(2):  # nothing of an inference is left for the next
        actual = native.trace(times)
        for number, (want, have) in enumerate(zip(expected.counts, actual.counts, strict=True)):
            np.testing.assert_array_equal(have, want, err_msg=f"layer {number} of {network}")
    for answer in (actual, native.run(times)):
        np.testing.assert_array_equal(answer.potential, expected.potential)
        np.testing.assert_array_equal(answer.first_spike, expected.first_spike)


def test_a_network_of_lenets_size():
    network = coded(lenet("gated"), 40)
    random = np.random.default_rng(5)
    times = np.where(random.random((1, 28, 28)) < 0.8, 16, random.integers(0, 17, (1, 28, 28))).astype(np.uint8)
    want, have = rate.run(network, times), RateEmulator(network).trace(times)
    for a, b in zip(want.counts, have.counts, strict=True):
        np.testing.assert_array_equal(a, b)
    assert sum(int(one.sum()) for one in have.counts) > 10_000


@settings(deadline=None, max_examples=30)
@given(case=cases())
def test_its_file(case, tmp_path_factory):
    network, times = case
    path = tmp_path_factory.mktemp("net") / "n.npz"
    save(network, path)
    again = load(path)
    assert (again.neuron, again.duration) == ("rate", network.duration)
    np.testing.assert_array_equal(RateEmulator(again).run(times).potential, RateEmulator(network).run(times).potential)


def simple(**changes):
    readout = Readout(changes.pop("steps", 1), changes.pop("ramp", 100), 0)
    layer = Dense(np.full((2, 4), changes.pop("weight", 50), np.int8), np.zeros(2, np.int16), readout)
    return replace(Network("rate", (1, 2, 2), 8, (Flatten(), layer), 16), **changes)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"duration": 0}, r"duration \(neuron 'rate'\) is 0, must be an integer from 1 to 4096"),
        ({"duration": 4097}, r"duration.*4097"),
        ({"neuron": "gated"}, r"duration \(neuron 'gated'\) is 16, must be an integer from 0 to 0"),
        ({"steps": 2}, r"layer 1 \(Dense\) steps \(neuron 'rate'\) is 2"),
        ({"ramp": POTENTIAL_LIMIT}, r"layer 1 \(Dense\).*threshold 8388608 must be below"),
        ({"weight": 127, "input_shape": (1, 300, 300)}, "expect 4 inputs"),
    ],
)
def test_what_is_not_allowed(changes, text):
    with pytest.raises(BundleError, match=text):
        check(simple(**changes))


def test_a_sum_of_currents_that_32_bits_do_not_hold():
    wide = Dense(np.full((1, 20_000), 127, np.int8), np.zeros(1, np.int16), Readout(1, 1000, 0))
    network = Network("rate", (1, 100, 200), 255, (Flatten(), wide), 2)
    with pytest.raises(BundleError, match=r"layer 1 \(Dense\): its current can reach 0 to 647700000 a step, 2 times"):
        RateEmulator(network)
    check(replace(network, duration=1))


def test_inputs_that_do_not_fit():
    native = RateEmulator(simple())
    for wrong in (np.zeros((1, 2, 3), np.uint8), np.zeros((1, 2, 2), np.int8)):
        with pytest.raises(DataError, match="the network takes uint8"):
            native.run(wrong)
    with pytest.raises(DataError, match="encode with the same number"):
        native.run(np.full((1, 2, 2), 9, np.uint8))
    answer = native.run(np.zeros((1, 2, 4), np.uint8)[:, :, ::2])  # not contiguous
    assert answer.potential.tolist() == [16 * 4 * 50 * 8] * 2


def test_neither_code_is_run_as_the_other():
    rated, timed = simple(), lenet("quartz")
    assert isinstance(emulator(rated), RateEmulator)
    assert isinstance(emulator(timed), Emulator)
    times = np.zeros((1, 2, 2), np.uint8)
    for wrong in (Emulator, lambda one: definition.run(one, times), lambda one: definition.closed_form(one, times)):
        with pytest.raises(BundleError, match="numbers of spikes, not as times"):
            wrong(rated)
    for wrong in (RateEmulator, lambda one: rate.run(one, np.zeros((1, 28, 28), np.uint8))):
        with pytest.raises(BundleError, match="'quartz', not 'rate'"):
            wrong(timed)

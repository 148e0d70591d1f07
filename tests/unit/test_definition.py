"""The definition: each point that its docstring settles, and agreement with the closed form and with LIF on Loihi."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from tests.unit.networks import cases

from firstspike.errors import BundleError, DataError
from firstspike.ttfs.definition import closed_form, run
from firstspike.ttfs.limits import check
from firstspike.ttfs.network import Conv, Dense, Flatten, MaxPool, Network, Readout


def dense(weights, bias=None, steps=8, ramp=1, rounding=0):
    weights = np.array(weights, np.int8)
    bias = np.zeros(len(weights), np.int16) if bias is None else np.array(bias, np.int16)
    return Dense(weights, bias, Readout(steps, ramp, rounding))


def network_of(*layers, neuron="gated", steps=8, inputs=None):
    return Network(neuron, (inputs or layers[0].weights.shape[1], 1, 1), steps, layers)


def times_of(*times):
    return np.array(times, np.uint8).reshape(-1, 1, 1)


def assert_same(one, other):
    for number, (a, b) in enumerate(zip(one.spike_steps, other.spike_steps, strict=True)):
        np.testing.assert_array_equal(a, b, err_msg=f"layer {number}")
    np.testing.assert_array_equal(one.potential, other.potential)
    np.testing.assert_array_equal(one.first_spike, other.first_spike)


def test_the_example_of_the_papers_figure_1():
    """x = (0.75, 0.25), w = ±1: 0.5 and the rectified -0.5, at T = 8."""
    result = run(network_of(dense([[1, -1], [-1, 1]])), times_of(2, 6))
    assert result.potential.tolist() == [4, -4]
    assert result.first_spike.tolist() == [2 * 8 - 4, 2 * 8]


@settings(deadline=None, max_examples=100)
@given(cases("gated"))
def test_gated_equals_the_closed_form_always(case):
    assert_same(run(*case), closed_form(*case))


@settings(deadline=None, max_examples=100)
@given(cases("quartz"))
def test_quartz_equals_the_closed_form_where_nobody_is_early(case):
    network, times = case
    result = run(network, times)
    rows = zip(network.layers, network.frames(), result.spike_steps, strict=True)
    assume(all(spikes.min() >= frame.end for layer, frame, spikes in rows if isinstance(layer, Conv | Dense)))
    assert_same(result, closed_form(network, times))


@settings(deadline=None, max_examples=100)
@given(cases())
def test_bounds_hold_and_everyone_spikes_once_in_time(case):
    network, times = case
    bounds, result = check(network), run(network, times)
    for number, frame in enumerate(network.frames()):
        spikes = result.spike_steps[number]
        assert spikes.max() <= frame.last
        if number in bounds:
            assert spikes.min() >= bounds[number].earliest
    last = bounds[len(network.layers) - 1]
    assert last.lowest <= result.potential.min()
    assert result.potential.max() <= last.highest


@pytest.mark.parametrize(
    ("rounding", "activations"), [(0, [0, 0, 1, 1, 2]), (5, [0, 1, 1, 2, 2]), (9, [1, 1, 2, 2, 3])]
)
def test_rounding_down_to_nearest_and_up(rounding, activations):
    """Potentials 4, 5, 14, 15, 24 with a ramp of 10; a half rounds up with r = ramp // 2."""
    layer = dense([[4], [5], [14], [15], [24]], ramp=10, rounding=rounding)
    result = run(network_of(layer, steps=1), times_of(0))
    assert result.potential.tolist() == [4, 5, 14, 15, 24]
    assert (1 + 8 - result.first_spike).tolist() == activations


def test_reaching_the_threshold_exactly_spikes():
    result = run(network_of(dense([[8], [7]], ramp=8), steps=8), times_of(0))
    assert result.first_spike.tolist() == [8, 9]  # 64 = 8 · 8 is a = T at the first step of the readout


def test_first_spikes_tie_where_potentials_do_not_and_hide_negative_values():
    result = run(network_of(dense([[9], [8], [-1], [-100]], ramp=8)), times_of(6))
    assert result.first_spike.tolist() == [14, 14, 16, 16]
    assert result.potential.tolist() == [18, 16, -2, -200]


def test_a_bias_is_a_current_for_the_whole_input_phase_of_either_sign():
    result = run(network_of(dense([[0], [0]], bias=[3, -3], steps=5, ramp=7), steps=4), times_of(4))
    assert result.potential.tolist() == [12, -12]
    assert result.first_spike.tolist() == [4 + 5 - 1, 4 + 5]


def test_silence_contributes_nothing_in_any_layer():
    network = network_of(dense([[100, 100]], steps=3), dense([[100]], steps=5))
    result = run(network, times_of(8, 8))
    assert [int(spikes[0, 0, 0]) for spikes in result.spike_steps] == [8 + 3, 8 + 3 + 5]
    assert result.potential.tolist() == [0]


def test_max_pool_takes_the_first_spike_of_each_patch_within_the_step():
    layers = (MaxPool((2, 2), (2, 1)), Flatten(), dense(np.eye(2)))
    times = np.array([[3, 5, 8], [7, 4, 1], [0, 0, 0]], np.uint8)[None]
    result = run(Network("gated", (1, 3, 3), 8, layers), times)
    assert result.spike_steps[0].tolist() == [[[3, 1]]]
    assert result.spike_steps[1].reshape(-1).tolist() == [3, 1]
    assert result.potential.tolist() == [5, 7]


def test_quartz_fires_early_where_gated_waits_for_the_inhibition():
    """Excitation first, inhibition later: u passes θ = 8 at t = 2 (4 a step), and ends at 8·4 - 5·6 = 2."""
    layer, times = dense([[4, -6]]), times_of(0, 3)
    gated, quartz = run(network_of(layer), times), run(network_of(layer, neuron="quartz"), times)
    assert gated.first_spike.tolist() == [16 - 2]
    assert quartz.first_spike.tolist() == [2]
    assert gated.potential.tolist() == quartz.potential.tolist() == [2]  # followed without reset, after the spike too


def test_an_early_spike_counts_from_its_true_step_even_before_the_next_layers_frame():
    layers = dense([[4]]), dense([[1]], steps=20), dense([[1]], steps=4)
    result = run(network_of(*layers, neuron="quartz"), times_of(0))
    # θ = 8 at 4 a step: t = 2. Then 20 at 1 a step from there: t = 22, early, as that frame's input phase ends at 16.
    # No: by then the layer ramps, with S = 1 as well.
    assert [int(spikes[0, 0, 0]) for spikes in result.spike_steps[:2]] == [2, 22]
    assert result.potential.tolist() == [8 + 8 + 20 - 22]
    faster = run(network_of(layers[0], dense([[3]], steps=8), dense([[1]], steps=4), neuron="quartz"), times_of(0))
    assert [int(spikes[0, 0, 0]) for spikes in faster.spike_steps] == [
        2,
        5,
        9,
    ]  # the second and third before 8, their start
    assert faster.potential.tolist() == [8 + 8 + 8 - 5]


def test_the_gate_is_an_offset_that_exceeds_what_the_potential_can():
    gate = check(network_of(dense([[127, -6]])))[0].gate
    assert gate == 127 * 8 - 8 + 1
    assert check(network_of(dense([[127, -6]]), neuron="quartz"))[0].gate == 0


def test_bounds_are_tight_for_one_layer():
    network = network_of(dense([[5, -3, 2], [-7, 1, -1]], bias=[2, -4], ramp=1), neuron="quartz")
    bound = check(network)[0]
    assert run(network, times_of(0, 8, 0)).potential[0] == bound.highest == 8 * 9
    assert run(network, times_of(0, 8, 0)).potential[1] == bound.lowest == -8 * 12
    assert run(network, times_of(0, 8, 0)).first_spike[0] == bound.earliest == 1


def loihi(network, times):
    """LIF neurons as fixed-point Lava runs them (prototypes' `gref`).

    A spike arrives one step later and is added to the current, the current to the voltage, then v > vth is tested.
    Frames of T steps, vth = θ - 1, a counterweight at `end`.
    """
    spikes, frames = [times.reshape(-1).astype(int)], network.frames()
    steps = frames[-1].last + 1
    raster = [np.arange(steps)[:, None] == spikes[0]]
    for layer, frame in zip(network.layers, frames, strict=True):
        weights, bias = layer.weights.astype(int), layer.bias.astype(int)
        current, voltage = np.zeros(len(bias), int), np.zeros(len(bias), int)
        fired = np.zeros((steps, len(bias)), bool)
        for t in range(steps):
            arrived = t - 1
            if arrived >= 0:
                current = current + weights @ raster[-1][arrived]
            if arrived == frame.start:
                current = current + bias
            if arrived == frame.end:
                current = current + layer.readout.ramp - weights.sum(1) - bias
            voltage = voltage + current
            fires = (voltage > layer.readout.threshold - 1) | (t == frame.last)
            fired[t] = fires & ~fired.any(0)
        raster.append(fired)
    return [r.argmax(0) for r in raster[1:]]


@settings(deadline=None, max_examples=100)
@given(cases("quartz", kinds=("dense",)))
def test_lif_neurons_on_loihi_follow_the_same_recurrence(case):
    """Early spikes included, with T steps a layer: the delay of a synapse is the one of u(t+1) = u(t) + I(t)."""
    network, times = case
    for have, want in zip(loihi(network, times), run(network, times).spike_steps, strict=True):
        np.testing.assert_array_equal(have, want.reshape(-1))


def test_the_prototypes_closed_form():
    """`Ref.closed` of the Lava probe: the spike at clip(⌈T - V/c⌉, 0, T) of its frame is ours with r = 0."""
    random = np.random.default_rng(0)
    weights, bias = random.integers(-60, 61, (40, 16)), random.integers(-10, 11, 40)
    times = random.integers(0, 17, 16)
    result = run(network_of(dense(weights, bias, steps=16, ramp=64), steps=16), times_of(*times))
    potential = weights @ (16 - times) + bias * 16
    assert result.potential.tolist() == potential.tolist()
    assert (result.first_spike - 16).tolist() == np.clip(np.ceil(16 - potential / 64), 0, 16).tolist()


@pytest.mark.parametrize("compute", [run, closed_form])
def test_refusals(compute):
    network = network_of(dense([[1, 1]]))
    with pytest.raises(DataError, match="step 9"):
        compute(network, times_of(1, 9))
    with pytest.raises(DataError, match="shape"):
        compute(network, times_of(1, 2, 3))
    with pytest.raises(DataError, match="int64"):
        compute(network, times_of(1, 2).astype(np.int64))
    with pytest.raises(BundleError, match="ramp"):
        compute(replace(network, layers=(replace(network.layers[0], readout=Readout(8, 0, 0)),)), times_of(1, 2))

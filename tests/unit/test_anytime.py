"""The any-time decision: hand-made networks whose answers are known, and ties against the definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.networks import cases

from firstspike.anytime import Reading, read, report
from firstspike.ttfs.definition import closed_form, run
from firstspike.ttfs.network import Dense, Network, Readout
from firstspike.types import Frame, Inference

STEPS = 8


def network_of(*weights, neuron="gated", ramp=8):
    """One dense layer, or several: the last has the ramp, those before pass their input on."""
    layers = [
        Dense(np.array(rows, np.int8), np.zeros(len(rows), np.int16), Readout(STEPS, ramp if last else 1, 0))
        for rows, last in zip(weights, [False] * (len(weights) - 1) + [True], strict=True)
    ]
    return Network(neuron, (layers[0].weights.shape[1], 1, 1), STEPS, tuple(layers))


def infer(network, *times):
    result = run(network, np.array(times, np.uint8).reshape(-1, 1, 1))
    return Inference("b", result.potential, result.first_spike, frame=network.frames()[-1])


def reading_of(inference):
    return read(inference.first_spike, inference.potential, inference.frame)


def test_the_strongest_spikes_first():
    """Activations 2 at the input: potentials 8, 32, 16 and θ = 64 at 8 a step: a = 1, 4, 2."""
    inference = infer(network_of([[4], [16], [8]]), 6)
    assert reading_of(inference) == Reading(step=16 - 4, candidates=(1,), winner=1, known=12)


@pytest.mark.parametrize(("weights", "winner"), [([9, 8, -1], 0), ([8, 9, -1], 1), ([-1, 9, 9], 1)])
def test_a_tie_is_decided_by_the_membrane_then_by_the_lowest_index(weights, winner):
    reading = reading_of(infer(network_of([[weight] for weight in weights]), 6))
    assert (reading.step, reading.winner, reading.known) == (14, winner, 14)
    assert len(reading.candidates) == 2


def test_a_layer_that_only_the_rectifier_makes_spike_is_silent():
    for weights in ([[-1], [-2]], [[1], [2]]):  # the second: potentials 2 and 4 are below one ramp
        inference = infer(network_of(weights), 6)
        assert set(inference.first_spike.tolist()) == {16}
        assert reading_of(inference) is None


def test_steps_count_from_the_start_of_the_network_and_of_the_output_layers_frame():
    inference = infer(network_of([[1, 0], [0, 1]], [[8, 0], [0, 8]]), 2, 5)  # activations 6 and 3 all the way
    assert inference.frame == Frame(start=8, end=16, last=24)
    found = report(inference, ["x", "y"], window_label="x")
    assert (found.network_step, found.known_step, found.network_steps) == (24 - 6, 24 - 6, 24)
    assert (found.step, found.frame_steps) == (24 - 6 - 8, 16)
    assert (found.label, found.candidates, found.agrees) == ("x", ["x"], True)


def test_an_early_spike_can_disagree_with_the_membrane():
    """Neuron 0 gets 4 a step until the inhibition at 3: past θ = 8 at step 2, but 4·8 − 6·5 = 2 at the end."""
    inference = infer(network_of([[4, -6], [3, 1]], neuron="quartz", ramp=1), 0, 3)
    assert inference.potential.tolist() == [2, 29]
    assert reading_of(inference) == Reading(step=2, candidates=(0,), winner=0, known=2)
    found = report(inference, ["x", "y"], window_label="y")
    assert (found.label, found.agrees) == ("x", False)


def test_a_tie_of_early_spikes_is_known_when_the_membranes_are_complete():
    inference = infer(network_of([[4, -6], [4, -5]], neuron="quartz", ramp=1), 0, 3)
    assert inference.potential.tolist() == [2, 7]
    assert reading_of(inference) == Reading(step=2, candidates=(0, 1), winner=1, known=8)


def test_an_output_layer_that_spikes_before_its_own_frame_has_a_negative_step():
    layers = tuple(
        Dense(np.array([[weight]], np.int8), np.zeros(1, np.int16), Readout(STEPS, 1, 0)) for weight in (4, 3)
    )
    found = report(infer(Network("quartz", (1, 1, 1), STEPS, layers), 0), ["x"])
    assert (found.network_step, found.step) == (5, 5 - 8)


def test_a_window_that_says_nothing_has_steps_but_no_class():
    found = report(infer(network_of([[4], [16]]), 6), ["x", "y"], speaks=False, window_label=None)
    assert (found.network_step, found.label, found.candidates, found.agrees) == (12, None, [], None)


def test_silence_and_no_spikes_at_all_are_told_apart():
    silent = report(infer(network_of([[-1], [-2]]), 6), ["x", "y"], window_label="x")
    assert (silent.step, silent.network_step, silent.known_step, silent.label, silent.agrees) == (None,) * 5
    assert silent.network_steps == 16
    assert report(Inference("ann", np.array([1, 2], np.int32), None), ["x", "y"]) is None
    assert report(Inference("b", None, None, "it failed"), ["x", "y"]) is None


@settings(deadline=None, max_examples=200)
@given(st.data(), st.integers(0, 9), st.integers(1, 9), st.integers(1, 9), st.integers(1, 40))
def test_ties_among_any_spikes(data, start, inputs, readout, classes):
    frame = Frame(start, start + inputs, start + inputs + readout)
    steps = data.draw(st.lists(st.integers(0, frame.last), min_size=classes, max_size=classes))
    potential = data.draw(st.lists(st.integers(-3, 3), min_size=classes, max_size=classes))
    found = read(np.array(steps, np.int32), np.array(potential, np.int32), frame)
    order = sorted(range(classes), key=lambda index: (steps[index], -potential[index], index))
    if found is None:
        assert set(steps) == {frame.last}
        return
    assert found.step == steps[order[0]] < frame.last
    assert found.winner == order[0]
    assert list(found.candidates) == sorted(index for index in range(classes) if steps[index] == found.step)
    assert found.known == (found.step if len(found.candidates) == 1 else max(found.step, frame.end))


@settings(deadline=None, max_examples=100)
@given(cases("gated"))
def test_gated_never_disagrees_with_the_membrane_and_is_silent_where_every_activation_is_zero(case):
    network, times = case
    result, frame = run(network, times), network.frames()[-1]
    found = read(result.first_spike, result.potential, frame)
    activations = frame.last - closed_form(network, times).first_spike
    assert (found is None) == (not activations.any())
    if found is not None:
        assert found.winner == int(result.potential.argmax())
        assert found.step >= frame.end
        assert found.known == found.step


@settings(deadline=None, max_examples=100)
@given(cases())
def test_whoever_watches_the_definition_sees_each_spike_at_its_step(case):
    network, times = case
    seen = []
    result = run(network, times, lambda t, fired, u: seen.append((t, fired.reshape(-1).copy(), u.reshape(-1).copy())))
    frame = network.frames()[-1]
    assert [t for t, _, _ in seen] == list(range(frame.last + 1))
    for t, fired, potential in seen:
        there = result.first_spike <= t
        np.testing.assert_array_equal(fired[there], result.first_spike[there])
        assert (fired[~there] > frame.last).all()
        if t >= frame.end:
            np.testing.assert_array_equal(potential, result.potential)

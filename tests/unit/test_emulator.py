"""The emulator equals the definition in every spike of every neuron."""


import numpy as np
from hypothesis import event, given, settings
from tests.unit.networks import cases

from firstspike.ttfs import definition
from firstspike.ttfs.emulator import Emulator


def assert_equal(network, times):
    expected = definition.run(network, times)
    emulator = Emulator(network)
    actual = emulator.trace(times)
    for number, (want, have) in enumerate(zip(expected.spike_steps, actual.spike_steps, strict=True)):
        np.testing.assert_array_equal(have, want, err_msg=f"layer {number} of {network}")
    np.testing.assert_array_equal(actual.potential, expected.potential)
    np.testing.assert_array_equal(actual.first_spike, expected.first_spike)
    answer = emulator.run(times)  # without a trace, and on buffers that an inference has used
    np.testing.assert_array_equal(answer.potential, expected.potential)
    np.testing.assert_array_equal(answer.first_spike, expected.first_spike)
    return expected


@settings(deadline=None, max_examples=120)
@given(cases("gated"))
def test_every_spike_of_gated_networks(case):
    assert_equal(*case)


@settings(deadline=None, max_examples=200)
@given(cases("quartz"))
def test_every_spike_of_quartz_networks(case):
    network, times = case
    result = assert_equal(network, times)
    frames = network.frames()
    early = [
        bool((spikes < frame.end).any())
        for spikes, frame, layer in zip(result.spike_steps, frames, network.layers, strict=True)
        if hasattr(layer, "readout")
    ]
    event(f"layers with early spikes: {sum(early)}")

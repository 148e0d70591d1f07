"""TTFS networks in Loihi's fixed point: the plan's spikes and potentials are the definition's, every one."""

import io
import json

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.support import loihi
from tests.unit.networks import cases, inputs, networks

from firstspike.backends import _lava_layout, _lava_network, _lava_plan
from firstspike.ttfs import definition, file
from firstspike.ttfs.network import Conv, Dense, Flatten, MaxPool, Network, Readout


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    """The network as a worker reads it from its file."""
    path = tmp_path_factory.mktemp("network") / "network.npz"

    def through_file(network):
        file.save(network, path)
        return _lava_network.read(path.read_bytes())

    return through_file


def planned(network):
    """The plan; a network that leaves Loihi's 24 bits, which the definition may, is not what a test is about."""
    try:
        return _lava_plan.plan(network)
    except ValueError as error:
        assert "Loihi's" in str(error)  # noqa: PT017 (the one way in which a drawn network may not be allowed)
        assume(False)


def assert_follows(network, plan, windows):
    rasters = [times.reshape(-1) == np.arange(plan.period)[:, None] for times in windows]
    for times, (raster, state) in zip(windows, loihi.run(plan, rasters), strict=True):
        expected = definition.run(network, times)
        for number, (place, steps) in enumerate(zip(plan.places, expected.spike_steps, strict=True)):
            if place.population == _lava_layout.INPUT:
                continue
            found = raster[place.population]
            np.testing.assert_array_equal(found.sum(0), 1, err_msg=f"layer {number}: spikes of a neuron")
            np.testing.assert_array_equal(found.argmax(0) - place.shift, steps.reshape(-1), err_msg=f"layer {number}")
        np.testing.assert_array_equal(state >> 6, expected.potential)


@settings(deadline=None, max_examples=60)
@given(networks(), st.data())
def test_every_spike_and_potential_is_the_definitions_window_after_window(read, network, data):
    assume(network.input_steps < 200)
    plan = planned(read(network))
    assert_follows(network, plan, [data.draw(inputs(network)) for _ in range(2)])


@settings(deadline=None, max_examples=30)
@given(cases())
def test_the_worker_reads_what_the_daemon_reads(read, case):
    network, _ = case
    found = read(network)
    assert found.neuron == network.neuron
    assert [layer.shape for layer in found.layers] == network.shapes()
    assert [(layer.start, layer.end, layer.last) for layer in found.layers] == [
        (frame.start, frame.end, frame.last) for frame in network.frames()
    ]


def dense(*weights, steps=8, ramp=1, rounding=0, bias=None):
    array = np.array(weights, np.int8)
    return Dense(array, np.array(bias or [0] * len(array), np.int16), Readout(steps, ramp, rounding))


@pytest.mark.parametrize("neuron", ["gated", "quartz"])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_the_shortest_frames_have_their_pulses_at_one_step_and_work(read, neuron, steps):
    network = Network(
        neuron, (3, 1, 1), steps,
        (dense([127, -128, 3], [-1, -128, 127], steps=steps, ramp=5, rounding=2, bias=[300, -9000]),
         dense([100, -101], steps=steps, ramp=60)),
    )  # fmt: skip
    windows = [np.array(t, np.uint8).reshape(3, 1, 1) for t in ([0, 0, 0], [steps, 0, 1], [1, steps, 0], [0, 1, steps])]
    assert_follows(network, _lava_plan.plan(read(network)), windows)


def test_a_pooling_of_poolings_spikes_with_its_first(read):
    network = Network(
        "quartz", (2, 6, 6), 9,
        (MaxPool((2, 2), (2, 2)), MaxPool((2, 2), (1, 1)), Flatten(), dense([9] * 8, [-9] * 8, ramp=20)),
    )  # fmt: skip
    random = np.random.default_rng(3)
    windows = [random.integers(0, 10, (2, 6, 6)).astype(np.uint8) for _ in range(4)]
    assert_follows(network, _lava_plan.plan(read(network)), windows)


def test_a_threshold_beyond_17_bits_is_refused_with_the_layer(read):
    network = Network("gated", (1, 1, 1), 8, (dense([1], steps=255, ramp=515),))
    with pytest.raises(ValueError, match=r"layer 0 \(dense\): its threshold of 131325 .* 17 bits"):
        _lava_plan.plan(read(network))


def test_a_potential_beyond_24_bits_is_refused_with_the_layer(read):
    conv = Conv(np.ones((1, 1, 1, 1), np.int8), np.zeros(1, np.int16), (1, 1), (0, 0), Readout(16, 1, 0))
    wide = Dense(np.full((1, 100), -127, np.int8), np.zeros(1, np.int16), Readout(16, 5, 0))
    with pytest.raises(ValueError, match=r"layer 1 \(dense\): its potential can reach -203200 to .*24 bits"):
        _lava_plan.plan(read(Network("quartz", (1, 10, 10), 16, (conv, wide))))


def test_nothing_is_unpickled():
    buffer = io.BytesIO()
    text = np.frombuffer(json.dumps({"neuron": "gated"}).encode(), np.uint8)
    np.savez(buffer, network=text, w0=np.array([{}], object))
    with pytest.raises(ValueError, match="allow_pickle"):
        _lava_network.read(buffer.getvalue())

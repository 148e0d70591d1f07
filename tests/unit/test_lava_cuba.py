"""CUBA LIF networks in Loihi's fixed point: the plan's spikes are the definition's, every one, window after window."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support import loihi
from tests.unit.cuba_networks import random_frames, random_network

from firstspike.backends import _lava_cuba, _lava_layout
from firstspike.cuba import definition
from firstspike.cuba.file import save
from firstspike.cuba.network import Conv, Dense, Network, Neuron


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    """The plan of a network as a worker reads it from its file."""
    path = tmp_path_factory.mktemp("front") / "front.npz"

    def through_file(network, steps):
        save(network, path)
        return _lava_cuba.plan(_lava_cuba.read(path.read_bytes()), steps)

    return through_file


def assert_follows(network, plan, windows):
    total = wraps = 0
    found = loihi.run(plan, [frames.reshape(len(frames), -1) for frames in windows])
    for frames, (raster, _) in zip(windows, found, strict=True):
        expected = definition.run(network, frames)
        for number, (place, spikes) in enumerate(zip(plan.places, expected.spikes, strict=True)):
            if place.population != _lava_layout.INPUT:
                own = raster[place.population][place.shift : place.shift + len(frames)]
                np.testing.assert_array_equal(own, spikes.reshape(len(frames), -1), err_msg=f"layer {number}")
                total += int(spikes.sum())
        wraps += expected.wraps
    return total, wraps


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32), st.sampled_from([1, 2, 9, 20]))
def test_every_spike_is_the_definitions_window_after_window(planned, seed, steps):
    rng = np.random.default_rng(seed)
    network = random_network(rng)
    assert_follows(network, planned(network, steps), [random_frames(rng, network, steps) for _ in range(3)])


def test_delayed_spikes_of_neurons_that_go_on_do_not_reach_the_next_window(planned):
    """A bias keeps the first layer spiking all the time, far into the second's delays."""
    first = Dense(np.int16([[100], [60]]), np.int16([40, 0]), np.uint8([0, 3]), Neuron(0, 0, 90))
    second = Dense(
        np.int16([[60, 40], [40, 90], [200, 0]]), np.zeros(3, np.int16), np.uint8([0, 9, 2]), Neuron(9, 9, 99)
    )
    third = Dense(np.int16([[100, 98, 40]]), np.int16([0]), np.uint8([4]), Neuron(4096, 0, 100))
    network = Network((1, 1, 1), (first, second, third))
    plan = planned(network, 6)
    assert sum(population.name.startswith("gate") for population in plan.populations) == 2
    rng = np.random.default_rng(5)
    windows = [(rng.random((6, 1, 1, 1)) < 0.6).astype(np.uint8) for _ in range(6)]
    assert assert_follows(network, plan, windows)[0] > 60


def test_currents_that_wrap_do_so_there_too(planned):
    weights = np.full((3, 400), 254, np.int16)
    weights[1:] = -256
    network = Network(
        (400, 1, 1), (Dense(weights, np.zeros(3, np.int16), np.zeros(3, np.uint8), Neuron(200, 100, 900)),)
    )
    rng = np.random.default_rng(3)
    windows = [(rng.random((24, 400, 1, 1)) < 0.6).astype(np.uint8) for _ in range(2)]
    spikes, wraps = assert_follows(network, planned(network, 24), windows)
    assert spikes
    assert wraps > 10


@pytest.mark.parametrize(
    ("weights", "signs"),
    [
        ([255, 7, 254, 0], ["mixed", "excitatory"]),
        ([-256, -255, -2, -1], ["mixed", "inhibitory"]),
        ([-256, 254, 0, 2], ["mixed"]),
    ],
)
def test_weights_of_one_sign_may_be_odd(planned, weights, signs):
    conv = Conv(np.int16(weights).reshape(1, 1, 2, 2), np.int16([300]), (1, 1), (0, 0), Neuron(4096, 1000, 200))
    network = Network((1, 3, 3), (conv,))
    plan = planned(network, 4)
    assert [group.sign for group in plan.synapses] == signs
    windows = [np.random.default_rng(seed).integers(0, 2, (4, 1, 3, 3)).astype(np.uint8) for seed in range(4)]
    assert assert_follows(network, plan, windows)[0] > 10

"""CUBA LIF networks: the emulator against lava-dl's netx on Lava's fixed-point simulation, in every spike."""

from __future__ import annotations

import numpy as np
import pytest
from tests.support.netx import CHILD, netx_spikes
from tests.support.slayer_file import write
from tests.unit.cuba_networks import random_frames, random_network

from firstspike.cuba.emulator import Emulator
from firstspike.cuba.hdf5 import read
from firstspike.cuba.network import Conv, Dense, Flatten, Network, Neuron, Pool

pytest.importorskip("h5py", reason="h5py (the extra 'hybrid') is not installed")
PLACE = CHILD.parent / "slayer_trained"


def compare(network, samples, folder):
    """Number of spikes, all equal; the emulator runs what was read from the file that netx reads."""
    theirs = netx_spikes(network, samples, folder)
    write(network, folder / "pools.net")  # netx has no pools, SLAYER's file does
    emulator, total = Emulator(read(folder / "pools.net")), 0
    for number, frames in enumerate(samples):
        ours = emulator.trace(frames)
        with_neurons = [
            spikes for spikes, layer in zip(ours.spikes, network.layers, strict=True) if not isinstance(layer, Flatten)
        ]
        assert len(with_neurons) == len(theirs)
        for layer, (have, want) in enumerate(zip(with_neurons, theirs, strict=True)):
            np.testing.assert_array_equal(have, want[number], err_msg=f"sample {number}, layer {layer}: {network}")
            total += int(have.sum())
    return total


def test_layers_of_all_kinds_on_several_samples(tmp_path):
    rng = np.random.default_rng(1)

    def weights(*shape):
        return (2 * rng.integers(-60, 70, shape)).astype(np.int16)

    layers = (
        Conv(weights(4, 2, 5, 3), np.zeros(4, np.int16), (2, 1), (2, 1), Neuron(1024, 128, 600)),
        Conv(weights(6, 4, 3, 3), np.int16([3, -3, 0, 0, 5, 0]), (1, 1), (0, 1), Neuron(0, 0, 900)),
        Pool(np.full((2, 2), 80, np.int16), (2, 2), Neuron(4096, 128, 100)),
        Flatten(),
        Dense(weights(4, 60), np.int16([1, 2, -3, 0]), np.zeros(4, np.uint8), Neuron(1024, 4095, 600)),
        Dense(weights(3, 4), np.zeros(3, np.int16), np.zeros(3, np.uint8), Neuron(1024, 90, 60)),
    )
    network = Network((2, 12, 10), layers)
    samples = (rng.random((3, 16, 2, 12, 10)) < 0.1).astype(np.uint8)
    assert compare(network, samples, tmp_path) > 5000


def test_a_network_that_slayer_trained(tmp_path):
    with np.load(PLACE / "samples.npz") as samples:
        assert compare(read(PLACE / "trained.net"), samples["frames"], tmp_path) > 10_000


def test_delays(tmp_path):
    """One sample: netx does not reset what is delayed."""
    rng = np.random.default_rng(2)
    weights = (2 * rng.integers(-60, 70, (5, 20))).astype(np.int16)
    layer = Dense(weights, np.zeros(5, np.int16), np.uint8([0, 1, 7, 20, 61]), Neuron(1024, 128, 60))
    samples = (rng.random((1, 80, 20, 1, 1)) < 0.2).astype(np.uint8)
    assert compare(Network((20, 1, 1), (layer,)), samples, tmp_path) > 50


def test_currents_that_wrap(tmp_path):
    """Currents that leave 24 bits, both ways."""
    rng = np.random.default_rng(3)
    weights = rng.choice(np.int16([-256, -200, 200, 254]), (6, 400))
    weights[:3], weights[3:5] = np.abs(weights[:3] & ~1) % 256, -np.abs(weights[3:5])
    layer = Dense(weights, np.zeros(6, np.int16), np.zeros(6, np.uint8), Neuron(200, 100, 5000))
    network = Network((400, 1, 1), (layer,))
    samples = (rng.random((2, 24, 400, 1, 1)) < 0.6).astype(np.uint8)
    assert Emulator(network).run(samples[0]).wraps > 10
    assert compare(network, samples, tmp_path) > 10


@pytest.mark.parametrize("seed", range(3))
def test_random_networks(tmp_path, seed):
    random(seed, tmp_path)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(10, 60))
def test_many_random_networks(tmp_path, seed):
    random(seed, tmp_path)


def random(seed, folder):
    rng = np.random.default_rng(seed)
    network = random_network(rng, delays=False)
    samples = np.stack([random_frames(rng, network, 16) for _ in range(2)])
    compare(network, samples, folder)

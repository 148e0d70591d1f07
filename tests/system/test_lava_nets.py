"""Lava for real on drawn networks: every spike of every layer is the definition's, window after window."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.support import lava as lavas
from tests.unit.cuba_networks import random_frames, random_network
from tests.unit.test_rate import coded

from firstspike import verify_network
from firstspike.cuba.network import Conv, Dense, Flatten, Network, Neuron
from firstspike.ttfs import definition
from firstspike.ttfs import network as ttfs
from firstspike.verify_network import first_difference
from firstspike.worker import shim

FEW, MANY = range(4), range(4, 104)


def compared(worker, load, spiking, windows):
    """How many spikes there were, all equal; what the definition said of each window."""
    worker.load(*load)
    total, shown = 0, []
    for number, window in enumerate(windows):
        shown.append(spiking.define(window))
        assert first_difference(spiking, number, shown[-1], spiking.read(worker.infer(window))) is None
        total += spiking.spikes(shown[-1])
    return total, shown


@pytest.mark.parametrize("seeds", [FEW, pytest.param(MANY, marks=pytest.mark.soak)], ids=["8 nets", "200 nets"])
def test_ttfs_networks_are_equal_in_every_spike(tmp_path, seeds):
    early = 0
    cases = [(seed, neuron) for seed in seeds for neuron in ("gated", "quartz")]
    for (seed, neuron), worker in zip(cases, lavas.workers(), strict=False):
        network = lavas.network(seed, neuron)
        load = lavas.load_of(network, tmp_path / "network.npz", trace=True)
        windows = [lavas.window(network, seed + number) for number in range(2)]
        _, shown = compared(worker, load, verify_network.times(network), windows)
        for times, expected in zip(windows, shown, strict=True):
            closed = definition.closed_form(network, times)
            early += any(np.any(a != b) for a, b in zip(expected.layers, closed.spike_steps, strict=True))
    assert early >= len(cases) // 4, "too few windows in which neurons spike early"


@pytest.mark.parametrize("seeds", [range(1, 5), pytest.param(MANY, marks=pytest.mark.soak)], ids=["4 nets", "100 nets"])
def test_rate_coded_networks_are_equal_in_every_count_and_potential(tmp_path, seeds):
    total = 0
    for seed, worker in zip(seeds, lavas.workers(), strict=False):
        network = coded(lavas.network(seed, "gated"), (60, 7, 25, 1)[seed % 4])
        load = lavas.load_of(network, tmp_path / "network.npz", trace=True)
        windows = [lavas.window(network, seed + number) for number in range(2)]
        total += compared(worker, load, verify_network.rates(network), windows)[0]
    assert total > 1000


@pytest.mark.parametrize("seeds", [range(6), pytest.param(MANY, marks=pytest.mark.soak)], ids=["6 nets", "100 nets"])
def test_cuba_networks_are_equal_in_every_spike_delays_included(tmp_path, seeds):
    total = late = 0
    for seed, worker in zip(seeds, lavas.workers(), strict=False):
        rng = np.random.default_rng(seed)
        network = random_network(rng)
        windows = [random_frames(rng, network, 12) for _ in range(3)]
        load = lavas.front_of(network, tmp_path / "front.npz", 12)
        total += compared(worker, load, verify_network.front(network, 12), windows)[0]
        late += any(isinstance(layer, Dense) and layer.delay.any() for layer in network.layers)
    assert total > 1000
    assert late


def test_currents_that_wrap_odd_weights_and_delays_between_layers(tmp_path):
    """One network: neurons that spike on between windows, into the next layer's delays; currents beyond 24 bits."""
    rng = np.random.default_rng(3)
    wide = Conv(rng.integers(100, 256, (4, 40, 3, 3)).astype(np.int16), np.int16([0, 90, 0, -9]), (1, 1), (1, 1),
                Neuron(200, 100, 5000))  # fmt: skip
    weights = (2 * rng.integers(-80, 90, (5, 64))).astype(np.int16)
    last = Dense(weights, np.int16([50, 0, 0, 0, 0]), np.uint8([0, 1, 7, 20, 3]), Neuron(1024, 128, 60))
    network = Network((40, 4, 4), (wide, Flatten(), last))
    windows = [(rng.random((24, 40, 4, 4)) < 0.5).astype(np.uint8) for _ in range(2)]
    worker = lavas.Worker()
    try:
        load = lavas.front_of(network, tmp_path / "front.npz", 24)
        total, shown = compared(worker, load, verify_network.front(network, 24), windows)
        assert int(shown[0].answer["wraps"][0]) > 100
        assert total > 100
        for frames, reason in (
            (windows[0][:9], "the network takes (24, 40, 4, 4)"),
            (2 * windows[0], "frames are 0 or 1"),
        ):
            reply = worker.ask(shim.INFER, {"arrays": [["times", "|u1", list(frames.shape)]]}, frames.tobytes())
            assert reply.kind == shim.FAILURE
            assert reason in reply.meta["reason"]
    finally:
        worker.link.close()


def test_layers_whose_weights_are_all_0_live_from_their_biases(tmp_path):
    """And Lava, which runs only what hangs together, runs all of them."""
    blind = Dense(np.zeros((3, 4), np.int16), np.int16([9, 0, 30]), np.zeros(3, np.uint8), Neuron(4096, 0, 50))
    deaf = Dense(np.zeros((2, 3), np.int16), np.int16([9, 30]), np.zeros(2, np.uint8), Neuron(4096, 0, 50))
    network = Network((4, 1, 1), (blind, deaf))
    windows = [np.ones((6, 4, 1, 1), np.uint8)] * 4
    worker = lavas.Worker()
    try:
        load = lavas.front_of(network, tmp_path / "front.npz", 6)
        assert compared(worker, load, verify_network.front(network, 6), windows)[0] == 4 * 8
        for neuron, spiking in (("quartz", verify_network.times), ("rate", verify_network.rates)):
            timed = lavas.network(0, "gated")
            layers = [
                replace(layer, weights=0 * layer.weights) if isinstance(layer, ttfs.Conv | ttfs.Dense) else layer
                for layer in timed.layers
            ]
            still = replace(timed, neuron="quartz", layers=tuple(layers))
            network = coded(still, 9) if neuron == "rate" else still
            load = lavas.load_of(network, tmp_path / "network.npz", trace=True)
            compared(worker, load, spiking(network), [lavas.window(network, number) for number in range(4)])
    finally:
        worker.link.close()

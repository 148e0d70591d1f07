"""Lava for real, in a worker as the daemon runs it: every spike of every layer is the emulator's.

Its environment is made in build/ once; where that is not possible the tests are skipped by name.
"""

from __future__ import annotations

import gzip
import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tests.support import lava as lavas
from tests.support.sdk import PLACE

from firstspike import plugins
from firstspike.backends import lava
from firstspike.benchmark import windows
from firstspike.bundle import open_bundle
from firstspike.cli import main
from firstspike.ttfs import definition
from firstspike.ttfs.convert.calibration import encode
from firstspike.ttfs.emulator import Emulator
from firstspike.ttfs.file import load
from firstspike.verify import Verifiable, first_difference
from firstspike.worker import shim
from firstspike.worker.link import Link, frame
from firstspike.worker.probe import probe
from firstspike.worker.start import Program
from firstspike.worker.supervisor import Limits, Supervisor

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("FIRSTSPIKE_DATA", ROOT.parent / "shared" / "data"))
SEEDS = [(seed, neuron) for seed in range(6) for neuron in ("gated", "quartz")]
MORE = [(seed, neuron) for seed in range(6, 106) for neuron in ("gated", "quartz")]


class Worker:
    """A worker that is sent one network after another: one start of Python and Lava for all."""

    def __init__(self):
        self.link, self.number = Link(lavas.program(), "lava"), 0
        self.link.greet(time.monotonic() + 60)

    def ask(self, kind, meta, body=b""):
        self.number += 1
        self.link.send(frame(kind, self.number, meta, body), time.monotonic() + 60)
        return self.link.receive(time.monotonic() + 60)

    def load(self, meta, body):
        reply = self.ask(shim.LOAD, meta, body)
        assert reply.kind == shim.LOADED, reply.meta

    def infer(self, times):
        reply = self.ask(shim.INFER, {"arrays": [["times", "|u1", list(times.shape)]]}, times.tobytes())
        assert reply.kind == shim.ANSWER, reply.meta
        return shim.unpack(shim.layout(reply.meta["arrays"]), reply.body)


@pytest.fixture(scope="module")
def worker():
    made = Worker()
    yield made
    made.link.close()


def traced(network, arrays):
    spikes = tuple(arrays[f"spikes_{number}"] for number in range(len(network.layers)))
    return definition.Result(spikes, arrays["potential"], arrays["first_spike"])


@pytest.mark.parametrize(
    "cases", [pytest.param(SEEDS, id="12 nets"), pytest.param(MORE, marks=pytest.mark.soak, id="200 nets")]
)
def test_random_nets_are_equal_in_every_spike_window_after_window(tmp_path, cases):
    early, worker = 0, None
    for number, (seed, neuron) in enumerate(cases):
        if number % 12 == 0:  # each network leaves threads behind that wait for it: the daemon loads one a worker
            if worker is not None:
                worker.link.close()
            worker = Worker()
        network = lavas.network(seed, neuron)
        worker.load(*lavas.load_of(network, tmp_path / "network.npz", trace=True))
        for number in range(2):
            times = lavas.window(network, seed + number)
            expected = definition.run(network, times)
            found = traced(network, worker.infer(times))
            assert first_difference(network, number, expected, found) is None, (seed, neuron)
            closed = definition.closed_form(network, times)
            early += any(np.any(a != b) for a, b in zip(expected.spike_steps, closed.spike_steps, strict=True))
    worker.link.close()
    assert early >= len(cases) // 4, "too few windows in which neurons spike early"


def mnist(count):
    images = DATA / "mnist" / "t10k-images-idx3-ubyte.gz"
    if not images.exists():
        pytest.skip(f"{images} is not there")
    with gzip.open(images) as file:
        pixels = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 1, 28, 28)
    return pixels[:: len(pixels) // count][:count].astype(np.float32) / 255


@pytest.mark.parametrize("count", [2, pytest.param(100, marks=pytest.mark.soak)])
def test_mnists_images_on_the_shipped_network(worker, count):
    bundle = open_bundle(ROOT / "models" / "mnist-lenet")
    network = load(bundle.path("ttfs"))
    images = encode(mnist(count), network.input_steps)
    worker.load(*loaded(bundle, trace=True))
    emulator = Emulator(network)
    for number, times in enumerate(images):
        assert first_difference(network, number, emulator.trace(times), traced(network, worker.infer(times))) is None


def loaded(bundle, **changed):
    spec = bundle.manifest.input
    model = {"channels": spec.channels, "height": spec.height, "width": spec.width, "steps": spec.steps}
    return {"options": lavas.options(**changed), "model": model}, bundle.path("ttfs").read_bytes()


@pytest.fixture
def environment(monkeypatch):
    lavas.program()
    monkeypatch.setenv("FIRSTSPIKE_WORKERS", str(PLACE))


@pytest.mark.parametrize("count", [2, pytest.param(50, marks=pytest.mark.soak)])
def test_verify_says_that_real_windows_are_equal_in_every_spike(environment, capsys, count):
    recordings = DATA / "nmnist" / "Train"
    if not recordings.exists():
        pytest.skip(f"{recordings} is not there")
    argv = ["verify", "nmnist", "--on", "lava", "--windows", str(count), "--recordings", str(recordings)]
    code = main(argv)
    said = capsys.readouterr().out
    assert code == 0, said
    assert "nmnist@1.0.0 on lava: equal in every spike" in said
    assert f"{count} windows ({count} recordings of" in said
    assert "Loihi 1: about 34 cores of 128; 21130 neurons, 1536105 synapses" in said


@pytest.mark.soak
@pytest.mark.parametrize("name", sorted(path.parent.name for path in (ROOT / "models").glob("*/bundle.json")))
def test_verify_passes_on_every_shipped_bundle(environment, name):
    assert main(["verify", name, "--on", "lava", "--windows", "10"]) == 0


def test_the_daemons_road_answers_with_the_emulators_potentials_and_spikes(environment):
    bundle = open_bundle(ROOT / "models" / "mnist-lenet")
    spikes = windows.simulated(bundle, 1).samples[0].spikes
    module = plugins.load("backends", "lava")
    backend = module.create(module.Options(), bundle, "oracle")
    try:
        assert backend.supervisor.wait_ready(60).state == "ready"
        found = backend.infer(spikes, 60.0)
    finally:
        backend.close()
    network = load(bundle.path("ttfs"))
    expected = Emulator(network).run(spikes.times)
    assert found.failure is None
    assert found.potential.tolist() == expected.potential.tolist()
    assert found.first_spike.tolist() == expected.first_spike.tolist()
    assert found.frame == network.frames()[-1]


def test_a_wrong_spike_is_found_and_named_and_ends_with_65(environment, capsys, monkeypatch):
    ask = Verifiable.ask

    def wrong(self, times):
        found = ask(self, times)
        spikes = [layer.copy() for layer in found.spike_steps]
        spikes[2][1, 3, 4] += 1
        return definition.Result(tuple(spikes), found.potential, found.first_spike)

    monkeypatch.setattr(Verifiable, "ask", wrong)
    assert main(["verify", "mnist-lenet", "--on", "lava", "--windows", "1"]) == 65
    assert "window 0: layer 2 (Conv), neuron (1, 3, 4) spikes at step" in capsys.readouterr().out


def test_a_window_that_does_not_fit_is_refused_and_the_next_one_answered(worker, tmp_path):
    network = lavas.network(2, "gated")
    worker.load(*lavas.load_of(network, tmp_path / "network.npz"))
    for times, reason in (
        (np.full(network.input_shape, network.input_steps + 1, np.uint8), "the input has"),
        (np.zeros((1, 2, 3), np.uint8), "the network takes"),
    ):
        reply = worker.ask(shim.INFER, {"arrays": [["times", "|u1", list(times.shape)]]}, times.tobytes())
        assert reply.kind == shim.FAILURE
        assert reason in reply.meta["reason"]
    times = lavas.window(network, 0)
    expected = definition.run(network, times)
    assert worker.infer(times)["potential"].tolist() == expected.potential.tolist()


def test_without_intels_extension_a_chip_is_absent_with_reason_and_fix(tmp_path):
    load = lavas.load_of(lavas.network(0, "gated"), tmp_path / "network.npz", hardware="loihi2")
    supervisor = Supervisor("lava", lavas.program(), load, Limits())
    try:
        condition = supervisor.wait_ready(60)
        assert condition.state == "absent"
        assert "lava-loihi" in condition.reason
        assert "hardware = 'sim'" in condition.fix
    finally:
        supervisor.close()


def test_the_doctors_probe_finds_the_simulation_and_no_chip():
    found = probe(lavas.program(), lavas.options(), 60)
    assert [(one.device, one.present) for one in found.devices] == [("sim", True)]
    found = probe(lavas.program(), lavas.options(hardware="loihi1"), 60)
    assert [(one.device, one.present) for one in found.devices] == [("loihi1", False)]


@pytest.mark.skipif(sys.version_info[:2] == (3, 10), reason="firstspike needs another Python than Lava")
def test_another_python_is_told_what_to_install():
    found = probe(Program((sys.executable,), "lava", lava.SIBLINGS), lavas.options(), 60)
    assert "runs on Python 3.10 alone" in found.devices[0].reason
    assert "uv python install 3.10" in found.devices[0].fix


def test_a_rate_coded_network_fails_to_load_by_name(worker, tmp_path):
    from tests.unit.test_lava_plan import dense

    network = definition.Network("rate", (2, 1, 1), 1, (dense([1, 2], steps=1),), 20)
    reply = worker.ask(shim.LOAD, *lavas.load_of(network, tmp_path / "network.npz"))
    assert reply.kind == shim.FAILURE
    assert "'rate'" in reply.meta["reason"]

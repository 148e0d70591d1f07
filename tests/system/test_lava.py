"""Lava for real, in a worker as the daemon runs it: every spike of the shipped models is the emulator's."""

from __future__ import annotations

import gzip
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.support import lava as lavas
from tests.support.onnx_nets import Net
from tests.support.sdk import PLACE
from tests.support.worker import until

from firstspike import plugins, verify_network
from firstspike.backends import lava
from firstspike.benchmark import windows
from firstspike.bundle import open_bundle
from firstspike.cli import main
from firstspike.config_layers import Layers
from firstspike.config_plugins import backend_choices
from firstspike.hybrid import place
from firstspike.ttfs import definition
from firstspike.ttfs.convert.calibration import encode
from firstspike.ttfs.emulator import Emulator
from firstspike.ttfs.file import load
from firstspike.verify_network import first_difference
from firstspike.worker import shim
from firstspike.worker.probe import probe
from firstspike.worker.start import Program
from firstspike.worker.supervisor import Limits, Supervisor

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("FIRSTSPIKE_DATA", ROOT.parent / "shared" / "data"))


@pytest.fixture(scope="module")
def worker():
    made = lavas.Worker()
    yield made
    made.link.close()


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
    spiking = verify_network.times(network)
    for number, times in enumerate(images):
        found = spiking.read(worker.infer(times))
        assert first_difference(spiking, number, spiking.emulate(times), found) is None


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


def test_verify_says_that_a_hybrids_front_is_equal_in_every_spike(environment, capsys):
    recordings = DATA / "dvs128_objects" / "2018-10-06"
    real = ["--recordings", str(recordings / "mug_0.aedat")] if recordings.exists() else []
    code = main(["verify", "dvs128-hybrid", "--on", "lava", "--windows", "8", *real])
    said = capsys.readouterr().out
    assert code == 0, said
    assert "dvs128-hybrid@1.0.0 on lava: equal in every spike" in said
    assert "currents left 24 bits 0 times" in said
    assert "Loihi 1: about 8 cores of 128; 8192 neurons, 374697 synapses" in said


def test_a_plan_with_the_front_on_lava_decides_as_the_emulator_does():
    lavas.program()
    python = str(PLACE / "lava" / "bin" / "python")
    bundle = open_bundle(ROOT / "models" / "dvs128-hybrid")
    spikes = windows.simulated(bundle, 2).samples[-1].spikes
    found = {}
    for plan in ("emulator", "oracle+emulator"):
        faults = []
        section = {"kind": "lava", "command": [python]}
        (choice,) = backend_choices({"oracle": section}, [plan], Layers(), faults)
        assert not faults
        backend = place.make(choice, bundle)
        try:
            until(lambda backend=backend: backend.condition().state == "ready", 60)
            found[plan] = backend.infer(spikes, 30.0)
        finally:
            backend.close()
    ours, theirs = found.values()
    assert theirs.failure is None
    assert [part.backend for part in theirs.parts] == ["oracle", "emulator"]
    assert (theirs.parts[0].spikes, theirs.parts[0].link_bytes) == (ours.parts[0].spikes, ours.parts[0].link_bytes)
    assert theirs.parts[0].link_ns > 0
    assert ours.parts[0].spikes > 100
    assert theirs.potential.tolist() == ours.potential.tolist()


def test_a_converted_rate_coded_bundle_is_equal_in_every_count_and_potential(environment, tmp_path, capsys):
    net = Net((2, 34, 34), 5).conv(3, (5, 5), (3, 3)).relu().pool("MaxPool", (2, 2), (2, 2)).flatten().dense(4)
    rng = np.random.default_rng(6)
    np.savez(tmp_path / "x.npz", x=(rng.integers(0, 9, (20, 2, 34, 34)) / 8).astype(np.float32))
    argv = ["convert", str(net.save(tmp_path / "n.onnx")), "--calibration", str(tmp_path / "x.npz"), "--coding", "rate"]
    argv += ["--steps", "40", "--percentile", "99", "--count-scale", "8", "--out", str(tmp_path / "b")]
    assert main(argv) == 0
    capsys.readouterr()
    for back_end in ("lava", "definition"):
        code = main(["verify", str(tmp_path / "b"), "--on", back_end, "--windows", "2", "--json"])
        said = json.loads(capsys.readouterr().out)
        assert code == 0, said
        assert (said["equal"], said["windows"]) == (True, 2)
        assert said["spikes"] > 500


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


def test_another_lava_is_told_what_to_install(tmp_path):
    (tmp_path / "lava_nc-0.9.0.dist-info").mkdir()
    said = "Metadata-Version: 2.1\nName: lava-nc\nVersion: 0.9.0\n"
    (tmp_path / "lava_nc-0.9.0.dist-info" / "METADATA").write_text(said)
    sound = lavas.program()
    found = probe(replace(sound, command=("env", f"PYTHONPATH={tmp_path}", *sound.command)), lavas.options(), 60)
    assert [one.present for one in found.devices] == [False]
    assert "lava-nc 0.9.0 is installed" in found.devices[0].reason
    assert "firstspike workers install lava --force" in found.devices[0].fix


@pytest.mark.skipif(sys.version_info[:2] == (3, 10), reason="firstspike needs another Python than Lava")
def test_another_python_is_told_what_to_install():
    found = probe(Program((sys.executable,), "lava", lava.SIBLINGS), lavas.options(), 60)
    assert "runs on Python 3.10 alone" in found.devices[0].reason
    assert "uv python install 3.10" in found.devices[0].fix

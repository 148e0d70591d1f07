"""Bundles of a user's own front and back: made and run, or refused by name with nothing left behind."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from tests.support.onnx_nets import Net
from tests.support.program import ROOT, complained, firstspike
from tests.support.slayer_file import write
from tests.unit.test_hybrid_bundle import chosen

from firstspike.bundle import open_bundle
from firstspike.cli import main
from firstspike.cuba.emulator import Emulator
from firstspike.cuba.file import save
from firstspike.cuba.network import Conv, Dense, Flatten, Network, Neuron
from firstspike.hybrid import place
from firstspike.types import Spikes

RECORDING = ROOT / "tests" / "replay" / "cases" / "drawn-digits" / "recording.aedat4"
NEURON = Neuron(1024, 128, 100)
LABELS = "a,b,c"


def conv(channels=2):
    return Conv(np.full((3, channels, 3, 3), 40, np.int16), np.zeros(3, np.int16), (2, 2), (1, 1), NEURON)


FRONT = Network((2, 34, 34), (conv(),))
ALONE = Network((2, 34, 34), (conv(), Flatten(), Dense(
    np.arange(3 * 867, dtype=np.int16).reshape(3, 867) % 60 * 2 - 40, np.zeros(3, np.int16), np.zeros(3, np.uint8),
    NEURON,
)))  # fmt: skip


def back(path, *, frames=4, classes=3, opset=13, operator=None):
    net = Net((3 * frames, 17, 17), 1, opset=opset).conv(4, (3, 3), (2, 2)).node("Relu")
    if operator:
        net.node(operator)
    size = int(np.prod(net.shape))
    weight = net.constant("w", net.rng.normal(0, 0.05, (classes, size)))
    model = net.node("Flatten", shape=(size,), axis=1).node("Gemm", weight, shape=(classes,), transB=1).model()
    onnx.save(model, path)
    return path


@pytest.fixture
def files(tmp_path):
    save(FRONT, tmp_path / "front.npz")
    back(tmp_path / "back.onnx")
    return tmp_path


def hybrid(place, *more, **changed):
    given = {"front": place / "front.npz", "interval": 4, "back": place / "back.onnx", "labels": LABELS,
             "out": place / "made"} | changed  # fmt: skip
    return main(["hybrid", *(str(word) for key, value in given.items() for word in (f"--{key}", value)), *more])


def test_a_front_and_a_back_become_a_bundle_that_runs(files, capsys):
    assert hybrid(files, "--window-ms", "80", "--fit", "crop", "--min-events", "50") == 0
    manifest = open_bundle(files / "made").manifest
    assert (manifest.input.steps, manifest.parts.interval, manifest.labels) == (16, 4, ["a", "b", "c"])
    assert (manifest.window.size, manifest.input.fit, manifest.decide.min_events) == (80_000, "crop", 50)
    said = capsys.readouterr().out
    assert "note:" not in said
    assert "3468 bytes a window" in said
    done = firstspike("replay", RECORDING, "--model", files / "made", "--json")
    assert done.returncode == 0, done.stderr
    decisions = [json.loads(line) for line in done.stdout.splitlines() if '"window"' in line]
    assert decisions
    assert all(one["parts"][0]["link_bytes"] == 3468 for one in decisions)


def test_what_its_maker_should_know_is_told(files, capsys):
    back(files / "back.onnx", operator="Sigmoid")
    assert hybrid(files) == 0
    said = capsys.readouterr().out
    assert "a window is 160 ms, 10 a step" in said
    assert "the emulator cannot run this back" in said
    assert "Sigmoid" in said


@pytest.mark.parametrize(
    ("changes", "code", "says"),
    [
        ({"interval": 0}, 64, "--interval 0: must be 1 to 255"),
        ({"labels": "a,b"}, 78, "the manifest's labels need one output of (1, 2)"),
        ({"labels": "a,a,b"}, 64, "two or more different names"),
        ({"back": "nowhere.onnx"}, 66, "nowhere.onnx: cannot be read"),
        ({"front": "nowhere.npz"}, 66, "nowhere.npz"),
        ({"back": RECORDING}, 78, "not an ONNX model"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_left(files, capsys, changes, code, says):
    before = sorted(files.iterdir())
    assert hybrid(files, **changes) == code
    assert says in capsys.readouterr().err
    assert sorted(files.iterdir()) == before


def relu(channels, side):
    return Net((channels, side, side), 1, opset=13).node("Relu").model()


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (lambda path: back(path, opset=14), "it has opset 14"),
        (lambda path: onnx.save(relu(5, 17), path), "must be one of (1, n·3, 17, 17)"),
        (lambda path: onnx.save(relu(6, 8), path), "its input is of shape (1, 6, 8, 8)"),
    ],
)
def test_a_back_that_does_not_fit_the_front_is_refused(files, capsys, made, says):
    made(files / "back.onnx")
    assert hybrid(files) == 78
    assert says in capsys.readouterr().err
    assert not (files / "made").exists()


def test_a_front_of_more_channels_than_events_have_is_refused(files, capsys):
    save(Network((4, 34, 34), (conv(4),)), files / "front.npz")
    assert hybrid(files) == 78
    assert "takes 4 channels, and events give 1 or 2" in capsys.readouterr().err


def test_a_folder_that_holds_something_is_left_alone(files, capsys):
    (files / "made").mkdir()
    (files / "made" / "mine").touch()
    assert hybrid(files) == 74
    assert "not empty" in capsys.readouterr().err


def slayer(place, *more):
    pytest.importorskip("h5py", reason="h5py (the extra 'hybrid') is not installed")
    write(ALONE, place / "net.net")
    return main(["convert-slayer", str(place / "net.net"), *map(str, more)])


def test_what_slayer_trained_runs_in_the_daemon_by_its_output_spikes(tmp_path, capsys):
    made = tmp_path / "made"
    assert slayer(tmp_path, "--labels", LABELS, "--steps", "300", "--logit-per-spike", "0.25", "--out", made) == 0
    assert "decides alone" in capsys.readouterr().out
    bundle = open_bundle(made)
    assert (bundle.manifest.parts.interval, bundle.manifest.decide.logit_scale) == (None, 0.25)
    backend = place.make(chosen("emulator"), bundle)
    frames = (np.random.default_rng(1).random((300, 2, 34, 34)) < 0.05).astype(np.uint8)
    answer = backend.infer(Spikes(300, np.empty((0, 0, 0), np.uint8), 99, frames=frames), 1.0)
    expected = Emulator(ALONE).run(frames).spikes.astype(int).sum((0, 2, 3))
    assert answer.potential.tolist() == expected.tolist()
    assert expected.sum() > 0
    done = firstspike("replay", RECORDING, "--model", made, "--json")
    assert done.returncode == 0, done.stderr
    (first, *_) = [json.loads(line) for line in done.stdout.splitlines() if '"window"' in line]
    assert [part["part"] for part in first["parts"]] == ["front"]
    for command in (["inspect", made], ["bench", "--model", made, "--plans", "emulator", "--windows", "2"]):
        assert main([str(word) for word in command]) == 0
    complained(firstspike("replay", RECORDING, "--model", made, "--plan", "emulator+openvino"), 78, "no back")
    complained(
        firstspike("replay", RECORDING, "--model", made, "--plan", "openvino"), 78, "cannot run the model's front"
    )


@pytest.mark.parametrize(
    ("more", "code", "says"),
    [
        (["--labels", LABELS, "--steps", "8"], 64, "a bundle needs --out DIR"),
        (["--labels", LABELS, "--out", "made"], 64, "a bundle needs --steps T"),
        (["--labels", "a,b,c,d", "--steps", "8", "--out", "made"], 78, "an output neuron for each of 4 labels"),
        (["--labels", LABELS, "--steps", "5000", "--out", "made"], 64, "5000 steps: a window has 1 to 4096"),
        (["--steps", "8"], 64, "--steps is for a bundle: give --labels too"),
        (["--logit-per-spike", "2"], 64, "--logit-per-spike is for a bundle"),
    ],
)
def test_a_bundle_of_slayers_that_cannot_be_made_is_refused(tmp_path, capsys, monkeypatch, more, code, says):
    monkeypatch.chdir(tmp_path)
    assert slayer(tmp_path, *more) == code
    assert says in capsys.readouterr().err
    assert [path.name for path in Path.cwd().iterdir()] == ["net.net"]

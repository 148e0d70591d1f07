"""The stick's driver under real OpenVINO 2021.4.2 and 2022.3.2, on their CPU plug-in: its code path but for the USB.

The CPU computes in float32, so a bundle's `dense` gives the emulator's very integers. `dense_fp16` is made for half
precision, but its slopes are right in float32 too where the layers' sums stay below 2048, as they do up to T = 8.
"""

from __future__ import annotations

import gzip
import json
import time
from functools import cache
from itertools import islice

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator
from tests.support.program import DATA, ROOT
from tests.support.pythons import environment
from tests.support.sticks import ask, myriad

from firstspike.backends import ncs2
from firstspike.bundle import open_bundle
from firstspike.cli.inspect import _windows
from firstspike.ttfs.emulator import Emulator
from firstspike.ttfs.file import load
from firstspike.worker.start import Program
from firstspike.worker.supervisor import Limits, Supervisor

MODELS = ROOT / "models"
NAMES = sorted(path.parent.name for path in MODELS.glob("*/bundle.json"))
WINDOWS = 100
SDKS = {
    "2021.4.2": myriad,
    "2022.3.2": lambda: environment(("3.9", "3.8", "3.7"), "openvino==2022.3.2"),
}
TOLERANCE = 0.02
"""Of a potential of `dense_fp16` at T = 16, as a share of the largest potential: twice what was seen."""


@cache
def windows(name):
    """Spike times (n, channels, height, width) of real recordings or images where they are here, else drawn ones."""
    spec = json.loads((MODELS / name / "bundle.json").read_text())["input"]
    steps, shape = spec["steps"], (spec["channels"], spec["height"], spec["width"])
    images = DATA / "mnist" / "t10k-images-idx3-ubyte.gz"
    recordings = sorted((DATA / "nmnist").rglob("*.bin"))[::43]
    if name.startswith("mnist") and images.exists():
        with gzip.open(images) as file:
            raw = np.frombuffer(file.read(16 + 784 * WINDOWS), np.uint8, offset=16).reshape(-1, *shape)
        return np.floor(steps * (1 - raw / 255.0)).astype(np.uint8)
    if name == "nmnist" and recordings:
        return np.stack(list(islice((one.copy() for one in _windows(open_bundle(MODELS / name), recordings)), WINDOWS)))
    random = np.random.default_rng(5)
    active = random.random((WINDOWS, *shape)) < 0.1
    return np.where(active, random.integers(0, steps, active.shape), steps).astype(np.uint8)


def file_of(name, role):
    path = MODELS / name / f"{role}.onnx"
    if not path.exists():
        pytest.skip(f"models/{name} has no {role}.onnx")
    return path


def description(name, *, scaled=False):
    manifest = json.loads((MODELS / name / "bundle.json").read_text())
    spec = manifest["input"]
    return {
        "name": name, "classes": len(manifest["labels"]), "channels": spec["channels"], "height": spec["height"],
        "width": spec["width"], "steps": spec["steps"], "scale": 1 / spec["steps"] if scaled else 1.0,
    }  # fmt: skip


def options(**changed):
    return {key: option.default for key, option in ncs2.OPTIONS.items()} | {"device": "CPU"} | changed


def answers(sdk, name, role):
    """The outputs for all windows, and what the driver says of itself, through a worker as the daemon runs it."""
    data = file_of(name, role).read_bytes()
    sent = {
        "options": options(network="ann" if role == "ann" else "dense"),
        "model": description(name, scaled=role == "ann"),
    }
    worker = Supervisor("ncs2", Program((str(SDKS[sdk]()),), "ncs2", ncs2.SIBLINGS), (sent, data), Limits(hang_s=20.0))
    try:
        condition = worker.wait_ready(60)
        assert condition.state == "ready", condition
        outputs = [worker.infer(one, time.monotonic() + 20).arrays["output"].copy() for one in windows(name)]
        return np.stack(outputs), worker.about
    finally:
        worker.close()


@cache
def emulated(name):
    network = load(MODELS / name / "network.npz")
    emulator = Emulator(network)
    return np.stack([emulator.run(np.ascontiguousarray(one)).potential.copy() for one in windows(name)])


@pytest.mark.parametrize("sdk", SDKS)
@pytest.mark.parametrize("name", NAMES)
def test_the_dense_form_gives_the_emulators_very_potentials(sdk, name):
    found, about = answers(sdk, name, "dense")
    assert np.array_equal(found, emulated(name))
    assert about["openvino"] == sdk
    assert about["device"] == "CPU"


@pytest.mark.parametrize("sdk", SDKS)
@pytest.mark.parametrize("name", NAMES)
def test_the_form_for_half_precision_gives_the_emulators_potentials_as_half_precision_holds_them(sdk, name):
    found, _ = answers(sdk, name, "dense_fp16")
    expected = emulated(name)
    assert np.array_equal(found.argmax(1), expected.argmax(1))
    size = np.abs(expected)
    rounding = size * 2.0**-11  # 2022.3 hands the output over in float16
    few_steps = description(name)["steps"] <= 8
    assert (np.abs(found - expected) <= (rounding if few_steps else TOLERANCE * size.max())).all()


@pytest.mark.parametrize("sdk", SDKS)
def test_the_floating_point_twin_is_what_onnx_says_it_is(sdk):
    found, _ = answers(sdk, "nmnist", "ann")
    reference = ReferenceEvaluator(onnx.load(MODELS / "nmnist" / "ann.onnx"))
    steps = description("nmnist")["steps"]
    for output, times in list(zip(found, windows("nmnist"), strict=True))[::10]:
        values = ((steps - times.astype(np.float32)) / steps)[None]
        (expected,) = reference.run(None, {"p": values})
        assert np.abs(output - expected[0]).max() < 1e-3 * np.abs(expected).max()


@pytest.mark.parametrize("role", ["dense_fp16", "ann"])
def test_the_stick_takes_every_operation_of_every_model_that_ships(role):
    paths = [file_of(name, role) for name in NAMES]
    left_out, _ = ask(
        myriad(),
        "(lambda sdk: {path: sdk.unsupported(sdk.read(Path(path).read_bytes()), 'MYRIAD') for path in arguments})"
        "(driver.openvino.find())",
        *paths,
    )
    assert left_out == {str(path): [] for path in paths}


def test_an_operation_that_the_stick_does_not_take_is_named(tmp_path):
    model = onnx.load(MODELS / "nmnist" / "ann.onnx")
    relu = next(node for node in model.graph.node if node.op_type == "Relu")
    relu.op_type, relu.name = "Cos", "wave"
    path = tmp_path / "cos.onnx"
    onnx.save(model, path)
    left_out, _ = ask(
        myriad(),
        "driver.openvino.find().unsupported(driver.openvino.find().read(Path(arguments[0]).read_bytes()), 'MYRIAD')",
        path,
    )
    assert len(left_out) == 1
    assert "(Cos)" in left_out[0]


@pytest.mark.parametrize("sdk", SDKS)
def test_the_probe_says_what_it_would_run_on(sdk):
    (found,), _ = ask(SDKS[sdk](), "driver.probe(options(device='CPU'))")
    assert (found["device"], found["present"], found["reason"], found["openvino"]) == ("CPU", True, "", sdk)

"""OpenVINO for real, in a worker as the daemon runs it: the emulator's very answers, and what is refused and absent.

Its environment is made in build/ once; where that is not possible the tests are skipped by name.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
from tests.support.sdk import python_of

from firstspike.backends import openvino
from firstspike.benchmark import windows
from firstspike.bundle import open_bundle
from firstspike.ttfs.emulator import Emulator
from firstspike.ttfs.file import load
from firstspike.worker.start import Program
from firstspike.worker.supervisor import Limits, Supervisor, WorkerError

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("FIRSTSPIKE_DATA", ROOT.parent / "shared" / "data"))
BUNDLES = sorted(path.parent for path in (ROOT / "models").glob("*/dense.onnx"))
WINDOWS = 200
REAL = {"nmnist": DATA / "nmnist" / "Train", "dvs128-objects": DATA / "dvs128_objects" / "2018-10-06"}


@pytest.fixture(scope="module")
def python():
    return python_of("openvino")


@pytest.fixture
def start(python, tmp_path):
    """Start a worker with a bundle; `cache_dir` is the test's own."""
    started = []

    def call(folder, raw=None, model=None, **changed):
        bundle = open_bundle(folder)
        options = {key: option.default for key, option in openvino.OPTIONS.items()} | {"cache_dir": str(tmp_path / "c")}
        options |= changed
        spec, form = bundle.manifest.input, options["network"]
        described = {
            "name": folder.name, "version": "1", "digest": bundle.digest, "classes": len(bundle.manifest.labels),
            "channels": spec.channels, "height": spec.height, "width": spec.width, "steps": spec.steps, "form": form,
            "scale": 1 / spec.steps if form == "ann" else 1.0,
        } | (model or {})  # fmt: skip
        body = bundle.path(form).read_bytes() if raw is None else raw
        program = Program((str(python),), "openvino", openvino.SIBLINGS)
        load_request = {"options": options, "model": described}, body
        worker = Supervisor("openvino", program, load_request, Limits(look_s=60.0, rest_s=60.0, restarts=0))
        started.append(worker)
        worker.wait_ready(60)
        return worker

    yield call
    for worker in started:
        worker.close()


def ask(worker, times):
    return worker.infer(times, time.monotonic() + 20).arrays["output"].copy()


def equal(worker, folder, samples):
    emulator = Emulator(load(open_bundle(folder).path("ttfs")))
    for sample in samples:
        np.testing.assert_array_equal(ask(worker, sample.spikes.times), emulator.run(sample.spikes.times).potential)


def drawn(folder, count):
    """Inputs from none to all active, some beyond what training saw."""
    spec = open_bundle(folder).manifest.input
    shape, random = (spec.channels, spec.height, spec.width), np.random.default_rng(5)
    for number in range(count):
        times = random.integers(0, spec.steps + 1, shape)
        yield np.where(random.random(shape) < number / (count - 1), times, spec.steps).astype(np.uint8)


@pytest.mark.parametrize("folder", BUNDLES, ids=lambda folder: folder.name)
def test_drawn_inputs_give_the_emulators_potentials(start, folder):
    worker = start(folder)
    assert worker.condition.state == "ready", worker.condition.reason
    assert worker.about["exact"]
    assert worker.about["precision"] == "f32"
    emulator = Emulator(load(open_bundle(folder).path("ttfs")))
    for times in drawn(folder, WINDOWS):
        np.testing.assert_array_equal(ask(worker, times), emulator.run(times).potential)


@pytest.mark.parametrize("name", sorted(REAL))
def test_real_windows_give_the_emulators_potentials(start, name):
    if not REAL[name].exists():
        pytest.skip(f"{REAL[name]} is not there")
    taken = windows.recorded(open_bundle(ROOT / "models" / name), REAL[name], WINDOWS)
    assert len(taken.samples) == WINDOWS
    equal(start(ROOT / "models" / name), ROOT / "models" / name, taken.samples)


def test_simulated_windows_give_the_emulators_potentials(start):
    folder = ROOT / "models" / "nmnist"
    taken = windows.simulated(open_bundle(folder), 60)
    assert len(taken.samples) == 60
    equal(start(folder), folder, taken.samples)


@pytest.mark.parametrize("changed", [{"hint": "throughput"}, {"threads": 0}, {"threads": 2}, {"device": "AUTO:CPU"}])
def test_no_setting_but_the_precision_changes_an_answer(start, changed):
    folder = ROOT / "models" / "nmnist"
    worker, emulator = start(folder, **changed), Emulator(load(open_bundle(folder).path("ttfs")))
    assert worker.condition.state == "ready", worker.condition.reason
    for times in drawn(folder, 30):
        np.testing.assert_array_equal(ask(worker, times), emulator.run(times).potential)


def test_a_lower_precision_says_that_it_is_not_exact(start):
    worker = start(ROOT / "models" / "nmnist", precision="auto")
    assert worker.about["exact"] is (worker.about["precision"] == "f32")


def test_the_floating_point_twin(start):
    from onnx.reference import ReferenceEvaluator

    folder = ROOT / "models" / "mnist-lenet"
    worker, twin = start(folder, network="ann"), ReferenceEvaluator(str(folder / "ann.onnx"))
    for times in drawn(folder, 20):
        p = (8 - times[None].astype(np.float32)) / 8
        np.testing.assert_allclose(ask(worker, times), twin.run(None, {"p": p})[0][0], rtol=1e-4, atol=1e-4)


def test_the_second_start_comes_from_the_cache_and_a_flipped_bit_is_noticed(start, tmp_path):
    folder, times = ROOT / "models" / "nmnist", next(drawn(ROOT / "models" / "nmnist", 2))
    first = start(folder)
    assert not first.about["from_cache"]
    truth = ask(first, times)
    second = start(folder)
    assert second.about["from_cache"]
    np.testing.assert_array_equal(ask(second, times), truth)
    (file,) = (tmp_path / "c").iterdir()
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 0x40
    file.write_bytes(raw)
    third = start(folder)
    assert not third.about["from_cache"]
    assert "changed on disk" in " ".join(third.about["notes"])
    np.testing.assert_array_equal(ask(third, times), truth)


def test_a_cache_that_cannot_be_written_is_done_without(start):
    worker = start(ROOT / "models" / "mnist-lenet", cache_dir="/proc/firstspike")
    assert worker.condition.state == "ready"
    assert worker.about["notes"]


@pytest.mark.parametrize(("device", "reason"), [("FOO", "no device 'FOO'"), ("CPU.7", "there is no CPU.7")])
def test_a_device_that_does_not_exist(start, device, reason):
    worker = start(ROOT / "models" / "mnist-lenet", device=device)
    assert worker.condition.state == "absent"
    assert reason in worker.condition.reason
    assert worker.condition.fix


@pytest.mark.parametrize(("device", "nodes"), [("GPU", "dev/dri"), ("NPU", "dev/accel")])
def test_an_accelerator_that_is_not_there(start, device, nodes):
    if (Path("/") / nodes).exists():
        pytest.skip(f"/{nodes} is there: this machine may have a {device}")
    worker = start(ROOT / "models" / "mnist-lenet", device=device)
    assert worker.condition.state == "absent"
    assert f"no {device}" in worker.condition.reason
    assert "group render" in worker.condition.fix
    with pytest.raises(WorkerError, match="absent"):
        ask(worker, np.zeros((1, 28, 28), np.uint8))


@pytest.mark.parametrize("size", [0, 100, 50_000])
def test_a_network_that_openvino_cannot_read(start, size):
    raw = (ROOT / "models" / "mnist-lenet" / "dense.onnx").read_bytes()
    worker = start(ROOT / "models" / "mnist-lenet", raw=raw[:size])
    assert worker.condition.state in ("failed", "backing-off")
    assert "OpenVINO cannot run the network on CPU" in worker.condition.reason
    assert "src/" not in worker.condition.reason


def test_a_network_of_another_shape(start):
    worker = start(ROOT / "models" / "mnist-lenet", model={"height": 30})
    assert "the network takes float32 of shape (1, 1, 28, 28)" in worker.condition.reason


def test_a_window_of_another_shape_fails_alone(start):
    worker = start(ROOT / "models" / "mnist-lenet")
    with pytest.raises(WorkerError, match="the network takes"):
        ask(worker, np.zeros((1, 30, 28), np.uint8))
    assert ask(worker, np.full((1, 28, 28), 8, np.uint8)).shape == (10,)


def test_probe_tells_the_processor(python, tmp_path):
    """In the worker's interpreter, as `firstspike doctor` asks."""
    import subprocess

    code = f"""
import json, sys, types
for name in ("firstspike", "firstspike.worker", "firstspike.backends"):
    module = types.ModuleType(name); module.__path__ = [{str(ROOT / "runtime")!r} + "/" + name.replace(".", "/")]
    sys.modules[name] = module
from firstspike.backends import openvino
print(json.dumps([openvino.probe({{}}), [name for name in sys.modules if name.startswith("openvino_telemetry.")]]))
"""
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    told, telemetry = json.loads(done.stdout)
    assert telemetry == []
    found = {one["device"].partition(".")[0]: one for one in told}
    assert set(found) == {"CPU", "GPU", "NPU"}
    assert found["CPU"]["present"]
    assert found["CPU"]["name"]
    assert all(one["reason"] and one["fix"] for one in found.values() if not one["present"])

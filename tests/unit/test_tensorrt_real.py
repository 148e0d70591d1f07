"""What of the TensorRT back end can be real without a GPU: building engines, refusals, a worker that finds no CUDA."""

from __future__ import annotations

import contextlib
import ctypes
import subprocess
import sys
import time

import numpy as np
import pytest
from tests.support import tensorrt as pretended
from tests.support import tensorrt_rtx as rtx
from tests.support.program import ROOT
from tests.support.pythons import environment, interpreter

from firstspike import plugins
from firstspike.backends import tensorrt, tensorrt_rtx
from firstspike.bundle import open_bundle
from firstspike.types import Spikes
from firstspike.worker.start import Program
from firstspike.worker.supervisor import Limits, Supervisor, WorkerError

NETWORKS = sorted((ROOT / "models").glob("*/*.onnx"))


def request(path):
    return {"onnx": str(path), "half": "fp16" in path.name, "dense": path.name == "dense.onnx"}


def test_every_network_that_ships_becomes_an_engine_which_then_needs_a_gpu():
    assert len(NETWORKS) >= 6
    for path, found in zip(NETWORKS, rtx.real(*map(request, NETWORKS)), strict=True):
        weights = path.stat().st_size
        assert found["layers"] >= 9, path  # at least the nodes of the smallest network
        assert weights / 4 < found["bytes"] < weights + 2_000_000, path
        assert found["error"].startswith("the engine cannot be loaded: "), path
        assert "cudaError 35" in found["error"], path


def test_what_tensorrt_refuses_is_told_in_its_words(tmp_path):
    bogus, junk, full, half = (tmp_path / name for name in ("bogus", "junk", "full", "half"))
    bogus.write_bytes(pretended.network(operator="Bogus"))
    junk.write_bytes(b"\xff\xfe no network")
    full.write_bytes(pretended.network())
    half.write_bytes(pretended.network(half=True))
    options = {"half": True, "dense": False}
    found = rtx.real(
        *({"onnx": str(path), **options} for path in (bogus, junk, full, half)), {"load": "no engine" * 20}
    )
    assert "cannot read the network: Bogus clip: " in found[0]["error"]
    assert "Failed to parse the ONNX model" in found[1]["error"]
    assert "from the network's own types alone" in found[2]["error"]
    assert "bytes" not in found[2]
    assert found[3]["bytes"] > 0
    assert "Serialization" in found[4]["error"]


def supervisor(python, module, options=None, data=b""):
    """A worker of the driver, as the daemon starts it."""
    load = {"options": options or pretended.options(""), "model": pretended.MODEL}
    program = Program(python, module.__name__.rpartition(".")[2], module.SIBLINGS)
    return Supervisor("gpu", program, (load, data), Limits(start_s=60))


def has_cuda():
    try:
        return ctypes.CDLL("libcuda.so.1") is not None
    except OSError:
        return False


@pytest.mark.parametrize("module", [tensorrt, tensorrt_rtx], ids=["tensorrt", "tensorrt_rtx"])
def test_a_worker_without_cuda_is_absent_with_reason_and_fix(module):
    if has_cuda():
        pytest.skip("this machine has CUDA, and the test is of a machine without")
    python = str(rtx.rtx()) if module is tensorrt_rtx else sys.executable
    worker = supervisor((python,), module)
    try:
        condition = worker.wait_ready(60)
        assert condition.state == "absent"
        assert condition.reason == "libcuda.so.1 is not there: no NVIDIA driver is installed"
        assert condition.fix is not None
        assert condition.fix.startswith("install the GPU's driver")
        assert condition.restarts == 0
        with pytest.raises(WorkerError, match="absent: libcuda"):
            worker.infer(pretended.windows(1)[0], time.monotonic() + 1)
    finally:
        worker.close()


def pretending(tmp_path, **environment):
    """A command for a worker whose libcuda and TensorRT are pretended."""
    library = pretended.library(tmp_path)
    (tmp_path / "tensorrt.py").write_text(
        "import ctypes, sys\n"
        "from tests.support.fake_tensorrt import Faults, make\n"
        f"sys.modules['tensorrt'] = make('10.3.0', ctypes.CDLL({str(library)!r}), Faults())\n"
    )
    settings = {"PYTHONPATH": f"{tmp_path}:{ROOT}", "LD_LIBRARY_PATH": str(tmp_path), **environment}
    return ("env", *(f"{key}={value}" for key, value in settings.items()), sys.executable)


def pretended_worker(tmp_path, **environment):
    command = pretending(tmp_path, **environment)
    return supervisor(command, tensorrt, pretended.options(tmp_path / "engines"), pretended.network())


@pytest.mark.parametrize("name", ["nmnist", "mnist-lenet"])
def test_the_daemon_gets_the_emulator_s_very_inference(name, tmp_path):
    bundle = open_bundle(ROOT / "models" / name)
    if "dense" not in bundle.manifest.files:
        pytest.skip(f"the bundle {name} has no dense form")
    kind = plugins.load("backends", "tensorrt")
    options = kind.Options(command=list(pretending(tmp_path)), cache_dir=str(tmp_path / "engines"))
    spec, rng = bundle.manifest.input, np.random.default_rng(5)
    with contextlib.closing(kind.create(options, bundle, "gpu")) as backend:
        assert backend.supervisor.wait_ready(60).state == "ready"
        emulator = plugins.load("backends", "emulator")
        expected = emulator.create(emulator.Options(), bundle, "emulator")
        for _ in range(3):
            times = rng.integers(0, spec.steps + 1, (spec.channels, spec.height, spec.width)).astype(np.uint8)
            spikes = Spikes(times=times, steps=spec.steps, n_events=500)
            found, wanted = backend.infer(spikes, 30.0), expected.infer(spikes, 30.0)
            assert found.failure is None
            assert found.potential.tolist() == wanted.potential.tolist()
            assert found.first_spike.tolist() == wanted.first_spike.tolist()


def test_numbers_come_through_a_worker(tmp_path):
    worker = pretended_worker(tmp_path)
    try:
        assert worker.wait_ready(60).state == "ready"
        assert worker.about["engine"] == "built"
        for times in pretended.windows():
            answer = worker.infer(times, time.monotonic() + 10)
            assert answer.arrays["output"].tolist() == pretended.answer(pretended.network(), times).tolist()
    finally:
        worker.close()


def test_a_device_that_fails_for_good_gives_its_reason_and_a_new_worker(tmp_path, monkeypatch):
    worker = pretended_worker(tmp_path, FAKE_CUDA_FAIL="cuStreamSynchronize=719@2")
    try:
        assert worker.wait_ready(60).state == "ready"
        first = worker.condition.pid
        reason = (
            "ended with exit code 74: .*the device has failed: .* cuStreamSynchronize failed: CUDA_ERROR_LAUNCH_FAILED"
        )
        with pytest.raises(WorkerError, match=reason):
            worker.infer(pretended.windows(1)[0], time.monotonic() + 10)
        end = time.monotonic() + 60
        while worker.condition.state != "ready" and time.monotonic() < end:
            time.sleep(0.01)
        assert worker.condition.state == "ready"
        assert worker.condition.pid != first
        assert worker.about["engine"] == "cached"
    finally:
        worker.close()


def test_numbers_come_through_a_worker_of_jetpack_4_6(tmp_path):
    # Python 3.6 and Ubuntu 18.04's NumPy, and what of TensorRT 8.2 the driver uses.
    python = environment(("3.6",), "numpy==1.13.3")
    pretended.library(tmp_path)
    (tmp_path / "tensorrt.py").write_text((ROOT / "tests" / "support" / "fake_tensorrt_82.py").read_text())
    command = ("env", f"PYTHONPATH={tmp_path}", f"LD_LIBRARY_PATH={tmp_path}", str(python))
    worker = supervisor(command, tensorrt, pretended.options(tmp_path / "engines"), pretended.network())
    try:
        assert worker.wait_ready(60).state == "ready", worker.condition
        assert worker.about["api"] == "execute_async_v2"
        for times in pretended.windows():
            values = 16.0 - times
            answer = worker.infer(times, time.monotonic() + 10).arrays["output"]
            assert answer.tolist() == [values.sum(), values.max(), values[0, 0, 0]]
        assert len(list((tmp_path / "engines").iterdir())) == 1
    finally:
        worker.close()


def test_what_is_sent_to_a_worker_is_python_3_6():
    python = interpreter((3, 6))  # JetPack 4.6's
    sent = Program((python,), "tensorrt_rtx", tensorrt_rtx.SIBLINGS).greeting()[12:]
    check = (
        "import json, sys\nsent = json.loads(sys.stdin.read())\n"
        "for name in sent['sources']: compile(sent['sources'][name], name, 'exec')\n"
        "print(len(sent['sources']))"
    )
    done = subprocess.run([python, "-c", check], input=sent.decode(), capture_output=True, text=True, check=False)
    assert done.stdout == f"{len(tensorrt_rtx.SIBLINGS) + 1}\n", done.stderr

"""What the driver finds out about CUDA before TensorRT is touched, against a pretended libcuda."""

from __future__ import annotations

import pytest
from tests.support import tensorrt as pretended

from firstspike.backends import _cuda, tensorrt
from firstspike.worker.shim import AbsentError


@pytest.fixture
def gpu(tmp_path, monkeypatch):
    yield from pretended.gpu(tmp_path, monkeypatch)


def test_without_a_driver_the_library_is_named(monkeypatch):
    monkeypatch.setattr(_cuda, "LIBRARY", "libcuda-that-is-not-there.so.1")
    with pytest.raises(AbsentError, match="is not there: no NVIDIA driver is installed") as caught:
        _cuda.Driver()
    assert "install the GPU's driver" in caught.value.fix


def test_a_library_for_another_processor_is_told_apart(tmp_path, monkeypatch):
    (tmp_path / "libcuda.so.1").write_bytes(b"\x7fELF" + bytes(100))
    monkeypatch.setattr(_cuda, "LIBRARY", str(tmp_path / "libcuda.so.1"))
    with pytest.raises(AbsentError, match="cannot be loaded: "):
        _cuda.Driver()


def test_a_library_that_lacks_a_function_is_too_old(monkeypatch):
    monkeypatch.setattr(_cuda, "LIBRARY", "libc.so.6")
    with pytest.raises(AbsentError, match=r"libc\.so\.6 has no cuInit") as caught:
        _cuda.Driver()
    assert "update the driver" in caught.value.fix


@pytest.mark.parametrize(
    ("code", "name", "fix"),
    [
        (100, "CUDA_ERROR_NO_DEVICE", "nvidia-smi"),
        (34, "CUDA_ERROR_STUB_LIBRARY", "folder stubs out of LD_LIBRARY_PATH"),
        (304, "CUDA_ERROR_OPERATING_SYSTEM", "group video"),
        (802, "CUDA_ERROR_SYSTEM_NOT_READY", "fabric manager"),
        (803, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", "restart"),
        (804, "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE", "compatibility package"),
        (999, "CUDA_ERROR_UNKNOWN", "modprobe nvidia_uvm"),
        (12345, "CUDA error 12345", "see that the GPU is there"),
    ],
)
def test_each_failure_of_cuinit_has_its_name_and_fix(code, name, fix, gpu, monkeypatch):
    monkeypatch.setenv("FAKE_CUDA_FAIL", f"cuInit={code}")
    with pytest.raises(AbsentError, match=f"CUDA does not start: cuInit failed: {name}") as caught:
        _cuda.Driver()
    assert fix in caught.value.fix
    (found,) = tensorrt.probe({})
    assert not found["present"]
    assert name in found["reason"]


def test_a_driver_without_a_gpu_is_told(gpu, monkeypatch):
    monkeypatch.setenv("FAKE_CUDA_DEVICES", "0")
    with pytest.raises(AbsentError, match="lists no GPU"):
        _cuda.Driver().devices()


@pytest.mark.parametrize("call", ["cuDeviceGetCount", "cuDeviceGet", "cuDeviceGetName", "cuDeviceGetAttribute"])
def test_a_gpu_that_does_not_answer_is_told(call, gpu, monkeypatch):
    monkeypatch.setenv("FAKE_CUDA_FAIL", f"{call}=719")
    with pytest.raises(AbsentError, match=f"the GPU does not answer: {call} failed: CUDA_ERROR_LAUNCH_FAILED"):
        _cuda.Driver().devices()


def test_devices_are_described(gpu, monkeypatch):
    monkeypatch.setenv("FAKE_CUDA_DEVICES", "2")
    found = _cuda.Driver().devices()
    assert found[1] == _cuda.Found(1, "Pretended GPU 1", (8, 7), 16, 4 << 30, "12.6")


def test_a_device_beyond_the_last_is_refused_with_those_that_there_are(gpu):
    with pytest.raises(AbsentError, match=r"there is no CUDA device 3; there are: 0 \(Pretended GPU 0\)"):
        _cuda.Session(_cuda.Driver(), 3)


@pytest.mark.parametrize("call", ["cuDevicePrimaryCtxRetain", "cuCtxSetCurrent", "cuStreamCreate"])
def test_a_device_that_takes_nobody_in_is_absent_and_nothing_is_held(call, gpu, monkeypatch):
    monkeypatch.setenv("FAKE_CUDA_FAIL", f"{call}=46")
    with pytest.raises(
        AbsentError, match=f"Pretended GPU 0 cannot be used: {call} failed: CUDA_ERROR_DEVICE_UNAVAILABLE"
    ):
        _cuda.Session(_cuda.Driver(), 0)


def test_bytes_come_back_from_the_device_when_the_stream_is_done(gpu):
    session = _cuda.Session(_cuda.Driver(), 0)
    there, sent, fetched = session.memory(8), session.host(8), session.host(8)
    sent[:] = b"firstspk"
    session.send(there, sent)
    session.fetch(fetched, there)
    assert bytes(fetched) == bytes(8)  # the copies wait for the stream
    session.wait()
    assert bytes(fetched) == b"firstspk"
    session.close()
    session.close()  # a second time is no error


def test_a_copy_beyond_the_memory_is_an_error_of_this_call_only(gpu):
    session = _cuda.Session(_cuda.Driver(), 0)
    there, host = session.memory(4), session.host(8)
    with pytest.raises(_cuda.CudaError, match="cuMemcpyHtoDAsync_v2 failed") as caught:
        session.send(there, host)
    assert not caught.value.fatal
    session.close()


def test_a_hundred_sessions_leave_nothing_behind(gpu):
    for _ in range(100):
        session = _cuda.Session(_cuda.Driver(), 0)
        session.memory(1 << 16)
        session.host(1 << 16)
        session.close()

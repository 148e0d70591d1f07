"""The TensorRT driver from LOAD to answer, against a pretended GPU and the interfaces of 8.2, 8.6, 10.3 and 11."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from tests.support import fake_tensorrt
from tests.support import tensorrt as pretended
from tests.support.tensorrt import MODEL, VERSIONS, load

from firstspike.backends import _cuda, _tensorrt_engine, tensorrt, tensorrt_rtx
from firstspike.worker.shim import AbsentError

MODELS = Path(__file__).parents[2] / "models"


@pytest.fixture
def gpu(tmp_path, monkeypatch):
    yield from pretended.gpu(tmp_path, monkeypatch)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "engines"


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_gives_the_network_s_very_integers(version, gpu, folder, monkeypatch):
    pretended.pretend(monkeypatch, gpu, version)
    network = pretended.network()
    with load(folder, network) as driver:
        for times in pretended.windows():
            output = driver.infer(times)["output"]
            assert output.dtype == np.float32
            assert output.shape == (3,)
            assert output.tolist() == pretended.answer(network, times).tolist()
        assert output.any()
        v3 = version != "8.2.1"
        assert driver.about["api"] == ("execute_async_v3" if v3 else "execute_async_v2")
        assert driver.about["device"] == "Pretended GPU 0"
        assert driver.about["compute_capability"] == "8.7"
        assert "not run on hardware" in driver.about["tried"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", ["nmnist", "mnist-lenet-t4"])
def test_the_networks_that_ship_run_through_it(version, name, gpu, folder, monkeypatch):
    pretended.pretend(monkeypatch, gpu, version)
    data = (MODELS / name / "ann.onnx").read_bytes()
    shape = tuple(d.dim_value for d in onnx.load_from_string(data).graph.input[0].type.tensor_type.shape.dim)[1:]
    model = MODEL | dict(zip(("channels", "height", "width"), shape, strict=True))
    model |= {"classes": 10, "steps": 8, "form": "ann", "scale": 1 / 8}
    (times,) = pretended.windows(1, 8, shape)
    with load(folder, data, model) as driver:
        assert driver.infer(times)["output"].tolist() == pretended.answer(data, times, 8, 1 / 8).tolist()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_network_in_half_precision_is_fed_and_answers_in_it(version, gpu, folder, monkeypatch):
    pretended.pretend(monkeypatch, gpu, version)
    network = pretended.network(half=True)
    (times,) = pretended.windows(1)
    with load(folder, network, network="ann", precision="f16") as driver:
        assert driver.about["precision"] == "f16"
        output = driver.infer(times)["output"]
    assert output.dtype == np.float32
    assert output.tolist() == pretended.answer(network, times).tolist()


def test_a_window_of_another_shape_is_refused_and_the_next_is_answered(gpu, folder, monkeypatch):
    pretended.pretend(monkeypatch, gpu, "10.3.0")
    network = pretended.network()
    times = pretended.windows(1)[0]
    with load(folder, network) as driver:
        with pytest.raises(ValueError, match=r"\(2, 5, 5\) for a network of \(2, 6, 5\)"):
            driver.infer(times[:, :5])
        assert driver.infer(times)["output"].tolist() == pretended.answer(network, times).tolist()


def test_answers_are_the_caller_s_own(gpu, folder, monkeypatch):
    pretended.pretend(monkeypatch, gpu, "10.3.0")
    first, second, *_ = pretended.windows()
    with load(folder) as driver:
        kept = driver.infer(first)["output"]
        before = kept.tolist()
        assert driver.infer(second)["output"].tolist() != before
        assert kept.tolist() == before


@pytest.mark.parametrize(
    ("network", "complaint"),
    [
        (pretended.network(classes=4), r"potential is of shape \(1, 4\), not \(1, 3\)"),
        (pretended.network(height=7), r"activations is of shape \(1, 2, 7, 5\), windows are \(1, 2, 6, 5\)"),
    ],
)
def test_a_network_that_does_not_fit_the_bundle_is_refused(network, complaint, gpu, folder, monkeypatch):
    pretended.pretend(monkeypatch, gpu, "8.2.1")
    with pytest.raises(ValueError, match=complaint):
        load(folder, network)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("fault", "complaint"),
    [("no_context", "no memory to run the engine"), ("refuse_run", "the engine did not run: .*enqueue")],
)
def test_an_engine_that_cannot_run_is_no_ready_worker(version, fault, complaint, gpu, folder, monkeypatch):
    pretended.pretend(monkeypatch, gpu, version, fake_tensorrt.Faults(**{fault: True}))
    with pytest.raises(_tensorrt_engine.EngineError, match=complaint):
        load(folder)


def test_a_refused_address_is_told(gpu, folder, monkeypatch):
    pretended.pretend(monkeypatch, gpu, "10.3.0", fake_tensorrt.Faults(refuse_address=True))
    with pytest.raises(_tensorrt_engine.EngineError, match="refuses memory for potential"):
        load(folder)


def test_a_run_that_is_refused_once_fails_its_window_only(gpu, folder, monkeypatch):
    faults = pretended.pretend(monkeypatch, gpu, "8.2.1")
    network, (times,) = pretended.network(), pretended.windows(1)
    with load(folder, network) as driver:
        faults.refuse_run = True
        with pytest.raises(_tensorrt_engine.EngineError, match="the engine did not run"):
            driver.infer(times)
        faults.refuse_run = False
        assert driver.infer(times)["output"].tolist() == pretended.answer(network, times).tolist()


class EndedError(Exception):
    """In place of the process's end."""


@pytest.fixture
def ended(monkeypatch):
    def end(reason):
        raise EndedError(reason)

    monkeypatch.setattr(tensorrt, "end_process", end)


def test_a_device_that_fails_for_good_ends_the_worker(gpu, folder, monkeypatch, ended):
    faults = pretended.pretend(monkeypatch, gpu, "10.3.0")
    with load(folder) as driver:
        faults.status = 700
        with pytest.raises(EndedError, match="Pretended GPU 0: cuStreamSynchronize failed: CUDA_ERROR_ILLEGAL_ADDRESS"):
            driver.infer(pretended.windows(1)[0])


@pytest.mark.parametrize("call", ["cuMemcpyHtoDAsync_v2", "cuMemcpyDtoHAsync_v2", "cuStreamSynchronize"])
def test_a_copy_that_fails_is_told_and_out_of_memory_is_not_the_end(call, gpu, folder, monkeypatch, ended):
    pretended.pretend(monkeypatch, gpu, "8.6.1")
    network, (times,) = pretended.network(), pretended.windows(1)
    with load(folder, network) as driver:
        monkeypatch.setenv("FAKE_CUDA_FAIL", f"{call}=2")
        with pytest.raises(_cuda.CudaError, match=f"{call} failed: CUDA_ERROR_OUT_OF_MEMORY: out of memory"):
            driver.infer(times)
        monkeypatch.setenv("FAKE_CUDA_FAIL", f"{call}=719")
        with pytest.raises(EndedError, match=f"{call} failed: CUDA_ERROR_LAUNCH_FAILED"):
            driver.infer(times)
        monkeypatch.delenv("FAKE_CUDA_FAIL")
        assert driver.infer(times)["output"].tolist() == pretended.answer(network, times).tolist()


@pytest.mark.parametrize("call", ["cuMemAlloc_v2", "cuMemHostAlloc"])
def test_no_memory_for_a_window_is_told_at_loading(call, gpu, folder, monkeypatch):
    pretended.pretend(monkeypatch, gpu, "8.6.1")
    monkeypatch.setenv("FAKE_CUDA_FAIL", f"{call}=2")
    with pytest.raises(_cuda.CudaError, match="out of memory"):
        load(folder)


def test_without_tensorrt_the_reason_and_the_fix_are_told(gpu, folder):
    with pytest.raises(AbsentError, match="module tensorrt is not there for Python 3") as caught:
        load(folder)
    assert "python3-libnvinfer" in caught.value.fix


def test_a_module_without_its_libraries_is_told_apart(gpu, folder, tmp_path, monkeypatch):
    (tmp_path / "tensorrt.py").write_text("raise ImportError('libnvinfer.so.8: cannot open shared object file')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tensorrt")
    with pytest.raises(AbsentError, match=r"does not load under Python .*libnvinfer\.so\.8") as caught:
        load(folder)
    assert "in one and the same version" in caught.value.fix


def test_the_probe_lists_every_device(gpu, monkeypatch):
    monkeypatch.setenv("FAKE_CUDA_DEVICES", "2")
    missing = tensorrt.probe({})
    assert [found["device"] for found in missing] == ["Pretended GPU 0", "Pretended GPU 1"]
    assert not any(found["present"] for found in missing)
    pretended.pretend(monkeypatch, gpu, "8.6.1")
    found = tensorrt.probe({})[1]
    assert found["present"]
    assert found["tensorrt"] == "8.6.1"
    assert found["driver"] == "12.6"
    assert found["memory_mib"] == 4096
    assert "not run on hardware" in found["tried"]


def test_tensorrt_for_rtx_is_the_same_under_its_own_name(gpu, folder, monkeypatch):
    pretended.pretend(monkeypatch, gpu, "11.0.0", name="tensorrt_rtx_bindings")
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    network, (times,) = pretended.network(), pretended.windows(1)
    driver = tensorrt_rtx.Driver(pretended.options(folder), MODEL, network)
    with contextlib.closing(driver):
        assert driver.about["module"] == "tensorrt_rtx_bindings"
        assert driver.infer(times)["output"].tolist() == pretended.answer(network, times).tolist()
    assert tensorrt_rtx.probe({})[0]["module"] == "tensorrt_rtx_bindings"

"""The TensorRT driver from LOAD to answer, against a pretended GPU and the interfaces of 8.2, 8.6, 10.3 and 11."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from tests.support import fake_tensorrt
from tests.support import tensorrt as pretended
from tests.support.tensorrt import MODEL, VERSIONS

from firstspike.backends import _cuda, _tensorrt_engine, tensorrt, tensorrt_rtx
from firstspike.worker.shim import AbsentError

MODELS = Path(__file__).parents[2] / "models"


@pytest.fixture
def gpu(tmp_path, monkeypatch):
    """A pretended GPU; at the end nothing of it is still held."""
    path = pretended.library(tmp_path)
    monkeypatch.setattr(_cuda, "LIBRARY", str(path))
    for name in ("FAKE_CUDA_FAIL", "FAKE_CUDA_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    yield path
    assert ctypes.CDLL(str(path)).fake_held() == 0


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "engines"


def load(folder, network=None, model=MODEL, **options):
    driver = tensorrt.Driver(pretended.options(folder, **options), model, network or pretended.network())
    return contextlib.closing(driver)


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
def test_builds_ask_for_what_the_version_has(version, gpu, folder, monkeypatch):
    asked = pretended.pretend(monkeypatch, gpu, version)
    with load(folder, workspace_mib=5):
        pass
    with load(folder, pretended.network(half=True), precision="f16"):
        pass
    assert asked.built[0] == {"flags": set(), "workspace": 5 << 20}
    assert asked.built[1]["flags"] == (set() if version == "11.0.0" else {"FP16"})


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
    with load(folder, network, precision="f16") as driver:
        output = driver.infer(times)["output"]
    assert output.dtype == np.float32
    assert output.tolist() == pretended.answer(network, times).tolist()


@pytest.mark.parametrize("version", VERSIONS)
def test_fp16_of_a_network_in_fp32_is_never_pretended(version, gpu, folder, monkeypatch):
    pretended.pretend(monkeypatch, gpu, version)
    with pytest.raises(_tensorrt_engine.EngineError, match="overflows FP16: set precision"):
        load(folder, precision="f16")
    twin = MODEL | {"form": "ann"}
    if version == "11.0.0":
        with pytest.raises(_tensorrt_engine.EngineError, match="from the network's own types alone: set precision"):
            load(folder, model=twin, precision="f16")
    else:
        with load(folder, model=twin, precision="f16") as driver:
            assert driver.about["precision"] == "f16"


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


def test_a_network_without_fixed_shape_is_refused(gpu, folder, monkeypatch):
    pretended.pretend(monkeypatch, gpu, "10.3.0")
    model = onnx.load_from_string(pretended.network())
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    with pytest.raises(_tensorrt_engine.EngineError, match="a fixed shape of floats is needed"):
        load(folder, model.SerializeToString())


@pytest.mark.parametrize("version", VERSIONS)
def test_the_parser_s_problem_is_told_with_its_node(version, gpu, folder, monkeypatch):
    pretended.pretend(monkeypatch, gpu, version)
    place = "Bogus clip" if version in ("10.3.0", "11.0.0") else "node 1"
    with pytest.raises(_tensorrt_engine.EngineError, match=f"cannot read the network: {place}: No importer registered"):
        load(folder, pretended.network(operator="Bogus"))
    with pytest.raises(_tensorrt_engine.EngineError, match="network: ModelImporter: failed to parse the model"):
        load(folder, b"\xff\xfe no network")


def test_a_build_without_memory_says_what_to_change(gpu, folder, monkeypatch):
    pretended.pretend(monkeypatch, gpu, "8.6.1", fake_tensorrt.Faults(build_error="Cuda failure: out of memory"))
    with pytest.raises(_tensorrt_engine.EngineError, match=r"out of memory\. Free memory .* workspace_mib"):
        load(folder)
    assert not folder.exists()


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


def test_engines_are_built_once(gpu, folder, monkeypatch):
    asked = pretended.pretend(monkeypatch, gpu, "10.3.0")
    network, (times,) = pretended.network(), pretended.windows(1)
    answers = []
    for expected in ("built", "cached"):
        with load(folder, network) as driver:
            assert driver.about["engine"] == expected
            assert driver.about["cache_notes"] == []
            answers.append(driver.infer(times)["output"].tolist())
    assert len(asked.built) == 1
    assert answers[0] == answers[1]


@pytest.mark.parametrize(
    "changed",
    [{"precision": "f16"}, {"workspace_mib": 7}, {"device": 1}],
    ids=["precision", "workspace", "another device"],
)
def test_engines_are_not_shared_by_what_differs(changed, gpu, folder, monkeypatch):
    asked = pretended.pretend(monkeypatch, gpu, "10.3.0")
    monkeypatch.setenv("FAKE_CUDA_DEVICES", "2")
    network = pretended.network(half=True)
    with load(folder, network):
        pass
    with load(folder, network, **changed):
        pass
    assert len(asked.built) == 2
    assert len(list(folder.iterdir())) == 2


def test_another_version_builds_its_own_engine(gpu, folder, monkeypatch):
    for version in ("8.6.1", "10.3.0"):
        asked = pretended.pretend(monkeypatch, gpu, version)
        with load(folder):
            pass
        assert len(asked.built) == 1


@pytest.mark.parametrize("raises", [False, True])
def test_an_engine_that_tensorrt_refuses_is_built_anew_once(raises, gpu, folder, monkeypatch, capfd):
    # The same key and a sum that is right, yet of a device that is not this one: only TensorRT can tell.
    faults = pretended.pretend(monkeypatch, gpu, "8.6.1", fake_tensorrt.Faults(capability="7.5"))
    with load(folder):
        pass
    faults.capability, faults.raise_on_load = "8.6", raises
    with load(folder) as driver:
        assert driver.about["engine"] == "built"
    assert len(faults.built) == 2
    assert capfd.readouterr().err.count("expecting compute 7.5 got compute 8.6: it is built anew") == 1
    with load(folder) as driver:
        assert driver.about["engine"] == "cached"


def test_an_engine_that_does_not_load_even_when_new_is_an_error(gpu, folder, monkeypatch):
    faults = pretended.pretend(monkeypatch, gpu, "10.3.0")
    with load(folder):
        pass
    module = sys.modules["tensorrt"]
    monkeypatch.setattr(module.Runtime, "deserialize_cuda_engine", lambda self, plan: None)
    with pytest.raises(_tensorrt_engine.EngineError, match="cannot be loaded, without saying why"):
        load(folder)
    assert len(faults.built) == 2
    assert list(folder.iterdir()) == []


def test_without_a_cache_engines_are_built_each_time(gpu, folder, monkeypatch):
    asked = pretended.pretend(monkeypatch, gpu, "10.3.0")
    for _ in range(2):
        with load(folder, cache_dir="none"):
            pass
    with load(folder, cache_mib=0) as driver:
        assert "is not kept: all may have 0" in driver.about["cache_notes"][0]
    assert len(asked.built) == 3
    assert not folder.exists()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_runtime_that_complains_is_not_used(version, gpu, folder, monkeypatch):
    fault = fake_tensorrt.Faults(runtime_error="CUDA initialization failure with error: 35")
    pretended.pretend(monkeypatch, gpu, version, fault)
    with pytest.raises(AbsentError, match=rf"tensorrt {version} does not start on this driver.*error: 35") as caught:
        load(folder)
    assert "update the NVIDIA driver" in caught.value.fix


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


def test_the_pretended_tensorrt_is_as_strict_as_the_versions(gpu):
    # The tests above show nothing if code for another version would pass here.
    library = ctypes.CDLL(str(gpu))
    of = {version: fake_tensorrt.make(version, library, fake_tensorrt.Faults()) for version in VERSIONS}
    assert not hasattr(of["8.2.1"], "TensorIOMode")
    assert not hasattr(of["11.0.0"].BuilderFlag, "FP16")
    assert not hasattr(of["11.0.0"].NetworkDefinitionCreationFlag, "EXPLICIT_BATCH")
    config = of["10.3.0"].Builder(None).create_builder_config()
    with pytest.raises(AttributeError):
        config.max_workspace_size = 1
    log = _tensorrt_engine.logger(of["8.2.1"])
    parser = of["8.2.1"].OnnxParser(of["8.2.1"].Builder(log).create_network(0), log)
    assert not parser.parse(pretended.network())

"""Engines of the TensorRT driver: what is asked of each version, what it refuses, and when one is built or loaded."""

from __future__ import annotations

import ctypes
import sys

import onnx
import pytest
from tests.support import fake_tensorrt
from tests.support import tensorrt as pretended
from tests.support.tensorrt import VERSIONS, load

from firstspike.backends import _tensorrt_engine, tensorrt
from firstspike.worker.options import model_of
from firstspike.worker.shim import AbsentError


@pytest.fixture
def gpu(tmp_path, monkeypatch):
    yield from pretended.gpu(tmp_path, monkeypatch)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "engines"


@pytest.mark.parametrize("version", VERSIONS)
def test_builds_ask_for_what_the_version_has(version, gpu, folder, monkeypatch):
    asked = pretended.pretend(monkeypatch, gpu, version)
    with load(folder, workspace_mib=5):
        pass
    with load(folder, pretended.network(half=True), network="ann", precision="f16"):
        pass
    assert asked.built[0] == {"flags": set(), "workspace": 5 << 20}
    assert asked.built[1]["flags"] == (set() if version == "11.0.0" else {"FP16"})


@pytest.mark.parametrize("version", VERSIONS)
def test_fp16_of_a_network_in_fp32_is_never_pretended(version, gpu, folder, monkeypatch):
    pretended.pretend(monkeypatch, gpu, version)
    with pytest.raises(_tensorrt_engine.EngineError, match="overflows it: set precision"):
        load(folder, precision="f16")
    if version == "11.0.0":
        with pytest.raises(_tensorrt_engine.EngineError, match="network's own types alone: set precision"):
            load(folder, network="ann", precision="f16")
    else:
        with load(folder, network="ann", precision="f16") as driver:
            assert driver.about["precision"] == "f16"


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
    [{"precision": "f16"}, {"network": "dense"}, {"workspace_mib": 7}, {"device": 1}],
    ids=["precision", "network", "workspace", "another device"],
)
def test_engines_are_not_shared_by_what_differs(changed, gpu, folder, monkeypatch):
    asked = pretended.pretend(monkeypatch, gpu, "10.3.0")
    monkeypatch.setenv("FAKE_CUDA_DEVICES", "2")
    with load(folder, network="ann"):
        pass
    with load(folder, **({"network": "ann"} | changed)):
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


def test_a_worker_that_builds_is_not_killed_for_it():
    options = model_of(tensorrt)()
    assert options.limits().start_s == 600
    assert "start_s" not in options.of_driver()
    assert model_of(tensorrt)(start_s=5).limits().start_s == 5


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

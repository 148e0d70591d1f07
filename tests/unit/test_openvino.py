"""The OpenVINO driver without OpenVINO: what is absent, why, and what an SDK that misbehaves makes of it."""

from __future__ import annotations

import io
import sys
import types

import numpy as np
import pytest

from firstspike.backends import _openvino_devices, openvino
from firstspike.worker.shim import AbsentError

MODEL = {
    "name": "m", "version": "1", "digest": "d", "classes": 3, "channels": 1, "height": 2, "width": 2, "steps": 8,
    "form": "dense", "scale": 1.0,
}  # fmt: skip
NOT_REGISTERED = (
    "Exception from src/inference/src/cpp/core.cpp:117:\n"
    'Exception from src/inference/src/dev/core_impl.cpp:706:\nDevice with "FOO" name is not registered\n\n'
)


class Port:
    """An input or output."""

    def __init__(self, shape, dtype=np.float32, dynamic=False):
        self.shape = shape
        self.partial_shape = types.SimpleNamespace(is_dynamic=dynamic)
        self._dtype = dtype

    def get_element_type(self):
        return types.SimpleNamespace(to_dtype=lambda: self._dtype)


class Compiled:
    """A network that answers with sums of its input."""

    def __init__(self, core):
        self.core, self.inputs, self.outputs = core, core.inputs, core.outputs

    def get_property(self, name):
        if name == "EXECUTION_DEVICES":
            return ["CPU"]
        raise RuntimeError("unsupported")

    def export_model(self):
        return io.BytesIO(b"compiled")

    def create_infer_request(self):
        data = np.zeros(self.outputs[0].shape if self.outputs else (1,), np.float32)
        given = []

        def infer():
            if self.core.fails:
                raise RuntimeError(NOT_REGISTERED)
            data[:] = given[0].sum() + np.arange(data.size)

        return types.SimpleNamespace(
            set_input_tensor=given.append, infer=infer, get_output_tensor=lambda: types.SimpleNamespace(data=data)
        )


class Core:
    """OpenVINO's, as far as the driver asks it."""

    devices = ("CPU",)
    capabilities = ("FP32", "EXPORT_IMPORT")
    inputs = (Port((1, 1, 2, 2)),)
    outputs = (Port((1, 3)),)
    fails = False
    refuses = False
    made = 0
    reshaped = ()

    @property
    def available_devices(self):
        return list(self.devices)

    def get_property(self, device, name):
        if device not in self.devices:
            raise RuntimeError(NOT_REGISTERED.replace("FOO", device))
        return list(self.capabilities) if name == "OPTIMIZATION_CAPABILITIES" else f"{device}'s {name}"

    def read_model(self, network):
        if network == b"garbage":
            raise RuntimeError("Exception from src/a.cpp:1:\nUnable to read the model.\n")
        return types.SimpleNamespace(
            input=lambda _: self.inputs[0], reshape=lambda shape: setattr(type(self), "reshaped", tuple(shape))
        )

    def compile_model(self, model, device, wanted):
        type(self).made += 1
        return Compiled(self)

    def import_model(self, stream, device, wanted):
        if self.refuses:
            raise RuntimeError("Check 'is_valid_model' failed at src/x.cpp:1:\nCould not deserialize.\n")
        assert stream.read() == b"compiled"
        return Compiled(self)


@pytest.fixture
def core(monkeypatch):
    """A class of its own for the test to change."""
    made = type("Core", (Core,), {})
    fake = types.ModuleType("openvino")
    fake.Core, fake.__version__, fake.Tensor = made, "2026.4.1-1-abc", lambda array, shared_memory: array
    monkeypatch.setitem(sys.modules, "openvino", fake)
    return made


@pytest.fixture
def driver(tmp_path):
    def make(network=b"network", model=None, **changed):
        options = {key: option.default for key, option in openvino.OPTIONS.items()} | {"cache_dir": str(tmp_path / "c")}
        return openvino.Driver(options | changed, MODEL | (model or {}), network)

    return make


def test_answers_in_place(core, driver):
    made = driver()
    assert made.about["device"] == "CPU"
    assert made.about["openvino"] == "2026.4.1"
    times = np.array([[[8, 7], [0, 8]]], np.uint8)
    found = made.infer(times)["output"]
    assert found.tolist() == [9, 10, 11]
    assert made.infer(np.full((1, 2, 2), 8, np.uint8))["output"] is found or found[0] == 0  # no new memory
    assert made.infer(times)["output"].dtype == np.float32


def test_the_twin_gets_values_from_0_to_1(core, driver):
    made = driver(network=b"n", model={"form": "ann", "scale": 1 / 8})
    assert made.infer(np.array([[[8, 7], [0, 8]]], np.uint8))["output"][0] == np.float32(9 / 8)


def test_a_window_of_another_shape(core, driver):
    with pytest.raises(ValueError, match=r"shape \(2, 2, 2\), the network takes \(1, 2, 2\)"):
        driver().infer(np.zeros((2, 2, 2), np.uint8))


def test_a_failure_says_what_openvino_said_and_not_where(core, driver):
    made = driver()
    core.fails = True
    with pytest.raises(RuntimeError, match=r'^Device with "FOO" name is not registered$'):
        made.infer(np.zeros((1, 2, 2), np.uint8))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"inputs": (Port((1, 1, 3, 3)),)}, r"takes float32 of shape \(1, 1, 3, 3\), the model says \(1, 1, 2, 2\)"),
        ({"inputs": (Port((1, 1, 2, 2), np.int64),)}, "takes int64"),
        ({"inputs": (Port((1, 1, 2, 2)),) * 2}, "2 inputs and 1 outputs"),
        ({"outputs": (Port((1, 4)),)}, r"gives shape \(1, 4\), the model has 3 classes"),
    ],
)
def test_another_network_than_the_model_says(core, driver, change, text):
    for name, value in change.items():
        setattr(core, name, value)
    with pytest.raises(ValueError, match=text):
        driver()


def test_a_network_that_openvino_cannot_read(core, driver):
    with pytest.raises(ValueError, match=r"^OpenVINO cannot run the network on CPU: Unable to read the model\.$"):
        driver(network=b"garbage")


def test_a_dynamic_batch_becomes_one(core, driver):
    core.inputs = (Port((1, 1, 2, 2), dynamic=True),)
    driver()
    assert core.reshaped == (1, 1, 2, 2)


def test_the_second_start_takes_what_the_first_compiled(core, driver):
    assert not driver().about["from_cache"]
    assert driver().about["from_cache"]
    assert core.made == 1
    for changed in ({"threads": 2}, {"precision": "bf16"}, {"hint": "throughput"}, {"network": b"other"}):
        assert not driver(**changed).about["from_cache"]
    core.capabilities = ("FP32", "EXPORT_IMPORT", "BF16")
    assert not driver().about["from_cache"]  # another processor


@pytest.mark.parametrize("damage", [b"", b"compiled", b"x" * 5000])
def test_a_damaged_file_in_the_cache_is_made_anew(core, driver, tmp_path, damage):
    driver()
    (file,) = (tmp_path / "c").iterdir()
    file.write_bytes(damage)
    made = driver()
    assert not made.about["from_cache"]
    assert made.about["notes"]
    assert driver().about["from_cache"]


def test_one_flipped_bit_is_noticed(core, driver, tmp_path):
    driver()
    (file,) = (tmp_path / "c").iterdir()
    raw = bytearray(file.read_bytes())
    raw[-1] ^= 1
    file.write_bytes(raw)
    made = driver()
    assert not made.about["from_cache"]
    assert "changed on disk" in made.about["notes"][0]


def test_what_openvino_refuses_to_import_is_made_anew(core, driver):
    driver()
    core.refuses = True
    made = driver()
    assert not made.about["from_cache"]
    assert "refused and is made anew: Could not deserialize." in made.about["notes"][0]


@pytest.mark.parametrize("where", ["/proc/nowhere", "/dev/null", "file"])
def test_a_cache_that_cannot_be_written_is_done_without(core, driver, tmp_path, where):
    (tmp_path / "file").write_text("")
    made = driver(cache_dir=where if where != "file" else str(tmp_path / "file"))
    assert made.about["notes"]
    assert made.infer(np.zeros((1, 2, 2), np.uint8))["output"][0] == 32


def test_no_cache_if_so_said_or_if_the_device_cannot_export(core, driver, tmp_path):
    driver(cache_dir="none")
    core.capabilities = ("FP32",)
    assert not driver().about["notes"]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("device", "reason", "fix"),
    [
        ("FOO", "OpenVINO has no device 'FOO'", "one of CPU"),
        ("cpu", "OpenVINO has no device 'cpu'", "capitals"),
        ("GPU", "no GPU", "intel-opencl-icd"),
        ("NPU", "no NPU", "linux-npu-driver"),
        ("AUTO:GPU,CPU", "no GPU", "intel-opencl-icd"),
        ("CPU.1", "there is no CPU.1: OpenVINO finds CPU", "one of those"),
    ],
)
def test_devices_that_are_not_there(core, driver, device, reason, fix):
    with pytest.raises(AbsentError) as caught:
        driver(device=device)
    assert reason in caught.value.reason
    assert fix in caught.value.fix


@pytest.mark.parametrize("device", ["AUTO", "AUTO:CPU", "AUTO:-CPU", "HETERO:CPU", "MULTI:CPU(2)"])
def test_those_that_choose_are_left_to_openvino(core, driver, device):
    assert driver(device=device).about["ran_on"] == ["CPU"]


def test_a_second_gpu(core, driver):
    core.devices = ("CPU", "GPU.0", "GPU.1")
    for device in ("GPU", "GPU.0", "GPU.1"):
        driver(device=device)
    with pytest.raises(AbsentError, match=r"no GPU\.2: OpenVINO finds GPU\.0, GPU\.1"):
        driver(device="GPU.2")


def test_probe_tells_each_kind(core):
    core.devices = ("CPU", "GPU.0", "GPU.1")
    found = {one["device"]: one for one in openvino.probe({})}
    assert set(found) == {"CPU", "GPU.0", "GPU.1", "NPU"}
    assert found["GPU.1"]["present"]
    assert found["GPU.1"]["name"] == "GPU.1's FULL_DEVICE_NAME"
    assert not found["NPU"]["present"]
    assert found["NPU"]["fix"]


@pytest.mark.parametrize(("kind", "node"), [("GPU", "dev/dri/renderD128"), ("NPU", "dev/accel/accel0")])
def test_a_node_without_a_driver_gives_openvinos_own_reason(core, tmp_path, kind, node):
    reasons = {one["device"]: one["reason"] for one in _openvino_devices.attached(str(tmp_path))}
    assert reasons[kind] == f"the kernel shows no {kind}: there is no /{node[: node.rindex('/')]}/" + (
        "renderD*" if kind == "GPU" else "accel*"
    )
    (tmp_path / node).parent.mkdir(parents=True)
    (tmp_path / node).touch()
    reasons = {one["device"]: one["reason"] for one in _openvino_devices.attached(str(tmp_path))}
    assert reasons[kind] == f'no {kind}: OpenVINO says: Device with "{kind}" name is not registered'


def test_without_the_package(monkeypatch, driver):
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(AbsentError, match="openvino is not installed") as caught:
        driver()
    assert caught.value.fix == "firstspike workers install openvino"
    assert [one["present"] for one in openvino.probe({})] == [False] * 3


def test_a_version_that_is_too_old(monkeypatch, driver):
    old = types.ModuleType("openvino")
    old.__version__ = "2022.3.0"
    monkeypatch.setitem(sys.modules, "openvino", old)
    with pytest.raises(AbsentError, match=r"OpenVINO 2022\.3\.0 is too old"):
        driver()


def test_a_library_that_does_not_load(monkeypatch, tmp_path, driver):
    (tmp_path / "openvino.py").write_text("raise ImportError('libtbb.so.12: cannot open shared object file')")
    monkeypatch.delitem(sys.modules, "openvino", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(AbsentError, match=r"cannot be loaded: libtbb\.so\.12"):
        driver()

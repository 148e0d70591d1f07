"""The stick's driver without OpenVINO: what it refuses by name, and what it makes of a stick's failures."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from firstspike.backends import _ncs2_openvino as openvino
from firstspike.backends import _ncs2_preflight as preflight
from firstspike.backends import ncs2
from firstspike.worker.shim import AbsentError

MODEL = {"classes": 3, "channels": 2, "height": 4, "width": 4, "steps": 8, "scale": 1.0}
READY = preflight.Finding("ready", stick=preflight.Stick("1.4-ma2480", preflight.UNBOOTED, preflight.DEV))


def options(**changed):
    return {key: option.default for key, option in ncs2.OPTIONS.items()} | changed


def net(opset=13, shape=(1, 2, 4, 4), element=TensorProto.FLOAT16, unit="4"):
    weights = numpy_helper.from_array(np.ones((3, 32), helper.tensor_dtype_to_np_dtype(element)), "w")
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("Gemm", ["f", "w"], ["y"], transB=1)],
        "g",
        [helper.make_tensor_value_info("x", element, shape)],
        [helper.make_tensor_value_info("y", element, (1, 3))],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    helper.set_model_props(model, {"potential_unit": unit})
    return model.SerializeToString()


@pytest.mark.parametrize(
    ("data", "changed", "text"),
    [
        (net(opset=18), {}, "OpenVINO 2021.4 cannot run the bundle's dense_fp16: it has opset 18"),
        (net(shape=(None, 2, 4, 4)), {}, "without dynamic axes"),
        (net(shape=(1, 2, 5, 4)), {}, r"of shape \(1, 2, 5, 4\)"),
        (net(element=TensorProto.FLOAT), {}, "half precision, and the bundle's dense_fp16 holds float32"),
        (net(unit="0"), {}, "potential_unit"),
        (b"not a network", {}, "not an ONNX model"),
        (net(), {"device": "GPU"}, r"use MYRIAD, MYRIAD\.<id> or CPU"),
    ],
)
def test_a_network_that_a_stick_must_not_be_given_is_refused_before_anything_is_touched(
    data, changed, text, monkeypatch
):
    monkeypatch.setattr(openvino, "find", pytest.fail)
    with pytest.raises(ValueError, match=text):
        ncs2.check(options(**changed), MODEL, data)
    with pytest.raises(ValueError, match=text):
        ncs2.Driver(options(**changed), MODEL, data)


def test_what_a_stick_takes_is_let_through():
    ncs2.check(options(), MODEL, net())
    ncs2.check(options(network="ann"), MODEL, net(element=TensorProto.FLOAT))
    ncs2.check(options(device="CPU"), MODEL, net(element=TensorProto.FLOAT))


class FakeSdk:
    """OpenVINO with a stick whose output is the sum of its input, until something fails."""

    version, api = "2021.4.2", "IECore"

    def __init__(self, failure=None, left_out=(), degrees=41.5):
        self.failure, self.left_out, self.degrees, self.seen = failure, list(left_out), degrees, []

    def read(self, network):
        return onnx.load_from_string(network)

    def unsupported(self, network, device):
        assert device == "MYRIAD"
        return self.left_out

    def compile(self, network, device, connect_s):
        self.seen.append((device, connect_s))
        if self.failure:
            raise RuntimeError(self.failure)

    def infer(self, values):
        if self.failure:
            raise RuntimeError(self.failure)
        self.seen.append(values.copy())
        return np.full((1, 3), values.sum(), np.float16)

    def temperature(self):
        if self.degrees is None:
            raise RuntimeError("unsupported metric")
        return self.degrees


@pytest.fixture
def with_stick(monkeypatch):
    def plug(sdk, *findings):
        looks = list(findings or [READY])
        monkeypatch.setattr(openvino, "find", lambda archive: sdk)
        monkeypatch.setattr(openvino, "check_files", lambda sdk: None)
        monkeypatch.setattr(preflight, "look", lambda wanted: looks.pop(0) if len(looks) > 1 else looks[0])
        return sdk

    return plug


def test_a_window_becomes_activations_and_the_potential_gets_its_unit(with_stick):
    sdk = with_stick(FakeSdk())
    driver = ncs2.Driver(options(connect_s=3.0), MODEL, net())
    times = np.full((2, 4, 4), 8, np.uint8)
    times[0, 0, 0], times[1, 3, 2] = 0, 5
    answer = driver.infer(times)["output"]
    assert answer.dtype == np.float32
    assert answer.tolist() == [44.0] * 3  # (8 + 3) times the unit, 4
    assert sdk.seen[0] == ("MYRIAD", 3.0)
    assert sdk.seen[1].dtype == np.float32
    assert driver.about["temperature_c"] == 41.5
    assert "never a real stick" in driver.about["tried"]


def test_the_floating_point_twin_gets_values_from_0_to_1(with_stick):
    sdk = with_stick(FakeSdk(degrees=None))
    model = MODEL | {"scale": 0.125}
    driver = ncs2.Driver(options(network="ann"), model, net(element=TensorProto.FLOAT, unit="1"))
    driver.infer(np.zeros((2, 4, 4), np.uint8))
    assert np.array_equal(sdk.seen[1], np.ones((1, 2, 4, 4), np.float32))
    assert driver.about["temperature_c"] is None


def test_operations_that_the_stick_does_not_take_are_named(with_stick):
    with_stick(FakeSdk(left_out=["n3 (Cos)", "n5 (NonZero)"]))
    with pytest.raises(ValueError, match=r"n3 \(Cos\), n5 \(NonZero\)"):
        ncs2.Driver(options(), MODEL, net())


def test_what_the_pre_flight_found_is_the_reason_of_absence(with_stick):
    sdk = with_stick(FakeSdk(), preflight.Finding("no-stick", "no stick on the bus", "plug one in"))
    with pytest.raises(AbsentError, match="no stick on the bus") as caught:
        ncs2.Driver(options(), MODEL, net())
    assert caught.value.fix == "plug one in"
    assert sdk.seen == []


def test_a_stick_that_does_not_boot_is_absent_with_openvinos_words(with_stick):
    with_stick(FakeSdk("Can not init Myriad device: NC_ERROR"))
    with pytest.raises(AbsentError, match=r"did not boot within 3 s: Can not init Myriad device: NC_ERROR") as caught:
        ncs2.Driver(options(connect_s=3.0), MODEL, net())
    assert "udev" in caught.value.fix


def test_a_stick_that_another_process_took_meanwhile_is_in_use(with_stick):
    taken = preflight.Finding("in-use", "the stick 1.4-ma2480 is in use by process 7 (other)", "end it")
    with_stick(FakeSdk("Can not init Myriad device: NC_ERROR"), READY, taken)
    with pytest.raises(AbsentError, match=r"in use by process 7"):
        ncs2.Driver(options(), MODEL, net())


def test_a_stick_that_openvino_does_not_find_is_absent(with_stick):
    with_stick(FakeSdk("[ GENERAL_ERROR ]\n/long/path.cpp:165 Myriad device: 1.4-ma2480 not found."))
    with pytest.raises(AbsentError, match=r"sees no MYRIAD\.1\.4-ma2480: .*not found"):
        ncs2.Driver(options(device="MYRIAD.1.4-ma2480"), MODEL, net())


def test_another_failure_of_loading_is_no_absence(with_stick):
    with_stick(FakeSdk("[ GENERAL_ERROR ] no memory for the graph"))
    with pytest.raises(RuntimeError, match="no memory for the graph"):
        ncs2.Driver(options(), MODEL, net())


@pytest.mark.parametrize("text", ["Failed to queue inference: NC_ERROR", "Failed to read output from FIFO: NC_ERROR."])
def test_a_stick_unplugged_in_flight_is_absent(with_stick, text):
    sdk = with_stick(FakeSdk())
    driver = ncs2.Driver(options(), MODEL, net())
    sdk.failure = text
    with pytest.raises(AbsentError, match=f"unplugged or reset: {text}") as caught:
        driver.infer(np.zeros((2, 4, 4), np.uint8))
    assert "plug the stick in again" in caught.value.fix


def test_another_failure_in_flight_is_no_absence(with_stick):
    sdk = with_stick(FakeSdk())
    driver = ncs2.Driver(options(), MODEL, net())
    sdk.failure = "something else"
    with pytest.raises(RuntimeError, match="something else"):
        driver.infer(np.zeros((2, 4, 4), np.uint8))

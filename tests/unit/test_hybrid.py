"""Bundles of two parts: the accumulator, the NumPy back against ONNX's own evaluator, and the chain."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator
from tests.support.onnx_nets import Net

from firstspike.bundle import open_bundle
from firstspike.hybrid.accumulate import accumulate, accumulated_shape
from firstspike.hybrid.alone import FrontBackend
from firstspike.hybrid.chain import ChainBackend
from firstspike.hybrid.onnx_run import Chain
from firstspike.hybrid.part import PartError
from firstspike.types import READY, Condition, Spikes
from firstspike.worker.back import WorkerBack

SHAPE = (3, 4, 5)
HYBRID = Path(__file__).parents[2] / "models" / "dvs128-hybrid"


@given(st.integers(0, 2**32), st.sampled_from([(16, 1), (16, 2), (16, 16), (6, 3), (255, 255)]))
def test_counts_are_each_neurons_spikes_in_each_interval(seed, lengths):
    steps, interval = lengths
    spikes = np.random.default_rng(seed).integers(0, 2, (steps, 2, 3, 1), np.uint8)
    counts = accumulate(spikes, interval)
    assert counts.dtype == np.uint8
    assert counts.shape == accumulated_shape((2, 3, 1), steps, interval)
    for frame in range(steps // interval):
        for channel in range(2):
            part = spikes[frame * interval : (frame + 1) * interval, channel].astype(int).sum(0)
            np.testing.assert_array_equal(counts[frame * 2 + channel], part)


def test_a_neuron_that_always_spikes_fills_a_byte_and_does_not_overflow_it():
    assert accumulate(np.ones((255, 1, 1, 1), np.uint8), 255).item() == 255


@pytest.mark.parametrize(
    ("steps", "interval", "says"),
    [(16, 3, "16 steps do not divide by an interval of 3"), (16, 0, "1 to 255"), (512, 256, "1 to 255")],
)
def test_an_interval_that_does_not_fit_is_refused(steps, interval, says):
    with pytest.raises(ValueError, match=says):
        accumulate(np.zeros((steps, 1, 1, 1), np.uint8), interval)


def network(seed, *, pool=False):
    net = Net((3, 9, 8), seed, opset=13)
    net.conv(5, (3, 3), (2, 2), (1, 1)).node("Relu")
    if pool:
        net.pool("MaxPool", (2, 2), (2, 2))
    net.conv(4, (1, 2), bias=False)
    size = int(np.prod(net.shape))
    weight = net.constant("wd", net.rng.normal(0, 0.2, (6, size)))
    net.node("Flatten", shape=(size,), axis=1)
    return net.node("Gemm", weight, net.constant("bd", net.rng.normal(0, 1, 6)), shape=(6,), transB=1)


@given(st.integers(0, 2**16), st.booleans())
@settings(max_examples=20, deadline=None)
def test_the_numpy_back_equals_onnx_own_evaluator(seed, pool):
    model = network(seed, pool=pool).model()
    x = np.random.default_rng(seed).integers(0, 5, (3, 9, 8)).astype(np.float32)
    (expected,) = ReferenceEvaluator(model).run(None, {model.graph.input[0].name: x[np.newaxis]})
    np.testing.assert_allclose(Chain(model.SerializeToString()).run(x), expected[0], rtol=1e-4, atol=1e-4)


def test_an_operator_that_the_numpy_back_has_not_is_named():
    model = Net((3, 4, 4), opset=13).node("Sigmoid").model()
    with pytest.raises(ValueError, match="Sigmoid"):
        Chain(model.SerializeToString())


def test_an_attribute_that_would_be_ignored_is_refused():
    model = Net((4, 4, 4), opset=13).conv(4, (1, 1), group=1, dilations=(2, 2)).model()
    with pytest.raises(ValueError, match="dilations"):
        Chain(model.SerializeToString())


@pytest.mark.parametrize("other", [b"\x10", b"\x12"], ids=["a whole number", "a text"])
def test_an_attribute_of_another_form_is_refused(other):
    net = Net((3, 2, 2), opset=13).flatten()
    weights = net.constant("w", np.zeros((5, 12)))
    data = net.node("Gemm", weights, shape=(5,), transB=1, alpha=1.0).model().SerializeToString()
    alpha = b"alpha\x15"
    assert data.count(alpha) == 1
    with pytest.raises(ValueError):  # noqa: PT011 (what comes after it is read in another way too)
        Chain(data.replace(alpha, alpha[:-1] + other))


def test_a_network_with_changed_bytes_runs_or_is_refused():
    data, refused = network(1, pool=True).model().SerializeToString(), 0
    rng = np.random.default_rng(0)
    for _ in range(1500):
        changed = bytearray(data)
        for place in rng.integers(-300, 400, 2):  # names, shapes and attributes; the weights are in between
            changed[place] = rng.integers(256)
        try:
            Chain(bytes(changed))
        except ValueError:
            refused += 1
    assert refused > 500


def test_a_bias_may_be_the_row_of_the_only_batch():
    net = Net((3, 2, 2), opset=13).flatten()
    weights = net.constant("w", net.rng.normal(0, 1, (5, 12)))
    model = net.node("Gemm", weights, net.constant("b", net.rng.normal(0, 1, (1, 5))), shape=(5,), transB=1).model()
    x = net.rng.normal(0, 1, (3, 2, 2)).astype(np.float32)
    (expected,) = ReferenceEvaluator(model).run(None, {model.graph.input[0].name: x[np.newaxis]})
    np.testing.assert_allclose(Chain(model.SerializeToString()).run(x), expected[0], rtol=1e-5)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda net: net.node("Conv", shape=(3, 4, 4)), "an input or an attribute is missing"),
        (lambda net: net.node("Gemm", shape=(3,)), "an input or an attribute is missing"),
        (lambda net: net.node("MaxPool", shape=(3, 2, 2), strides=(2, 2)), "an input or an attribute is missing"),
        (lambda net: net.node("MaxPool", shape=(3, 2, 2), kernel_shape=(2,), strides=(2, 2)), "not enough values"),
        (lambda net: net.node("MaxPool", shape=(3, 2, 2), kernel_shape=(2, 2), strides=3), "missing or wrong"),
        (lambda net: net.node("MaxPool", shape=(3, 2, 2), kernel_shape=(2.0, 2.0)), "wrong|not known"),
        (lambda net: net.node("Flatten", shape=(7,)), r"it gives \(48,\), where its own description has \(7,\)"),
        (lambda net: net.flatten().node("Gemm", net.constant("w", np.zeros((0, 48))), shape=(0,), transB=1),
         "gives nothing"),
        (lambda net: net.node("Conv", net.constant("w", np.zeros((1, 3, 2, 2))), shape=(1, 3, 3), kernel_shape=(3, 3)),
         "kernel_shape"),
        (lambda net: net.conv(1, (3, 3), padding=(10**6, 10**6)), "pads"),
    ],
)  # fmt: skip
def test_a_damaged_network_is_refused_by_name(wrong, says):
    model = wrong(Net((3, 4, 4), opset=13)).model()
    with pytest.raises(ValueError, match=says):
        Chain(model.SerializeToString())


def test_a_network_that_is_cut_off_is_refused_at_every_length():
    data = network(1).model().SerializeToString()
    for length in range(0, len(data) - 1, 97):
        with pytest.raises(ValueError):  # noqa: PT011 (every kind of damage has words of its own)
            Chain(data[:length])


class Part:
    """A front or a back that does as it is told."""

    output_shape, link_s = SHAPE, None

    def __init__(self, name, answer, condition=READY):
        self.name, self._answer, self._condition, self.closed, self.given = name, answer, condition, False, None

    def run(self, given, within_s):
        self.given = (given, within_s)
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer

    def condition(self):
        return self._condition

    def close(self):
        self.closed = True


def chain(front, back):
    return ChainBackend("one+two", front, back, interval=4, scale=0.5, classes=2, close=lambda: None)


def window():
    frames = np.zeros((16, *SHAPE), np.uint8)
    return Spikes(16, np.empty((0, 0, 0), np.uint8), 100, frames=frames)


def spiking(seed=0):
    return np.random.default_rng(seed).integers(0, 2, (16, *SHAPE), np.uint8)


def test_the_back_gets_the_counts_and_the_result_says_what_went_over_the_link():
    front, back = Part("one", spiking()), Part("two", np.array([1.0, -2.0], np.float32))
    answer = chain(front, back).infer(window(), 5.0)
    assert answer.failure is None
    assert answer.potential.tolist() == [2, -4]
    np.testing.assert_array_equal(back.given[0], accumulate(spiking(), 4))
    assert back.given[1] <= 5.0
    first, second = answer.parts
    assert (first.part, first.backend, first.link_bytes) == ("front", "one", 4 * 60)
    assert first.spikes == int(spiking().sum())
    assert (second.part, second.backend, second.link_bytes, second.spikes) == ("back", "two", None, None)


@pytest.mark.parametrize("silent", ["front", "back"])
def test_a_part_without_an_answer_is_a_failure_with_its_reason(silent):
    answers = {"front": spiking(), "back": np.zeros(2, np.float32), silent: PartError("two: pulled out")}
    answer = chain(Part("one", answers["front"]), Part("two", answers["back"])).infer(window(), 1.0)
    assert (answer.potential, answer.failure, answer.parts) == (None, "two: pulled out", ())


@pytest.mark.parametrize("logits", [[np.nan, 0], [np.inf, 0], [3e9, 0], [1.0, 2.0, 3.0]])
def test_logits_that_make_no_sense_are_a_failure_and_never_an_answer(logits):
    answer = chain(Part("one", spiking()), Part("two", np.array(logits, np.float32))).infer(window(), 1.0)
    assert answer.potential is None
    assert answer.failure.startswith("two: ")


def test_a_window_that_is_not_frames_is_a_failure():
    answer = chain(Part("one", spiking()), Part("two", np.zeros(2, np.float32))).infer(
        Spikes(16, np.zeros((2, 4, 4), np.uint8), 3), 1.0
    )
    assert "not encoded as frames" in answer.failure


def test_a_chain_is_as_ready_as_its_parts_and_names_the_one_that_is_not():
    absent = Part("two", None, Condition("absent", "no stick", "plug it in"))
    found = chain(Part("one", None), absent).condition()
    assert (found.state, found.reason, found.fix) == ("absent", "two: no stick", "plug it in")
    assert chain(Part("one", None), Part("two", None, Condition("ready", pid=7))).condition().pid == 7
    assert chain(Part("one", None), Part("two", None)).condition() == READY


def test_the_way_to_a_worker_and_back_is_told_apart():
    front, back = Part("one", spiking()), Part("two", np.zeros(2, np.float32))
    back.link_s = 0.0012
    parts = chain(front, back).infer(window(), 1.0).parts
    assert [part.link_ns for part in parts] == [None, 1_200_000]


def test_a_front_alone_decides_by_how_often_its_neurons_spiked():
    spikes = np.random.default_rng(1).integers(0, 2, (300, 4, 1, 1), np.uint8)
    front = Part("one", spikes)
    alone = FrontBackend(front, lambda: None)
    answer = alone.infer(window(), 1.0)
    assert answer.potential.dtype == np.int32
    assert answer.potential.tolist() == spikes.astype(int).sum((0, 2, 3)).tolist()
    (run,) = answer.parts
    assert (run.part, run.backend, run.link_bytes, run.spikes) == ("front", "one", None, int(spikes.sum()))
    assert alone.condition() == READY
    assert "frames" in alone.infer(Spikes(16, np.zeros((2, 4, 4), np.uint8), 3), 1.0).failure
    assert FrontBackend(Part("one", PartError("one: gone")), lambda: None).infer(window(), 1.0).failure == "one: gone"


def test_a_plan_whose_front_is_absent_is_passed_over_and_named():
    from firstspike.clock import SystemClock
    from firstspike.plans import Runner
    from firstspike.schedule import Settings

    absent = Part("chip", None, Condition("absent", "no chip", "get one"))
    there = chain(Part("one", spiking()), Part("two", np.array([1.0, 0.0], np.float32)))
    first = chain(absent, Part("two", None))
    first.name = "chip+two"
    ran = Runner([first, there], Settings(deadline_ns=10**10), SystemClock()).infer(window(), time.monotonic_ns())
    assert ran.plan == "one+two"
    assert any("chip: no chip" in fault for fault in ran.faults), ran.faults
    assert absent.given is None


class Worker:
    """A supervisor whose worker gives these arrays."""

    def __init__(self, **arrays):
        self.arrays, self.device_s, self.distrusted = arrays, 0.0, []

    def infer(self, times, deadline):
        return self

    def distrust(self, reason):
        self.distrusted.append(reason)


@pytest.mark.parametrize(
    "arrays",
    [
        {"output": np.full(7, np.nan, np.float32)},
        {"output": np.float32([1, 2, 3, np.inf, 5, 6, 7])},
        {"output": np.zeros(6, np.float32)},
        {"output": np.zeros((1, 7), np.float32)},
        {"output": np.zeros(7, np.int32)},
        {"logits": np.zeros(7, np.float32)},
    ],
)
def test_a_worker_whose_logits_make_no_sense_is_replaced_and_named(arrays):
    bundle, worker = open_bundle(HYBRID), Worker(**arrays)
    back = WorkerBack("stick", lambda: worker, bundle)
    with pytest.raises(PartError, match="stick: its answer is no row of 7 finite numbers"):
        back.run(np.zeros((1, 1, 1), np.uint8), 1.0)
    assert len(worker.distrusted) == 1


def test_what_was_closed_before_it_was_asked_starts_no_worker():
    def start():
        raise AssertionError("nobody would end it")

    back = WorkerBack("stick", start, open_bundle(HYBRID))
    back.close()
    assert (back.condition().state, back.condition().reason) == ("failed", "stick: closed")
    with pytest.raises(PartError, match="stick: closed"):
        back.run(np.zeros(SHAPE, np.uint8), 1.0)

"""Several back ends, of which some fail: who answers, what the result says, what is counted."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from tests.unit.test_pipeline import FakeBackend, FakeSource, FakeStream, block, drive

from firstspike.clock import SystemClock
from firstspike.errors import OutputError
from firstspike.plans import Runner
from firstspike.schedule import Settings
from firstspike.types import Condition, Inference, Spikes

MS = 1_000_000


class Named(FakeBackend):
    def __init__(self, name, failures=(), state=None, takes_s=0.0):
        super().__init__(failures)
        self.name, self.state, self.takes_s, self.allowed = name, state, takes_s, []

    def condition(self):
        return self.state or Condition("ready")

    def infer(self, spikes, within_s):
        self.allowed.append(within_s)
        time.sleep(min(self.takes_s, within_s))
        if self.takes_s > within_s:
            return Inference(self.name, None, None, f"{self.name}: no answer in time")
        return super().infer(spikes, within_s)


class Paced(FakeSource):
    """Windows of 100 µs of sensor time, one a millisecond."""

    speed = 0.1


def test_the_next_plan_answers_the_same_window_and_the_result_says_so():
    pipeline, out = drive(FakeStream([block(0, 100, 200)]), backend=[Named("first", failures=(2,)), Named("second")])
    assert [(d.plan, d.backend, d.status) for d in out] == [
        ("first", "first", "ok"), ("second", "second", "degraded"), ("first", "first", "ok"),
    ]  # fmt: skip
    assert out[1].reasons == ["the fake failed; answered by second"]
    assert out[1].label == out[1].window.label == "a"  # an answer all the same
    totals = pipeline.totals.message()
    assert (totals.failed_attempts, totals.fallbacks, totals.decisions_degraded) == (1, 1, 1)


def test_a_plan_that_is_not_ready_is_not_asked_and_its_reason_is_told():
    away = Named("stick", state=Condition("absent", "no stick is plugged in", "plug one in"))
    _, out = drive(FakeStream([block(0)]), backend=[away, Named("cpu")])
    assert away.calls == 0
    assert (out[0].status, out[0].backend) == ("degraded", "cpu")
    assert out[0].reasons == ["stick: absent: no stick is plugged in; answered by cpu"]


def test_a_back_end_that_is_busy_is_waited_for_unless_it_owes_an_answer():
    busy, owing = Named("a", state=Condition("busy")), Named("a", state=Condition("busy", "no answer for 0.2 s"))
    assert [d.status for d in drive(FakeStream([block(0)]), backend=[busy, Named("b")])[1]] == ["ok"]
    out = drive(FakeStream([block(0)]), backend=[owing, Named("b")])[1]
    assert out[0].reasons == ["a: busy: no answer for 0.2 s; answered by b"]


def test_if_all_plans_fail_each_reason_is_told_and_there_is_no_answer():
    _, out = drive(FakeStream([block(0)]), backend=[Named("a", failures=(1,)), Named("b", failures=(1,))])
    assert (out[0].status, out[0].backend, out[0].plan, out[0].label) == ("degraded", None, None, None)
    assert out[0].reasons == ["the fake failed", "the fake failed"]


def test_if_no_plan_is_ready_the_window_says_why():
    _, out = drive(FakeStream([block(0)]), backend=[Named("a", state=Condition("starting"))])
    assert (out[0].status, out[0].reasons) == ("degraded", ["a: starting"])
    assert out[0].first_spike is None


def test_an_attempt_leaves_the_next_plan_its_time():
    slow, quick = Named("slow", takes_s=10), Named("quick")
    runner = Runner([slow, quick], Settings(deadline_ns=80 * MS), SystemClock())
    spikes = Spikes(4, np.zeros((2, 4, 4), np.uint8), 3)
    began = time.monotonic_ns()
    ran = runner.infer(spikes, began)
    assert (ran.plan, ran.failures, ran.fell_back) == ("quick", 1, True)
    assert 0.02 < slow.allowed[0] < 0.08
    assert slow.allowed[0] + quick.allowed[0] <= 0.0801
    assert [one.failures for one in runner.health()] == [1, 0]


def test_the_health_tells_what_is_known_of_each_back_end():
    away = Named("stick", state=Condition("absent", "gone", "plug it in", restarts=3))
    runner = Runner([away, Named("cpu")], Settings(deadline_ns=10**9), SystemClock())
    runner.infer(Spikes(4, np.zeros((2, 4, 4), np.uint8), 3), time.monotonic_ns())
    runner.settle()
    stick, cpu = runner.health()
    assert (stick.state, stick.reason, stick.fix, stick.restarts, stick.latency_p50_ms) == (
        "absent", "gone", "plug it in", 3, None,
    )  # fmt: skip
    assert (cpu.state, cpu.windows, cpu.failures) == ("ready", 1, 0)
    assert cpu.latency_p50_ms > 0
    assert runner.out() == ["stick: absent: gone"]


def test_waiting_for_plans_ends_when_one_is_ready_or_all_are_known_not_to_be():
    starting, ready = Named("a", state=Condition("starting")), Named("b")
    runner = Runner([starting, ready], Settings(deadline_ns=None), SystemClock())
    began = time.monotonic()
    runner.wait_ready(first=False, stopping=lambda: False, within_s=30)
    threading.Timer(0.05, lambda: setattr(starting, "state", Condition("absent"))).start()
    runner.wait_ready(first=True, stopping=lambda: False, within_s=30)
    assert starting.state.state == "absent"
    starting.state = Condition("starting")
    runner.wait_ready(first=True, stopping=lambda: True, within_s=30)
    runner.wait_ready(first=True, stopping=lambda: False, within_s=0.01)
    assert time.monotonic() - began < 20


def test_a_live_stream_is_not_held_up_and_every_window_has_one_fate():
    times = np.arange(0, 20_000, 100)
    out = []
    pipeline, _ = drive(
        source=Paced(FakeStream([block(*times)])), backend=Named("slow", takes_s=0.004), sink=out.append, queued=True,
        clock=SystemClock(), scheduling=Settings(deadline_ns=20 * MS, queue=2),
    )  # fmt: skip
    totals = pipeline.totals.message()
    dropped = totals.dropped_stale + totals.dropped_hopeless + totals.dropped_replaced
    assert [d.window.index for d in out] == list(range(200))
    assert [d.seq for d in out] == list(range(200))
    assert totals.decisions_dropped == dropped
    assert totals.dropped_replaced > 0
    # (A machine that stops for a while after a window was taken leaves its plan no time: degraded.)
    assert totals.decisions_ok + totals.decisions_late + totals.decisions_degraded + dropped == 200
    lost = [decision for decision in out if decision.status == "dropped"]
    assert {(d.window.label, d.backend, d.plan, d.stamps.inferred_ns) for d in lost} == {(None,) * 4}
    assert any("a newer window took its place" in decision.reasons[0] for decision in lost)


def test_a_window_whose_deadline_has_passed_is_not_inferred():
    slow = Named("slow", takes_s=0.05)
    out = []
    pipeline, _ = drive(
        source=Paced(FakeStream([block(*range(0, 600, 100))])), backend=slow, sink=out.append, queued=True,
        clock=SystemClock(), scheduling=Settings(deadline_ns=10 * MS, queue=100),
    )  # fmt: skip
    totals = pipeline.totals.message()
    assert totals.dropped_stale + totals.dropped_hopeless > 0
    assert slow.calls + len(slow.allowed) < 12
    assert len(out) == 6


@pytest.mark.parametrize("queued", [False, True])
def test_a_sink_that_fails_in_either_thread_ends_the_run(queued):
    def sink(_):
        raise OutputError("full")

    with pytest.raises(OutputError, match="full"):
        drive(source=Paced(FakeStream([block(*range(0, 3000, 100))])), sink=sink, queued=queued, clock=SystemClock(),
              scheduling=Settings(deadline_ns=10**9))  # fmt: skip


def test_a_bug_in_the_answering_thread_is_not_swallowed():
    def sink(_):
        raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError, match="a bug"):
        drive(source=Paced(FakeStream([block(0)])), sink=sink, queued=True, clock=SystemClock(),
              scheduling=Settings(deadline_ns=10**9))  # fmt: skip


def test_what_is_queued_at_the_end_is_answered():
    out = []
    drive(source=Paced(FakeStream([block(0, 100, 200)])), backend=Named("slow", takes_s=0.02), sink=out.append,
          queued=True, clock=SystemClock(), scheduling=Settings(deadline_ns=10**9, queue=10))  # fmt: skip
    assert [d.status for d in out] == ["ok"] * 3


def test_quick_answers_are_given_in_the_readers_thread_and_slow_ones_are_not():
    threads = []

    class Noting(Named):
        def infer(self, spikes, within_s):
            threads.append(threading.current_thread().name)
            self.takes_s = 0.3 if self.calls == 4 else 0.0
            return super().infer(spikes, within_s)

    source = Paced(FakeStream([block(*range(0, 6000, 100))]))
    source.speed = 0.005  # a window in 20 ms
    drive(source=source, backend=Noting("n"), sink=lambda _: None, queued=True, quick_ns=100 * MS,
          clock=SystemClock(), scheduling=Settings(deadline_ns=10**10, queue=1000))  # fmt: skip
    mine = threading.current_thread().name
    assert threads[0] == "answers"  # nothing is known yet
    assert mine in threads[1:5]
    assert threads[5] == "answers"  # the fifth was slow
    assert mine in threads[6:]  # it has recovered
    assert len(threads) == 60

"""A worker's faults in mid-inference fail that window, say why, and nothing else."""

from __future__ import annotations

import statistics
import sys
import threading
import time

import pytest
from tests.support.figures import figure
from tests.support.worker import alive, holdings, impatient, right, supervised, until, until_ready, window

from firstspike.worker.start import Program
from firstspike.worker.supervisor import WorkerError

DEADLINE_S = 0.05

DEADLY = {
    "kill": "was killed by SIGKILL",
    "exit": "ended with exit code 3",
    "segfault": "was killed by SIGSEGV",
    "garbage": "sent what is no frame: 'Hello, I am a library",
    "oversize": "that is too large",
    "half": "ended with exit code 3",
    "other": "answered request 3000000000 when",
    "twice": "answered request",
    "child": "was killed by SIGKILL",
}
UNANSWERED = ("stop", "hang", "spin", "silent")
HARMLESS = {"raise": "RuntimeError: it was told to fail", "dtype": "output is complex64 where"}

ROUNDS = [pytest.param(3, id="few"), pytest.param(200, marks=pytest.mark.soak, id="many")]


def rounds_of(fault, rounds, cause):
    """The fault at every second window; the worker is replaced each time. Prints what it took."""
    took, failures = [], 0
    with supervised(fault=fault, every=2) as supervisor:
        pid = until_ready(supervisor).pid
        right(supervisor)
        before = holdings()
        for number in range(rounds):
            if number:
                right(supervisor, number)
            asked = time.monotonic()
            with pytest.raises(WorkerError, match=cause):
                supervisor.infer(window(number), asked + DEADLINE_S)
            assert time.monotonic() - asked < 1.0
            failures += 1
            if number == min(rounds, 20) - 1:
                before = holdings() | {"threads": before["threads"], "descriptors": before["descriptors"]}
            asked = time.monotonic()
            old, pid = pid, until_ready(supervisor, but=pid).pid
            took.append(time.monotonic() - asked)
            until(lambda old=old: not alive(old))
        right(supervisor, rounds)
        until(lambda: len(supervisor._ended) == 0)
        after = holdings()
        assert supervisor.condition.restarts == rounds == failures
    grown = ", ".join(f"{name} {after[name] - before[name]:+d}" for name in after if name != "children")
    figure(
        f"worker: {fault}, {rounds} times in mid-inference",
        f"{failures} windows of {2 * rounds} failed, and say why; ready again after {statistics.median(took):.2f} s "
        f"(p50), {max(took):.2f} s (most); {grown}",
    )
    assert after["descriptors"] <= before["descriptors"]
    assert after["threads"] <= before["threads"]
    assert after["children"] == 1
    assert after["KiB"] <= before["KiB"] + 8 * 1024


@pytest.mark.parametrize("rounds", ROUNDS)
@pytest.mark.parametrize(("fault", "cause"), DEADLY.items(), ids=DEADLY)
def test_a_worker_that_dies_or_raves_fails_one_window_and_is_replaced(fault, cause, rounds):
    rounds_of(fault, rounds, cause)


@pytest.mark.parametrize("rounds", [pytest.param(2, id="few"), pytest.param(200, marks=pytest.mark.soak, id="many")])
@pytest.mark.parametrize("fault", UNANSWERED)
def test_a_worker_that_does_not_answer_fails_one_window_and_is_replaced(fault, rounds):
    rounds_of(fault, rounds, "no answer within|closed its output")


@pytest.mark.parametrize("rounds", ROUNDS)
@pytest.mark.parametrize(("fault", "cause"), HARMLESS.items(), ids=HARMLESS)
def test_a_driver_that_raises_fails_one_window_and_stays(fault, cause, rounds):
    with supervised(fault=fault, every=2) as supervisor:
        pid = until_ready(supervisor).pid
        for number in range(rounds):
            right(supervisor, number)
            with pytest.raises(WorkerError, match=cause):
                supervisor.infer(window(number), time.monotonic() + 10)
        assert (supervisor.condition.pid, supervisor.condition.state) == (pid, "ready")


@pytest.mark.parametrize("rounds", ROUNDS)
def test_a_late_answer_is_thrown_away_and_the_worker_stays(rounds):
    with supervised(fault="late", every=2, late_ms=100) as supervisor:
        pid = until_ready(supervisor).pid
        for number in range(rounds):
            right(supervisor, number)
            with pytest.raises(WorkerError, match="no answer within"):
                supervisor.infer(window(number + 1000), time.monotonic() + 0.02)
            assert supervisor.condition.state == "busy"
            until(lambda: supervisor.condition.state == "ready")
        assert supervisor.condition.pid == pid


def test_while_an_answer_is_owed_other_windows_are_refused_at_once():
    with supervised(fault="late", every=1, late_ms=300) as supervisor:
        until_ready(supervisor)
        with pytest.raises(WorkerError):
            supervisor.infer(window(0), time.monotonic() + 0.02)
        asked = time.monotonic()
        with pytest.raises(WorkerError, match="busy: no answer for"):
            supervisor.infer(window(0), asked + 30)
        assert time.monotonic() - asked < 5


@pytest.mark.parametrize("fault", ["flood", "print"])
def test_what_an_sdk_prints_is_no_answer(fault):
    with supervised(fault=fault) as supervisor:
        pid = until_ready(supervisor).pid
        for number in range(3):
            right(supervisor, number)
        assert supervisor.condition.pid == pid
        assert supervisor._link.process.listener.bytes_read > 0


def test_the_reason_tells_what_the_worker_last_wrote():
    with supervised(fault="segfault", every=1) as supervisor:
        until_ready(supervisor)
        with pytest.raises(WorkerError, match="SIGSEGV: Fatal Python error: Segmentation fault"):
            supervisor.infer(window(0), time.monotonic() + 10)


def test_an_answer_that_makes_no_sense_to_the_caller_ends_the_worker():
    with supervised() as supervisor:
        pid = until_ready(supervisor).pid
        supervisor.distrust("its potentials are not finite")
        assert supervisor.condition.reason == "its potentials are not finite"
        until_ready(supervisor, but=pid)
        right(supervisor)


def test_two_threads_may_ask():
    with supervised() as supervisor:
        until_ready(supervisor)
        found = []

        def ask(seed):
            found.extend([right(supervisor, seed + number) for number in range(200)])

        threads = [threading.Thread(target=ask, args=(seed,)) for seed in (0, 1000)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 400


def test_a_window_whose_time_is_over_is_not_put_to_the_worker():
    with supervised() as supervisor:
        until_ready(supervisor)
        with pytest.raises(WorkerError, match="no time was left to ask"):
            supervisor.infer(window(0), time.monotonic() - 1)
        assert supervisor.condition.state == "ready"
        right(supervisor)


def test_a_window_that_a_signal_breaks_off_leaves_no_answer_for_the_next(monkeypatch):
    with supervised() as supervisor:
        pid = until_ready(supervisor).pid
        with monkeypatch.context() as patch:
            patch.setattr(supervisor._link, "receive", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                supervisor.infer(window(0), time.monotonic() + 10)
        until_ready(supervisor, but=pid)
        right(supervisor, 5)


def test_a_fault_in_the_supervisor_itself_is_no_silence():
    program = Program((sys.executable,), "no_such_driver")
    with supervised(program, impatient(restarts=0, rest_s=60, period_s=60)) as supervisor:
        until(lambda: supervisor.condition.state == "backing-off")
        assert "no_such_driver" in supervisor.condition.reason

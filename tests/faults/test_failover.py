"""A daemon whose worker is killed, stopped or gone: what its subscribers receive."""

from __future__ import annotations

import contextlib
import os
import signal
import time

import pytest
from tests.support.daemons import alive, footprint, running
from tests.support.figures import figure


@pytest.fixture
def daemon(tmp_path):
    """Start a daemon with the test worker first and the emulator behind it; gives it and what it publishes."""
    with contextlib.ExitStack() as stack:
        yield lambda **settings: stack.enter_context(running(tmp_path, **settings))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_the_next_plan_answers_every_window_until_the_worker_is_replaced(daemon, number):
    child, watch = daemon(backend__null__load_s="0.5")  # longer than the recording's pauses, in which nobody asks
    watch.until_answered_by("null")
    pid = watch.worker().pid
    start = len(watch.decisions)
    os.kill(pid, number)
    watch.until_answered_by("emulator", 1)
    watch.until_answered_by("null")
    replaced = watch.worker()
    assert replaced.pid not in (None, pid)
    assert replaced.restarts == 1
    assert child.poll() is None
    assert watch.subscriber.lost["decision"] == 0
    seen = watch.decisions[start:]
    by_emulator = [d for d in seen if d.backend == "emulator"]
    assert {d.status for d in by_emulator} == {"degraded"}
    assert all("answered by emulator" in d.reasons[0] and d.reasons[0].startswith("null: ") for d in by_emulator)
    # No window goes without an answer. (One may be dropped on a machine that is busy, and then says so.)
    assert {d.status for d in seen if d.backend is None} <= {"dropped"}
    assert any(h.state == "degraded" and "null" in h.reasons[0] for h in watch.health)
    assert not alive(pid)


def test_a_worker_that_is_absent_leaves_a_degraded_daemon_that_answers(daemon):
    _, watch = daemon(backend__null__fault="absent")
    watch.until_answered_by("emulator")
    watch.until(lambda watch: watch.health and watch.health[-1].state == "degraded")
    worker = watch.health[-1].backends[0]
    assert (worker.state, worker.reason) == ("absent", "it was told to be absent")
    assert worker.fix == "set backend.null.fault to none"
    assert watch.health[-1].reasons == ["null: absent: it was told to be absent"]


def test_a_daemon_without_any_plan_says_so_in_every_decision(daemon):
    _, watch = daemon(schedule__plans='["null"]', backend__null__fault="refuse", schedule__start_s="0")
    watch.until(lambda watch: len(watch.decisions) >= 5)
    assert {(d.status, d.backend, d.window.label) for d in watch.decisions} == {("degraded", None, None)}
    watch.until(lambda watch: watch.decisions[-1].reasons[0].endswith("it was told to refuse the network"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_daemon_that_ends_takes_its_worker_along(daemon, number):
    child, watch = daemon()
    watch.until_answered_by("null")
    pid = watch.worker().pid
    child.send_signal(number)
    assert child.wait(20) == (0 if number == signal.SIGTERM else -number)
    deadline = time.monotonic() + 10
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not alive(pid)


@pytest.mark.soak
def test_one_daemon_survives_200_deaths_of_its_worker_without_growing(daemon):
    child, watch = daemon(backend__null__rest_s="0.02", backend__null__latency_ms="3")
    gone, unanswered = set(), []
    for death in range(200):
        watch.until_answered_by("null")
        worker = watch.worker()
        while worker.pid in gone or worker.pid is None:
            worker = watch.worker()
        if death == 20:
            before = footprint(child.pid)
        gone.add(worker.pid)
        start = len(watch.decisions)
        os.kill(worker.pid, signal.SIGSTOP if death % 10 == 9 else signal.SIGKILL)
        watch.until(lambda watch: watch.health[-1].backends[0].pid not in gone | {None})
        unanswered += [d.status for d in watch.decisions[start:] if d.backend is None]
        del watch.health[:-1]
    watch.until_answered_by("null")
    after = footprint(child.pid)
    figure(
        "200 deaths of a worker, every tenth by SIGSTOP",
        f"same daemon; descriptors, threads, zombies, MiB {before} after 20, {after} after 200; "
        f"{len(unanswered)} windows dropped, {watch.subscriber.lost['decision']} decisions lost",
    )
    assert child.poll() is None
    assert after[0] <= before[0] + 2
    assert after[1] <= before[1] + 1
    assert after[2] <= 1  # one may just have died
    assert after[3] <= before[3] + 8
    # While a stopped worker is waited for, windows of 10 ms pile up, and the freshest win.
    assert set(unanswered) <= {"dropped"}
    assert len(unanswered) <= 4 * 20
    assert watch.subscriber.lost["decision"] == 0

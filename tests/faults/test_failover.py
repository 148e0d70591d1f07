"""A daemon whose worker is killed, stopped or gone: what its subscribers receive."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

import pytest
from tests.support.program import ROOT, started

from firstspike.client import Subscriber
from firstspike.messages import Decision, Health
from firstspike.topics import TOPICS

RECORDING = ROOT / "tests" / "replay" / "cases" / "drawn-digits" / "recording.aedat4"


def alive(pid):
    return Path(f"/proc/{pid}").exists()


class Watch:
    """What a subscriber has received."""

    def __init__(self, subscriber):
        self.subscriber, self.decisions, self.health = subscriber, [], []

    def until(self, done, within_s=30):
        deadline = time.monotonic() + within_s
        while not done(self):
            assert time.monotonic() < deadline, (self.decisions[-3:], self.health[-1:])
            message = self.subscriber.receive(0.5)
            if isinstance(message, Decision):
                self.decisions.append(message)
            elif isinstance(message, Health):
                self.health.append(message)

    def until_answered_by(self, backend, n=3):
        """Until `n` more decisions of this back end on end have come."""
        before = len(self.decisions)

        def done(watch):
            return len(watch.decisions) >= before + n and {d.backend for d in watch.decisions[-n:]} == {backend}

        self.until(done)

    def worker(self):
        """The test worker, by the latest health that calls it well."""
        seen = len(self.health)
        self.until(lambda watch: any(h.backends[0].state in ("ready", "busy") for h in watch.health[seen:]))
        return self.health[-1].backends[0]


@pytest.fixture
def daemon(tmp_path):
    """Start a daemon with the test worker first and the emulator behind it; gives it and what it publishes."""
    endpoint = f"ipc://{tmp_path}/daemon"
    settings = {
        "model.path": "nmnist", "source.kind": "recording", "source.recording.paths": f'["{RECORDING}"]',
        "source.recording.loop": "true", "window.size": "10000", "publish.endpoint": endpoint,
        "schedule.plans": '["null", "emulator"]', "schedule.deadline_ms": "50", "backend.null.hang_s": "0.3",
        "publish.wait_for_subscriber_s": "20", "publish.health_period_s": "0.2",
    }  # fmt: skip
    with contextlib.ExitStack() as stack:

        def start(**more):
            pairs = settings | {key.replace("__", "."): value for key, value in more.items()}
            arguments = [word for key, value in pairs.items() for word in ("--set", f"{key}={value}")]
            child = stack.enter_context(started("run", *arguments))
            return child, Watch(stack.enter_context(Subscriber(endpoint, topics=TOPICS)))

        yield start


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


def footprint(pid):
    """Descriptors, threads, children that nobody buried, and resident memory (MiB) of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    children = [Path(f"/proc/{child}/stat").read_text().rsplit(")", 1)[1].split()[0] for child in
                Path(f"/proc/{pid}/task/{pid}/children").read_text().split() if alive(child)]  # fmt: skip
    threads = int(status.split("Threads:")[1].split()[0])
    memory = int(status.split("VmRSS:")[1].split()[0]) / 1024
    return len(list(Path(f"/proc/{pid}/fd").iterdir())), threads, children.count("Z"), memory


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
    print(
        f"descriptors, threads, zombies, MiB: {before} after 20 deaths, {after} after 200; "
        f"windows without an answer: {len(unanswered)}"
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

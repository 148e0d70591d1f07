"""Lava's processes and its shared memory: whatever dies, nothing of it is left, and the next worker is there soon."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import replace
from pathlib import Path

import pytest
from tests.faults.test_worker_orphans import marked
from tests.support import lava as lavas
from tests.support.program import ROOT
from tests.support.worker import until

from firstspike.ttfs.emulator import Emulator
from firstspike.worker.supervisor import Limits, Supervisor, WorkerError

ROUNDS = [pytest.param(1, id="once"), pytest.param(50, marks=pytest.mark.soak, id="fifty times")]
SHARED = Path("/dev/shm")  # noqa: S108 (the kernel's place for shared memory)
LIMITS = Limits(start_s=60, hang_s=10, period_s=0.01, restarts=1000)
NET = lavas.network(3, "quartz")
DAEMON = """
import json, sys, time
from pathlib import Path
from firstspike.worker.start import Program
from firstspike.worker.supervisor import Limits, Supervisor
python, siblings, meta, path = json.loads(sys.argv[1])
load = meta, Path(path).read_bytes()
supervisor = Supervisor("lava", Program((python,), "lava", tuple(siblings)), load, Limits())
print(supervisor.wait_ready(60).state, flush=True)
time.sleep(600)
"""


def children(pid):
    """Processes that a process has forked, and those of theirs."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                found += [int(entry.name), *children(int(entry.name))]
    return found


def living(pids):
    """Those that have not ended; a zombie has."""
    alive = []
    for pid in pids:
        with contextlib.suppress(OSError):
            if (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX":
                alive.append(pid)
    return alive


def orphans():
    """Shared memory with a name that no process has mapped any more; other programs of the machine have theirs."""
    named = {entry.name for entry in SHARED.iterdir()}
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with contextlib.suppress(OSError):
            named -= set(re.findall(rf"{SHARED}/(\S+)", maps.read_text()))
    return named


def nothing_left(before):
    # What another program is about to map is not left behind: it is soon mapped.
    until(lambda: orphans() <= before)


@pytest.fixture(scope="module")
def supervisor(tmp_path_factory):
    """For all that leave it ready again."""
    load = lavas.load_of(NET, tmp_path_factory.mktemp("lava") / "network.npz")
    made = Supervisor("lava", lavas.program(), load, LIMITS)
    yield made
    made.close()


def answers(supervisor, seed=0):
    times = lavas.window(NET, seed)
    found = supervisor.infer(times, time.monotonic() + 60).arrays["potential"]
    assert found.tolist() == Emulator(NET).run(times).potential.tolist()


def ready(supervisor, but=None):
    until(lambda: supervisor.condition.state == "ready" and supervisor.condition.pid != but, 60)
    return supervisor.condition.pid


@pytest.mark.parametrize("rounds", ROUNDS)
@pytest.mark.parametrize("victim", ["worker", "first of Lava's", "last of Lava's"])
def test_a_killed_process_takes_all_others_along_and_the_next_worker_answers(supervisor, rounds, victim):
    before = orphans()
    pid = ready(supervisor)
    for number in range(rounds):
        answers(supervisor, number)
        others = sorted(children(pid))
        assert len(others) > 10
        os.kill(pid if victim == "worker" else others[0 if victim.startswith("first") else -1], signal.SIGKILL)
        until(lambda others=others, pid=pid: not living([pid, *others]), 60)
        pid = ready(supervisor, but=pid)
    answers(supervisor)
    nothing_left(before)


@pytest.mark.parametrize("rounds", ROUNDS)
def test_a_process_that_dies_during_a_window_fails_it_at_once(supervisor, rounds):
    for number in range(rounds):
        pid = ready(supervisor)
        times, victim = lavas.window(NET, number), max(children(pid))
        os.kill(victim, signal.SIGSTOP)  # so that the window cannot end before
        killer = subprocess.Popen(["/bin/sh", "-c", f"sleep 0.2; kill -KILL {victim}"])
        started = time.monotonic()
        with pytest.raises(WorkerError, match="a process of Lava's has ended"):
            supervisor.infer(times, started + 60)
        killer.wait()
        assert time.monotonic() - started < LIMITS.hang_s, "it was killed for hanging"
        ready(supervisor, but=pid)
    answers(supervisor)


@pytest.mark.parametrize("rounds", ROUNDS)
def test_a_process_that_hangs_has_the_worker_killed_after_hang_s(tmp_path, rounds):
    load = lavas.load_of(NET, tmp_path / "network.npz")
    supervisor = Supervisor("lava", lavas.program(), load, replace(LIMITS, hang_s=0.6))
    try:
        for number in range(rounds):
            pid = ready(supervisor)
            others = children(pid)
            os.kill(max(others), signal.SIGSTOP)
            with pytest.raises(WorkerError, match="no answer within"):
                supervisor.infer(lavas.window(NET, number), time.monotonic() + 0.1)
            until(lambda others=others, pid=pid: not living([pid, *others]), 60)
            ready(supervisor, but=pid)
    finally:
        supervisor.close()


@pytest.mark.parametrize("rounds", ROUNDS)
def test_an_exception_in_a_neurons_model_fails_the_window_and_leaves_nothing(tmp_path, rounds):
    before = orphans()
    sound = lavas.program()
    raising = replace(sound, driver="tests.support.lava_raising", siblings=(*sound.siblings, "lava"))
    supervisor = Supervisor("lava", raising, lavas.load_of(NET, tmp_path / "network.npz"), LIMITS)
    try:
        for _ in range(rounds):
            pid = ready(supervisor)
            others = children(pid)
            answers(supervisor)
            with pytest.raises(WorkerError, match=r"Lava|[Ee]xception"):  # whichever is quicker to tell
                answers(supervisor)
            until(lambda others=others: not living(others), 60)
            ready(supervisor, but=pid)
    finally:
        supervisor.close()
    nothing_left(before)


@pytest.mark.parametrize("rounds", ROUNDS)
def test_nothing_outlives_a_daemon_that_is_killed(tmp_path, rounds):
    program, before = lavas.program(), orphans()
    meta, _ = lavas.load_of(NET, tmp_path / "network.npz")
    argument = json.dumps([program.command[0], program.siblings, meta, str(tmp_path / "network.npz")])
    for _ in range(rounds):
        mark = uuid.uuid4().hex
        daemon = subprocess.Popen(
            [sys.executable, "-c", DAEMON, argument], env=os.environ | {"FIRSTSPIKE_TEST_MARK": mark},
            stdout=subprocess.PIPE, text=True, cwd=ROOT,
        )  # fmt: skip
        with daemon:
            assert daemon.stdout.readline() == "ready\n"
            assert len(marked(mark.encode())) > 10
            daemon.kill()
        until(lambda mark=mark: not marked(mark.encode()), 60)
    nothing_left(before)


def test_a_closed_worker_leaves_nothing(tmp_path):
    before = orphans()
    supervisor = Supervisor("lava", lavas.program(), lavas.load_of(NET, tmp_path / "network.npz"), LIMITS)
    others = children(ready(supervisor))
    supervisor.close()
    until(lambda: not living(others), 60)
    nothing_left(before)

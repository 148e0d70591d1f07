"""No worker outlives its daemon, however and whenever that is killed."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
from tests.support.figures import figure
from tests.support.program import ROOT
from tests.support.worker import until

DAEMON = """
import json, sys, time
from firstspike.worker.start import Program
from firstspike.worker.supervisor import Limits, Supervisor, WorkerError
import numpy as np
options = json.loads(sys.argv[1])
load = {"options": options, "model": {"classes": 10, "steps": 16}}
print("starting", flush=True)
supervisor = Supervisor("null", Program((sys.executable,), "null"), (load, b""), Limits(start_s=600, hang_s=600))
while options.get("load_s", 0) == 0 and options.get("when") != "load" and supervisor.condition.state != "ready":
    time.sleep(0.001)
print("ready", flush=True)
if "fault" in options and "when" not in options:
    try:
        supervisor.infer(np.zeros((1, 4, 4), np.uint8), time.monotonic() + 0.2)
    except WorkerError:
        print("asked", flush=True)
time.sleep(600)
"""


def marked(mark):
    """Processes with this in their environment, zombies left out (their environment is empty)."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if mark in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
    return found


def killed(argv, line, after_s=0.0):
    """Start a daemon, kill it `after_s` after it said `line`.

    Returns the number of its workers (None if the moment matters) and how long they outlived it.
    """
    mark = uuid.uuid4().hex
    environment = os.environ | {"FIRSTSPIKE_TEST_MARK": mark}
    daemon = subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        with daemon:
            while line not in (said := daemon.stdout.readline()):
                assert said, "the daemon has ended"
            time.sleep(after_s)
            # Looking takes milliseconds: not where the moment matters.
            workers = len(marked(mark.encode())) - 1 if line != "starting" else None
            daemon.kill()
            daemon.wait()
            return workers, until(lambda: not marked(mark.encode()))
    finally:
        for pid in marked(mark.encode()):
            os.kill(pid, signal.SIGKILL)


def player(options):
    """A program with a supervisor, and nothing else of a daemon."""
    return [sys.executable, "-c", DAEMON, options]


WORKERS = {
    "idle": ("{}", "ready"),
    "loading": ('{"load_s": 3000}', "ready"),
    "in C code that lets no other thread run": ('{"fault": "spin"}', "asked"),
    "in Python code": ('{"fault": "hang"}', "asked"),
    "stopped": ('{"fault": "stop"}', "asked"),
}


def _figure(what, took):
    figure(what, f"no process left: the worker outlived it by {max(took) * 1e3:.0f} ms at most")


ROUNDS = [pytest.param(1, id="once"), pytest.param(50, marks=pytest.mark.soak, id="fifty times")]


@pytest.mark.parametrize("rounds", ROUNDS)
@pytest.mark.parametrize(("options", "line"), WORKERS.values(), ids=WORKERS)
def test_a_worker_dies_with_its_daemon(request, options, line, rounds):
    took = []
    for _ in range(rounds):
        workers, seconds = killed(player(options), line, 0.1 if "load_s" in options else 0)
        took.append(seconds)
        assert workers == 1
    how = request.node.callspec.id.split("-")[0]
    _figure(f"daemon killed, its worker {how}: {rounds} times", took)


@pytest.mark.parametrize(
    "rounds", [pytest.param(8, id="few"), pytest.param(50, marks=pytest.mark.soak, id="fifty times")]
)
def test_a_worker_dies_with_a_daemon_that_is_killed_at_any_moment_of_its_start(rounds):
    pick = random.Random(rounds)  # noqa: S311 (moments, no secrets)
    took = [killed(player("{}"), "starting", pick.uniform(0, 0.15))[1] for _ in range(rounds)]
    _figure(f"daemon killed while its worker starts, {rounds} times", took)


@pytest.mark.parametrize("rounds", ROUNDS)
def test_a_worker_dies_with_a_real_daemon_that_puts_windows_to_it(tmp_path, rounds):
    settings = [f"publish.endpoint=ipc://{tmp_path}/x", "source.kind=simulated", "backend.null.latency_ms=2"]
    argv = [sys.executable, "-m", "firstspike", "run", "--config", ROOT / "config.toml", "--plan", "null"]
    argv += [word for setting in settings for word in ("--set", setting)]
    pick = random.Random(rounds)  # noqa: S311 (moments, no secrets)
    took = []
    for _ in range(rounds):
        workers, seconds = killed(argv, "null: ready", pick.uniform(0, 0.3))
        took.append(seconds)
        assert workers >= 1
    _figure(f"running daemon killed, {rounds} times", took)

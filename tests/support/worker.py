"""Supervised workers with the null driver, for tests of what goes wrong."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from firstspike.worker.start import Program
from firstspike.worker.supervisor import Limits, Supervisor

CLASSES, STEPS = 10, 16
PATIENT = Limits(start_s=60, hang_s=0.4, period_s=0.01, look_s=0.2, ping_s=0.1)
"""A failure is soon forgotten: each restart comes at once."""
SLACK_S = 20.0
"""For what must come to pass; the machine may be busy."""


class Sent(Program):
    """A worker whose sources are changed on their way: what is in the text of `changes` stands for something else."""

    changes: dict[bytes, bytes] = {}  # noqa: RUF012 (set for each test by `sent`)

    def greeting(self):
        text = super().greeting()[12:]
        for old, new in self.changes.items():
            assert old in text, old
            text = text.replace(old, new)
        return b"%012d" % len(text) + text


def sent(changes):
    """A program whose sources have these changes, as they stand in JSON."""
    return type("Sent", (Sent,), {"changes": changes})((sys.executable,), "null")


@contextlib.contextmanager
def supervised(program=None, limits=PATIENT, **options):
    """A supervisor of a null worker; `wait_ready` is the caller's."""
    model = {"classes": CLASSES, "steps": STEPS}
    program = program or Program((sys.executable,), "null")
    supervisor = Supervisor("null", program, ({"options": options, "model": model}, b""), limits)
    try:
        yield supervisor
    finally:
        supervisor.close()
        assert not supervisor._thread.is_alive()


def until(holds, within_s=SLACK_S):
    """Wait until something holds; returns the seconds that it took."""
    started = time.monotonic()
    while not holds():
        assert time.monotonic() - started < within_s, "it did not come to pass"
        time.sleep(0.001)
    return time.monotonic() - started


def until_ready(supervisor, but=None):
    """Wait for a worker other than the process `but`; returns its condition."""
    until(lambda: supervisor.condition.state == "ready" and supervisor.condition.pid != but)
    return supervisor.condition


def window(seed):
    return np.random.default_rng(seed).integers(0, STEPS + 1, (2, 8, 9)).astype(np.uint8)


def expected(times):
    """What the null driver answers."""
    activations = (STEPS - times.astype(np.int64)).reshape(-1)
    return np.bincount(np.arange(activations.size) % CLASSES, activations, CLASSES).astype(np.float32)


def right(supervisor, seed=0, within_s=SLACK_S):
    """Put a window to the worker and check the answer."""
    times = window(seed)
    answer = supervisor.infer(times, time.monotonic() + within_s)
    np.testing.assert_array_equal(answer.arrays["output"], expected(times))
    assert answer.device_s > 0
    return answer


def alive(pid):
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def holdings():
    """What this process holds: descriptors, threads, children (zombies among them), KiB of memory."""
    own = Path("/proc/self")
    children = [child for task in (own / "task").iterdir() for child in (task / "children").read_text().split()]
    pages = int((own / "statm").read_text().split()[1])
    return {
        "descriptors": sum(1 for _ in (own / "fd").iterdir()), "threads": threading.active_count(),
        "children": len(children), "KiB": pages * os.sysconf("SC_PAGE_SIZE") // 1024,
    }  # fmt: skip


def impatient(**limits):
    """The patient limits with some others."""
    return replace(PATIENT, **limits)

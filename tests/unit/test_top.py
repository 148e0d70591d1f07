"""`firstspike top`: what a frame tells, and that names from elsewhere say nothing to the terminal."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time

import pytest
from tests.support.messages import decision, health, provisional
from tests.support.program import complained, firstspike, started

from firstspike.messages import BackendHealth, Counters, Stamps
from firstspike.top import Top


def stamps(ms):
    return Stamps(clock="monotonic", closed_ns=0, encoded_ns=1, inferred_ns=2, published_ns=round(ms * 1e6))


def drawn(*messages, elapsed_s=2.0, lost=0):
    top = Top()
    for message in messages:
        top.take(message)
    return top, "\n".join(top.frame(elapsed_s, lost, "ipc:///x"))


def test_a_frame_tells_rates_statuses_latencies_and_the_answer():
    messages = [decision(seq, stamps=stamps(ms)) for seq, ms in enumerate((1, 2, 3))]
    messages.append(decision(3, status="late", stamps=stamps(100)))
    _, text = drawn(*messages, provisional(), health(), lost=7)
    row = next(line for line in text.splitlines() if line.startswith("a.raw"))
    assert row.split()[1:9] == ["2.0", "3", "1", "0", "0", "0.6", "2.00", "100.00"]
    assert "3 0.90" in row
    assert "running" in text
    assert "lost on the way here: 7" in text


def test_the_next_frame_begins_anew():
    top, _ = drawn(decision(0, stamps=stamps(5)))
    again = "\n".join(top.frame(1.0, 0, "ipc:///x"))
    row = next(line for line in again.splitlines() if line.startswith("a.raw"))
    assert row.split()[1:9] == ["0.0", "0", "0", "0", "0", "0.0", "–", "–"]


def test_back_ends_and_losses():
    backends = [
        BackendHealth(name="openvino", state="ready", pid=4711, windows=12, failures=1, latency_p50_ms=0.21),
        BackendHealth(name="ncs2", state="absent", reason="no stick"),
    ]
    message = health().model_copy(
        update={"backends": backends, "counters": Counters(overflow=5, dropped_stale=2), "reasons": ["ncs2: absent"]}
    )
    _, text = drawn(message)
    assert "openvino                 ready                12        1     0.21        –     4711" in text
    assert "no stick" in text
    assert "5 overflow, 2 dropped stale" in text
    assert "no decisions yet" in text


def test_nothing_that_came_is_no_frame_of_zeros():
    _, text = drawn()
    assert "no health message yet" in text


def test_names_say_nothing_to_the_terminal():
    _, text = drawn(decision(label="\x1b]0;owned\x07", source="a\x1b[2J.raw"), health())
    assert "\x1b" not in text
    assert "\x07" not in text


def test_once_against_a_daemon_and_against_none(tmp_path):
    endpoint = f"ipc://{tmp_path}/p"
    complained(firstspike("top", endpoint, "--once", "--interval", "0.3"), os.EX_UNAVAILABLE, "is a daemon running")
    settings = ("model.path=nmnist", "source.kind=simulated", f"publish.endpoint={endpoint}")
    with started("run", *[part for one in settings for part in ("--set", one)]):
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            done = firstspike("top", endpoint, "--once", "--interval", "1.5")
            if done.returncode == 0 and "no decisions yet" not in done.stdout:
                break
    assert done.returncode == 0, done.stderr
    for part in ("stream", "emulator", "losses since its start", "nmnist@"):
        assert part in done.stdout
    assert "\x1b" not in done.stdout


def test_on_a_terminal_it_gives_the_screen_back(tmp_path):
    try:
        ours, theirs = pty.openpty()
    except OSError as error:
        pytest.skip(f"no pseudo-terminal can be had here: {error}: mount devpts on /dev/pts")
    argv = [sys.executable, "-m", "firstspike", "top", f"ipc://{tmp_path}/p", "--interval", "0.1"]
    with subprocess.Popen(argv, stdout=theirs, stderr=subprocess.DEVNULL) as child:
        os.close(theirs)
        shown = b""
        while b"firstspike at" not in shown:
            shown += os.read(ours, 4096)
        child.send_signal(signal.SIGINT)
        while b"\x1b[?1049l" not in shown:
            shown += os.read(ours, 4096)
        assert child.wait(10) == 130
    os.close(ours)

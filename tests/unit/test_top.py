"""`firstspike top`: what a frame tells, and that names from elsewhere say nothing to the terminal."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time

import pytest
from tests.support.messages import decision, energy, health, provisional
from tests.support.program import complained, firstspike, started

from firstspike.cli import top as cli_top
from firstspike.cli import watch
from firstspike.messages import Stamps
from firstspike.messages_health import BackendHealth, Counters
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


def test_streams_of_a_daemon_are_told_together_and_in_one_order():
    for order in (1, -1):
        shared = {"backends": [BackendHealth(name="emulator", state="ready")], "counters": Counters(overflow=5)}
        messages = [health().model_copy(update=shared | {"stream": name}) for name in ("left", "right")[::order]]
        _, text = drawn(*messages)
        assert text.index("  left: running") < text.index("  right: running")
        assert text.index("left:emulator") < text.index("right:emulator")
        assert "10 overflow" in text
        assert "2 streams" in text


def test_another_run_of_the_daemon_begins_anew():
    _, text = drawn(decision(source="before.raw"), health(epoch="other"))
    assert "before.raw" not in text


def test_a_daemon_that_went_silent_is_not_shown_as_running_without_a_word():
    top, text = drawn(health())
    assert "nothing came" not in text
    assert "nothing came for 0 min 7 s" in top.frame(1.0, 0, "ipc:///x", 7.0)[0]


@pytest.mark.parametrize(
    ("line", "width", "cut"), [("abc", 3, "abc"), ("abc", 2, "ab"), ("日本", 3, "日"), ("e\u0301e", 1, "e\u0301")]
)
def test_lines_are_cut_where_the_terminal_ends(line, width, cut):
    assert cli_top.cut(line, width) == cut


def test_nothing_that_came_is_no_frame_of_zeros():
    _, text = drawn()
    assert "no health message yet" in text


def test_names_say_nothing_to_the_terminal():
    _, text = drawn(decision(label="\x1b]0;owned\x07", source="a\x1b[2J.raw"), health())
    assert "\x1b" not in text
    assert "\x07" not in text


def test_watch_says_nothing_to_the_terminal_either(capsys):
    odd = "\x1b]0;owned\x07"
    backend = BackendHealth(name="openvino", state="failed", reason=odd)
    messages = [
        decision(label=odd, status="degraded", reasons=[odd]), provisional(label=odd),
        energy(name=odd, subject="backend", reason=odd), health().model_copy(update={"backends": [backend]}),
    ]  # fmt: skip
    for message in messages:
        watch._show(message, {}, as_json=False)
    shown = "".join(capsys.readouterr())
    assert shown.count("?]0;owned?") >= 6
    assert "\x1b" not in shown
    watch._show(messages[0], {}, as_json=True)
    assert "\x1b" not in capsys.readouterr().out


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
    environment = {**os.environ, "TERM": "xterm"}
    with subprocess.Popen(argv, stdout=theirs, stderr=subprocess.DEVNULL, env=environment) as child:
        os.close(theirs)
        shown = b""
        while b"firstspike at" not in shown:
            shown += os.read(ours, 4096)
        child.send_signal(signal.SIGINT)
        while b"\x1b[?1049l" not in shown:
            shown += os.read(ours, 4096)
        assert child.wait(10) == 130
    os.close(ours)


def test_a_terminal_that_can_do_nothing_is_told_nothing_but_text(tmp_path):
    ours, theirs = pty.openpty()
    argv = [sys.executable, "-m", "firstspike", "top", f"ipc://{tmp_path}/p", "--interval", "0.1"]
    environment = {**os.environ, "TERM": "dumb"}
    with subprocess.Popen(argv, stdout=theirs, stderr=subprocess.DEVNULL, env=environment) as child:
        os.close(theirs)
        shown = b""
        while shown.count(b"firstspike at") < 2:
            shown += os.read(ours, 4096)
        child.send_signal(signal.SIGINT)
        assert child.wait(10) == 130
    assert b"\x1b" not in shown
    os.close(ours)

"""What can go wrong before a worker is ready: each is named with its cause, and nothing is tried without end."""

from __future__ import annotations

import os
import sys
import time

import pytest
from tests.support.worker import alive, impatient, right, sent, supervised, until, until_ready, window

from firstspike.worker.start import Program
from firstspike.worker.supervisor import WorkerError

ONCE = impatient(restarts=0, rest_s=60, period_s=60)
"""A failure is followed by a long rest, in which it can be read."""


def script(path, text):
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def failure(program, limits=ONCE, **options):
    """How a worker stands that could not be started."""
    with supervised(program, limits, **options) as supervisor:
        until(lambda: supervisor.condition.state == "backing-off")
        with pytest.raises(WorkerError, match="null: backing-off: the worker"):
            supervisor.infer(window(0), time.monotonic() + 60)
        return supervisor.condition


def test_an_interpreter_that_is_not_there():
    condition = failure(Program(("/nowhere/python3.9",), "null"))
    assert condition.reason == "the worker cannot be started: /nowhere/python3.9: No such file or directory"
    assert "firstspike workers install null" in condition.fix


def test_an_interpreter_that_is_not_executable(tmp_path):
    (tmp_path / "python").write_text("", encoding="utf-8")
    condition = failure(Program((str(tmp_path / "python"),), "null"))
    assert condition.reason.endswith("python: Permission denied")


def test_an_interpreter_that_vanishes_while_it_serves_and_comes_back(tmp_path):
    real = tmp_path / "python"
    real.symlink_to(sys.executable)
    shell = script(
        tmp_path / "interpreter", f'#!/bin/sh\nPYTHONPATH="{os.pathsep.join(sys.path)}" exec "{real}" "$@"\n'
    )
    with supervised(Program((shell,), "null")) as supervisor:
        pid = until_ready(supervisor).pid
        right(supervisor)
        (tmp_path / "interpreter").rename(tmp_path / "elsewhere")
        supervisor.distrust("for the test")
        until(lambda: "No such file or directory" in (supervisor.condition.reason or ""))
        (tmp_path / "elsewhere").rename(tmp_path / "interpreter")
        until_ready(supervisor, but=pid)
        right(supervisor)


@pytest.mark.parametrize(("text", "cause"), [
    ("#!/bin/sh\nexit 0\n", "ended with exit code 0 (before its greeting)"),
    ("#!/bin/sh\nexec cat\n", "sent what is no frame: '0000"),
    ("#!/bin/sh\necho Welcome to Ubuntu; sleep 60\n", "sent what is no frame: 'Welcome to Ubuntu"),
    ("#!/bin/sh\necho 'no such container: x' >&2; exit 125\n", "exit code 125: no such container: x"),
    ("no interpreter", "Exec format error"),
])  # fmt: skip
def test_what_is_no_python(tmp_path, text, cause):
    condition = failure(Program((script(tmp_path / "python", text),), "null", local=False))
    assert cause in condition.reason


def test_a_python_that_is_too_old(tmp_path):
    old = "import sys; sys.version_info = (3, 5, 10); exec(sys.argv[1])"
    shell = script(tmp_path / "python3.5", f"#!/bin/sh\nexec {sys.executable} -c '{old}' \"$2\"\n")
    assert "this is Python 3.5, and 3.6 or newer is needed" in failure(Program((shell,), "null")).reason


def test_a_python_without_numpy():
    condition = failure(Program((sys.executable, "-I", "-S"), "null"))
    assert "ModuleNotFoundError: No module named 'numpy'" in condition.reason


def test_a_command_that_is_no_child_of_the_daemon_is_told_from_a_local_one(tmp_path):
    shell = script(tmp_path / "wrapper", f'#!/bin/sh\n{sys.executable} "$@"\n')
    assert "is the command an interpreter?" in failure(Program((shell,), "null")).reason
    with supervised(Program((shell,), "null", local=False)) as supervisor:
        until_ready(supervisor)


@pytest.mark.parametrize(("changes", "cause"), [
    ({b"PROTOCOL = 1": b"PROTOCOL = 2"}, "greeted with protocol 2, not 1"),
    ({b"import subprocess": b"import nosuchsdk"}, "ModuleNotFoundError: No module named 'nosuchsdk'"),
    ({b"import subprocess": b"import subprocess("}, "SyntaxError"),
    ({b"import subprocess": b"import subprocess; os._exit(7)"}, "ended with exit code 7 (before its greeting)"),
    ({b"import subprocess": b"import subprocess; os.kill(os.getpid(), 9)"}, "killed by SIGKILL (before its greeting)"),
    ({b"pipe.send(HELLO, 0": b"pipe.send(PONG, 0"}, "greeted with protocol"),
    ({b"return LOADED,": b"return PONG,"}, "a frame of kind 7 when it was to load"),
    ({b"return LOADED, to_json": b"return LOADED, str"}, "ended with exit code 1"),
])  # fmt: skip
def test_a_worker_of_another_make(changes, cause):
    assert cause in failure(sent(changes)).reason


@pytest.mark.parametrize(("options", "cause"), [
    ({"fault": "refuse"}, "cannot load the network: ValueError: it was told to refuse the network"),
    ({"fault": "kill", "when": "load"}, "was killed by SIGKILL"),
    ({"fault": "segfault", "when": "load"}, "was killed by SIGSEGV"),
    ({"fault": "exit", "when": "load"}, "ended with exit code 3"),
    ({"fault": "garbage", "when": "load"}, "sent what is no frame"),
])  # fmt: skip
def test_a_network_that_does_not_load(options, cause):
    assert cause in failure(None, **options).reason


@pytest.mark.parametrize(
    "options", [{"load_s": 3000}, {"fault": "spin", "when": "load"}, {"fault": "stop", "when": "load"}]
)
def test_a_start_has_a_deadline(options):
    limits = impatient(start_s=0.7, restarts=0, rest_s=60, period_s=60)
    assert failure(None, limits, **options).reason == "the worker was not ready within 0.7 s"


def test_a_slow_start_is_no_failure():
    with supervised(load_s=0.7) as supervisor:
        assert supervisor.condition.state == "starting"
        with pytest.raises(WorkerError, match="starting: not ready yet"):
            supervisor.infer(window(0), time.monotonic() + 60)
        assert until_ready(supervisor).restarts == 0
        right(supervisor)


def test_a_crash_loop_comes_to_rest(tmp_path):
    limits = impatient(restarts=5, period_s=60, rest_s=30)
    with supervised(limits=limits, fault="refuse") as supervisor:
        until(lambda: supervisor.condition.restarts == 5)
        until(lambda: supervisor.condition.state == "backing-off" and supervisor._due > time.monotonic() + 20)
        assert supervisor.condition.restarts == 5
        assert supervisor.condition.pid is None


def test_an_absent_device_is_looked_for_again_and_is_no_failure(tmp_path):
    away = tmp_path / "away"
    away.touch()
    with supervised(limits=impatient(restarts=0, rest_s=60), absent_while=str(away)) as supervisor:
        condition = supervisor.wait_ready(60)
        until(lambda: supervisor.condition.state == "absent")
        time.sleep(1.0)
        condition = supervisor.condition
        assert (condition.state, condition.reason, condition.fix) == (
            "absent",
            "the device is not plugged in",
            "plug it in",
        )
        with pytest.raises(WorkerError, match="absent: the device is not plugged in"):
            supervisor.infer(window(0), time.monotonic() + 60)
        away.unlink()
        assert until_ready(supervisor).restarts == 0
        right(supervisor)


def test_a_device_that_is_unplugged_is_absent_until_it_is_back(tmp_path):
    with supervised(fault="absent", every=2) as supervisor:
        pid = until_ready(supervisor).pid
        right(supervisor)
        with pytest.raises(WorkerError, match="the device was unplugged"):
            supervisor.infer(window(0), time.monotonic() + 10)
        assert supervisor.condition.state == "absent"
        until_ready(supervisor, but=pid)
        right(supervisor)
        until(lambda: not alive(pid))

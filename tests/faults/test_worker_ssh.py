"""A worker on another host through a real ssh server: the same link, and no worker is left there."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import sys
import time

import numpy as np
import pytest
from tests.support.sshd import server
from tests.support.worker import alive, impatient, right, supervised, until, until_ready, window

from firstspike.worker import supervisor as supervisor_module
from firstspike.worker.start import Program
from firstspike.worker.supervisor import WorkerError

ONCE = impatient(restarts=0, rest_s=60, period_s=60)


@pytest.fixture(scope="module")
def ssh(tmp_path_factory):
    with server(tmp_path_factory.mktemp("ssh")) as words:
        yield words


def remote(ssh, *before):
    return Program((*ssh, *before, shlex.quote(sys.executable)), "null", local=False)


def test_a_worker_answers_through_ssh_and_ends_with_it(ssh):
    with supervised(remote(ssh)) as supervisor:
        condition = until_ready(supervisor)
        for number in range(20):
            right(supervisor, number)
        there = supervisor.hello["pid"]
        assert there != condition.pid
        assert alive(there)
        os.kill(condition.pid, signal.SIGKILL)
        until(lambda: not alive(there))
        until_ready(supervisor, but=condition.pid)
        right(supervisor)
        there = supervisor.hello["pid"]
    until(lambda: not alive(there))


def test_a_large_window_goes_through_ssh(ssh):
    times = np.full((2, 640, 480), 15, np.uint8)
    with supervised(remote(ssh)) as supervisor:
        until_ready(supervisor)
        answer = supervisor.infer(times, time.monotonic() + 20)
    assert answer.arrays["output"].sum() == times.size


def test_a_driver_that_hangs_there_ends_with_the_connection(ssh):
    with supervised(remote(ssh), fault="hang") as supervisor:
        pid = until_ready(supervisor).pid
        there = supervisor.hello["pid"]
        with pytest.raises(WorkerError, match="no answer within"):
            supervisor.infer(window(0), time.monotonic() + 0.1)
        until_ready(supervisor, but=pid)
        until(lambda: not alive(there))


def test_a_driver_that_hangs_there_in_c_code_is_ended_by_an_alarm(ssh, monkeypatch):
    monkeypatch.setattr(supervisor_module, "ALARM_S", 1)
    with supervised(remote(ssh), impatient(hang_s=0.2), fault="spin") as supervisor:
        until_ready(supervisor)
        there = supervisor.hello["pid"]
        with pytest.raises(WorkerError, match="no answer within"):
            supervisor.infer(window(0), time.monotonic() + 0.1)
    assert alive(there)
    until(lambda: not alive(there))


def test_what_a_login_script_prints_is_told(ssh):
    with supervised(remote(ssh, "echo", "Welcome to this host;"), ONCE) as supervisor:
        until(lambda: supervisor.condition.state == "backing-off")
        assert "sent what is no frame: 'Welcome to this host" in supervisor.condition.reason
        assert "login script" in supervisor.condition.fix


def test_a_host_that_has_no_such_python(ssh):
    with supervised(Program((*ssh, "python3.99"), "null", local=False), ONCE) as supervisor:
        until(lambda: supervisor.condition.state == "backing-off")
        assert "ended with exit code 127" in supervisor.condition.reason
        assert "python3.99" in supervisor.condition.reason


def test_a_host_that_does_not_answer():
    if shutil.which("ssh") is None:
        pytest.skip("no ssh on this machine: on Debian, apt-get install openssh-client")
    command = ("ssh", "-F", "none", "-o", "BatchMode=yes", "-p", "1", "127.0.0.1", "python3")
    with supervised(Program(command, "null", local=False), ONCE) as supervisor:
        until(lambda: supervisor.condition.state == "backing-off")
        assert "ended with exit code 255" in supervisor.condition.reason
        assert "Connection refused" in supervisor.condition.reason

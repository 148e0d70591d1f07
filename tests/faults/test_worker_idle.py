"""A worker that fails while nobody asks costs no window; how it is ended, and what it leaves behind."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from pathlib import Path

import pytest
from tests.support.worker import PATIENT, alive, holdings, impatient, right, supervised, until, until_ready, window

from firstspike.worker.supervisor import WorkerError


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_death_while_idle_is_noticed_and_costs_no_window(how):
    took = []
    with supervised(limits=impatient(ping_s=60)) as supervisor:
        pid = until_ready(supervisor).pid
        for _ in range(3):
            right(supervisor)
            os.kill(pid, how)
            took.append(until(lambda pid=pid: supervisor.condition.pid != pid))
            pid = until_ready(supervisor, but=pid).pid
        right(supervisor)
        assert supervisor.condition.restarts == 3
    print(f"\n{how.name} while idle: noticed after {', '.join(f'{s * 1e3:.1f}' for s in took)} ms")
    assert max(took) < 2.0  # and not at the next sign of life, a minute later


@pytest.mark.parametrize(("fault", "cause"), [
    ("exit", "ended with exit code 3"), ("garbage", "sent what is no frame"), ("stop", "no answer for 0.4 s"),
    ("other", "answered request 3000000000"),
])  # fmt: skip
def test_signs_of_life_find_what_an_idle_worker_does(fault, cause, caplog, tmp_path):
    with supervised(fault=fault, when="idle", once=str(tmp_path / "done")) as supervisor:
        pid = until_ready(supervisor).pid
        right(supervisor)
        until(lambda: supervisor.condition.restarts == 1)
        assert cause in caplog.text
        until_ready(supervisor, but=pid)
        right(supervisor)
        until(lambda: not alive(pid))


def test_a_stopped_worker_that_goes_on_in_time_is_kept():
    with supervised(limits=impatient(hang_s=30)) as supervisor:
        pid = until_ready(supervisor).pid
        os.kill(pid, signal.SIGSTOP)
        until(lambda: supervisor.condition.state == "busy")
        with pytest.raises(WorkerError, match="busy"):
            supervisor.infer(window(0), time.monotonic() + 30)
        os.kill(pid, signal.SIGCONT)
        until(lambda: supervisor.condition.state == "ready")
        right(supervisor)
        assert supervisor.condition.pid == pid


def test_a_healthy_idle_worker_is_left_alone():
    with supervised(limits=impatient(ping_s=0.02)) as supervisor:
        pid = until_ready(supervisor).pid
        for number in range(20):
            time.sleep(0.03)
            right(supervisor, number)
        assert (supervisor.condition.pid, supervisor.condition.restarts) == (pid, 0)


def test_closing_lets_the_driver_let_its_device_go(tmp_path):
    with supervised(let_go=str(tmp_path / "let go")) as supervisor:
        pid = until_ready(supervisor).pid
        right(supervisor)
    assert (tmp_path / "let go").exists()
    assert not alive(pid)
    with pytest.raises(WorkerError, match="closed"):
        supervisor.infer(window(0), time.monotonic() + 1)


@pytest.mark.parametrize("state", ["starting", "stopped", "hanging", "spinning", "resting", "absent", "asked"])
def test_closing_is_quick_in_every_state(state, tmp_path):
    options, limits = {}, impatient(hang_s=60, look_s=60)
    if state == "starting":
        options = {"load_s": 3000}
    elif state in ("hanging", "spinning", "asked"):
        options = {"fault": "spin" if state == "spinning" else "hang"}
    elif state == "resting":
        options, limits = {"fault": "refuse"}, impatient(restarts=0, rest_s=60, period_s=60)
    elif state == "absent":
        options = {"fault": "absent"}
    asking = threading.Thread()
    with supervised(limits=limits, **options) as supervisor:
        if state == "starting":
            until(lambda: supervisor.condition.pid is not None)
        elif state in ("resting", "absent"):
            until(lambda: supervisor.condition.state in ("backing-off", "absent"))
        else:
            until_ready(supervisor)
        pid = supervisor.condition.pid
        if state == "stopped":
            os.kill(pid, signal.SIGSTOP)
        elif state in ("hanging", "spinning"):
            with pytest.raises(WorkerError):
                supervisor.infer(window(0), time.monotonic() + 0.02)
        elif state == "asked":
            asking = threading.Thread(
                target=pytest.raises, args=(WorkerError, supervisor.infer, window(0), time.monotonic() + 60)
            )
            asking.start()
            until(lambda: supervisor.condition.state == "busy")
        started = time.monotonic()
        supervisor.close()
        took = time.monotonic() - started
    print(f"\nclosed while {state}: {took:.3f} s")
    assert took < 4.0
    assert pid is None or not alive(pid)
    if state == "asked":
        asking.join(5)
        assert not asking.is_alive()


def test_no_descriptor_of_the_daemon_or_of_another_worker_is_in_a_worker(tmp_path):
    ours, theirs = socket.socketpair()
    file = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    for fd in (ours.fileno(), theirs.fileno(), file):
        os.set_inheritable(fd, True)
    with supervised() as first, supervised() as second:
        pids = [until_ready(supervisor).pid for supervisor in (first, second)]
        held = [{fd.name: str(fd.readlink()) for fd in Path(f"/proc/{pid}/fd").iterdir()} for pid in pids]
    os.close(file)
    ours.close()
    theirs.close()
    for one, other in (held, held[::-1]):
        assert one["0"] == "/dev/null"
        assert one["1"] == one["2"]
        assert one["1"].startswith("pipe:")
        links = [target for fd, target in one.items() if int(fd) > 2]
        assert len(links) == 2
        assert len(set(links)) == 1
        assert links[0].startswith("socket:")
        assert not set(links) & set(other.values())


def test_a_worker_does_not_speak_for_the_daemon(monkeypatch):
    for name in ("NOTIFY_SOCKET", "PYTHONPATH", "VIRTUAL_ENV", "WATCHDOG_USEC"):
        monkeypatch.setenv(name, "/nowhere")
    with supervised() as supervisor:
        environment = Path(f"/proc/{until_ready(supervisor).pid}/environ").read_bytes()
    assert b"/nowhere" not in environment
    assert b"PATH=" in environment


def test_many_supervisors_leave_nothing_behind():
    def names():
        return sorted(thread.name for thread in threading.enumerate())

    before, descriptors = names(), holdings()["descriptors"]
    for _ in range(5):
        with supervised(limits=PATIENT) as supervisor:
            until_ready(supervisor)
            right(supervisor)
    assert names() == before
    assert holdings()["descriptors"] == descriptors

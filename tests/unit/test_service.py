"""What the service manager is told, and when its watchdog is not fed."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time

import pytest
from tests.support.notify import FakeManager

from firstspike import service as service_module
from firstspike.progress import Progress
from firstspike.service import Notifier, Service


@pytest.fixture
def manager(tmp_path):
    made = FakeManager(tmp_path / "notify")
    yield made
    made.close()


def environment(manager, **more):
    return {"NOTIFY_SOCKET": manager.path, **more}


def test_without_a_manager_nothing_happens():
    notifier = Notifier({})
    assert not notifier
    assert notifier.watchdog_s is None
    notifier.send(READY=1)
    with Service(notifier, Progress()) as service:
        service.ready()


def test_children_are_not_handed_the_socket(manager):
    given = environment(manager, WATCHDOG_USEC="1000000", WATCHDOG_PID=str(os.getpid()), OTHER="1")
    notifier = Notifier(given)
    assert given == {"OTHER": "1"}
    assert notifier.watchdog_s == 1.0
    notifier.close()


@pytest.mark.parametrize(("usec", "pid"), [("1000000", "1"), ("x", None), ("", None)])
def test_a_watchdog_that_is_not_ours_is_none(manager, usec, pid):
    given = environment(manager, WATCHDOG_USEC=usec) | ({"WATCHDOG_PID": pid} if pid else {})
    notifier = Notifier(given)
    assert notifier.watchdog_s is None
    notifier.close()


def test_an_abstract_address_works():
    fake = FakeManager(f"@firstspike-test-{os.getpid()}")
    notifier = Notifier({"NOTIFY_SOCKET": fake.path})
    notifier.send(STATUS="two\nlines", READY=1)
    assert fake.next() == {"STATUS": "two lines", "READY": "1"}
    notifier.close()
    fake.close()


def test_another_kind_of_address_is_told_and_not_used(caplog):
    assert not Notifier({"NOTIFY_SOCKET": "vsock:2:1", "WATCHDOG_USEC": "1"})
    assert "vsock:2:1" in caplog.text


def test_a_manager_that_went_away_is_no_failure(manager, tmp_path):
    notifier = Notifier(environment(manager))
    manager.close()
    notifier.send(READY=1)
    notifier.close()


def test_a_start_that_gets_on_extends_the_managers_patience_until_it_is_ready(manager):
    progress = Progress()
    part = progress.loop("reader")
    with Service(Notifier(environment(manager)), progress, lambda: "starting: openvino: starting") as service:
        assert [one for one in manager.until("EXTEND_TIMEOUT_USEC") if "READY" in one] == []
        assert manager.until("STATUS")[-1]["STATUS"] == "starting: openvino: starting"
        service.ready()
        ready = manager.until("READY")[-1]
        assert ready["STATUS"] == "starting: openvino: starting"
        part.beat()
        assert manager.next(1.5) is None  # there is no watchdog, nothing has changed
    assert manager.until("STOPPING")[-1] == {"STOPPING": "1", "STATUS": "stopping"}


def test_a_reload_is_told_with_its_time(manager):
    notifier = Notifier(environment(manager))
    service = Service(notifier, Progress())
    service.reloading()
    told = manager.next()
    assert told["RELOADING"] == "1"
    assert int(told["MONOTONIC_USEC"]) > 0
    service.ready()
    assert manager.next()["READY"] == "1"
    notifier.close()


def test_the_watchdog_is_fed_by_progress_and_starves_without_it(manager, caplog):
    progress = Progress()
    reader, answers = progress.loop("reader"), progress.task("answers")
    beating, hung = threading.Event(), threading.Event()

    def read():
        while not beating.wait(0.01):
            if not hung.is_set():
                reader.beat()

    thread = threading.Thread(target=read)
    thread.start()
    with Service(Notifier(environment(manager, WATCHDOG_USEC="400000")), progress) as service:
        service.ready()
        for _ in range(3):  # the idle task holds nothing up
            manager.until("WATCHDOG")
        with caplog.at_level(logging.ERROR), answers:
            assert drained(manager) <= 1  # a task that does not end does
            assert "no progress of answers" in caplog.text
        manager.until("WATCHDOG")
        hung.set()
        caplog.clear()
        assert drained(manager) <= 1
        assert "no progress of reader" in caplog.text
        hung.clear()
        manager.until("WATCHDOG")
    beating.set()
    thread.join()


def drained(manager):
    """How often the watchdog is fed within more than its time."""
    fed, quiet = 0, 0
    while quiet < 5:
        message = manager.next(0.1)
        fed += message is not None and "WATCHDOG" in message
        quiet += message is None
    return fed


def test_a_status_that_cannot_be_made_does_not_starve_the_watchdog(manager, caplog):
    def status():
        raise ValueError("odd")

    with Service(Notifier(environment(manager, WATCHDOG_USEC="400000")), Progress(), status) as service:
        service.ready()
        for _ in range(5):
            manager.until("WATCHDOG")
    assert caplog.text.count("ValueError: odd") == 1


def test_a_manager_that_does_not_read_is_waited_for_without_work(tmp_path, monkeypatch):
    monkeypatch.setattr(service_module, "PATIENCE_OF_SEND_S", 1)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:
        deaf.bind(str(tmp_path / "notify"))
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        for _ in range(2000):
            notifier.send(STATUS="x")  # does not wait
        began, worked = time.monotonic(), time.thread_time()
        notifier.send(READY=1)
        assert time.monotonic() - began > 0.5
        assert time.thread_time() - worked < 0.2
        notifier.close()


def test_a_part_that_left_is_not_waited_for():
    progress = Progress()
    reader = progress.loop("reader")
    progress.next_round()
    assert progress.stalled() == ["reader"]
    progress.leave(reader)
    assert progress.stalled() == []


def test_a_task_is_waited_for_while_it_is_at_work():
    progress = Progress()
    task = progress.task("answers")
    progress.next_round()
    assert progress.stalled() == []
    with task:
        assert progress.stalled() == ["answers"]
    assert progress.stalled() == []
    progress.next_round()
    with task:
        pass
    with task:  # it ended one since: it gets on
        assert progress.stalled() == []

"""Several streams in a running daemon: a configuration takes over in all of them or in none."""

from __future__ import annotations

import json
import logging
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from tests.support.notify import FakeManager
from tests.support.program import ROOT, complained, firstspike, started
from tests.support.reloading import Daemon, Watched, reload_many

from firstspike.client import Subscriber
from firstspike.messages import Energy
from firstspike.service import Notifier
from firstspike.sources.simulated import _Simulation
from firstspike.topics import ENERGY

TEXT = f"""\
[model]
path = "{ROOT}/models/nmnist"
[schedule]
deadline_ms = 1000
[energy]
window_s = 0.3
meters = []
[publish]
endpoint = "ipc://{{folder}}/p"
[stream.left.source]
kind = "simulated"
[stream.right.source]
kind = "simulated"
[stream.right.source.simulated]
seed = 1
"""


class Streams(Daemon):
    """A daemon with several streams."""

    def seen(self, more, names=("left", "right")):
        """Wait until so many decisions more have come of each of these streams."""
        before, deadline = {name: len(self.of(name)) for name in names}, time.monotonic() + 30
        while any(len(self.of(name)) < before[name] + more for name in names):
            assert time.monotonic() < deadline, {name: len(self.of(name)) for name in names}
            assert self.thread.is_alive()
            time.sleep(0.005)

    def of(self, name):
        return [one for one in self.decisions if one.stream == name]

    def complete(self):
        assert len({one.epoch for one in self.decisions}) == 1
        for name in {one.stream for one in self.decisions}:
            assert [one.seq for one in self.of(name)] == list(range(len(self.of(name)))), name

    @property
    def roads(self):
        return self.manager.generations.roads

    @property
    def error(self):
        return self.manager.generations.error


@pytest.fixture
def text(tmp_path):
    return TEXT.format(folder=tmp_path)


@pytest.fixture
def start(tmp_path):
    made = []

    def start(text, manager=None, kind=Streams):
        made.append(kind(tmp_path, text, manager))
        return made[-1]

    yield start
    for one in made:
        one.stopping.set()
        one.thread.join(20)
        assert not one.thread.is_alive()
        one.complete()


@pytest.fixture
def running(start, text):
    return start(text)


def test_other_rules_take_over_in_every_stream_between_two_windows(running, text):
    pipelines = {name: road.rooms.pipeline for name, road in running.roads.items()}
    backends = {name: road.rooms.runner.backends[0] for name, road in running.roads.items()}
    assert running.reload(text + "[decide]\nmin_evidence = 10.0\n"), running.error
    changed = {name: len(running.of(name)) for name in running.roads}
    running.seen(4)
    assert {name: road.rooms.pipeline for name, road in running.roads.items()} == pipelines
    assert {name: road.rooms.runner.backends[0] for name, road in running.roads.items()} == backends
    for name in running.roads:
        assert all(one.label is None for one in running.of(name)[changed[name] + 1 :])
        indices = [one.window.index for one in running.of(name)]
        assert indices == sorted(set(indices))
    assert [one.config_generation for one in running.manager.health.all()] == [2, 2]


def test_one_stream_may_change_its_source_while_the_others_go_on(running, text):
    pipelines = {name: road.rooms.pipeline for name, road in running.roads.items()}
    assert running.reload(text.replace("seed = 1", "seed = 2")), running.error
    running.seen(3)
    assert running.roads["left"].rooms.pipeline is pipelines["left"]
    assert running.roads["right"].rooms.pipeline is not pipelines["right"]
    assert running.manager.health.all()[1].counters.windows >= len(running.of("right")) - 1


def test_what_is_wrong_in_one_stream_leaves_all_as_they_are(running, text):
    rooms = {name: road.rooms for name, road in running.roads.items()}
    wrong = {
        "stream.right.window": text + "[stream.right.window]\nsize = 1000\nhop = 2000\n",
        "stream right: schedule.plans": text
        + '[stream.right.schedule]\nplans = ["null"]\nstart_s = 0.2\n[backend.null]\ncommand = ["/nowhere/python3"]\n',
        "model.path": text + '[stream.left.model]\npath = "/nowhere"\n[decide]\nmin_evidence = 10.0\n',
    }
    for name, changed in wrong.items():
        assert not running.reload(changed)
        assert name.split(".", 2)[-1] in running.error
    running.seen(2)
    assert {name: road.rooms for name, road in running.roads.items()} == rooms
    assert running.decisions[-1].label is not None or running.decisions[-2].label is not None


def test_streams_that_come_or_go_are_refused_by_name(running, text):
    more = text + '[stream.third.source]\nkind = "simulated"\n'
    assert not running.reload(more)
    assert f"stream.third ({running.file}:" in running.error
    assert "is new: a running daemon keeps its streams: restart it" in running.error
    assert not running.reload(text.partition("[stream.right")[0])
    assert "stream.right" in running.error
    assert "is gone" in running.error
    assert not running.reload(text.partition("[stream.left")[0] + '[source]\nkind = "simulated"\n')
    assert running.error.count("is gone") == 2
    running.seen(2)


def test_a_worker_of_all_streams_outlives_reloads(start, text):
    text = text.replace("[schedule]", '[schedule]\nplans = ["null"]')
    text += f'[backend.null]\ncommand = ["{sys.executable}"]\n'
    running = start(text)
    before = {one.backends[0].pid for one in running.manager.health.all()}
    assert len(before) == 1
    assert running.reload(text + "[decide]\ndecay = 0.5\n"), running.error
    assert running.reload(text.replace("seed = 1", "seed = 2")), running.error
    running.seen(2)
    assert {one.backends[0].pid for one in running.manager.health.all()} == before


@pytest.mark.parametrize("count", [6, pytest.param(300, marks=pytest.mark.soak)])
def test_reloads_of_streams_leave_nothing_behind(running, text, caplog, count):
    caplog.set_level(logging.CRITICAL)
    other = [text + "[decide]\ndecay = 0.5\n", text.replace("seed = 1", "seed = 2"), text]
    reload_many(running, other, count, 3, " of two streams")


def test_a_stream_that_had_ended_begins_again_with_another_source(start, text):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"udp://127.0.0.1:{taken.getsockname()[1]}"
        network = f'[stream.third.source]\nkind = "network"\n[stream.third.source.network]\naddress = "{address}"\n'
        running = start(text + network)
        deadline = time.monotonic() + 10
        while running.roads["third"].state != "ended":
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert "the stream has ended" in running.manager.health.all()[2].reasons[0]
        # The same again changes nothing about it.
        assert running.reload(text + network + "[decide]\ndecay = 0.5\n"), running.error
        assert running.roads["third"].state == "ended"
        assert "the stream has ended" in running.manager.health.all()[2].reasons[0]
    assert running.reload(text + '[stream.third.source]\nkind = "simulated"\n'), running.error
    running.seen(3, ("left", "right", "third"))
    assert running.manager.health.all()[2].reasons == []


def test_a_port_that_is_taken_refuses_the_new_configuration(start, text):
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken,
    ):
        for one in (free, taken):
            one.bind(("127.0.0.1", 0))
        address, other = (f"udp://127.0.0.1:{one.getsockname()[1]}" for one in (free, taken))
        free.close()
        network = '[stream.third.source]\nkind = "network"\n[stream.third.source.network]\naddress = "{}"\n'
        running = start(text + network.format(address))
        pipeline = running.roads["third"].rooms.pipeline
        assert not running.reload(text + network.format(other))
        assert "source.network" in running.error
        assert other.removeprefix("udp://") in running.error
        assert running.roads["third"].rooms.pipeline is pipeline
        # The same port with other options is handed on.
        assert running.reload(text + network.format(address) + "silence_s = 1.0\n"), running.error
        assert running.roads["third"].state == "running"
        # One right after the other: the stream's thread has hardly woken in between.
        for silence in range(2, 8):
            assert running.reload(text + network.format(address) + f"silence_s = {silence}.0\n"), running.error
            assert running.roads["third"].state == "running"
        assert running.reload(text + network.format(address) + "silence_s = 1.0\n"), running.error
        running.seen(2)
        assert not running.roads["third"].rooms.pipeline.failures
        # A window's deadline, and with it the patience of silent windows, changes without a new pipeline.
        pipeline = running.roads["third"].rooms.pipeline
        shorter = text.replace("deadline_ms = 1000", "deadline_ms = 100") + network.format(address)
        assert running.reload(shorter + "silence_s = 1.0\n"), running.error
        assert running.roads["third"].rooms.pipeline is pipeline
        assert pipeline._settings.patience_ns == 50_000_000


def test_one_energy_account_is_kept_and_goes_on_over_reloads(running, text):
    received = []
    with Subscriber(f"ipc://{running.file.parent}/p", topics=(ENERGY,)) as subscriber:

        def take(more):
            wanted = len(received) + more
            while len(received) < wanted:
                message = subscriber.receive(20)
                assert isinstance(message, Energy)
                received.append(message)

        take(6)
        assert running.reload(text + "[decide]\ndecay = 0.5\n"), running.error
        take(9)
        snapshot = subscriber.snapshot(5)
        assert subscriber.lost["energy"] == 0
        assert subscriber.malformed == 0
    lines = {(one.stream, one.subject, one.name) for one in received}
    assert lines == {(None, "host", "host"), ("left", "backend", "emulator"), ("right", "backend", "emulator")}
    assert {(one.stream, one.subject, one.name) for one in snapshot.energy} == lines
    for line in lines:
        since = [one.since_start.inferences for one in received if (one.stream, one.subject, one.name) == line]
        assert since == sorted(since)
        assert since[-1] > since[0]
    assert threading.active_count() < 20
    assert [thread.name for thread in threading.enumerate()].count("energy") == 1
    assert all(one.energy.method == "modelled" and one.energy.dynamic_j > 0 for one in running.decisions)


def test_a_line_for_systemctl_says_all_streams(running):
    line = running.manager._line(running.manager.health.all())
    assert line.startswith("running, 2 streams, ")
    for name in ("left", "right"):
        assert f"{name}: running, nmnist@1.0.0 on emulator, last: " in line


def test_the_watchdog_knows_which_streams_read_hangs(start, text, tmp_path, monkeypatch, caplog):
    hung, go_on = threading.Event(), threading.Event()
    events = _Simulation.__iter__

    def iterate(stream):
        for chunk in events(stream):
            yield chunk
            if hung.is_set() and threading.current_thread().name == "stream right":
                go_on.wait(60)

    monkeypatch.setattr(_Simulation, "__iter__", iterate)
    fake = FakeManager(tmp_path / "notify")
    running = start(text, Watched(Notifier({"NOTIFY_SOCKET": fake.path, "WATCHDOG_USEC": "1000000"})))
    try:
        fake.until("WATCHDOG")
        hung.set()
        deadline = time.monotonic() + 20
        while "no progress of reader of right for" not in caplog.text:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        running.seen(2, ("left",))
    finally:
        go_on.set()
        running.stopping.set()
        running.thread.join(20)
        fake.close()


def test_a_reload_before_all_streams_run_is_refused(start, text, tmp_path):
    text += '[stream.right.schedule]\nplans = ["null"]\nstart_s = 30\n'
    slow = tmp_path / "slow"
    slow.write_text(f'#!/bin/sh\nsleep 3\nexec {sys.executable} "$@"\n')
    slow.chmod(0o755)
    text += f'[backend.null]\ncommand = ["{slow}"]\n'

    class Starting(Streams):
        def seen(self, more, names=("left",)):
            super().seen(more, names)

    running = start(text, kind=Starting)
    assert not running.reload(text + "[decide]\ndecay = 0.5\n")
    assert "still starting" in running.error
    assert [one.state for one in running.manager.health.all()] == ["running", "starting"]
    running.seen(1, ("right",))
    assert running.reload(text + "[decide]\ndecay = 0.5\n"), running.error


def test_clips_go_on_over_a_reload_that_leaves_the_source_as_it_is(start, text, tmp_path):
    text += '[record]\non = "fault"\nlookback_s = 0.1\nafter_s = 0.1\nmax_s = 0.2\nfree_mib = 0\n'
    running = start(text)
    clips = tmp_path / "clips"
    assert running.reload(text.replace("deadline_ms = 1000", "deadline_ms = 0.001")), running.error
    deadline = time.monotonic() + 20
    while not ([*clips.glob("*left*.aedat4")] and [*clips.glob("*right*.aedat4")]):  # every decision is late now
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert {one.status for one in running.decisions[-4:]} <= {"late", "dropped"}
    written = [one.counters.clips_written for one in running.manager.health.all()]
    assert running.reload(text.replace("deadline_ms = 1000", "deadline_ms = 0.002")), running.error
    while any(
        now.counters.clips_written <= before for now, before in zip(running.manager.health.all(), written, strict=True)
    ):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_command_reloads_a_daemon_with_streams_and_systemctl_shows_them(tmp_path, text, request):
    file = tmp_path / "config.toml"
    file.write_text(text)
    manager = FakeManager(tmp_path / "notify")
    request.addfinalizer(manager.close)
    environment = {"NOTIFY_SOCKET": manager.path, "STATE_DIRECTORY": str(tmp_path / "state")}
    with started("run", "--config", file, environment=environment, stderr=subprocess.PIPE) as process:
        ready = manager.until("READY", 60)[-1]
        assert "2 streams" in ready["STATUS"]
        command = ("reload", "--config", file, "--pid", process.pid)
        file.write_text(text + "[decide]\ndecay = 0.5\n")
        done = firstspike(*command)
        assert (done.returncode, done.stderr) == (0, "firstspike: configuration 2 runs\n")
        file.write_text(text + "[stream.left.decide]\ndecay = 5\n")
        complained(firstspike(*command), 78, "decide.decay = 5", f"{file}:", "configuration 2 goes on")
        process.send_signal(signal.SIGTERM)
        assert manager.until("STOPPING")
        _, log = process.communicate(timeout=30)
    assert process.returncode == 0, log
    assert "Traceback" not in log
    told = [int(one.split()[0]) for one in re.findall(r"stream \w+ stopped: .*?(\d+ windows)", log)]
    assert len(told) == 2
    kept = json.loads((tmp_path / "state" / "state.json").read_text())
    assert kept["totals"]["windows"] == sum(told)
    assert set(kept["plans"]) == {"left:emulator", "right:emulator"}

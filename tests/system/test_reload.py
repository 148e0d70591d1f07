"""Configurations that follow each other in a running daemon: all or nothing, and no window lost."""

from __future__ import annotations

import logging
import os
import random
import signal
import subprocess
import threading
import time

import pytest
from tests.support.figures import figure
from tests.support.notify import FakeManager
from tests.support.program import complained, firstspike, started
from tests.support.reloading import GOOD, Daemon, Watched, reload_many

from firstspike.client import Subscriber
from firstspike.service import Notifier
from firstspike.sources.simulated import _Simulation
from firstspike.topics import ENERGY, TOPICS


@pytest.fixture
def text(tmp_path):
    return GOOD.format(folder=tmp_path)


@pytest.fixture
def running(tmp_path, text):
    made = Daemon(tmp_path, text)
    yield made
    made.stopping.set()
    made.thread.join(20)
    assert not made.thread.is_alive()
    made.complete()


def test_other_rules_take_over_between_two_windows_and_the_stream_goes_on(running, text):
    pipeline, backend = running.manager.generations.rooms.pipeline, running.manager.generations.rooms.runner.backends[0]
    assert running.reload(text + "[decide]\nmin_evidence = 10.0\n")
    changed = len(running.decisions)
    running.seen(5)
    rooms = running.manager.generations.rooms
    assert rooms.pipeline is pipeline
    assert rooms.runner.backends[0] is backend  # what has not changed is not made anew
    assert all(one.label is None for one in running.decisions[changed + 1 :])  # there is never so much evidence
    indices = [one.window.index for one in running.decisions]
    assert indices == sorted(set(indices))
    assert running.manager.generations.number == 2


def test_another_model_takes_over_in_the_same_stream(running, text):
    other = text.replace("models/nmnist", "models/dvs128-objects") + "[window]\nsize = 50000\nhop = 50000\n"
    pipeline = running.manager.generations.rooms.pipeline
    assert running.reload(other)
    running.seen(3)
    assert running.manager.generations.rooms.pipeline is pipeline
    assert running.decisions[-1].model.startswith("dvs128-objects@")
    assert running.decisions[-1].window.log_probabilities is None or len(
        running.decisions[-1].window.log_probabilities
    ) == len(running.manager.health.all()[0].labels)


def test_another_source_or_window_begins_anew_and_numbers_and_totals_go_on(running, text):
    pipeline = running.manager.generations.rooms.pipeline
    assert running.reload(text + "[source.simulated]\nseed = 5\n")
    running.seen(3)
    assert running.manager.generations.rooms.pipeline is not pipeline
    assert running.reload(text + "[source.simulated]\nseed = 5\n[window]\nsize = 20000\n")
    running.seen(3)
    window = running.decisions[-1].window
    assert window.t_end_us - window.t_start_us == 20000
    assert running.manager.generations.number == 3
    counters = running.manager.health.all()[0].counters
    assert counters.windows >= len(running.decisions) - 1


def test_plans_may_come_and_go(running, text):
    both = text.replace('plans = ["emulator"]', 'plans = ["null", "emulator"]')
    first = running.manager.generations.rooms.runner.backends[0]
    assert running.reload(both)
    running.seen(3)
    assert [one.name for one in running.manager.health.all()[0].backends] == ["null", "emulator"]
    assert running.manager.generations.rooms.runner.backends[1] is first
    worker = running.manager.health.all()[0].backends[0].pid
    assert worker is not None
    assert running.reload(text)
    with pytest.raises(ProcessLookupError):
        signal.pidfd_send_signal(subprocess_of(worker), 0)
    running.seen(3)


def subprocess_of(pid):
    return os.pidfd_open(pid)


def test_plans_that_cannot_answer_do_not_replace_one_that_can(running, text):
    absent = text.replace('plans = ["emulator"]', 'plans = ["null"]\nstart_s = 0.5')
    absent += '[backend.null]\ncommand = ["/nowhere/python3"]\n'
    assert not running.reload(absent)
    assert "schedule.plans" in running.manager.generations.error
    assert "restart the daemon" in running.manager.generations.error
    running.seen(3)
    assert running.decisions[-1].backend == "emulator"


@pytest.mark.parametrize(
    ("section", "line"),
    [("publish", 'endpoint = "ipc:///tmp/other"'), ("publish", "high_water_mark = 7"), ("clock", 'kind = "virtual"')],
)
def test_what_cannot_change_in_a_running_daemon_is_refused_by_name(running, text, section, line):
    lines = [one for one in text.splitlines() if not one.startswith(line.split()[0]) or section != "publish"]
    changed = "\n".join(lines) + ("\n" if section == "publish" else f"\n[{section}]\n") + line + "\n"
    if "high_water" in line:
        changed = text + line + "\n"
    assert not running.reload(changed)
    error = running.manager.generations.error
    assert f"{section}.{line.split()[0]}" in error
    assert f"{running.file}:" in error
    assert "restart it" in error
    running.seen(2)


def test_health_tells_generation_and_error(running, text):
    with Subscriber(f"ipc://{running.file.parent}/p", topics=TOPICS) as subscriber:
        assert not running.reload(text + "[log]\nlevel = 'loud'\n")
        running.manager.health.tell()
        health = until(subscriber, lambda one: one.reloads == 1)
        assert (health.config_generation, health.state) == (1, "running")
        assert "log.level = 'loud'" in health.reload_error
        assert running.reload(text)
        running.manager.health.tell()
        health = until(subscriber, lambda one: one.reloads == 2)
        assert (health.config_generation, health.reload_error) == (2, None)


def until(subscriber, right):
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        health = subscriber.snapshot().health
        if health is not None and right(health):
            return health
        time.sleep(0.05)
    raise AssertionError("health never told so")


def test_the_energy_account_goes_on_over_reloads_and_filters_begin_anew(running, text):
    received = []
    with Subscriber(f"ipc://{running.file.parent}/p", topics=(ENERGY,)) as subscriber:

        def take(more):
            wanted = len(received) + more
            while len(received) < wanted:
                message = subscriber.receive(20)
                assert message is not None
                received.append(message)

        shorter = text + "[energy]\nwindow_s = 0.3\nmeters = []\n"
        assert running.reload(shorter)
        take(4)
        pipeline = running.manager.generations.rooms.pipeline
        assert running.reload(shorter + "[decide]\ndecay = 0.5\n")
        assert running.manager.generations.rooms.pipeline is pipeline
        take(4)
        assert running.reload(shorter + "[filter]\nrefractory_us = 100\n")
        assert running.manager.generations.rooms.pipeline is not pipeline
        take(4)
        assert subscriber.lost["energy"] == 0
    since = [one.since_start.inferences for one in received if one.subject == "host"]
    assert since == sorted(since)
    assert since[-1] > since[0]


BAD = {
    # what is written, and what the error must name
    "[modle]\npath = 'x'": "modle",
    "[window]\nsize = -5": "window.size",
    "[window]\nsize = 10\nhop = 20": "window",
    "[window]\nkind = 'count'": "window",
    "[decide]\ndecay = 1.5": "decide.decay",
    "[decide]\nmin_events = 'many'": "decide.min_events",
    "[backend.emulator]\nkernels = 3": "backend.emulator.kernels",
    "[backend.x]\nkind = 'toaster'": "backend.x.kind",
    "[backend.openvino]\nthreads = -1": "backend.openvino.threads",
    "[source.simulated]\ndigits = 'abc'": "source.simulated.digits",
    "[source.toaster]\nslots = 2": "source.toaster",
    "[log]\nlevel = 7": "log.level",
    "[log]\nlevel": "not valid TOML",
    "= 3": "not valid TOML",
    "[clock]\nkind = 'cuckoo'": "clock.kind",
    "[filters]\non = true": "filters",
}
REPLACED = [
    ('plans = ["emulator"]', 'plans = ["toaster"]', "schedule.plans"),
    ('plans = ["emulator"]', "plans = []", "schedule.plans"),
    ('plans = ["emulator"]', 'plans = ["emulator", "emulator"]', "schedule.plans"),
    ('plans = ["emulator"]', 'plans = ["emulator+emulator"]', "schedule.plans"),
    ("deadline_ms = 1000", "deadline_ms = 0", "schedule.deadline_ms"),
    ("deadline_ms = 1000", "deadline_s = 1", "schedule.deadline_s"),
    ("models/nmnist", "models/nothing", "model.path"),
    ("models/nmnist", "tests", "model.path"),
    ('kind = "simulated"', 'kind = "toaster"', "source.kind"),
    ("ipc://", "tcp://", "publish.endpoint"),
    ("[model]", "[model", "not valid TOML"),
]


def bad(rng, text):
    """A configuration with a fault, and what its error must name."""
    if rng.random() < 0.5:
        old, new, name = rng.choice(REPLACED)
        return text.replace(old, new), name
    what, name = rng.choice(sorted(BAD.items()))
    return f"{text}\n{'# comment' * rng.randrange(3)}\n{what}\n", name


@pytest.mark.parametrize("count", [50, pytest.param(500, marks=pytest.mark.soak)])
def test_bad_configurations_are_refused_by_key_and_file_and_the_old_one_goes_on(running, text, caplog, count):
    caplog.set_level(logging.CRITICAL, "firstspike.generations")
    rng = random.Random(count)  # noqa: S311 (the same faults in every run)
    rooms = running.manager.generations.rooms
    threads = threading.active_count()
    for number in range(count):
        broken, name = bad(rng, text)
        assert not running.reload(broken), broken
        error = running.manager.generations.error
        assert name in error, (broken, error)
        assert str(running.file) in error, (broken, error)
        assert "a fault of firstspike" not in error, (broken, error)
        if "TOML" not in name:
            assert all("config.toml:" in line for line in error.splitlines()), (broken, error)
        if number % 10 == 0:
            running.seen(1)
    assert running.manager.generations.rooms is rooms
    assert (running.manager.generations.number, running.manager.generations.asked) == (1, count)
    assert threading.active_count() == threads
    assert all(one.status == "ok" for one in running.decisions[3:]), {one.status for one in running.decisions}
    figure(
        f"{count} bad configurations by reload",
        f"{count} refused by key, file and line; {len(running.decisions)} windows answered meanwhile, all ok",
    )


@pytest.mark.parametrize("count", [6, pytest.param(300, marks=pytest.mark.soak)])
def test_many_good_reloads_leave_nothing_behind(running, text, caplog, count):
    caplog.set_level(logging.CRITICAL)
    other = [text + "[decide]\ndecay = 0.5\n", text + "[source.simulated]\nseed = 3\n", text]
    reload_many(running, other, count, 2, "")


def test_parts_of_a_hybrid_go_on_if_they_are_the_same(tmp_path, text):
    text = text.replace("models/nmnist", "models/dvs128-hybrid")
    running = Daemon(tmp_path, text)
    try:
        chain = running.manager.generations.rooms.runner.backends[0]
        assert running.reload(text + "[decide]\ndecay = 0.5\n")
        after = running.manager.generations.rooms.runner.backends[0]
        assert (after._front, after._back) == (chain._front, chain._back)
        running.seen(2)
    finally:
        running.stopping.set()
        running.thread.join(20)
    running.complete()


def test_what_fails_after_the_new_configuration_took_over_is_reported_and_takes_nothing_back(
    running, text, monkeypatch, caplog
):
    generations = running.manager.generations

    def stuck(*_):
        raise OSError("stuck")

    monkeypatch.setattr(generations.rooms.source, "close", stuck, raising=False)
    monkeypatch.setattr(running.manager, "runs", stuck)
    assert running.reload(text + "[source.simulated]\nseed = 5\n")
    assert (generations.number, generations.error) == (2, None)
    assert generations.loaded.source_options.seed == 5
    assert caplog.text.count("OSError: stuck") >= 2
    running.seen(3)
    assert running.reload(text)
    running.seen(3)


def test_a_configuration_that_is_gone_is_refused(running):
    running.file.unlink()
    assert not running.reload()
    assert str(running.file) in running.manager.generations.error
    running.seen(2)


def test_a_daemon_reloads_at_sighup_and_the_manager_hears_of_it(tmp_path, text, request):
    file = tmp_path / "config.toml"
    file.write_text(text)
    manager = FakeManager(tmp_path / "notify")
    request.addfinalizer(manager.close)
    environment = {"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "2000000"}
    command = ("run", "--config", file)
    with started(*command, environment=environment, stderr=subprocess.PIPE) as process:
        ready = manager.until("READY", 60)[-1]
        assert ready["STATUS"].startswith("running")
        manager.until("WATCHDOG")
        reload = ("reload", "--config", file, "--pid", process.pid)
        file.write_text(text + "[decide]\ndecay = 0.5\n")
        done = firstspike(*reload)
        assert (done.returncode, done.stderr) == (0, "firstspike: configuration 2 runs\n")
        assert [one for one in manager.until("READY") if "RELOADING" in one]
        file.write_text(text + "[decide]\ndecay = 5\n")
        done = firstspike(*reload)
        complained(done, 78, "decide.decay = 5", f"{file}:11", "refused: configuration 2 goes on")
        status = [one.get("STATUS", "") for one in manager.until("READY")]
        assert any("last reload refused: decide.decay = 5" in one for one in status), status
        process.send_signal(signal.SIGTERM)
        assert manager.until("STOPPING")
        _, log = process.communicate(timeout=30)
    assert process.returncode == 0, log
    assert "reload: configuration 2 runs" in log
    assert "Traceback" not in log


def test_a_source_whose_read_hangs_starves_the_watchdog_and_a_quiet_one_does_not(tmp_path, text, monkeypatch, caplog):
    hung, quiet, go_on = threading.Event(), threading.Event(), threading.Event()
    events = _Simulation.__iter__

    def iterate(stream):
        for chunk in events(stream):
            yield chunk
            while quiet.is_set():  # as a camera before which nothing moves
                time.sleep(0.05)
                yield chunk[:0]
            if hung.is_set():
                go_on.wait(60)

    monkeypatch.setattr(_Simulation, "__iter__", iterate)
    fake = FakeManager(tmp_path / "notify")
    notifier = Notifier({"NOTIFY_SOCKET": fake.path, "WATCHDOG_USEC": "1000000"})
    made = Daemon(tmp_path, text, Watched(notifier))
    try:
        quiet.set()
        for _ in range(4):
            fake.until("WATCHDOG")
        quiet.clear()
        hung.set()
        deadline = time.monotonic() + 20
        while "no progress of reader" not in caplog.text:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        while (message := fake.next(0.01)) is not None:  # what was said before
            assert "STOPPING" not in message
        assert not any("WATCHDOG" in (fake.next(0.1) or {}) for _ in range(15))
    finally:
        made.stopping.set()
        go_on.set()
        made.thread.join(20)
        fake.close()


def test_reload_without_a_daemon_says_so(tmp_path):
    complained(firstspike("reload", f"ipc://{tmp_path}/p", "--pid", 1), 69, "is it running?")


@pytest.mark.parametrize("pid", ["0", "-1", "-4711", "x", "99999999999999999999"])
def test_reload_takes_one_process_and_no_group(tmp_path, pid):
    complained(firstspike("reload", f"ipc://{tmp_path}/p", f"--pid={pid}"), os.EX_USAGE, "no process's number")

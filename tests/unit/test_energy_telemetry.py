"""Meters that live: the sampler's rate, idle power, windows closed in time; and the daemon with all of it."""

from __future__ import annotations

import os
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest
from tests.support.sysfs import hwmon, laptop, rapl, server

from firstspike import daemon
from firstspike.bundle import open_bundle
from firstspike.cli.common import describe, describe_energy
from firstspike.clock import SystemClock
from firstspike.config import EnergySection, load
from firstspike.config_layers import Layers
from firstspike.config_plugins import BackendChoice
from firstspike.energy import Reading, Unavailable
from firstspike.energy.account import Accounts, PlanMeters
from firstspike.energy.meters import find
from firstspike.energy.sampler import Sampler
from firstspike.energy.telemetry import Telemetry, make, wire
from firstspike.messages import encode
from firstspike.rooms import rooms
from firstspike.types import Inference, Spikes

MODELS = Path(__file__).parents[2] / "models"
CHOICE = BackendChoice("emulator", "emulator", EnergySection())


def overwrite(path, number):
    """In one write, so that nobody reads a file that was cut."""
    handle = os.open(path, os.O_WRONLY)
    try:
        os.pwrite(handle, f"{number:012d}\n".encode(), 0)
    finally:
        os.close(handle)


class Ticking:
    """A sensor in a file, with a new value so many times a second."""

    def __init__(self, path, hz, watts):
        self.path, self.hz, self.watts = path, hz, watts
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self):
        rng = np.random.default_rng(0)
        while not self._stop.wait(1 / self.hz):
            overwrite(self.path, round(self.watts * 1e6 + rng.normal(0, 20_000)))

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()


@pytest.fixture
def board(tmp_path):
    return hwmon(tmp_path, 0, "ina226", "i2c-1/1-0040", power1_input=4_000_000)


class Fast:
    name, what, scope, kind, resolution, u95_fraction = "fast", "a test's", "board", "power", 0.0, None

    def __init__(self, hz):
        self.period, self.reads, self.gone = 1 / hz, 0, False

    def read(self):
        self.reads += 1
        now = time.monotonic()
        return Unavailable("gone") if self.gone else Reading(round(now * 1e9), float(now // self.period))

    def close(self):
        pass


def test_a_slow_sensor_is_read_about_three_times_as_often_as_it_measures():
    meter = Fast(hz=20.0)
    with Sampler([meter], 500.0) as running:
        track = running.tracks["fast"]
        until = time.monotonic() + 10
        while track.period_s() is None and time.monotonic() < until:
            time.sleep(0.02)
        time.sleep(1.0 if time.monotonic() % 60 > 2 else 3.0)  # not while it looks for a new rate
        before, began = meter.reads, time.monotonic()
        time.sleep(1.0)
        rate = (meter.reads - before) / (time.monotonic() - began)
    assert 1 / track.period_s() == pytest.approx(20, rel=0.15)
    assert 20 < rate < 110


def test_a_meter_that_fails_is_asked_less_often_and_the_others_go_on():
    gone, well = Fast(50.0), Fast(50.0)
    gone.gone, gone.name = True, "gone"
    with Sampler([gone, well], 100.0) as running:
        time.sleep(0.8)
        assert isinstance(running.tracks["gone"].refusal, Unavailable)
        assert running.tracks["fast"].refusal is None
    assert gone.reads < 12 < well.reads


def wired(root, *choices, **section):
    return wire(EnergySection(**section), choices or (CHOICE,), find(root))


def test_the_machines_total_is_every_plans_meter_unless_a_section_names_another(tmp_path, board):
    hwmon(tmp_path, 1, "ina219", "i2c-2/2-0041", power1_input=1_000_000)
    total, other = (meter.name for meter in find(tmp_path).meters)
    stick = BackendChoice("ncs2", "ncs2", EnergySection(), meter=other)
    found = wired(tmp_path, CHOICE, stick)
    assert (found.host, found.why) == ((total,), None)
    assert (found.plans["emulator"].sums, found.plans["ncs2"].sums) == (((total,),), ((other,),))
    chain = BackendChoice("emulator+ncs2", "", EnergySection(), (CHOICE, stick))
    assert wired(tmp_path, chain).plans["emulator+ncs2"].sums == ((total,), (other,))
    assert wired(tmp_path, meters=[other]).host == (other,)


def test_of_two_sockets_the_sum_is_the_machines(tmp_path):
    server(tmp_path)
    assert wired(tmp_path).host == ("rapl:packages",)


def test_a_laptop_on_its_charger_has_its_processors_meter(tmp_path):
    laptop(tmp_path)
    status = tmp_path / "sys/class/power_supply/BAT0/status"
    assert wired(tmp_path).host == ("power_supply:BAT0",)
    status.write_text("Charging\n")
    assert wired(tmp_path).host == ("rapl:package-0",)
    assert wired(tmp_path, meters=["power_supply:BAT0", "rapl:package-0"]).host == ("power_supply:BAT0",)


def test_where_there_is_no_meter_the_reason_is_told(tmp_path):
    assert wired(tmp_path).why.startswith("no meter was found (")
    assert wired(tmp_path, meters=[]).why == "energy.meters is empty: no meter is read"
    assert wired(tmp_path, meters=["nvml:7"]).why == ("energy.meters names nvml:7, which is not there: there are none")


def test_energy_windows_of_a_live_sensor(tmp_path, board):
    out = []
    bundle = open_bundle(MODELS / "nmnist")
    spikes = Spikes(16, np.zeros((2, 34, 34), np.uint8), 100)
    answer = Inference("emulator", np.zeros(10, np.int32), None)
    section = EnergySection(root=str(tmp_path), window_s=0.5, baseline_s=1.0)
    with ExitStack() as stack, Ticking(board / "power1_input", 50, 4.0) as sensor:
        telemetry = make(section, tmp_path, {None: [CHOICE]}, SystemClock(), "e", out.append, stack)
        account = telemetry.stream(None, [CHOICE], bundle)
        with telemetry:
            telemetry.begin(lambda: False, rest=True)
            sensor.watts = 6.0  # nobody is faster than the load
            end = time.monotonic() + 1.8
            while time.monotonic() < end:
                account.begin()
                account.answered("emulator", spikes, answer, 1_000_000)
                account.end()
                time.sleep(0.01)
    metered = [m for m in out if m.name == "emulator" and m.classification is not None and m.total_j is not None]
    last = metered[-1]
    assert last.method == "integrated"
    assert last.scope == "rail"
    assert last.total_j == pytest.approx(3.0, rel=0.1)
    assert last.baseline_w == pytest.approx(4.0, rel=0.05)
    assert abs(last.dynamic_j - 1.0) < max(0.3, 2 * last.u95_j)
    assert last.classification.dynamic_j == pytest.approx(last.dynamic_j / last.inferences)
    assert "a classification" in describe_energy(last)
    assert [m.seq for m in out] == list(range(len(out)))
    starts = [m.start_ns for m in out if m.subject == "host"]
    assert set(np.diff(starts)) == {500_000_000}


def test_a_live_stream_begins_after_the_idle_time_that_was_asked_for(tmp_path, board):
    section = EnergySection(root=str(tmp_path), baseline_s=2.0)
    with ExitStack() as stack, Ticking(board / "power1_input", 50, 4.0):
        telemetry = make(section, tmp_path, {None: [CHOICE]}, SystemClock(), "e", None, stack)
        telemetry.stream(None, [CHOICE], open_bundle(MODELS / "nmnist"))
        with telemetry:
            telemetry.begin(lambda: False, rest=True)
            (baseline,) = telemetry._baselines.values()
            assert baseline.idle()[0].quiet_s >= 1.0  # of 2 s, less the time to settle; six blocks are 0.6 s


def test_a_window_that_cannot_be_told_does_not_end_the_telling(tmp_path, caplog):
    out = []

    def sink(message):
        out.append(message)
        if len(out) == 1:
            raise ValueError("a subscriber's fault")

    with ExitStack() as stack:
        section = EnergySection(root=str(tmp_path), window_s=0.1)
        telemetry = make(section, tmp_path, {None: [CHOICE]}, SystemClock(), "e", sink, stack)
        telemetry.stream(None, [CHOICE], open_bundle(MODELS / "nmnist"))
        with telemetry:
            end = time.monotonic() + 10
            while len(out) < 4 and time.monotonic() < end:
                time.sleep(0.02)
    assert len(out) >= 4
    assert caplog.text.count("a window could not be told") == 1


def test_a_reading_that_fails_does_not_close_a_window_before_its_last_readings_are_there():
    sums, now_ns = {None: {"emulator": PlanMeters(("fast",))}}, time.monotonic_ns()
    book = Accounts(host=("fast",), clock=SystemClock(), epoch="e", window_ns=10**9, sink=None, why=None)
    telemetry = Telemetry(book, [Fast(10.0)], sums, EnergySection(), SystemClock())
    book.began_ns = now_ns - 10**9  # the window is over
    track = telemetry._sampler.tracks["fast"]
    for tenth in range(20, 0, -1):
        track.take(Reading(now_ns - tenth * 10**8, float(tenth)), 0)
    track.take(Unavailable("Input/output error"), now_ns - 1)
    assert not telemetry._due()
    track.take(Unavailable("Input/output error"), now_ns + 3 * 10**8)
    assert telemetry._due()  # of a sensor that goes on failing there is nothing more to wait for


def test_a_counter_gives_differences(tmp_path):
    zone = rapl(tmp_path, "intel-rapl:0", "package-0", 0)
    out, stop = [], threading.Event()

    def count():
        began = time.monotonic()
        while not stop.wait(0.005):
            overwrite(zone / "energy_uj", round(7e6 * (time.monotonic() - began)))

    thread = threading.Thread(target=count)
    thread.start()
    try:
        with ExitStack() as stack:
            section = EnergySection(root=str(tmp_path), window_s=0.5)
            bundle = open_bundle(MODELS / "nmnist")
            telemetry = make(section, tmp_path, {None: [CHOICE]}, SystemClock(), "e", out.append, stack)
            telemetry.stream(None, [CHOICE], bundle)
            with telemetry:
                telemetry.begin(lambda: False, rest=False)
                time.sleep(1.7)
    finally:
        stop.set()
        thread.join()
    host = [m for m in out if m.subject == "host" and m.method == "counter"][-1]
    assert host.total_j == pytest.approx(3.5, rel=0.1)
    assert host.scope == "package"


def configured(root, more=None):
    layers = Layers()
    values = {
        ("model", "path"): str(MODELS / "nmnist"), ("source", "kind"): "simulated",
        ("source", "simulated", "loop"): True, ("source", "simulated", "pause_ms"): 0,
        ("energy", "root"): str(root), ("energy", "window_s"): 0.5, ("energy", "baseline_s"): 0.5,
    } | (more or {})  # fmt: skip
    for key, value in values.items():
        layers.put(key, value, "test")
    return load(layers)


@contextmanager
def running(loaded, stopping):
    decisions, energies = [], []
    with rooms(loaded, decisions.append, stopping.is_set, energy=energies.append) as made:
        yield made, decisions, energies


def test_the_daemon_says_of_each_decision_what_it_cost_by_the_meter_when_it_has_one(tmp_path, board):
    stopping = threading.Event()
    with Ticking(board / "power1_input", 50, 4.0), running(configured(tmp_path), stopping) as (made, decisions, out):
        timer = threading.Timer(4.0, stopping.set)
        timer.start()
        made.run()
        timer.join()
    assert decisions[0].energy.method == "modelled"
    assert decisions[0].energy.reason == "no energy window is closed yet"
    assert decisions[-1].energy.method == "integrated"
    assert decisions[-1].energy.meter == find(tmp_path).meters[0].name
    told = {m.seq: m for m in out}[decisions[-1].energy.energy_seq]
    assert told.classification.dynamic_j == decisions[-1].energy.dynamic_j
    assert "integrated" in describe(decisions[-1])
    health = made.runner.health()[0]
    assert health.energy_measured is True


def test_the_daemon_without_any_sensor_models_and_says_why(tmp_path):
    stopping = threading.Event()
    with running(configured(tmp_path), stopping) as (made, decisions, out):
        timer = threading.Timer(1.2, stopping.set)
        timer.start()
        made.run()
        timer.join()
    assert {d.energy.method for d in decisions} == {"modelled"}
    assert all(d.energy.reason.startswith("no meter was found") and d.energy.dynamic_j > 0 for d in decisions)
    assert {m.method for m in out if m.subject == "host"} == {"unavailable"}
    assert {m.method for m in out if m.subject == "backend" and m.inferences} == {"modelled"}
    assert made.runner.blind() is None


def test_energy_can_be_switched_off(tmp_path):
    stopping = threading.Event()
    loaded = configured(tmp_path, {("energy", "enabled"): False, ("schedule", "policy"): "energy"})
    with running(loaded, stopping) as (made, decisions, out):
        timer = threading.Timer(1.0, stopping.set)
        timer.start()
        made.run()
        timer.join()
    assert (decisions[0].energy, out) == (None, [])
    assert "no plan has an energy" in made.runner.blind()


def test_a_virtual_run_reads_no_meter_and_repeats_to_the_byte(tmp_path, board):
    def run():
        loaded = configured(
            tmp_path, {("clock", "kind"): "virtual", ("source", "simulated", "loop"): False,
                         ("source", "simulated", "speed"): "max"},
        )  # fmt: skip
        with running(loaded, threading.Event()) as (made, decisions, out):
            made.run()
        return [encode(m) for m in (*decisions, *out)], decisions, out

    first, decisions, out = run()
    assert first == run()[0]
    assert {d.energy.method for d in decisions} == {"modelled"}
    assert {d.energy.reason for d in decisions} == {"the clock is virtual: no meter is read"}
    assert sum(m.inferences for m in out if m.subject == "host") == len(decisions)


def test_two_streams_have_one_meter_read_once_and_decisions_of_both_have_its_figure(tmp_path, board):
    streams = {("stream", name, "source", "kind"): "simulated" for name in ("left", "right")}
    loaded = configured(tmp_path, {("publish", "endpoint"): f"ipc://{tmp_path}/p", **streams})
    stopping, decisions, threads = threading.Event(), [], []

    def told():
        """Metered figures that decisions of both streams had."""
        metered = [one for one in list(decisions) if one.energy.method == "integrated"]
        left, right = ({one.energy.dynamic_j for one in metered if one.stream == name} for name in ("left", "right"))
        return left & right

    def look():
        deadline = time.monotonic() + 30
        while len(told()) < 2 and time.monotonic() < deadline:
            time.sleep(0.1)
        threads.extend(thread.name for thread in threading.enumerate())
        stopping.set()

    with Ticking(board / "power1_input", 50, 4.0):
        timer = threading.Thread(target=look)
        timer.start()
        ran = daemon.run(loaded, stopping, decisions.append)
        timer.join()
    assert {pipeline.broken for pipeline in ran.values()} == {None}
    assert (threads.count("energy"), threads.count("energy-sampler")) == (1, 1)
    assert len(told()) >= 2  # one model on one back end costs the same in both

"""The energy of an interval: recovered from a simulated sensor within its uncertainty, or a reason why not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.support.simulated_meter import STEP_S, SimulatedMeter, polled

from firstspike.energy import Reading
from firstspike.energy.baseline import Baseline
from firstspike.energy.interval import NO_ACCURACY, Idle, energy
from firstspike.energy.samples import Track

IDLE_S, LOAD_S = 4.0, 2.0
S = 1_000_000_000


def load(rng, kind, load_s):
    """Power of a load, W above idle at each ms, and its joules within the load's time."""
    count = round(load_s / STEP_S)
    match kind:
        case "steady":
            power = np.full(count, rng.uniform(0.5, 3))
        case "bursts":  # inferences of a few ms, some tens a second
            gap = int(rng.integers(17, 60))
            power = np.where(np.arange(count) % gap < rng.integers(2, 12), rng.uniform(1, 6), 0.0)
        case "blocks":  # some tenths of a second each
            power = np.repeat(rng.uniform(0, 4, count // 200 + 1), 200)[:count]
        case "ramp":
            power = np.linspace(rng.uniform(0, 1), rng.uniform(2, 5), count)
        case _:
            raise AssertionError(kind)
    return power, float(power.sum()) * STEP_S


def scene(seed, load_s=LOAD_S, read_hz=100.0, **sensor):
    """One run: idle, load, idle; a sensor with its faults; returns the figure and the truth."""
    rng = np.random.default_rng(seed)
    kind = ("steady", "bursts", "blocks", "ramp")[seed % 4]
    above, true = load(rng, kind, load_s)
    quiet, tail = round(IDLE_S / STEP_S), round(1 / STEP_S)
    idle_w = rng.uniform(3, 5)
    power = np.concatenate([np.zeros(quiet), above, np.zeros(tail)]) + idle_w
    # What the machine does by itself: noise that lasts a tenth of a second.
    wander = np.repeat(rng.normal(0, 0.02, len(power) // 100 + 1), 100)[: len(power)]
    options = {"hz": 20.0, "noise": 0.03, "resolution": 0.04, "delay": rng.random(), "averages": seed % 8 > 1} | sensor
    # A data sheet gives limits; its u95 is taken to be these.
    meter = SimulatedMeter(power + wander, gain=1 + rng.uniform(-0.01, 0.01), seed=seed, **options)
    track = polled(meter, 0.0, len(power) * STEP_S, hz=read_hz, seed=seed)
    baseline, samples = Baseline(meter), track.since(0)
    baseline.feed(samples, 0, round(IDLE_S * S))
    idle, why = baseline.idle()
    figure = energy(meter, samples, round(IDLE_S * S), round((IDLE_S + load_s) * S), idle, why)
    return figure, true, true + idle_w * load_s


SENSORS = {
    "an INA3221 at 20 Hz": {},
    "a 10 Hz sensor": {"hz": 10.0, "noise": 0.01},
    "coarse steps": {"resolution": 0.25, "noise": 0.08},
    "the moment's power": {"averages": False, "hz": 90.0},
    "a counter": {"kind": "counter", "resolution": 61e-6, "hz": 1000.0},
    "a slow counter": {"kind": "counter", "resolution": 0.001, "hz": 20.0},
}


AS_READ = {
    "a counter, as it is read": {"kind": "counter", "resolution": 61e-6, "hz": 1000.0, "read_hz": 20.0, "load_s": 1.0},
    "a slow counter, as it is read": SENSORS["a slow counter"] | {"read_hz": 20.0, "load_s": 1.0},
    "coarse steps, for long": SENSORS["coarse steps"] | {"load_s": 10.0},
}
"""At the sampler's own rate, and over other times."""


@pytest.mark.parametrize("sensor", (SENSORS | AS_READ).values(), ids=SENSORS | AS_READ)
def test_a_known_energy_is_recovered_within_the_stated_uncertainty(sensor):
    runs = [scene(seed, **sensor) for seed in range(100)]
    assert {figure.reason for figure, _, _ in runs} == {None}
    errors = np.array([figure.dynamic_j - true for figure, true, _ in runs])
    u95 = np.array([figure.u95_j for figure, _, _ in runs])
    totals = [abs(figure.total_j - true) <= figure.total_u95_j for figure, _, true in runs]
    within = int((np.abs(errors) <= u95).sum())
    rms, stated = float(np.sqrt((errors**2).mean())), float(np.sqrt((u95**2).mean())) / 1.96
    median = float(np.median(u95 / [true for _, true, _ in runs]))
    print(f"within {within}, total {sum(totals)}, stated/true {stated / rms:.2f}, u95 {median:.1%} of the energy")
    assert within >= 94
    assert sum(totals) >= 94
    assert stated < 4 * rms  # an uncertainty that always holds because it is huge says nothing
    assert median < 0.25


def rails(seed, load_s=2.0):
    """Three rails that are rounded each by itself and added up, as on an AGX Orin; the figure and the truth."""
    rng, quiet, meters, true = np.random.default_rng(seed), round(IDLE_S / STEP_S), [], 0.0
    steps = (0.24, 0.24, 0.1)
    for place, (step, noise) in enumerate(zip(steps, (0.02, 0.01, 0.03), strict=True)):
        above = rng.uniform(0, 1)
        power = np.repeat([0.0, above, 0.0], [quiet, round(load_s / STEP_S), 1000]) + rng.uniform(1, 4)
        true += above * load_s
        power = power + np.repeat(rng.normal(0, 0.01, len(power) // 100 + 1), 100)[: len(power)]
        meters.append(
            SimulatedMeter(power, hz=77.0, noise=noise, resolution=step, delay=0.5, seed=3 * seed + place, gain=1.0)
        )
    whole, count = meters[0], min(len(one.values) for one in meters)
    whole.values = sum(one.values[:count] for one in meters)
    whole.updates, whole.resolution = whole.updates[:count], float(np.hypot(np.hypot(*steps[:2]), steps[2]))
    samples, baseline = polled(whole, 0.0, IDLE_S + load_s + 1, seed=seed).since(0), Baseline(whole)
    baseline.feed(samples, 0, round(IDLE_S * S))
    return energy(whole, samples, round(IDLE_S * S), round((IDLE_S + load_s) * S), *baseline.idle()), true


def test_a_sum_of_coarse_rails_is_recovered_within_the_stated_uncertainty():
    runs = [rails(seed) for seed in range(60)]
    assert sum(abs(figure.dynamic_j - true) <= figure.u95_j for figure, true in runs) >= 56


@pytest.mark.parametrize("averages", [True, False], ids=["the mean", "the moment"])
def test_a_10_hz_sensor_under_a_1_khz_load(averages):
    step, within = 0.00025, 0
    for seed in range(40):
        power = np.full(round(12 / step), 4.0)
        begin, end = round(4 / step), round(11 / step)
        power[begin:end:4] += 6.0  # a quarter of each ms: 1.5 W in the mean
        sensor = {"hz": 10.0, "noise": 0.02, "averages": averages, "seed": seed, "step": step}
        meter = SimulatedMeter(power, **sensor)
        # A sensor whose rate is a whole fraction of the load's would see the same moment each time.
        meter.updates = meter.updates + np.random.default_rng(seed).normal(0, 0.002, len(meter.updates))
        if not averages:
            meter.values = power[(meter.updates / step).astype(int)] + meter.values - meter.values.round()
        samples, baseline = polled(meter, 0, 12, seed=seed).since(0), Baseline(meter)
        baseline.feed(samples, 0, 4 * S)
        figure = energy(meter, samples, 5 * S, 10 * S, *baseline.idle())
        within += abs(figure.dynamic_j - 7.5) <= figure.u95_j
        assert figure.effective_hz == pytest.approx(10, rel=0.05)
    assert within >= 37


def flat(watts=5.0, seconds=6.0, **options):
    options = {"noise": 0.02, "hz": 10.0} | options
    return SimulatedMeter(np.full(round(seconds / STEP_S), watts), **options)


def figure_of(meter, start_s=2.0, end_s=4.0, until_s=6.0, idle=None, why="nothing is known", hz=100.0):
    samples = polled(meter, 0.0, until_s, hz=hz).since(0)
    return energy(meter, samples, round(start_s * S), round(end_s * S), idle, why)


def test_the_rate_of_a_sensor_is_found_from_its_changes_however_often_it_is_read():
    for hz in (5.0, 10.0, 33.0):
        for polls in (100.0, 1000.0):
            found = polled(flat(hz=hz, seconds=12), 0, 12, hz=polls).period_s()
            assert 1 / found == pytest.approx(hz, rel=0.05)
    # One that measures more often than it is read has the rate of the readings, and one that never moves none.
    assert 1 / polled(flat(hz=900.0), 0, 6).period_s() == pytest.approx(100, rel=0.05)
    assert polled(flat(noise=0.0, resolution=0.01), 0, 6).period_s() is None


def test_a_figure_says_what_it_is_of():
    figure = figure_of(flat())
    assert (figure.method, figure.meter, figure.scope) == ("integrated", "sim:0", "board")
    assert figure.effective_hz == pytest.approx(10, rel=0.02)
    assert figure.total_j == pytest.approx(10, rel=0.02)
    assert (figure.dynamic_j, figure.u95_j) == (None, None)
    assert figure.reason == "no dynamic energy: nothing is known"
    assert 190 <= figure.n_samples <= 210


def test_too_short_a_window_has_no_energy_but_a_reason():
    figure = figure_of(flat(), 2.0, 2.2)
    assert (figure.method, figure.total_j) == ("unavailable", None)
    assert figure.reason == (
        "too short: 0.2 s of a sensor that measures 10 times a second: set energy.window_s to 0.4 or more"
    )
    counter = flat(kind="counter", resolution=0.5, hz=50.0)
    assert "too short: the counter went on by" in figure_of(counter, 2.0, 2.3).reason


@pytest.mark.parametrize("kind", ["power", "counter"])
def test_a_reading_that_failed_within_the_interval_is_not_bridged(kind):
    meter = flat(kind=kind)
    meter.broken[3.0] = "Input/output error"
    assert figure_of(meter).reason == "Input/output error"
    assert figure_of(meter).method == "unavailable"
    # Before it and after it all is well.
    assert figure_of(meter, 1.0, 2.5).total_j == pytest.approx(7.5, rel=0.03)
    assert figure_of(meter, 3.2, 4.7).total_j == pytest.approx(7.5, rel=0.03)


def test_a_sensor_that_is_gone_or_a_reader_that_slept_leaves_no_figure():
    meter = flat()
    for tenth in range(350, 600):
        meter.broken[tenth / 100] = "the sensor is gone"
    assert figure_of(meter).reason == "the sensor is gone"
    assert figure_of(flat(), until_s=3.0).reason == "there are no readings of the whole window"
    samples = polled(flat(hz=50.0), 0, 6.0).since(0)
    kept = (samples.t_ns < 2.5 * S) | (samples.t_ns > 3.0 * S)
    slept = replace(samples, t_ns=samples.t_ns[kept], values=samples.values[kept])
    assert "there are no readings of 0.4" in energy(flat(), slept, 2 * S, 4 * S, None, "").reason


def test_a_counter_that_goes_back_is_not_taken_for_energy():
    track = Track(flat(kind="counter"))
    for place in range(400):
        joules = place * 0.05 if place < 200 else (place - 200) * 0.05
        track.take(Reading(place * S // 100, joules), place * S // 100)
    figure = energy(track.meter, track.since(0), 1 * S, 3 * S, None, "")
    assert figure.reason == "the counter went back"


def test_dynamic_energy_below_zero_is_published_as_it_is():
    figure = figure_of(flat(watts=5.0), idle=Idle(5.5, 0.01, 0.01, 10.0))
    assert figure.dynamic_j == pytest.approx(-1.0, abs=0.1)
    assert 0.0 < figure.u95_j < 0.5


def test_idle_power_that_is_old_is_said_to_be():
    fresh, old = (Idle(4.0, 0.01, 0.01, 10.0, until_ns) for until_ns in (S, -1200 * S))
    assert figure_of(flat(), idle=fresh).reason is None
    said = figure_of(flat(), idle=old)
    assert said.dynamic_j is not None
    assert said.reason == "idle power was last seen 20 min before: how it drifts is not in the uncertainty"


def test_an_unknown_accuracy_is_said():
    figure = figure_of(flat(u95_fraction=None), idle=Idle(4.0, 0.01, 0.01, 10.0))
    assert figure.reason == NO_ACCURACY
    assert figure.u95_j < figure_of(flat(u95_fraction=0.05), idle=Idle(4.0, 0.01, 0.01, 10.0)).u95_j


def test_the_idle_power_is_not_moved_by_a_program_that_stirs_and_needs_time():
    power = np.full(8000, 4.0)
    power[3000:3400] = 9.0
    meter = SimulatedMeter(power, noise=0.02, hz=50.0)
    samples, baseline = polled(meter, 0, 8).since(0), Baseline(meter)
    baseline.feed(samples, 0, round(0.4 * S))
    idle, why = baseline.idle()
    assert idle is None
    assert why.startswith("idle power is not known: ")
    for until in (2, 5, 8):
        baseline.feed(samples, 0, until * S)
    idle, _ = baseline.idle()
    assert idle.w == pytest.approx(4.0, abs=0.02)
    assert 0 < idle.u95_w < 0.1


def test_the_idle_power_is_learnt_anew_and_says_by_how_much_idle_times_differ():
    power = np.concatenate([np.full(2000, 4 + 0.2 * number) for number in range(6)])
    meter = SimulatedMeter(power, noise=0.01, hz=50.0)
    samples, baseline = polled(meter, 0, 12).since(0), Baseline(meter)
    for number in range(6):
        baseline.feed(samples, number * 2 * S, round((number * 2 + 1.8) * S))
    idle, _ = baseline.idle()
    assert 4.0 < idle.w < 5.0
    assert idle.u95_w > 0.4

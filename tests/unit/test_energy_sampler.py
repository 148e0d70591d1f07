"""The sampler where things go wrong: a machine that sleeps, a meter with a fault, one that never answers."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from tests.unit.test_energy_telemetry import Fast

from firstspike.energy import Reading, sampler
from firstspike.energy.sampler import Sampler
from firstspike.energy.samples import Track


@pytest.mark.parametrize(("kind", "gap"), [("counter", True), ("power", False)])
def test_what_a_counter_counts_while_the_machine_sleeps_is_no_windows(monkeypatch, kind, gap):
    meter = Fast(20.0)
    meter.kind = kind
    asked = sampler._Asked(Track(meter), 0.01)
    asked.take([(1, Reading(1, 5.0))])
    slept = sampler.asleep_s() + 3600
    monkeypatch.setattr(sampler, "asleep_s", lambda: slept)
    asked.take([])  # awake again, and nothing read yet
    asked.take([(2, Reading(2, 5.1)), (3, Reading(3, 14_000.0))])
    asked.take([(4, Reading(4, 14_000.1))])
    samples = asked.track.since(0)
    assert np.isnan(samples.values).tolist() == [False, gap, gap, False]
    assert ("slept" in samples.reason(2, 3)) == gap


def test_a_meter_with_a_fault_does_not_end_the_others(caplog):
    class Faulty(Fast):
        def read(self):
            raise ZeroDivisionError

    faulty, well = Faulty(50.0), Fast(50.0)
    faulty.name = "faulty"
    with Sampler([faulty, well], 100.0) as running:
        end = time.monotonic() + 10
        while running.tracks["fast"].period_s() is None and time.monotonic() < end:
            time.sleep(0.02)
        assert running.tracks["fast"].refusal is None
        assert "a fault in reading it: ZeroDivisionError" in running.tracks["faulty"].refusal.reason
    assert well.reads > 10
    assert caplog.text.count("a fault in reading it") == 1


def test_a_meter_that_never_answers_does_not_hold_up_the_end(monkeypatch, caplog):
    asked, answer = threading.Event(), threading.Event()

    class Hanging(Fast):
        def read(self):
            asked.set()
            answer.wait()
            return super().read()

    monkeypatch.setattr(sampler, "END_S", 0.1)
    running = Sampler([Hanging(50.0)], 100.0)
    ended = threading.Thread(target=lambda: running.__exit__())
    with running:
        asked.wait()
        ended.start()
        ended.join(10)
        assert not ended.is_alive()
        assert "a meter does not answer" in caplog.text
        answer.set()

from __future__ import annotations

from firstspike.clock import Pacer, VirtualClock
from firstspike.schedule import Schedule

MS = 1_000_000


def test_the_deadline_decides_between_ok_late_and_dropped():
    schedule = Schedule(deadline_ns=10 * MS)
    assert schedule.admits(0, 10 * MS)
    assert not schedule.admits(0, 10 * MS + 1)
    assert schedule.status(closed_ns=0, now_ns=5 * MS, faults=[]) == ("ok", [])
    status, reasons = schedule.status(closed_ns=0, now_ns=12 * MS, faults=[])
    assert status == "late"
    assert "12.0 ms" in reasons[0]
    status, reasons = schedule.status(closed_ns=0, now_ns=50 * MS, faults=[], dropped="stale")
    assert status == "dropped"
    assert "50.0 ms" in reasons[0]


def test_a_fault_degrades_even_a_late_result():
    status, reasons = Schedule(MS).status(closed_ns=0, now_ns=9 * MS, faults=["no answer"])
    assert (status, reasons) == ("degraded", ["no answer"])


def test_virtual_time_is_the_streams_and_never_runs_back():
    clock = VirtualClock()
    clock.reach(5_000_000)
    assert clock.now_ns() == 0
    clock.reach(5_000_100)
    clock.reach(100)  # another file
    clock.reach(150)
    assert clock.now_ns() == 150_000


def test_the_pacer_keeps_the_speed_and_tells_how_late_it_is():
    pacer = Pacer(speed=100.0)
    first = pacer.wait(1_000_000)
    second = pacer.wait(2_000_000)
    assert second - first == 10_000_000
    assert pacer.wait(2_000_000) == second  # due in the past by now
    third = pacer.wait(0)  # another file: due now
    assert third >= second


def test_a_stopping_daemon_does_not_wait():
    pacer = Pacer(speed=1e-6, stopping=lambda: True)
    pacer.wait(0)
    assert pacer.wait(10**6) is None


def test_a_long_silence_or_another_recording_is_not_sat_out():
    pacer = Pacer(speed=1.0, max_silence_us=1_000_000)
    first = pacer.wait(0)
    assert pacer.wait(3600 * 10**6) - first < 10**9
    pacer.restart()
    assert pacer.wait(7200 * 10**6) - first < 10**9

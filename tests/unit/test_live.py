"""Windows of a live stream: closed by time, stamped by the sensor's clock."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firstspike.bundle import WindowSpec
from firstspike.live import BUCKET_NS, DRIFT, LiveWindows, SensorTime
from firstspike.sources import Arrival
from firstspike.types import EVENT
from firstspike.window import Windower

MS = 1_000_000
EPOCH_NS = 5_000 * MS  # of the machine's clock when the sensor's stands at 0


def block(*times):
    events = np.zeros(len(times), EVENT)
    events["t"] = times
    return events


class World:
    """A sensor and a machine; windows of 10 ms."""

    def __init__(self, patience_ns=10 * MS, kind="time", size=10_000, hop=None, rate=1.0):
        self.now_ns = EPOCH_NS
        self.rate = rate  # of the sensor's clock, in the machine's
        self.windower = Windower(WindowSpec(kind=kind, size=size, hop=hop or size))
        self.windows = LiveWindows(self.windower, lambda: patience_ns, lambda: self.now_ns)
        self.closed = []

    def at(self, ms):
        self.now_ns = EPOCH_NS + round(ms * MS)
        return self

    def gets(self, *times, reached_us=None):
        out = list(self.windows.take(Arrival(block(*times), self.now_ns, reached_us)))
        self.closed += out
        return out


def test_an_event_after_the_window_closes_it_and_the_stamp_is_the_sensors():
    world = World()
    world.at(0).gets(0)
    assert world.at(9).gets(9_000) == []
    [(window, ended_ns)] = world.at(12).gets(12_000)
    assert (window.t_start_us, window.t_end_us, len(window.events)) == (0, 10_000, 2)
    assert ended_ns == pytest.approx(EPOCH_NS + 10 * MS, abs=5_000)


def test_a_silent_camera_closes_its_window_when_its_time_is_over():
    world = World()
    world.at(0).gets(0)
    world.at(9).gets(9_000)
    assert world.at(11).gets() == []  # events may still be on their way
    [(window, ended_ns)] = world.at(12.1).gets()
    assert len(window.events) == 2
    assert not window.partial
    assert ended_ns == pytest.approx(EPOCH_NS + 10 * MS, abs=5_000)
    assert world.at(500).gets() == []  # windows without events are none


def test_it_waits_no_longer_than_until_then():
    world = World()
    assert world.at(0).windows.wait_s() == pytest.approx(0.1)
    world.gets(0)
    assert world.at(4).windows.wait_s() == pytest.approx(0.008, abs=1e-4)
    assert world.at(40).windows.wait_s() == pytest.approx(0, abs=1e-4)


def test_nothing_is_closed_by_time_while_there_is_something_to_read():
    world = World()
    world.at(0).gets(0)
    # The reader was held up for 100 ms; what it reads belongs to the first window.
    assert world.at(100).gets(5_000) == []
    [(window, _)] = world.gets()
    assert len(window.events) == 2


def test_events_of_a_window_that_was_closed_by_time_are_late_and_counted():
    world = World()
    world.at(0).gets(0)
    world.at(20).gets()
    world.at(21).gets(9_000, 21_000)
    [(window, _)] = world.at(60).gets()
    assert (window.t_start_us, len(window.events), window.late) == (20_000, 1, 1)
    world.at(61).gets(9_500, 9_400)  # and where they come alone, out of order
    assert world.windower.leftover()["late"] == 2


def test_a_backlog_shows_as_age_of_the_window():
    world = World()
    for ms in range(100):
        world.at(ms).gets(ms * 1000)
    for ms in range(100, 200):
        world.at(ms + 40).gets(ms * 1000)
    window, ended_ns = world.closed[-1]
    # It ended at 190 ms of the sensor, and was read at 230 ms.
    assert window.t_end_us == 190_000
    assert ended_ns == pytest.approx(EPOCH_NS + 190 * MS, abs=0.1 * MS)


def test_packets_that_gather_events_for_long_make_it_more_patient():
    world = World()
    for packet in range(20):  # a packet each 8 ms, sent when its last event came
        world.at(packet * 8 + 8).gets(*range(packet * 8000, packet * 8000 + 8001, 500))
    # The window from 160 to 170 ms has one event yet, and the packet that holds its others comes at 174 ms.
    assert world.at(172.5).gets() == []
    world.at(174).gets(*range(166_000, 174_001, 500))
    assert world.windower.leftover()["late"] == 0
    assert all(window.late == 0 for window, _ in world.closed)


def test_patience_has_an_end():
    world = World(patience_ns=20 * MS)
    world.at(0).gets(0)
    world.at(1000).gets(5_000)  # events a second late
    assert world.at(1010.1).gets() != []


def test_where_the_sensor_tells_its_time_a_window_ends_by_that():
    world = World()
    world.at(0).gets(0)
    world.at(5).gets(reached_us=5_000)
    [(window, ended_ns)] = world.at(12.1).gets(reached_us=12_100)
    assert ended_ns == pytest.approx(EPOCH_NS + 10 * MS, abs=5_000)
    assert len(window.events) == 1


def test_a_sensor_whose_clock_was_set_back_is_mapped_anew():
    world = World()
    for ms in range(50):
        world.at(ms).gets(10**9 + ms * 1000)
    world.at(60).gets(0)
    world.at(65).gets(5_000)
    [(window, ended_ns)] = world.at(73).gets()
    assert (window.resets, window.t_end_us) == (1, 10_000)
    assert ended_ns == pytest.approx(EPOCH_NS + 70 * MS, abs=0.1 * MS)


def test_a_sensor_that_lies_once_about_its_time_does_not_make_all_that_follows_late():
    world = World()
    world.at(0).gets(0)
    world.at(1).gets(reached_us=2**50)  # years ahead, without an event
    for ms in range(20, 2000):
        world.at(ms).gets(ms * 1000)
        world.at(ms + 0.5).gets()
    assert len(world.closed) >= 198
    assert sum(window.late for window, _ in world.closed) == 0
    for window, ended_ns in world.closed[1:]:
        assert ended_ns == pytest.approx(EPOCH_NS + window.t_end_us * 1000, abs=1.1 * MS)


def test_an_event_ahead_of_its_time_costs_what_lies_before_it_and_no_more():
    world = World()
    world.at(0).gets(0)
    world.at(1).gets(900_000)  # not so far that what follows would be another time base
    world.at(1.5).gets()
    for ms in range(20, 5000):
        world.at(ms).gets(ms * 1000)
        world.at(ms + 0.5).gets()
    late = sum(window.late for window, _ in world.closed)
    assert 870 <= late <= 890
    assert sum(len(window.events) for window, _ in world.closed) >= 4980 - late - 10
    assert world.closed[-1][1] == pytest.approx(world.now_ns, abs=12 * MS)


def test_a_silent_window_whose_events_come_late_is_still_a_window():
    world = World()
    world.at(0).gets(0)
    assert len(world.at(500).gets()) == 1
    world.at(501).gets(250_000)
    [(window, _)] = world.at(550).gets()
    assert (window.t_start_us, len(window.events), window.late) == (250_000, 1, 0)


def test_windows_of_counted_events_do_not_end_by_time():
    world = World(kind="count", size=3)
    world.at(0).gets(0, 1)
    assert world.at(10_000).gets() == []
    [(window, ended_ns)] = world.gets(10_000_000)
    assert len(window.events) == 3
    assert ended_ns == pytest.approx(world.now_ns, abs=5_000)


def test_overlapping_windows_close_by_time_one_after_another():
    world = World(size=10_000, hop=5_000)
    world.at(0).gets(0, 1_000)
    world.at(8).gets(8_000)
    assert [w.t_start_us for w, _ in world.at(12.1).gets()] == [0]
    assert [w.t_start_us for w, _ in world.at(17.1).gets()] == [5_000]
    assert world.at(30).gets() == []
    world.at(31).gets(31_000)
    assert [w.t_start_us for w, _ in world.at(60).gets()] == [25_000, 30_000]


@pytest.mark.parametrize("ppm", [-90, 90])
def test_clocks_that_drift_within_the_bound_are_followed(ppm):
    clock = SensorTime()
    for second in range(300):
        sensor_us = second * 1_000_000
        truth_ns = round(sensor_us * 1000 * (1 + ppm * 1e-6)) + EPOCH_NS
        # Most arrivals are late by up to 30 ms, one in ten is quick.
        clock.observe(truth_ns + (0 if second % 10 == 0 else 30 * MS), sensor_us)
        mapped = clock.host_ns(sensor_us, truth_ns)
        assert mapped >= truth_ns - 1000  # never too early: events would be lost
        assert mapped - truth_ns <= 3.1 * MS if second > 10 else True


def test_a_time_that_lies_ahead_is_forgotten_after_a_while():
    clock = SensorTime()
    clock.observe(EPOCH_NS, 0)
    clock.observe(EPOCH_NS + MS, 900_000)  # 0.9 s ahead
    assert clock.host_ns(0, EPOCH_NS + MS) < EPOCH_NS - 890 * MS
    for second in range(1, 40):
        clock.observe(EPOCH_NS + second * 1000 * MS, second * 1_000_000)
    now = EPOCH_NS + 39_000 * MS
    assert clock.host_ns(39_000_000, now) == pytest.approx(now, abs=(2 * BUCKET_NS) * DRIFT)


@given(st.lists(st.tuples(st.integers(0, 30_000), st.integers(0, 40)), max_size=60), st.integers(0, 1))
def test_every_event_is_in_a_window_or_counted(steps, overlap):
    world = World(size=10_000, hop=5_000 if overlap else None)
    now, sent = 0.0, 0
    for t, pause in steps:
        now += pause
        world.at(now).gets(t)
        sent += 1
        world.at(now + 0.5).gets()
    last = list(world.windower.flush())
    late = world.windower.leftover()["late"]
    windows = [window for window, _ in world.closed] + last
    late += sum(window.late for window in windows)
    for window in windows:
        inside = window.events["t"]
        assert ((inside >= window.t_start_us) & (inside < window.t_end_us)).all()
    if not overlap:
        assert sum(len(window.events) for window in windows) + late == sent
    starts = [window.t_start_us for window in windows]
    assert starts == sorted(set(starts))


def test_events_may_gather_until_the_window_ends_and_no_longer():
    world = World()
    assert world.windows.pause_s(0.002) == 0  # the first event must not wait
    world.at(0).gets(0)
    assert world.at(1).windows.pause_s(0.002) == pytest.approx(0.002)
    assert world.at(9).windows.pause_s(0.002) == pytest.approx(0.001, abs=1e-4)
    assert world.at(11).windows.pause_s(0.002) == 0
    assert world.at(1).windows.pause_s(0.0) == 0


def test_events_that_filters_drop_tell_the_time_and_that_there_is_more_to_read():
    world = World()
    world.at(0).gets(0)
    world.at(9).gets(9_000)
    # Noise alone came: it is in no window, but it is no silence either, after which a window would close.
    dropped = Arrival(block(11_500), world.at(12.5).now_ns)
    assert list(world.windows.take(dropped, dropped.events[:0])) == []
    [(window, ended_ns)] = world.at(12.6).gets()
    assert len(window.events) == 2
    assert ended_ns == pytest.approx(EPOCH_NS + 10 * MS, abs=5_000)


def test_patience_may_change_while_it_runs():
    world = World()
    patience = [100 * MS]
    world.windows = LiveWindows(world.windower, lambda: patience[0], lambda: world.now_ns)
    world.at(0).gets(0)
    assert world.at(25).gets() == []
    patience[0] = 10 * MS
    assert len(world.gets()) == 1

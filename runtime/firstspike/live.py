"""When the windows of a live stream end: the sensor's clock seen by the daemon's, and windows closed by time.

A recording's window ends with the first event after it. A live camera may fall silent, and then its window must end
when its time is over. So the sensor's time is mapped to the machine's, and a window's stamp `closed_ns` is the moment
at which the sensor had its last event, not the one at which we came to read it: a backlog shows as latency.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from firstspike.sources import Arrival
from firstspike.types import Events, Window
from firstspike.window import Windower

DRIFT = 100e-6
"""How much faster the machine's clock may run than the sensor's: two crystals of 50 ppm each."""
BUCKET_NS = 15_000_000_000
"""The quickest arrivals of the last one to two of these say how the clocks stand."""
PATIENCE_NS = 2_000_000
"""A silent window is closed so long after its end at the earliest: events may be on their way."""
AT_ONCE = 5
"""And not before this part of the longest wait: senders and networks stall now and then."""
BACK_US = 20_000
"""Times that fall by more are no packets that overtook each other: the sensor's clock was set back, or what it told
before was wrong."""
IDLE_S = 0.1
"""Longest wait for events, so that a stop is seen."""


@dataclass(slots=True)
class _Extreme:
    """The best of a value that ages, over the last one or two buckets."""

    drift: float
    better: Callable[[float, float], bool]
    _now: tuple[float, int] | None = None
    _before: tuple[float, int] | None = None
    _since_ns: int = 0

    def add(self, value: float, at_ns: int) -> None:
        if self._now is None or at_ns - self._since_ns > BUCKET_NS:
            # After a long pause the bucket before is as old as that.
            fresh = self._now is not None and at_ns - self._since_ns < 2 * BUCKET_NS
            self._before, self._now, self._since_ns = self._now if fresh else None, (value, at_ns), at_ns
        elif self.better(value, self._aged(self._now, at_ns)):
            self._now = value, at_ns

    def get(self, at_ns: int) -> float | None:
        found = [self._aged(one, at_ns) for one in (self._now, self._before) if one is not None]
        if not found:
            return None
        return found[0] if len(found) == 1 or self.better(found[0], found[1]) else found[1]

    def _aged(self, one: tuple[float, int], at_ns: int) -> float:
        return one[0] + self.drift * max(0, at_ns - one[1])


@dataclass(slots=True)
class SensorTime:
    """Maps the sensor's clock to the machine's: host = sensor + offset.

    No event arrives before it happens, so the offset is at most the smallest difference of arrival and event that was
    seen; the quickest of the last 15 to 30 s counts. It grows with age by `DRIFT`, since it may only be the two clocks
    that part: so a window is never closed too early on that account, and at most 3 ms too late.

    A time that lies ahead would make all that follow look late for as long. But a clock does not go back: where it
    does, what was known is void.
    """

    _offset: _Extreme = field(default_factory=lambda: _Extreme(DRIFT, lambda a, b: a < b))
    _largest_us: int | None = None

    def observe(self, arrived_ns: int, sensor_us: int) -> None:
        """Something stamped `sensor_us` by the sensor came at `arrived_ns`."""
        if self._largest_us is not None and sensor_us < self._largest_us - BACK_US:
            self.restart()
        self._largest_us = sensor_us if self._largest_us is None else max(self._largest_us, sensor_us)
        self._offset.add(arrived_ns - sensor_us * 1000, arrived_ns)

    def restart(self) -> None:
        """The sensor's clock was set anew."""
        self._offset, self._largest_us = _Extreme(DRIFT, lambda a, b: a < b), None

    def host_ns(self, sensor_us: int, now_ns: int) -> int | None:
        """When the machine's clock stood at the sensor's; None: nothing came yet."""
        offset = self._offset.get(now_ns)
        return None if offset is None else sensor_us * 1000 + int(offset)

    def sensor_us(self, host_ns: int, now_ns: int) -> int | None:
        """The reverse."""
        offset = self._offset.get(now_ns)
        return None if offset is None else int(host_ns - offset) // 1000


class LiveWindows:
    """Makes windows of what arrives, and closes them by time where no event does.

    A silent window is closed as long after its end as events were late of late: a camera sends its events in
    packets, and those of its last packet are still to come.

    Args:
        windower: cuts the events; time windows alone are closed by time.
        patience_ns: gives the most to wait for a silent window's last events; another configuration may change it.
        now_ns: the clock of `Arrival.arrived_ns`.
    """

    def __init__(
        self, windower: Windower, patience_ns: Callable[[], int], now_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._windower = windower
        self._patience_ns = patience_ns
        self._now_ns = now_ns
        self._time = SensorTime()
        self._late = _Extreme(0.0, lambda a, b: a > b)

    def take(self, arrival: Arrival, passed: Events | None = None) -> Iterator[tuple[Window, int]]:
        """What an arrival closes.

        Args:
            arrival: with events; or empty, which says that there is nothing left to read at `arrived_ns`.
            passed: those of its events that filters let pass; default: all. The others tell the time all the same.

        Yields:
            A window, and when it ended, in ns of the machine's clock.
        """
        events, came_ns = arrival.events, arrival.arrived_ns
        if len(events):
            self._time.observe(came_ns, int(events["t"][-1]))
        if arrival.reached_us is not None:
            self._time.observe(came_ns, arrival.reached_us)
        resets = self._windower.resets
        for window in self._windower.push(events if passed is None else passed):
            if self._windower.resets != resets:
                resets = self._begin_anew(arrival)
            yield window, self._ended(window)
        if self._windower.resets != resets:
            self._begin_anew(arrival)
        if len(events) == 0:
            yield from self._close_by_time(came_ns)
        elif (first_ns := self._time.host_ns(int(events["t"][0]), came_ns)) is not None:
            self._late.add(came_ns - first_ns, came_ns)

    def _begin_anew(self, arrival: Arrival) -> int:
        """The sensor's clock was set back: what was known of it is void."""
        self._time.restart()
        self._time.observe(arrival.arrived_ns, int(arrival.events["t"][-1]))
        return self._windower.resets

    def _close_by_time(self, came_ns: int) -> Iterator[tuple[Window, int]]:
        reached_us = self._time.sensor_us(came_ns - self._patience(came_ns), came_ns)
        end_us = self._windower.next_close()
        if reached_us is not None and end_us is not None and reached_us >= end_us:
            for window in self._windower.reach(reached_us):
                yield window, self._ended(window)

    def _patience(self, now_ns: int) -> int:
        most_ns, late = self._patience_ns(), self._late.get(now_ns)
        return int(max(PATIENCE_NS, min(most_ns, max(most_ns // AT_ONCE, late or 0))))

    def _ended(self, window: Window) -> int:
        now_ns = self._now_ns()
        ended = self._time.host_ns(window.t_end_us, now_ns)
        return now_ns if ended is None else min(now_ns, ended)

    def wait_s(self) -> float:
        """How long to wait for events at most, until a window may have to be closed without."""
        end_us = self._windower.next_close()
        if end_us is None:
            return IDLE_S
        now_ns = self._now_ns()
        end_ns = self._time.host_ns(end_us, now_ns)
        if end_ns is None:
            return IDLE_S
        return min(IDLE_S, max(0, end_ns + self._patience(now_ns) - now_ns + 1000) / 1e9)

    def pause_s(self, gather_s: float) -> float:
        """How long events may gather unread, `gather_s` at most: reading them in fewer, larger portions is cheaper."""
        end_us = self._windower.next_close()
        if end_us is None or gather_s <= 0:
            return 0.0
        now_ns = self._now_ns()
        end_ns = self._time.host_ns(end_us, now_ns)
        return 0.0 if end_ns is None else max(0.0, min(gather_s, (end_ns - now_ns) / 1e9))

"""Reads meters in a thread of its own, each about three times as often as its sensor has something new.

How often that is, is found: a meter is read at the highest rate until it has changed a few times, and again for a
moment once in a while, since a sensor's rate can be changed from outside. The times between readings are not all the
same, so that they cannot keep step with a load that comes in bursts.
"""

from __future__ import annotations

import heapq
import logging
import threading
import time
from collections.abc import Sequence

from firstspike.energy import Meter, Unavailable
from firstspike.energy.samples import CAPACITY, Track

log = logging.getLogger(__name__)

OFTENER = 3
"""Readings for each new value."""
LONGEST_S = 1.0
"""Between two readings."""
LOOK_AGAIN_S = 60.0
LOOK_S = 1.0
QUIET_S = 60.0
"""Between two log lines that a meter fails."""
COUNTER_S = 0.05
"""Between two readings of a counter: it counts on meanwhile, and only the ends of an interval matter."""
TICK_S = 0.2
"""Longest sleep."""
JITTER = 0.1
"""Of the time between readings, to either side."""
GOLDEN = 0.6180339887498949


class Sampler:
    """Reads meters from when it is entered.

    Args:
        meters: open; closing them is the caller's.
        hz: most readings of one meter a second.
        keep_s: how long they are kept.
    """

    def __init__(self, meters: Sequence[Meter], hz: float, keep_s: float = 60.0) -> None:
        self.tracks = {meter.name: Track(meter, max(CAPACITY, round(keep_s * hz))) for meter in meters}
        self._shortest_s = 1 / hz
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="energy-sampler", daemon=True)

    def __enter__(self) -> Sampler:
        if self.tracks:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping = True
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        now = time.monotonic()
        due = [(now, name) for name in self.tracks]
        failed, quiet = dict.fromkeys(self.tracks, 0), dict.fromkeys(self.tracks, 0.0)
        turn = 0.0
        while True:
            at, name = due[0]
            # Half the processor's time of threading.Event.wait; so the end is seen late, by TICK_S.
            while (left := at - time.monotonic()) > 0 and not self._stopping:
                time.sleep(min(left, TICK_S))
            if self._stopping:
                return
            track = self.tracks[name]
            reading = track.meter.read()
            track.take(reading, time.monotonic_ns())
            if isinstance(reading, Unavailable):
                if not failed[name] and at >= quiet[name]:
                    log.warning("meter %s: %s", name, reading.reason)
                    quiet[name] = at + QUIET_S
                failed[name] += 1
                wait_s = min(LONGEST_S, self._shortest_s * 2 ** min(failed[name], 20))
            else:
                failed[name] = 0
                wait_s = self._wait_s(track, at)
            turn = (turn + GOLDEN) % 1.0
            # What was missed is not made up for.
            next_at = max(at + wait_s * (1 + JITTER * (2 * turn - 1)), time.monotonic())
            heapq.heapreplace(due, (next_at, name))

    def _wait_s(self, track: Track, at: float) -> float:
        if track.meter.kind == "counter":
            return max(self._shortest_s, COUNTER_S)
        if at % LOOK_AGAIN_S < LOOK_S:
            return self._shortest_s
        period = track.known_period_s
        return self._shortest_s if period is None else min(LONGEST_S, max(self._shortest_s, period / OFTENER))

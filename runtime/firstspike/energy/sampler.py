"""Reads meters, each about three times as often as its sensor has something new.

How often that is, is found: a meter is read at the highest rate until it has changed a few times, and again for a
moment once in a while, since a sensor's rate can be changed from outside. The times between readings are not all the
same, so that they cannot keep step with a load that comes in bursts.

Meters that are files are read by native threads (`reader.py`), and what these have is fetched here, twice a second. The
others (NVML's) are asked here. A thread of Python's that wakes up often takes more of a core than telemetry should, so
one whose period is not found soon is then asked `ASKED_HZ` times a second.
"""

from __future__ import annotations

import heapq
import logging
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack

from firstspike.energy import Meter, Reading, Unavailable
from firstspike.energy.reader import Reader
from firstspike.energy.samples import CAPACITY, Track
from firstspike.energy.sensors._files import FileMeter

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
FETCH_S = 0.5
"""Between two times that a native thread's readings are fetched."""
KEPT_S = 4.0
"""That it keeps them."""
FIRST_S = 0.005
"""Until the first look for its first one; each next one comes twice as late."""
SEARCH_S = 10.0
ASKED_HZ = 25.0
"""Readings a second of a meter that is no file, whose period was not found within SEARCH_S."""
TICK_S = 0.2
"""Shorter waits are sleeps, which take half the processor's time of threading.Event.wait, and do not end early."""
JITTER = 0.1
"""Of the time between readings, to either side."""
END_S = 10.0
"""That a meter which is being asked is waited for at the end."""
GOLDEN = 0.6180339887498949
ASLEEP_S = 1.0
"""A shorter sleep than this may be the time between two looks at two clocks."""
SLEPT = Unavailable("the machine slept: what the counter counted meanwhile belongs to no window")


class Sampler:
    """Reads meters from when it is entered.

    Args:
        meters: open; closing them is the caller's.
        hz: most readings of one meter a second.
        keep_s: how long they are kept.
        native: meters that are files are read by native threads; False: as the others, for comparison.
    """

    def __init__(self, meters: Sequence[Meter], hz: float, keep_s: float = 60.0, *, native: bool = True) -> None:
        self.tracks = {meter.name: Track(meter, max(CAPACITY, round(keep_s * hz))) for meter in meters}
        self._hz, self._native = hz, native
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="energy-sampler", daemon=True)

    def __enter__(self) -> Sampler:
        if self.tracks:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(END_S)
            if self._thread.is_alive():
                log.warning("a meter does not answer: the thread that asked it is left behind")

    def _run(self) -> None:
        now = time.monotonic()
        with ExitStack() as stack:
            ways = {name: self._way(track, stack) for name, track in self.tracks.items()}
            due = [(now, name) for name in self.tracks]
            while True:
                at, name = due[0]
                left = at - time.monotonic()
                if 0 < left < TICK_S:
                    time.sleep(left)
                if self._stopping.wait(max(0.0, left)) if left >= TICK_S else self._stopping.is_set():
                    return
                # What was missed is not made up for.
                heapq.heapreplace(due, (max(at + self._turn(ways[name], at), time.monotonic()), name))

    @staticmethod
    def _turn(way: _Asked, at: float) -> float:
        try:
            return way.turn(at)
        except Exception as error:  # whatever is wrong with one meter, the others are read
            if way.track.refusal is None:
                log.exception("meter %s: a fault in reading it", way.track.meter.name)
            way.track.take(Unavailable(f"a fault in reading it: {type(error).__name__}: {error}"), time.monotonic_ns())
            return LONGEST_S

    def _way(self, track: Track, stack: ExitStack) -> _Asked:
        meter = track.meter
        if isinstance(meter, FileMeter):
            meter.begin()
        if self._native and isinstance(meter, FileMeter):
            try:
                reader = Reader(meter, 1 / self._hz, max(16, round(KEPT_S * self._hz)))
            except OSError as error:
                log.warning("meter %s: %s: it is read less often", meter.name, error)
            else:
                stack.callback(reader.close)
                return _Fetched(track, 1 / self._hz, reader)
        return _Asked(track, 1 / self._hz)


def asleep_s() -> float:
    """How long the machine has slept since it was started: the monotonic clock stands still then, counters may not."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)


class _Asked:
    """A meter that is read here."""

    def __init__(self, track: Track, shortest_s: float, searching_s: float = SEARCH_S) -> None:
        self.track, self.shortest_s = track, shortest_s
        self._search_until = time.monotonic() + searching_s
        self._failed, self._quiet, self._turn = 0, 0.0, 0.0
        self._asleep_s = asleep_s()

    def turn(self, at: float) -> float:
        """Read it; the time until the next turn."""
        self._turn = (self._turn + GOLDEN) % 1.0
        reading = self.track.meter.read()
        self.take([(time.monotonic_ns(), reading)])
        return self.next_s(at) * (1 + JITTER * (2 * self._turn - 1))

    def take(self, readings: Sequence[tuple[int, Reading | Unavailable]]) -> None:
        """Add the latest readings, each with its time; of a counter none over which the machine slept."""
        if not readings:
            return  # the next ones tell it
        before, self._asleep_s = self._asleep_s, asleep_s()
        slept = self.track.meter.kind == "counter" and self._asleep_s - before > ASLEEP_S
        for t_ns, reading in readings:
            self.track.take(SLEPT if slept else reading, t_ns)

    def next_s(self, at: float) -> float:
        """Between two readings, by what the last one was."""
        refusal, track = self.track.refusal, self.track
        if refusal is not None:
            if not self._failed and at >= self._quiet:
                log.warning("meter %s: %s", track.meter.name, refusal.reason)
                self._quiet = at + QUIET_S
            self._failed += 1
            return min(LONGEST_S, self.shortest_s * 2.0 ** min(self._failed, 20))
        self._failed = 0
        if track.meter.kind == "counter":
            return max(self.shortest_s, COUNTER_S)
        if at % LOOK_AGAIN_S < LOOK_S:
            return self.shortest_s
        period = track.known_period_s
        if period is None:
            return self.shortest_s if at < self._search_until else max(self.shortest_s, 1 / ASKED_HZ)
        return min(LONGEST_S, max(self.shortest_s, period / OFTENER))


class _Fetched(_Asked):
    """A meter that a native thread reads."""

    def __init__(self, track: Track, shortest_s: float, reader: Reader) -> None:
        super().__init__(track, shortest_s, searching_s=float("inf"))
        self._reader, self._first_s = reader, FIRST_S / 2

    def turn(self, at: float) -> float:
        """Fetch what was read, and tell how often it is worth it from now on."""
        self.take(list(self._reader.take()))
        self._reader.every(self.next_s(at))
        self._first_s = FETCH_S if self.track.last_ns() else min(FETCH_S, 2 * self._first_s)
        return self._first_s

"""What a meter has said of late: a bounded ring of samples, and how often the sensor really has something new.

A sensor is asked more often than it measures: a value that stands still says nothing new. Its period is found from the
times between changes: their low tenth is one period, roughly, the others are whole multiples of it.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from firstspike.energy import Meter, Reading, Unavailable

CAPACITY = 1 << 13
"""Samples that are kept, unless more are asked for: 80 s at 100 Hz."""
CHANGES = 128
"""Times between changes that the period is found from."""
ENOUGH_CHANGES = 8
FAILURES = 64
"""Kept with their reasons; readings that fail one after another for one reason are one."""


@dataclass(frozen=True, slots=True)
class Samples:
    """A stretch of what was read. A failed reading is a NaN: nothing is interpolated over it."""

    t_ns: NDArray[np.int64]
    """Shape (n,), increasing."""
    values: NDArray[np.float64]
    """Shape (n,): W or J as the meter gives them; NaN where it gave none."""
    period_s: float | None
    """Between two new values of the sensor; None: too few changes were seen to tell."""
    failures: tuple[tuple[int, int, str], ...] = ()
    """From when to when readings failed, and why."""

    def reason(self, start_ns: int, end_ns: int) -> str:
        """Why a reading between these times failed."""
        found = [reason for first, last, reason in self.failures if first <= end_ns and last >= start_ns]
        return found[0] if found else "a reading failed"


class Track:
    """Keeps one meter's samples; filled by one thread, read by others.

    Args:
        meter: whose.
        capacity: samples that are kept.
    """

    def __init__(self, meter: Meter, capacity: int = CAPACITY) -> None:
        self.meter = meter
        self._capacity = capacity
        self._lock = threading.Lock()
        self._t_ns = np.zeros(capacity, np.int64)
        self._values = np.zeros(capacity)
        self._taken = 0
        self._failures: deque[tuple[int, int, str]] = deque(maxlen=FAILURES)
        self._between: deque[int] = deque(maxlen=CHANGES)
        self._last: float | None = None
        self._changed_ns: int | None = None
        self.known_period_s: float | None = None
        """`period_s`, as of the last time that somebody asked."""
        self.refusal: Unavailable | None = None
        """What the last reading was in place of a value; None: it was one."""

    def take(self, reading: Reading | Unavailable, now_ns: int) -> None:
        """Add a sample.

        Args:
            reading: what the meter said.
            now_ns: when, for one that failed.
        """
        if isinstance(reading, Unavailable):
            self.refusal = reading
            self._changed_ns = self._last = None
            with self._lock:
                self._fail(now_ns, reading.reason)
            return
        self.refusal = None
        backwards = self.meter.kind == "counter" and self._last is not None and reading.value < self._last
        if reading.value != self._last:
            if self._changed_ns is not None:
                self._between.append(reading.t_ns - self._changed_ns)
            if self._last is not None:
                self._changed_ns = reading.t_ns
            self._last = reading.value
        with self._lock:
            if backwards:
                self._fail(reading.t_ns - 1, "the counter went back")
            self._put(reading.t_ns, reading.value)

    def _fail(self, t_ns: int, reason: str) -> None:
        failing = self._taken > 0 and np.isnan(self._values[(self._taken - 1) % self._capacity])
        first = t_ns
        if failing and self._failures and self._failures[-1][2] == reason:
            first = self._failures.pop()[0]
        self._failures.append((first, t_ns, reason))
        self._put(t_ns, float("nan"))

    def _put(self, t_ns: int, value: float) -> None:
        place = self._taken % self._capacity
        self._t_ns[place], self._values[place] = t_ns, value
        self._taken += 1

    def last_ns(self) -> int:
        """When the last sample was taken; 0: there is none."""
        with self._lock:
            return int(self._t_ns[(self._taken - 1) % self._capacity]) if self._taken else 0

    @property
    def moves(self) -> bool:
        """Whether the sensor's value was seen to change."""
        return self._changed_ns is not None or bool(self._between)

    def period_s(self) -> float | None:
        """Between two new values of the sensor; None: not known yet."""
        between = sorted(self._between.copy())
        if len(between) >= ENOUGH_CHANGES:
            shortest = between[len(between) // 10]
            counts = [max(1, round(one / shortest)) for one in between]
            self.known_period_s = sum(between) / sum(counts) / 1e9
        return self.known_period_s

    def since(self, start_ns: int) -> Samples:
        """All samples from the last one before `start_ns` on."""
        with self._lock:
            place = self._taken % self._capacity
            end = place if self._taken < self._capacity or place else self._capacity
            new = slice(max(0, int(np.searchsorted(self._t_ns[:end], start_ns, "right")) - 1), end)
            pieces = [new]
            if new.start == 0 and self._taken > self._capacity and place:
                old = place + int(np.searchsorted(self._t_ns[place:], start_ns, "right")) - 1
                pieces = [slice(max(place, old), None), new]
            t_ns = np.concatenate([self._t_ns[piece] for piece in pieces])
            values = np.concatenate([self._values[piece] for piece in pieces])
            failures = tuple(self._failures)
        return Samples(t_ns, values, self.period_s(), failures)

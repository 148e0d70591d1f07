"""Time is injected: every stamp comes from a `Clock`, and every wait of a replay from a `Pacer`.

Under the virtual clock time is the sensor's: it stands where the last window closed, whatever the machine or the
replay's speed does. That is what makes a replay's messages identical to the byte.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

TICK_S = 0.1
"""Longest sleep without looking whether the daemon is to stop."""


class Clock(Protocol):
    """Where stamps come from."""

    kind: Literal["monotonic", "virtual"]

    def now_ns(self) -> int:
        """Nanoseconds since an arbitrary start; never decreases."""

    def reach(self, sensor_us: int) -> None:
        """Tell the clock that the stream has reached this time of the sensor."""


class SystemClock:
    """The machine's monotonic clock."""

    kind: Literal["monotonic", "virtual"] = "monotonic"

    def now_ns(self) -> int:
        """See `Clock.now_ns`; comparable between processes of one machine."""
        return time.monotonic_ns()

    def reach(self, sensor_us: int) -> None:
        """The system's time does not depend on the stream."""


@dataclass(slots=True)
class VirtualClock:
    """The stream's own time: nanoseconds of sensor time passed since the first window, resets left out."""

    kind: Literal["monotonic", "virtual"] = "virtual"
    _now_ns: int = 0
    _last_us: int | None = None

    def now_ns(self) -> int:
        """See `Clock.now_ns`."""
        return self._now_ns

    def reach(self, sensor_us: int) -> None:
        """Advance by the sensor time passed; a jump back (another file, a reset sensor) advances nothing."""
        if self._last_us is not None:
            self._now_ns += max(0, sensor_us - self._last_us) * 1000
        self._last_us = sensor_us


@dataclass(slots=True)
class Pacer:
    """Lets a replay pass at `speed` times real time; `speed` None does not wait.

    It never makes up for time lost: `wait` says how late it is, and the schedule decides what to skip.
    """

    speed: float | None
    stopping: Callable[[], bool] = lambda: False
    _start_ns: int | None = field(default=None, init=False)
    _start_us: int = field(default=0, init=False)
    _last_us: int = field(default=0, init=False)

    def wait(self, sensor_us: int) -> int:
        """Sleep until `sensor_us` is due.

        Returns:
            When it was due, ns of `time.monotonic_ns`: the past if the replay is behind. Without pacing, now.
        """
        now = time.monotonic_ns()
        if self.speed is None:
            return now
        if self._start_ns is None or sensor_us < self._last_us:
            # First window, or another file or time base begins: it is due now.
            self._start_ns, self._start_us = now, sensor_us
        self._last_us = sensor_us
        due = self._start_ns + int((sensor_us - self._start_us) * 1000 / self.speed)
        while (left := due - time.monotonic_ns()) > 0 and not self.stopping():
            time.sleep(min(left / 1e9, TICK_S))
        return due

"""Time is injected: every stamp comes from a `Clock`, and every wait of a replay from a `Pacer`.

Under the virtual clock time is the sensor's: it stands where the last window closed, whatever the machine or the
replay's speed does. That is what makes a replay's messages identical to the byte.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

log = logging.getLogger(__name__)

TICK_S = 0.1
"""Longest sleep without looking whether the daemon is to stop."""
MAX_ADVANCE_US = 3_600_000_000
"""Most that a virtual clock advances at once: lying timestamps must not use up its 64 bits."""


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
            self._now_ns += min(max(0, sensor_us - self._last_us), MAX_ADVANCE_US) * 1000
        self._last_us = sensor_us


@dataclass(slots=True)
class Pacer:
    """Lets a replay pass at `speed` times real time; `speed` None does not wait.

    It never makes up for time lost: `wait` says how late it is, and the schedule decides what to skip. A silence longer
    than `max_silence_us` is not sat out: it is a pause that nobody wants to wait for, or a timestamp that lies.
    """

    speed: float | None
    max_silence_us: int = 10_000_000
    stopping: Callable[[], bool] = lambda: False
    _start_ns: int | None = field(default=None, init=False)
    _start_us: int = field(default=0, init=False)
    _last_us: int = field(default=0, init=False)

    def restart(self) -> None:
        """Another recording begins: its first window is due at once, whatever its times."""
        self._start_ns = None

    def wait(self, sensor_us: int) -> int | None:
        """Sleep until `sensor_us` is due.

        Returns:
            When it was due, ns of `time.monotonic_ns`: the past if the replay is behind. Without pacing, now. None if
            `stopping` cut the wait short: it is not due yet.
        """
        now = time.monotonic_ns()
        if self.speed is None:
            return now
        passed_us = sensor_us - self._last_us
        if self._start_ns is None or passed_us < 0:
            # First window, or another time base begins: it is due now.
            self._start_ns, self._start_us = now, sensor_us
        elif passed_us > self.max_silence_us:
            log.info("a silence of %.1f s is not sat out (max_silence_s)", passed_us / 1e6)
            self._start_ns, self._start_us = now, sensor_us
        self._last_us = sensor_us
        due = self._start_ns + int((sensor_us - self._start_us) * 1000 / self.speed)
        while (left := due - time.monotonic_ns()) > 0:
            if self.stopping():
                return None
            time.sleep(min(left / 1e9, TICK_S))
        return due

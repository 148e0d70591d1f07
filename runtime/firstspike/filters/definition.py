"""What filters drop: the definition, event by event. `kernel.Kernel` is native and equal to it in every event.

Each event goes through these, in this order, and the first that drops it counts it. What a filter remembers it learns
from the events that came to it, so not from those that an earlier one dropped.

1. **Outside**: beyond the sensor's stated geometry. No filter could judge it.
2. **Place**: what is known of the pixel alone, from a table (`places`): it is a *hot pixel*, undistortion takes it
   out of the image, it is outside the *region* of interest, or its events go to another pixel.
3. **Refractory**: |t − t′| < refractory_us, with t′ the time of the last event of this pixel that passed (of this
   pixel and polarity, if `by_polarity`). What was dropped does not prolong the period, so a pixel that never rests
   still has one event a period.
4. **Background**: fewer than `support` of the 8 neighbours on the sensor had an event at t′ with |t − t′| <
   background_us. Each neighbour's last event counts, supported or not; the pixel's own do not. With support 1 this is
   what dv-processing's BackgroundActivityNoiseFilter does, but for the sensor's start (there, time 0 supports) and
   for times that go backward (there, any later time supports).

Refractory and background see the sensor's coordinates; what passes has its place's.

**Time**: every event tells it. One that lies more than `back_us` below the largest time so far is a reset of the
sensor's
clock: all that was remembered is forgotten, and time starts again from there. Less is an event that came late, which
is why periods reach both ways.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from firstspike.errors import DataError
from firstspike.types import EVENT, Events, pick

Reason = Literal["out_of_bounds", "hot_pixel", "undistorted", "region", "refractory", "background"]
REASONS: tuple[Reason, ...] = ("out_of_bounds", "hot_pixel", "undistorted", "region", "refractory", "background")
"""Why an event was dropped, in the order of runtime/native/firstspike.h."""
DROPPED = 0xFFFF0000
"""In a table of places: from here on it is no place but a reason, DROPPED + its number."""
MAX_PIXELS = 1 << 24
"""Of a sensor: what filters remember is bounded by it."""
MAX_PERIOD_US = 1 << 26
"""67 s."""
MAX_BACK_US = 1 << 24
"""17 s: nothing that comes later is merely late."""
MAX_TIME_US = 1 << 52
"""As `window.MAX_TIME_US`."""

Places = NDArray[np.uint32]
"""Shape (height, width): y << 16 | x, where the pixel's events go, or why they are dropped."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What to drop; the module explains the fields."""

    refractory_us: int = 0
    """0: off."""
    by_polarity: bool = False
    background_us: int = 0
    """0: off."""
    support: int = 1
    back_us: int = 1_000_000

    def __post_init__(self) -> None:
        for name, most in (
            ("refractory_us", MAX_PERIOD_US), ("background_us", MAX_PERIOD_US), ("back_us", MAX_BACK_US),
        ):  # fmt: skip
            if not 0 <= getattr(self, name) <= most:
                raise DataError(f"{name} is {getattr(self, name)}: must be 0 to {most}")
        if not 1 <= self.support <= 8:
            raise DataError(f"support is {self.support}: must be 1 to 8 neighbours")


def check_sensor(width: int, height: int, places: Places | None) -> None:
    """Refuse a sensor that is too large, and a table that is not its own.

    Raises:
        DataError: the text says what is wrong.
    """
    if not (1 <= width <= 65535 and 1 <= height <= 65535 and width * height <= MAX_PIXELS):
        raise DataError(f"a sensor of {width}×{height}: filters take up to {MAX_PIXELS} pixels, 65535 a side")
    if places is not None and (places.shape != (height, width) or places.dtype != np.uint32):
        raise DataError(f"a table of places of {places.dtype} {places.shape}: must be uint32 ({height}, {width})")


class Definition:
    """Filters a stream, slowly.

    Args:
        rules: what to drop.
        width, height: of the sensor, pixels.
        places: where each pixel's events go; None: they stay.
    """

    def __init__(self, rules: Rules, width: int, height: int, places: Places | None = None) -> None:
        check_sensor(width, height, places)
        self._rules, self._width, self._height, self._places = rules, width, height, places
        self._largest: int | None = None
        self._passed: dict[tuple[int, int, bool], int] = {}
        self._seen: dict[tuple[int, int], int] = {}
        self.counts = [0] * len(REASONS)
        """Events dropped so far, in the order of `REASONS`."""

    def apply(self, events: Events) -> Events:
        """The events that pass, a copy.

        Raises:
            DataError: a timestamp that cannot be a time.
        """
        passed = pick(events)
        keep = np.zeros(len(events), bool)
        for i in range(len(events)):
            place = self._judge(*(int(events[name][i]) for name in ("t", "x", "y", "p")))
            if place >= DROPPED:
                self.counts[place - DROPPED] += 1
            else:
                keep[i], passed["x"][i], passed["y"][i] = True, place & 0xFFFF, place >> 16
        return pick(passed, keep) if len(events) else np.empty(0, EVENT)

    def _judge(self, t: int, x: int, y: int, p: int) -> int:
        rules = self._rules
        if abs(t) > MAX_TIME_US:
            raise DataError(f"a timestamp beyond ±{MAX_TIME_US} µs: the recording is corrupt")
        if self._largest is not None and t < self._largest - rules.back_us:
            self._passed, self._seen, self._largest = {}, {}, None
        self._largest = t if self._largest is None else max(t, self._largest)
        if x >= self._width or y >= self._height:
            return DROPPED + REASONS.index("out_of_bounds")
        place = y << 16 | x if self._places is None else int(self._places[y, x])
        if place >= DROPPED:
            return place
        if rules.refractory_us:
            pixel = (x, y, rules.by_polarity and p != 0)
            if pixel in self._passed and abs(t - self._passed[pixel]) < rules.refractory_us:
                return DROPPED + REASONS.index("refractory")
            self._passed[pixel] = t
        if rules.background_us:
            around = [(x + dx, y + dy) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dx or dy]
            near = [other for other in around if other in self._seen]
            support = sum(abs(t - self._seen[other]) < rules.background_us for other in near)
            self._seen[x, y] = t
            if support < rules.support:
                return DROPPED + REASONS.index("background")
        return place

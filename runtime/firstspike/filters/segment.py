"""The filters of a run, and of each segment of it: a recording, or a camera from plug to unplug."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from firstspike.errors import OutputError
from firstspike.filters.definition import REASONS, Rules, check_sensor
from firstspike.filters.hot_pixels import HotPixels, Learner, Thresholds, write_hot_pixels
from firstspike.filters.kernel import Kernel
from firstspike.filters.places import Layout
from firstspike.types import Events, join

log = logging.getLogger(__name__)


class Store(Protocol):
    """Keeps hot pixels over restarts, by the sensor's name: (x, y) each."""

    def hot_pixels(self, sensor: str) -> list[tuple[int, int]]:
        """What was learned of it; nothing, if that is unknown."""

    def learned(self, sensor: str, pixels: list[tuple[int, int]]) -> None:
        """Keep this."""


@dataclass(slots=True)
class Filters:
    """What a run filters; its segments share the hot pixels.

    Args:
        rules, layout: what is dropped, and where the rest goes.
        hot: the hot pixels as the user lists them; every segment must be of that sensor.
        learn_us: without such a list: learn them over so long, of the sensor's time, at the start of the run.
        learn_to: a file for what was learned; None: none.
        thresholds: what a hot pixel is.
        store: where what was learned is looked up and kept besides; None: nowhere.
    """

    rules: Rules
    layout: Layout
    hot: HotPixels | None = None
    learn_us: int = 0
    learn_to: Path | None = None
    thresholds: Thresholds = field(default_factory=Thresholds)
    store: Store | None = None
    _known: dict[str, HotPixels] = field(default_factory=dict)
    """Learned, by sensor."""
    _learning: tuple[str, Learner] | None = None

    def segment(self, width: int, height: int, sensor: str | None = None) -> SegmentFilter:
        """For a segment of a sensor of this size, and perhaps name.

        Raises:
            ConfigError: region, hot pixels or calibration do not fit it.
            DataError: it is too large.
        """
        check_sensor(width, height, None)
        return SegmentFilter(self, width, height, f"{sensor or 'sensor'} {width}×{height}")

    def hot_pixels(self, width: int, height: int, sensor: str) -> HotPixels | None:
        """Those that are listed, or known of the sensor; None: they are to be learned, or nobody asked for them."""
        if self.hot is not None or not self.learn_us:
            return self.hot
        if sensor not in self._known and self.store is not None:
            kept = [(x, y) for x, y in self.store.hot_pixels(sensor) if 0 <= x < width and 0 <= y < height]
            if kept:
                self._known[sensor] = HotPixels(width, height, 0.0, tuple(kept))
        return self._known.get(sensor)

    def learner(self, width: int, height: int, sensor: str) -> Learner:
        """Goes on where the last segment of the same sensor stopped."""
        if self._learning is None or self._learning[0] != sensor:
            self._learning = (sensor, Learner(width, height, self.rules.back_us))
        self._learning[1].end()
        return self._learning[1]

    def learned(self, hot: HotPixels, sensor: str) -> None:
        """Take and keep what a segment has learned."""
        shown = ", ".join(f"({x}, {y}) at {hz:g}/s" for (x, y), hz in zip(hot.pixels[:5], hot.hz[:5], strict=True))
        more = ", …" if len(hot.pixels) > 5 else ""
        log.info("learned %d hot pixels in %g s%s", len(hot.pixels), hot.learned_s, f": {shown}{more}" if shown else "")
        self._known[sensor], self._learning = hot, None
        if self.store is not None:
            self.store.learned(sensor, list(hot.pixels))
        if self.learn_to is None:
            return
        try:
            write_hot_pixels(self.learn_to, hot)
        except OutputError as error:
            log.warning("%s: the hot pixels will be learned again after a restart", error)


class SegmentFilter:
    """Filters one segment. What passes depends on the events and their order alone, not on how they come in arrays."""

    def __init__(self, filters: Filters, width: int, height: int, sensor: str) -> None:
        self._filters, self._sensor, self._size = filters, sensor, (width, height)
        hot = filters.hot_pixels(width, height, sensor)
        places, (self.width, self.height) = filters.layout.places(width, height, hot)
        """Of what passes, pixels."""
        self._kernel = Kernel(filters.rules, width, height, places)
        self._told = [0] * len(REASONS)
        learns = hot is None and filters.learn_us > 0
        self._learner = filters.learner(width, height, sensor) if learns else None

    def apply(self, events: Events) -> Events:
        """The events that pass; in memory that the next call may use again.

        Raises:
            DataError: a timestamp that cannot be a time.
        """
        if self._learner is None:
            return self._kernel.apply(events)
        taken = self._learner.add(events, self._filters.learn_us)
        if taken == len(events):
            return self._kernel.apply(events)
        first = self._kernel.apply(events[:taken]).copy()
        hot = self._learner.found(self._filters.thresholds)
        self._learner = None
        self._filters.learned(hot, self._sensor)
        places, _ = self._filters.layout.places(*self._size, hot)
        if places is not None:
            self._kernel.set_places(places)
        return join([first, self._kernel.apply(events[taken:])])

    def take_counts(self) -> dict[str, int]:
        """Events dropped since the last call, by the names of `messages_health.Counters`."""
        counts = self._kernel.counts
        since = {f"filtered_{name}": now - told for name, now, told in zip(REASONS, counts, self._told, strict=True)}
        self._told = counts
        return since

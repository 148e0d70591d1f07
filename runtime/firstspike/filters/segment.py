"""The filters of a run, and of each segment of it: a recording, or a camera from plug to unplug."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path

from firstspike.errors import OutputError
from firstspike.filters.definition import REASONS, Rules
from firstspike.filters.hot_pixels import HotPixels, Learner, Thresholds, write_hot_pixels
from firstspike.filters.kernel import Kernel
from firstspike.filters.places import Layout
from firstspike.types import Events, join

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Filters:
    """What a run filters; its segments share the hot pixels.

    Args:
        rules, layout: what is dropped, and where the rest goes.
        hot: the hot pixels, as far as they are known.
        learn_us: while they are not: learn them over so long, of the sensor's time, at the start of the run.
        learn_to: where to keep what was learned; None: nowhere.
        thresholds: what a hot pixel is.
    """

    rules: Rules
    layout: Layout
    hot: HotPixels | None = None
    learn_us: int = 0
    learn_to: Path | None = None
    thresholds: Thresholds = field(default_factory=Thresholds)
    _learner: Learner | None = None

    def segment(self, width: int, height: int) -> SegmentFilter:
        """For a segment of a sensor of this size.

        Raises:
            ConfigError: region, hot pixels or calibration do not fit it.
            DataError: it is too large.
        """
        return SegmentFilter(self, width, height)

    def learner(self, width: int, height: int) -> Learner | None:
        """Goes on where the last segment of the same sensor stopped; None: nothing is to be learned."""
        if not self.learn_us:
            return None
        if self._learner is None or self._learner.size != (width, height):
            self._learner = Learner(width, height, self.rules.back_us)
        self._learner.end()
        return self._learner

    def learned(self, hot: HotPixels) -> None:
        """Take and keep what a segment has learned."""
        shown = ", ".join(f"({x}, {y}) at {hz:g}/s" for (x, y), hz in zip(hot.pixels[:5], hot.hz[:5], strict=True))
        more = ", …" if len(hot.pixels) > 5 else ""
        log.info("learned %d hot pixels in %g s%s", len(hot.pixels), hot.learned_s, f": {shown}{more}" if shown else "")
        self.hot, self.learn_us, self._learner = hot, 0, None
        if self.learn_to is None:
            return
        try:
            write_hot_pixels(self.learn_to, hot)
        except OutputError as error:
            log.warning("%s: the hot pixels will be learned again after a restart", error)


class SegmentFilter:
    """Filters one segment. What passes depends on the events and their order alone, not on how they come in arrays."""

    def __init__(self, filters: Filters, width: int, height: int) -> None:
        self._filters, self._sensor = filters, (width, height)
        places, (self.width, self.height) = filters.layout.places(width, height, filters.hot)
        """Of what passes, pixels."""
        self._kernel = Kernel(filters.rules, width, height, places)
        self._told = [0] * len(REASONS)
        self._learner = filters.learner(width, height)

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
        self._filters.learned(self._learner.found(self._filters.thresholds))
        self._learner = None
        places, _ = self._filters.layout.places(*self._sensor, self._filters.hot)
        if places is not None:
            self._kernel.set_places(places)
        return join([first, self._kernel.apply(events[taken:])])

    def take_counts(self) -> dict[str, int]:
        """Events dropped since the last call, by the names of `messages.Counters`."""
        counts = self._kernel.counts
        since = {f"filtered_{name}": now - told for name, now, told in zip(REASONS, counts, self._told, strict=True)}
        self._told = counts
        return since

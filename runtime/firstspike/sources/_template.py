"""A start for a new source: copy it to `<kind>.py` beside it, and set `[source] kind = "<kind>"`. Nothing else changes.

It works as it stands: noise from a sensor that does not exist.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from firstspike.sources import Segment, Stream
from firstspike.types import EVENT, Events, RecordingInfo, RecordingStats


class Options(BaseModel):
    """`[source.<kind>]`: every key with its type, limits and default. `forbid` makes a misspelt key an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rate_hz: Annotated[int, Field(ge=1, le=1_000_000, description="events a second")] = 1000
    seconds: Annotated[int, Field(ge=1, le=3600)] = 1


class NoiseStream:
    """An open camera or file: what it is, then its events."""

    info = RecordingInfo("noise", width=64, height=64, geometry_from="given")
    outcome: RecordingStats | None = None  # what a file turned out to hold, once it was read to its end

    def __init__(self, options: Options) -> None:
        self._options = options

    def __iter__(self) -> Iterator[Events]:
        """Yield arrays of bounded size as the events come, oldest first.

        Do not sleep to keep the pace of a recording: the pipeline does (`speed`). Raise DataError, naming the file or
        camera, when the stream breaks; what was yielded before stands, and the next segment is taken.
        """
        rng = np.random.default_rng(0)
        for second in range(self._options.seconds):
            events = np.zeros(self._options.rate_hz, EVENT)
            events["t"] = second * 1_000_000 + np.sort(rng.integers(0, 1_000_000, len(events)))
            events["x"], events["y"] = rng.integers(0, 64, (2, len(events)))
            events["p"] = rng.integers(0, 2, len(events))
            yield events


class NoiseSource:
    """Hands out segments: files one after another, or a camera each time it is plugged in."""

    speed: float | None = 1.0  # times real time; None for a live camera: its events come when they come
    live = False  # True: `opened` yields a LiveStream; see network.py
    max_silence_us = 10_000_000  # longer silences of a recording are not sat out

    def __init__(self, options: Options) -> None:
        self._options = options

    def segments(self) -> Iterator[Segment]:
        """Name each segment; opening it is the pipeline's, which also closes it."""

        @contextmanager
        def opened() -> Iterator[Stream]:
            # Open the device here; raise NoInputError or UnavailableError if it is not there.
            yield NoiseStream(self._options)
            # Close it here.

        yield Segment("noise", opened)

    def close(self) -> None:
        """Called once, at the end: let go of what outlives a segment."""


def create(options: Options, base: Path) -> NoiseSource:
    """Make the source; relative paths in the options count from `base`. Open nothing yet."""
    del base
    return NoiseSource(options)

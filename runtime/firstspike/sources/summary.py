"""What `firstspike info` tells of a recording: one pass through it, counting."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from firstspike.sources.decoding import DecoderProcess
from firstspike.types import Events


@dataclass(slots=True)
class _Counts:
    events: int = 0
    on: int = 0
    first: int | None = None
    last: int | None = None
    backward: int = 0
    outside: int = 0

    def add(self, events: Events, width: int, height: int) -> None:
        if not len(events):
            return
        t = events["t"]
        so_far = np.maximum.accumulate(t)
        floor = t[0] if self.last is None else self.last
        before = np.maximum(np.concatenate(([floor], so_far[:-1])), floor)
        self.backward += int(np.count_nonzero(t < before))
        self.events += len(events)
        self.on += int(np.count_nonzero(events["p"]))
        self.first = int(t.min()) if self.first is None else min(self.first, int(t.min()))
        self.last = int(so_far[-1]) if self.last is None else max(self.last, int(so_far[-1]))
        self.outside += int(np.count_nonzero((events["x"] >= width) | (events["y"] >= height)))


def summarise(
    path: str | os.PathLike[str],
    *,
    decoder: DecoderProcess | None = None,
    progress: Callable[[int], None] | None = None,
    format: str | None = None,  # noqa: A002 the word users know
    width: int | None = None,
    height: int | None = None,
    columns: str | None = None,
) -> dict[str, Any]:
    """Reads a recording once and counts, in bounded memory.

    Args:
        path: The file.
        decoder: The process to decode in; None starts one for this file.
        progress: Called after every array with the number of events so far.
        format: As in `DecoderProcess.open`, like the three that follow.
        width: Pixels.
        height: Pixels.
        columns: Order of the columns of CSV.

    Returns:
        A dictionary that JSON can hold. `t_first_us` and `t_last_us` are the smallest and the largest timestamp, None
        without events; `rate_hz` is None where the duration is 0; `backward` counts events whose timestamp is
        below the largest so far, `out_of_bounds` those outside width × height.

    Raises:
        FirstspikeError: As `DecoderProcess.open` and `Recording.__iter__`.
    """
    if decoder is None:
        with DecoderProcess() as own:
            options: dict[str, Any] = {"format": format, "width": width, "height": height, "columns": columns}
            return summarise(path, decoder=own, progress=progress, **options)
    counts = _Counts()
    with decoder.open(path, format=format, width=width, height=height, columns=columns) as recording:
        info = recording.info
        for events in recording:
            counts.add(events, info.width, info.height)
            if progress is not None:
                progress(counts.events)
        stats = recording.stats
    duration = counts.last - counts.first if counts.first is not None and counts.last is not None else 0
    return {
        "file": os.fspath(path),
        "format": info.format,
        "sensor": info.sensor,
        "width": info.width,
        "height": info.height,
        "geometry_from": info.geometry_from,
        "events": counts.events,
        "on": counts.on,
        "off": counts.events - counts.on,
        "t_first_us": counts.first,
        "t_last_us": counts.last,
        "duration_us": duration,
        "rate_hz": round(counts.events * 1e6 / duration, 1) if duration else None,
        "backward": counts.backward,
        "out_of_bounds": counts.outside,
        "truncated_bytes": stats.truncated_bytes,
        "notes": [*info.notes, *stats.notes],
    }

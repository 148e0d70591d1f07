"""ATIS binary files (`.bin`) of N-MNIST and N-Caltech101: 40 bits an event, no header.

Source: Orchard et al. 2015, «Converting static image datasets to spiking neuromorphic datasets using saccades», and the
readers published with it: x (8 bits), y (8), polarity (1), time in µs (23, big-endian); y = 240 is no event but a
time overflow of 2^13 µs.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firstspike.sources.formats._stream import Options, Stats, Unwrap, extent, pack, read_blocks, split
from firstspike.types import Events, RecordingInfo

NAME = "atis"
_RECORD = 5
_OVERFLOW_ROW = 240
_OVERFLOW_US = 1 << 13
_NMNIST = 34
_SAMPLE = 2000
_MEDIAN_STEP_US = 50_000
"""Above 20 events a second, as every recording of something has."""


def _fields(block: bytes) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
    records = np.frombuffer(block, np.uint8).reshape(-1, _RECORD)
    high = records[:, 2].astype(np.int64)
    t = ((high & 0x7F) << 16) | (records[:, 3].astype(np.int64) << 8) | records[:, 4]
    return records[:, 0], records[:, 1], records[:, 2] >> 7, t


def sniff(head: bytes, path: Path) -> float:
    """Plausibility, as there is no magic number: times that rarely fall, in steps that an event camera makes.

    Random bytes fall at every second record. The name decides only how sure it is.
    """
    usable = len(head) // _RECORD * _RECORD
    if not usable:
        return 0.0
    *_, t = _fields(head[: min(usable, _SAMPLE * _RECORD)])
    steps = np.diff(t)
    named = path.suffix.lower() == ".bin"
    if len(steps) < 16:
        # Too little to judge: only a file named so, of whole records.
        return 0.5 if named and len(head) % _RECORD == 0 and (steps >= 0).all() else 0.0
    falls = np.count_nonzero((steps < 0) & (steps > -(1 << 22))) / len(steps)
    leaps = np.count_nonzero(steps > 1 << 20) / len(steps)
    if falls > 0.02 or leaps > 0.02 or not 0 <= np.median(steps) <= _MEDIAN_STEP_US or not steps.any():
        return 0.0
    return 0.9 if named else 0.4


def open(path: Path, options: Options, stats: Stats) -> tuple[RecordingInfo, Iterator[Events]]:  # noqa: A001 the interface
    """Opens an ATIS file: 34×34 where all events fit into it (N-MNIST), else as large as its events."""
    if options.width is not None and options.height is not None:
        width, height, origin = options.width, options.height, "given"
    else:
        first_pass = Stats(tick=stats.tick)
        width, height = extent(_events(path, first_pass), first_pass)
        stats.bytes_read += first_pass.bytes_read
        origin = "events"
        if width <= _NMNIST and height <= _NMNIST:
            width, height, origin = _NMNIST, _NMNIST, "convention"
    return RecordingInfo(NAME, width, height, origin, "ATIS"), _events(path, stats)


def _events(path: Path, stats: Stats) -> Iterator[Events]:
    unwrap = Unwrap(23)
    shift = 0
    for block in read_blocks(path, 0, _RECORD, stats):
        x, y, p, raw = _fields(block)
        t = unwrap(raw) + shift
        marks = y == _OVERFLOW_ROW
        if marks.any():
            t = t + np.cumsum(marks) * _OVERFLOW_US
            shift += int(np.count_nonzero(marks)) * _OVERFLOW_US
            stats.ignore("time overflow marks", np.count_nonzero(marks))
            keep = ~marks
            x, y, p, t = x[keep], y[keep], p[keep], t[keep]
        yield from split(pack(t, x, y, p))

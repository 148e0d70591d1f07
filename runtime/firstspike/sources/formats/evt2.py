"""Prophesee EVT 2.0 (RAW): 32-bit words, one event each.

Source: docs.prophesee.ai, «EVT 2.0 Format». Own decoder, since faery 0.7 ends at the first event outside the
geometry and pulls late timestamps forward, which hides them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from firstspike.sources.formats import _prophesee
from firstspike.sources.formats._stream import BLOCK_BYTES, Options, Stats, Unwrap, pack, read_blocks, split
from firstspike.types import Events, RecordingInfo

NAME = "evt2"
_CD_ON, _TIME_HIGH, _TRIGGER = 1, 8, 10


def sniff(head: bytes, path: Path) -> float:  # noqa: ARG001 the header tells
    """1 where the header says EVT 2.0."""
    return 1.0 if _prophesee.evt_version(_prophesee.parse_header(head)) == "2" else 0.0


def open(path: Path, options: Options, stats: Stats) -> tuple[RecordingInfo, Iterator[Events]]:  # noqa: A001 the interface
    """Opens an EVT 2.0 recording; DataError where its geometry is unknown."""
    with path.open("rb") as file:
        header = _prophesee.parse_header(file.read(BLOCK_BYTES))
    width, height, origin = _prophesee.geometry(path, header, options)
    info = RecordingInfo(NAME, width, height, origin, _prophesee.camera(header))
    return info, _events(path, header.length, stats)


def _events(path: Path, start: int, stats: Stats) -> Iterator[Events]:
    decoder = Evt2(stats)
    for block in read_blocks(path, start, 4, stats):
        yield from split(decoder(np.frombuffer(block, "<u4")))


class Evt2:
    """Decodes words; keeps the time base from one block to the next."""

    def __init__(self, stats: Stats) -> None:
        self.stats = stats
        self.unwrap = Unwrap(28)
        self.base: int | None = None

    def __call__(self, words: NDArray[np.uint32]) -> Events:
        """Returns the events of a block of words (shape (n,), uint32)."""
        kind = words >> np.uint32(28)
        is_high = kind == _TIME_HIGH
        is_event = kind <= _CD_ON
        self.stats.ignore("external triggers", np.count_nonzero(kind == _TRIGGER))
        highs = self.unwrap(words[is_high] & 0x0FFFFFFF) << 6
        bases = np.concatenate((np.array([self.base or 0], np.int64), highs))
        place = np.cumsum(is_high, dtype=np.int32)[is_event]
        event = words[is_event]
        if self.base is None:
            # Without a time base an event's time is unknown within hours.
            timed = place > 0
            self.stats.ignore("events before the first time base", len(place) - np.count_nonzero(timed))
            place, event = place[timed], event[timed]
        if len(highs):
            self.base = int(highs[-1])
        t = bases[place] + ((event >> 22) & 0x3F)
        return pack(t, (event >> 11) & 0x7FF, event & 0x7FF, event >> 28)

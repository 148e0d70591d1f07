"""Prophesee EVT 3.0 (RAW): 16-bit words that change a state (time, row, column) or are events.

Source: docs.prophesee.ai, «EVT 3.0 Format»; where it is silent on time, OpenEB's `evt3_decoder.h`: a new TIME_HIGH
sets the low bits to zero, a fall of TIME_HIGH by more than half its range is a wrap. Own decoder, since faery 0.7
ends at the first address outside the geometry, cuts vectors at the right edge without a word, and pulls late
timestamps forward.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from firstspike.sources.formats import _prophesee
from firstspike.sources.formats._stream import BLOCK_BYTES, Options, Stats, Unwrap, pack, read_blocks, split
from firstspike.types import Events, RecordingInfo

NAME = "evt3"
_ADDR_Y, _ADDR_X, _BASE_X, _VECT_12, _VECT_8, _TIME_LOW, _TIME_HIGH, _TRIGGER = 0, 2, 3, 4, 5, 6, 8, 10


def sniff(head: bytes, path: Path) -> float:  # noqa: ARG001 the header tells
    """1 where the header says EVT 3.0."""
    return 1.0 if _prophesee.evt_version(_prophesee.parse_header(head)) == "3" else 0.0


def open(path: Path, options: Options, stats: Stats) -> tuple[RecordingInfo, Iterator[Events]]:  # noqa: A001 the interface
    """Opens an EVT 3.0 recording; DataError where its geometry is unknown."""
    with path.open("rb") as file:
        header = _prophesee.parse_header(file.read(BLOCK_BYTES))
    width, height, origin = _prophesee.geometry(path, header, options)
    info = RecordingInfo(NAME, width, height, origin, _prophesee.camera(header))
    return info, _events(path, header.length, stats)


def _events(path: Path, start: int, stats: Stats) -> Iterator[Events]:
    decoder = Evt3(stats)
    for block in read_blocks(path, start, 2, stats, block=BLOCK_BYTES // 4):
        yield from split(decoder(np.frombuffer(block, "<u2")))


def _forward(is_set: NDArray[np.bool_]) -> NDArray[np.int32]:
    """For each place, how many setters there are up to it: the index into [carried over, setter 0, …]."""
    return np.cumsum(is_set, dtype=np.int32)


class Evt3:
    """Decodes words; keeps the state that EVT 3.0 has between words from one block to the next."""

    def __init__(self, stats: Stats) -> None:
        self.stats = stats
        self.unwrap = Unwrap(12)
        self.high: int | None = None  # unwrapped, in units of 4,096 µs
        self.low = 0
        self.row: int | None = None
        self.column = 0  # of the last VECT_BASE_X, advanced by the vectors since; modulo 65,536
        self.polarity = 0

    def __call__(self, words: NDArray[np.uint16]) -> Events:
        """Returns the events of a block of words (shape (n,), uint16)."""
        kind = (words >> 12).astype(np.uint8)
        load = (words & 0x0FFF).astype(np.int32)
        self.stats.ignore("external triggers", np.count_nonzero(kind == _TRIGGER))
        is_event = (kind == _ADDR_X) | (kind == _VECT_12) | (kind == _VECT_8)
        where = np.flatnonzero(is_event)
        timed_from = 0 if self.high is not None else None
        row_from = 0 if self.row is not None else None
        t = self._times(kind, load, where)
        y, first_row = self._rows(kind, load, where)
        x, p, mask = self._columns(kind, load, where)
        if timed_from is None or row_from is None:
            first_time = int(np.argmax(kind == _TIME_HIGH)) if (kind == _TIME_HIGH).any() else len(words)
            start = max(first_time if timed_from is None else 0, first_row if row_from is None else 0)
            keep = where >= start
            self.stats.ignore("events before the first time or row", _count_bits(mask[~keep]))
            t, y, x, p, mask = t[keep], y[keep], x[keep], p[keep], mask[keep]
        if (mask == 1).all():
            return pack(t, x, y, p)
        bits = np.unpackbits(mask.astype("<u2").view(np.uint8), bitorder="little")
        flat = np.flatnonzero(bits)
        index = flat >> 4
        return pack(t[index], x[index] + (flat & 15), y[index], p[index])

    def _times(self, kind: NDArray[np.uint8], load: NDArray[np.int32], where: NDArray[np.intp]) -> NDArray[np.int64]:
        is_time = (kind == _TIME_LOW) | (kind == _TIME_HIGH)
        value, is_high = load[is_time], kind[is_time] == _TIME_HIGH
        carried = np.array([self.high or 0], np.int64)
        highs = np.concatenate((carried, self.unwrap(value[is_high])))
        changed = np.zeros(len(value), np.bool_)
        changed[is_high] = np.diff(highs) != 0
        sets_low = ~is_high | changed
        lows = np.concatenate(([self.low], np.where(is_high, 0, value)[sets_low]))
        after = (highs[_forward(is_high)] << 12) | lows[_forward(sets_low)]
        times = np.concatenate(((carried << 12) | self.low, after))
        if is_high.any():
            self.high = int(highs[-1])
        self.low = int(lows[-1])
        return times[_forward(is_time)[where]]

    def _rows(
        self, kind: NDArray[np.uint8], load: NDArray[np.int32], where: NDArray[np.intp]
    ) -> tuple[NDArray[np.int32], int]:
        is_row = kind == _ADDR_Y
        rows = np.concatenate((np.array([self.row or 0], np.int32), load[is_row] & 0x7FF))
        first = int(np.argmax(is_row)) if len(rows) > 1 else len(kind)
        if len(rows) > 1:
            self.row = int(rows[-1])
        return rows[_forward(is_row)[where]], first

    def _columns(
        self, kind: NDArray[np.uint8], load: NDArray[np.int32], where: NDArray[np.intp]
    ) -> tuple[NDArray[np.int32], NDArray[np.uint8], NDArray[np.int32]]:
        """Columns, polarities and masks of the event words; a single event is a mask of 1."""
        kind_, load_ = kind[where], load[where]
        single = kind_ == _ADDR_X
        is_base = kind == _BASE_X
        columns = np.concatenate((np.array([self.column], np.int32), load[is_base] & 0x7FF))
        polarities = np.concatenate((np.array([self.polarity], np.int32), load[is_base] >> 11))
        step = np.where(kind_ == _VECT_12, 12, np.where(kind_ == _VECT_8, 8, 0)).astype(np.int32)
        advanced = np.cumsum(step, dtype=np.int32)
        before = np.searchsorted(where, np.flatnonzero(is_base))  # event words before each base
        total = np.concatenate((np.zeros(1, np.int32), advanced))
        at_base = np.concatenate((np.zeros(1, np.int32), total[before]))
        here = _forward(is_base)[where]
        column = columns[here] + total[:-1] - at_base[here]
        x = np.where(single, load_ & 0x7FF, column)
        p = np.where(single, load_ >> 11, polarities[here]).astype(np.uint8)
        mask = np.where(single, 1, np.where(kind_ == _VECT_8, load_ & 0xFF, load_))
        self.column = int(columns[-1] + total[-1] - at_base[-1]) & 0xFFFF
        self.polarity = int(polarities[-1])
        return x, p, mask


def _count_bits(mask: NDArray[np.int32]) -> int:
    return int(np.unpackbits(mask.astype("<u2").view(np.uint8)).sum())

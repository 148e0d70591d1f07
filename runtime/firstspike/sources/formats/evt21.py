"""Prophesee EVT 2.1 (RAW): 64-bit words, up to 32 events of one row and polarity each.

Source: docs.prophesee.ai, «EVT 2.1 Format». The halves of a word are swapped (`endianness=legacy`) in files from
IMX636 cameras; where the header is silent, the order in which the word types make sense is taken. No real
recording was at hand: the tests' fixtures are written from the specification. faery 0.7 has no EVT 2.1 decoder.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from firstspike.sources.formats import _prophesee
from firstspike.sources.formats._stream import BLOCK_BYTES, Options, Stats, Unwrap, pack, read_blocks, split
from firstspike.types import Events, RecordingInfo

NAME = "evt2.1"
_ON, _TIME_HIGH, _TRIGGER = 1, 8, 10
_KNOWN = (0, 1, 8, 10, 14, 15)


def sniff(head: bytes, path: Path) -> float:  # noqa: ARG001 the header tells
    """1 where the header says EVT 2.1."""
    return 1.0 if _prophesee.evt_version(_prophesee.parse_header(head)) == "2.1" else 0.0


def open(path: Path, options: Options, stats: Stats) -> tuple[RecordingInfo, Iterator[Events]]:  # noqa: A001 the interface
    """Opens an EVT 2.1 recording; DataError where its geometry is unknown."""
    with path.open("rb") as file:
        head = file.read(BLOCK_BYTES)
    header = _prophesee.parse_header(head)
    width, height, origin = _prophesee.geometry(path, header, options)
    stated = _prophesee.format_option(header, "endianness")
    legacy = stated == "legacy" if stated else _looks_swapped(head[header.length :])
    notes = () if stated else (f"the header names no word order: taken as {'legacy' if legacy else 'little-endian'}",)
    info = RecordingInfo(NAME, width, height, origin, _prophesee.camera(header), notes)
    return info, _events(path, header.length, stats, legacy=legacy)


def _looks_swapped(body: bytes) -> bool:
    halves = np.frombuffer(body[: len(body) // 8 * 8], "<u4").reshape(-1, 2) >> np.uint32(28)
    straight = np.isin(halves[:, 1], _KNOWN).sum()
    swapped = np.isin(halves[:, 0], _KNOWN).sum()
    return bool(swapped > straight)


def _events(path: Path, start: int, stats: Stats, *, legacy: bool) -> Iterator[Events]:
    decoder = Evt21(stats)
    # A word holds 32 events: a block of BLOCK_BYTES would grow to 64 times its size.
    for block in read_blocks(path, start, 8, stats, block=BLOCK_BYTES // 16):
        halves = np.frombuffer(block, "<u4").reshape(-1, 2)
        upper, mask = (halves[:, 0], halves[:, 1]) if legacy else (halves[:, 1], halves[:, 0])
        yield from split(decoder(np.ascontiguousarray(upper), np.ascontiguousarray(mask)))


class Evt21:
    """Decodes words; keeps the time base from one block to the next."""

    def __init__(self, stats: Stats) -> None:
        self.stats = stats
        self.unwrap = Unwrap(28)
        self.base: int | None = None

    def __call__(self, upper: NDArray[np.uint32], mask: NDArray[np.uint32]) -> Events:
        """Returns the events of a block.

        Args:
            upper: Shape (n,): type, time and address.
            mask: Shape (n,): bit k stands for an event at x + k.
        """
        kind = upper >> np.uint32(28)
        is_high = kind == _TIME_HIGH
        is_event = kind <= _ON
        self.stats.ignore("external triggers", np.count_nonzero(kind == _TRIGGER))
        highs = self.unwrap(upper[is_high] & 0x0FFFFFFF) << 6
        bases = np.concatenate((np.array([self.base or 0], np.int64), highs))
        place = np.cumsum(is_high, dtype=np.int32)[is_event]
        word, valid = upper[is_event], mask[is_event]
        bits = np.unpackbits(valid.astype("<u4").view(np.uint8).reshape(-1, 4), axis=1, bitorder="little")
        if self.base is None:
            timed = place > 0
            self.stats.ignore("events before the first time base", int(bits[~timed].sum()))
            place, word, bits = place[timed], word[timed], bits[timed]
        if len(highs):
            self.base = int(highs[-1])
        flat = np.flatnonzero(bits)
        row, offset = flat >> 5, flat & 31
        word, place = word[row], place[row]
        t = bases[place] + ((word >> 22) & 0x3F)
        return pack(t, ((word >> 11) & 0x7FF) + offset, word & 0x7FF, word >> 28)

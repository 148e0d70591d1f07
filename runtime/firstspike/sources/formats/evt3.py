"""Prophesee EVT 3.0 (RAW): 16-bit words that change a state (time, row, column) or are events.

Source: docs.prophesee.ai, «EVT 3.0 Format»; where it is silent on time, OpenEB's `evt3_decoder.h`: a new TIME_HIGH
sets the low bits to zero, a fall of TIME_HIGH by more than half its range is a wrap. Own decoder, since faery 0.7
ends at the first address outside the geometry, cuts vectors at the right edge without a word, and pulls late
timestamps forward.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from firstspike.native import library
from firstspike.sources.formats import _prophesee
from firstspike.sources.formats._stream import BLOCK_BYTES, MAX_EVENTS, Options, Stats, read_blocks
from firstspike.types import EVENT, Events, RecordingInfo

NAME = "evt3"
OFFSET_KEY = "time_offset_us"
"""In a header of ours: what the words' times lack, where a sensor's clock stood above a day."""


def sniff(head: bytes, path: Path) -> float:  # noqa: ARG001 the header tells
    """1 where the header says EVT 3.0."""
    return 1.0 if _prophesee.evt_version(_prophesee.parse_header(head)) == "3" else 0.0


def open(path: Path, options: Options, stats: Stats) -> tuple[RecordingInfo, Iterator[Events]]:  # noqa: A001 the interface
    """Opens an EVT 3.0 recording; DataError where its geometry is unknown."""
    with path.open("rb") as file:
        header = _prophesee.parse_header(file.read(BLOCK_BYTES))
    width, height, origin = _prophesee.geometry(path, header, options)
    info = RecordingInfo(NAME, width, height, origin, _prophesee.camera(header))
    offset = header.fields.get(OFFSET_KEY, "")
    offset_us = int(offset) if re.fullmatch(r"\d{1,16}", offset, re.ASCII) else 0
    return info, _events(path, header.length, offset_us, stats)


def _events(path: Path, start: int, offset_us: int, stats: Stats) -> Iterator[Events]:
    decoder = Evt3(stats)
    for block in read_blocks(path, start, 2, stats, block=BLOCK_BYTES // 4):
        for events in decoder.batches(np.frombuffer(block, "<u2")):
            if offset_us:
                events["t"] += offset_us
            yield events


class Evt3:
    """Decodes words; keeps the state that EVT 3.0 has between words from one block to the next.

    Native (`runtime/native/evt3.cpp`): a 1280×720 camera sends above 20 M events a second, and 11 M was what NumPy
    decoded, so that a replay in real time fell behind.
    """

    def __init__(self, stats: Stats) -> None:
        self.stats = stats
        self._native = library()
        self._state = _State(row=-1)

    def batches(self, words: NDArray[np.uint16]) -> Iterator[Events]:
        """Yields the events of a block of words (shape (n,), uint16) in arrays of at most MAX_EVENTS."""
        words = np.ascontiguousarray(words, "<u2")
        before = _State.from_buffer_copy(self._state)
        used = ctypes.c_int64()
        position = 0
        while position < len(words):
            events = np.empty(MAX_EVENTS, EVENT)
            count = self._native.fs_evt3_decode(
                ctypes.byref(self._state),
                words.ctypes.data + 2 * position,
                len(words) - position,
                events.ctypes.data,
                len(events),
                ctypes.byref(used),
            )
            position += used.value
            if count:
                yield events[:count]
        self.stats.ignore("external triggers", self._state.triggers - before.triggers)
        self.stats.ignore("events before the first time or row", self._state.early - before.early)

    def __call__(self, words: NDArray[np.uint16]) -> Events:
        """Returns all events of a block of words at once."""
        found = list(self.batches(words))
        if len(found) == 1:
            return found[0]
        events = np.empty(sum(map(len, found)), EVENT)
        return np.concatenate(found, out=events) if found else events


class _State(ctypes.Structure):
    """`fs_evt3` of runtime/native/firstspike.h."""

    _fields_: ClassVar = [
        ("high", ctypes.c_int64),
        ("triggers", ctypes.c_int64),
        ("early", ctypes.c_int64),
        ("low", ctypes.c_uint32),
        ("column", ctypes.c_uint32),
        ("polarity", ctypes.c_uint32),
        ("timed", ctypes.c_uint32),
        ("row", ctypes.c_int32),
        ("padding", ctypes.c_int32),
    ]

"""Decodes a file in the test's own process, and the definitions that vectorised decoders must equal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from firstspike.errors import DataError
from firstspike.sources.formats import open_recording
from firstspike.sources.formats._stream import MAX_EVENTS, Options, Stats
from firstspike.types import EVENT


def decode(path, data=None, **options):
    """RecordingInfo, all events, statistics; writes `data` to the file first, if given."""
    if data is not None:
        Path(path).write_bytes(data)
    stats = Stats()
    info, batches = open_recording(Path(path), Options(**options), stats)
    arrays = []
    for batch in batches:
        assert batch.dtype == EVENT
        assert 0 < len(batch) <= MAX_EVENTS
        arrays.append(batch)
    return info, np.concatenate(arrays) if arrays else np.zeros(0, EVENT), stats


def decode_until_fault(path, **options):
    """Events (as rows) up to a DataError, its text or None, statistics."""
    found, stats = [], Stats()
    try:
        _, batches = open_recording(Path(path), Options(**options), stats)
        for batch in batches:
            found += rows_of(batch)
    except DataError as error:
        return found, str(error), stats
    return found, None, stats


def rows_of(events):
    """Events as a list of (t, x, y, p)."""
    return [(int(e["t"]), int(e["x"]), int(e["y"]), int(e["p"])) for e in events]


@st.composite
def rows(draw, width, height, *, step=5000, start=1 << 40, size=60):
    """Events in order of time, with steps of 0 often, so that vectors occur."""
    t = draw(st.integers(0, start))
    out = []
    steps = st.one_of(st.just(0), st.integers(0, 3), st.integers(0, step))
    event = st.tuples(steps, st.integers(0, width - 1), st.integers(0, height - 1), st.integers(0, 1), st.booleans())
    for dt, x, y, p, near in draw(st.lists(event, max_size=size)):
        t += dt
        if near and out and out[-1][1] + 1 < width:  # the next pixel of the row: a vector
            out.append((out[-1][0], out[-1][1] + 1, out[-1][2], out[-1][3]))
            t = out[-1][0]
        else:
            out.append((t, x, y, p))
    return out


class Evt2Definition:
    """EVT 2.0, one word after another: 28 bits of TIME_HIGH in units of 64 µs."""

    def __init__(self):
        self.high = None
        self.loops = 0

    def __call__(self, words):
        out = []
        for word in words:
            kind = word >> 28
            if kind == 8:
                high = word & 0xFFFFFFF
                if self.high is not None and self.high - high > 1 << 27:
                    self.loops += 1
                self.high = high
            elif kind <= 1 and self.high is not None:
                t = ((self.loops << 28 | self.high) << 6) + (word >> 22 & 63)
                out.append((t, word >> 11 & 0x7FF, word & 0x7FF, kind))
        return out


class Evt21Definition(Evt2Definition):
    """EVT 2.1: the same words with 32 bits more, a mask of the columns from x on."""

    def __call__(self, words):
        out = []
        for word in words:
            found = super().__call__([word >> 32])
            for t, x, y, p in found:
                out += [(t, x + bit, y, p) for bit in range(32) if word >> bit & 1]
        return out


class Evt3Definition:
    """EVT 3.0, one word after another."""

    def __init__(self):
        self.high = self.row = None
        self.loops = self.low = self.column = self.polarity = 0

    def __call__(self, words):
        out = []
        for word in words:
            kind, load = word >> 12, word & 0xFFF
            if kind == 0:
                self.row = load & 0x7FF
            elif kind == 3:
                self.column, self.polarity = load & 0x7FF, load >> 11
            elif kind == 6:
                self.low = load
            elif kind == 8:
                if self.high is not None and self.high - load > 1 << 11:
                    self.loops += 1
                    self.low = 0
                if load != (self.high or 0):
                    self.low = 0
                self.high = load
            elif kind in (2, 4, 5):
                width = {2: 1, 4: 12, 5: 8}[kind]
                column, polarity, mask = self.column, self.polarity, load
                if kind == 2:
                    column, polarity, mask = load & 0x7FF, load >> 11, 1
                else:
                    self.column = (self.column + width) & 0xFFFF
                if self.high is not None and self.row is not None:
                    t = (self.loops << 12 | self.high) << 12 | self.low
                    places = [bit for bit in range(width) if mask >> bit & 1]
                    out += [(t, (column + bit) & 0xFFFF, self.row, polarity) for bit in places]
        return out


def es_definition(data, height, *, atis=False):
    """Event Stream 2, one byte after another: events, and the bytes of a last, cut one."""
    out, t, i = [], 0, 0
    limit = 0xFC if atis else 0xFE
    while i < len(data):
        first = data[i]
        if first >= limit:
            t += 0x3F * (first & 3) if atis else 0x7F if first == 0xFF else 0
            i += 1
            continue
        if i + 5 > len(data):
            break
        t += first >> 2 if atis else first >> 1
        x, y = data[i + 1] | data[i + 2] << 8, data[i + 3] | data[i + 4] << 8
        p = first & 3 if atis else first & 1
        if not atis or not p & 1:
            out.append((t, x, (height - 1 - y) & 0xFFFF, p >> 1 if atis else p))
        i += 5
    return out, len(data) - i

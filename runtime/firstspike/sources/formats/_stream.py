"""What the decoders share: options, statistics, bounded reading, unwrapping of timestamps."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firstspike.errors import DataError
from firstspike.types import EVENT, Events

MAX_EVENTS = 65_536
"""No array that a decoder hands out holds more events (1 MiB)."""
BLOCK_BYTES = 1 << 19
"""Bytes read at once: a multiple of 4,096, so of every power-of-two record."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a user may state about a recording."""

    format: str | None = None
    """Name of the format; None detects it."""
    width: int | None = None
    """Pixels; taken only together with `height`."""
    height: int | None = None
    """Pixels."""
    columns: str | None = None
    """Order of the columns in CSV or of a two-dimensional array in NPZ, as `xypt` or `txyp`; `-` skips a column."""


def _no_tick() -> None:
    return


@dataclass(slots=True)
class Stats:
    """What was met while decoding; complete once the events have been consumed."""

    bytes_read: int = 0
    """Bytes of the file that were read (a first pass included)."""
    truncated_bytes: int = 0
    """Bytes at the end of the file that make up no whole event or packet."""
    notes: list[str] = field(default_factory=list)
    """Sentences for the user."""
    ignored: dict[str, int] = field(default_factory=dict)
    """How many of what was skipped, such as `external triggers`."""
    tick: Callable[[], None] = _no_tick
    """Called when work goes on without events being handed out, so that a supervisor sees progress."""

    def ignore(self, what: str, count: int | np.integer[Any]) -> None:
        """Counts things that are skipped."""
        if count:
            self.ignored[what] = self.ignored.get(what, 0) + int(count)

    def all_notes(self) -> list[str]:
        """The notes, with one for each kind of thing that was ignored."""
        return self.notes + [f"{count:,} {what} ignored" for what, count in sorted(self.ignored.items())]


def data_error(path: Path, what: str, offset: int | None = None) -> DataError:
    """A DataError that names the file, the byte if known, and the fault."""
    return DataError(f"{path} {what}" if offset is None else f"{path} {what} (at byte {offset:,})")


def read_blocks(path: Path, start: int, record: int, stats: Stats, *, block: int = BLOCK_BYTES) -> Iterator[bytes]:
    """Yields the file from byte `start` in blocks of whole records.

    The end is where the file ended when it was opened, so that a growing file ends too. A last, partial record
    is counted in `stats.truncated_bytes`.

    Args:
        path: The file.
        start: First byte.
        record: Bytes of one record; a block is a multiple of it.
        stats: Its counts grow.
        block: About how many bytes to read at once.

    Raises:
        DataError: The medium fails.
    """
    step = max(1, block // record) * record
    try:
        with path.open("rb") as file:
            left = file.seek(0, 2) - start
            file.seek(start)
            while left > 0:
                data = file.read(min(step, left))
                if not data:
                    break
                left -= len(data)
                stats.bytes_read += len(data)
                tail = len(data) % record
                if tail:  # read() of a regular file is short only at its end
                    stats.truncated_bytes += tail
                    data = data[:-tail]
                    left = 0
                if data:
                    yield data
    except OSError as error:
        raise data_error(path, f"cannot be read any further: {error.strerror}") from error


def pack(t: NDArray[Any], x: NDArray[Any], y: NDArray[Any], p: NDArray[Any]) -> Events:
    """Makes an EVENT array; x and y are taken modulo 65,536, so what lies left of 0 stays out of bounds."""
    events = np.zeros(len(t), EVENT)
    events["t"] = t
    events["x"] = x.astype(np.uint16, copy=False)
    events["y"] = y.astype(np.uint16, copy=False)
    events["p"] = p
    return events


def split(events: Events) -> Iterator[Events]:
    """Yields the array in pieces of at most MAX_EVENTS; nothing for an empty one."""
    for start in range(0, len(events), MAX_EVENTS):
        yield events[start : start + MAX_EVENTS]


def gather(records: Iterable[memoryview]) -> Iterator[Events]:
    """Collects events into arrays of MAX_EVENTS, so that small packets do not cost a message each.

    An error of `records` goes on after the events before it.

    Args:
        records: Bytes in the layout of EVENT, whole events at a time; anything other than 0 in `p` is taken as 1.
    """
    batch, filled = _room(), 0
    try:
        for data in records:
            while len(data):
                part = data[: len(batch) - filled]
                batch[filled : filled + len(part)] = part
                filled += len(part)
                data = data[len(part) :]
                if filled == len(batch):
                    yield _whole(batch)
                    batch, filled = _room(), 0
    except DataError:
        if filled:
            yield _whole(batch[:filled])
        raise
    if filled:
        yield _whole(batch[:filled])


def _room() -> memoryview:
    return np.empty(MAX_EVENTS * EVENT.itemsize, np.uint8).data


def _whole(batch: memoryview) -> Events:
    """The bytes as events, with a polarity of 0 or 1 and nothing in the padding."""
    events = np.frombuffer(batch, EVENT)
    tail = events.view("<u4")[3::4]
    if (tail > 1).any():
        tail[:] = (tail & 0xFF) != 0
    return events


class Unwrap:
    """Continues a counter of few bits into an int64: a fall by more than half its range is a wrap.

    A smaller fall is left as it is: an event that is late, which the windows count.
    """

    def __init__(self, bits: int) -> None:
        self.bits = bits
        self.last: int | None = None
        self.loops = 0

    def __call__(self, raw: NDArray[Any]) -> NDArray[np.int64]:
        """Returns the values continued from the previous call; shape as given, int64."""
        values = raw.astype(np.int64)
        if len(values) == 0:
            return values
        first = values[0] if self.last is None else self.last
        falls = np.diff(values, prepend=first) < -(1 << (self.bits - 1))
        if falls.any():
            loops = self.loops + np.cumsum(falls)
            self.loops = int(loops[-1])
        else:
            loops = np.full(len(values), self.loops, np.int64)
        self.last = int(values[-1])
        return values + (loops << self.bits)


def extent(batches: Iterator[Events], stats: Stats) -> tuple[int, int]:
    """Consumes a recording and returns one more than its largest x and y: at least (1, 1).

    A fault ends it: what comes before is still to be handed out, and the fault is raised when it is reached again.
    """
    width = height = 1
    with contextlib.suppress(DataError):
        for events in batches:
            stats.tick()
            width = max(width, int(events["x"].max(initial=0)) + 1)
            height = max(height, int(events["y"].max(initial=0)) + 1)
    return min(width, 65535), min(height, 65535)


def printable(line: bytes) -> bool:
    """Whether a header's line is text: a binary record may begin with the comment character."""
    return all(byte >= 32 or byte in b"\r\n\t" for byte in line)

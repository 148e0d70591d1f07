"""Event Stream (.es) version 2: `dvs`, and of `atis` the contrast events; origin in the lower left corner.

Source: github.com/neuromorphicsystems/event_stream, «version 2.x»: a byte with the time since the last event and the
polarity, then x and y of 16 bits; bytes with the largest values are overflows of the time. Own decoder: faery 0.7
ends at the first event outside the geometry, and does not tell a cut file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from firstspike.sources.formats._stream import BLOCK_BYTES, Options, Stats, data_error, pack, read_blocks, split
from firstspike.types import Events, RecordingInfo

NAME = "es"
_MAGIC = b"Event Stream"
_HEADER_BYTES = 20
_RECORD = 5
_REFUSED = {0: "generic", 3: "asynchronous and module colour (amd)", 4: "color"}


@dataclass(frozen=True, slots=True)
class _Kind:
    """How the first byte of a record is read."""

    name: str
    overflow_from: int
    """Bytes from this value on are no event."""
    time_shift: int


_DVS, _ATIS = _Kind("dvs", 0xFE, 1), _Kind("atis", 0xFC, 2)


def sniff(head: bytes, path: Path) -> float:  # noqa: ARG001 the magic number tells
    """1 for the magic words."""
    return 1.0 if head.startswith(_MAGIC) else 0.0


def open(path: Path, options: Options, stats: Stats) -> tuple[RecordingInfo, Iterator[Events]]:  # noqa: A001, ARG001 the interface
    """Opens an Event Stream file; DataError for streams without polarity events (generic, color)."""
    with path.open("rb") as file:
        head = file.read(_HEADER_BYTES)
    if len(head) < len(_MAGIC) + 4:
        raise data_error(path, "ends within its header", len(head))
    major, kind = head[12], head[15]
    if major != 2:
        raise data_error(path, f"is Event Stream version {major}: only version 2 is supported", 12)
    if kind not in (1, 2):
        raise data_error(path, f"holds {_REFUSED.get(kind, f'unknown (type {kind})')} events, without polarity", 15)
    if len(head) < _HEADER_BYTES:
        raise data_error(path, "ends within its header", len(head))
    width, height = (int(v) for v in np.frombuffer(head, "<u2", 2, 16))
    info = RecordingInfo(NAME, width, height, "header", None, ("only contrast events of ATIS",) if kind == 2 else ())
    return info, _events(path, _DVS if kind == 1 else _ATIS, height, stats)


def _events(path: Path, kind: _Kind, height: int, stats: Stats) -> Iterator[Events]:
    rest = b""
    t = 0
    for block in read_blocks(path, _HEADER_BYTES, 1, stats, block=BLOCK_BYTES // 2):
        data = rest + block
        starts, used = _record_starts(np.frombuffer(data, np.uint8), kind.overflow_from)
        rest = data[used:]
        view = np.frombuffer(data, np.uint8)
        first = view[starts]
        is_event = first < kind.overflow_from
        t_all = t + np.cumsum(_steps(first, is_event, kind))
        if len(t_all):
            t = int(t_all[-1])
        at = starts[is_event]
        x = view[at + 1].astype(np.uint16) | (view[at + 2].astype(np.uint16) << 8)
        y = view[at + 3].astype(np.int32) | (view[at + 4].astype(np.int32) << 8)
        times, p = t_all[is_event], first[is_event] & 1
        if kind is _ATIS:
            p = first[is_event] & 3
            contrast = (p & 1) == 0
            stats.ignore("ATIS exposure events", len(p) - np.count_nonzero(contrast))
            times, x, y, p = times[contrast], x[contrast], y[contrast], p[contrast] >> 1
        stats.tick()
        yield from split(pack(times, x, (height - 1) - y, p))
    stats.truncated_bytes += len(rest)


def _steps(first: NDArray[np.uint8], is_event: NDArray[np.bool_], kind: _Kind) -> NDArray[np.int64]:
    """µs that each record adds to the time."""
    wide = first.astype(np.int64)
    # Of DVS, 0xFE is a reset and adds nothing.
    overflow = np.where(first == 0xFF, 0x7F, 0) if kind is _DVS else (wide & 3) * 0x3F
    return np.where(is_event, wide >> kind.time_shift, overflow)


def _record_starts(data: NDArray[np.uint8], overflow_from: int) -> tuple[NDArray[np.int64], int]:
    """Where the records of a block begin, and how many bytes the whole ones take.

    A record is 5 bytes, or 1 for an overflow; what a byte means depends on all before it. Runs of events are
    found in one step each: the next overflow is the next large byte at the same place modulo 5.
    """
    is_large = data >= overflow_from
    large, small = np.flatnonzero(is_large), np.flatnonzero(~is_large)
    residues = [large[large % _RECORD == r] for r in range(_RECORD)]
    cursors = [0] * _RECORD
    position, size = 0, len(data)
    parts: list[NDArray[np.int64]] = []
    while position < size:
        r = position % _RECORD
        candidates = residues[r]
        cursor = cursors[r] + int(np.searchsorted(candidates[cursors[r] :], position))
        cursors[r] = cursor
        end = int(candidates[cursor]) if cursor < len(candidates) else size
        whole = (end - position) // _RECORD
        if whole:
            parts.append(np.arange(position, position + whole * _RECORD, _RECORD))
            position += whole * _RECORD
        if end == size and position != end:
            break  # the record at `position` continues in the next block
        if position >= size:
            break
        after = int(np.searchsorted(small, position))
        stop = int(small[after]) if after < len(small) else size
        parts.append(np.arange(position, stop))
        position = stop
    return (np.concatenate(parts) if parts else np.zeros(0, np.int64)), position

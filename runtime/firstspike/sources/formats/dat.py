"""Prophesee DAT: 8 bytes an event, 32 bits of time (µs) and 32 of address.

Source: docs.prophesee.ai, «DAT File Format»; layout of version 1 (9, 8 and 1 bits, ATIS) from the published readers of
the N-CARS data set. Own decoder: faery 0.7 refuses the old "2d" type and ends at events outside the geometry.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from firstspike.sources.formats import _prophesee
from firstspike.sources.formats._stream import (
    BLOCK_BYTES,
    Options,
    Stats,
    Unwrap,
    data_error,
    extent,
    pack,
    read_blocks,
    split,
)
from firstspike.types import Events, RecordingInfo

NAME = "dat"
_EVENT_2D, _EVENT_CD = 0, 12
_RECORD = np.dtype([("t", "<u4"), ("address", "<u4")])


def sniff(head: bytes, path: Path) -> float:
    """1 where the header is a DAT file's; 0.5 for a bare `%` header of a file named so."""
    header = _prophesee.parse_header(head)
    if not header.length or _prophesee.evt_version(header) is not None:
        return 0.0
    if "data" in header.fields or "version" in header.fields:
        return 1.0
    return 0.5 if path.suffix.lower() == ".dat" else 0.0


def open(path: Path, options: Options, stats: Stats) -> tuple[RecordingInfo, Iterator[Events]]:  # noqa: A001 the interface
    """Opens a DAT recording; a first pass finds the geometry where neither header nor user state it."""
    with path.open("rb") as file:
        head = file.read(BLOCK_BYTES)
    header = _prophesee.parse_header(head)
    start = header.length + 2
    if len(head) < start:
        raise data_error(path, "ends within its header", len(head))
    kind, size = head[header.length], head[header.length + 1]
    if kind not in (_EVENT_2D, _EVENT_CD):
        raise data_error(path, f"holds DAT events of type {kind}, not contrast detections (0 or 12)", header.length)
    if size != _RECORD.itemsize:
        raise data_error(path, f"states DAT events of {size} bytes; they have 8", header.length + 1)
    old = header.fields.get("version", "2").startswith(("0", "1"))
    stated = _prophesee.geometry_in_header(header)
    notes = ("old DAT header of type 2d",) if kind == _EVENT_2D else ()
    if stated:
        (width, height), origin = stated, "header"
    elif options.width is not None and options.height is not None:
        width, height, origin = options.width, options.height, "given"
    else:
        first_pass = Stats(tick=stats.tick)
        width, height = extent(_events(path, start, first_pass, old=old), first_pass)
        origin = "events"
        stats.bytes_read += first_pass.bytes_read
    info = RecordingInfo(NAME, width, height, origin, _prophesee.camera(header), notes)
    return info, _events(path, start, stats, old=old)


def _events(path: Path, start: int, stats: Stats, *, old: bool) -> Iterator[Events]:
    unwrap = Unwrap(32)
    x_bits, y_bits, p_bits = (9, 8, 1) if old else (14, 14, 4)
    for block in read_blocks(path, start, _RECORD.itemsize, stats):
        records = np.frombuffer(block, _RECORD)
        address = records["address"]
        x = address & ((1 << x_bits) - 1)
        y = (address >> x_bits) & ((1 << y_bits) - 1)
        p = (address >> (x_bits + y_bits)) & ((1 << p_bits) - 1)
        yield from split(pack(unwrap(records["t"]), x, y, p > 0))

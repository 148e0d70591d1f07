"""AEDAT 3.1 (cAER): packets with a 28-byte header, little-endian, origin in the upper left corner.

Source: docs.inivation.com, «AEDAT 3.1»; libcaer's `events/common.h` and `polarity.h` for the bits. A packet occupies
`capacity` events, of which the first `number` are filled and those with bit 0 set are valid. No real recording was at
hand: the tests' fixtures are written from the specification.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from firstspike.sources.formats._stream import (
    BLOCK_BYTES,
    MAX_EVENTS,
    Options,
    Stats,
    data_error,
    pack,
    printable,
)
from firstspike.types import Events, RecordingInfo

NAME = "aedat3"
_MAGIC = b"#!AER-DAT3."
_END = b"#!END-HEADER"
_PACKET = struct.Struct("<hhiiiiii")
_RECORD = np.dtype([("data", "<u4"), ("t", "<i4")])
_POLARITY = 1
_KINDS = {0: "special", 2: "frame", 3: "IMU", 4: "IMU"}
_MAX_KIND = 127

_SIZES = (
    ("davis208", (208, 192)),
    ("davis240", (240, 180)),
    ("davis346", (346, 260)),
    ("davis640", (640, 480)),
    ("davishet640", (640, 480)),
    ("davisrgb", (640, 480)),
    ("davis128", (128, 128)),
    ("dvs128", (128, 128)),
)


def sniff(head: bytes, path: Path) -> float:  # noqa: ARG001 the version line tells
    """1 where the version line says 3.1."""
    return 1.0 if head.startswith(_MAGIC) else 0.0


def open(path: Path, options: Options, stats: Stats) -> tuple[RecordingInfo, Iterator[Events]]:  # noqa: A001 the interface
    """Opens an AEDAT 3.1 recording; DataError where its header is unusable or its camera's size unknown."""
    with path.open("rb") as file:
        head = file.read(BLOCK_BYTES)
    end = re.search(rb"^#!END-HEADER[^\n]*\n", head, re.MULTILINE)
    if end is None or not printable(head[: end.start()]):
        raise data_error(path, "has no end of the AEDAT 3.1 header (#!END-HEADER)")
    text = head[: end.start()].decode("utf-8", "replace")
    encoding = re.search(r"^#Format:\s*(\S+)", text, re.MULTILINE)
    if encoding and encoding[1].upper() != "RAW":
        raise data_error(path, f"is AEDAT 3.1 with the encoding {encoding[1]}: only RAW is supported")
    source = re.search(r"^#Source\s+\d+:\s*(.+?)\s*$", text, re.MULTILINE)
    sensor = source[1] if source else None
    width, height, origin = _geometry(path, sensor, options)
    return RecordingInfo(NAME, width, height, origin, sensor), _events(path, end.end(), stats)


def _geometry(path: Path, sensor: str | None, options: Options) -> tuple[int, int, str]:
    for name, (width, height) in _SIZES:
        if sensor and name in sensor.lower():
            return width, height, "sensor"
    if options.width is not None and options.height is not None:
        return options.width, options.height, "given"
    raise data_error(path, f"comes from a camera of unknown size ({sensor}): give width and height")


def _events(path: Path, start: int, stats: Stats) -> Iterator[Events]:
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(start)
        position = start
        while position < size:
            header = file.read(_PACKET.size)
            stats.bytes_read += len(header)
            if len(header) < _PACKET.size:
                stats.truncated_bytes += len(header)
                return
            kind, _, event_size, _, overflow, capacity, number, valid = _PACKET.unpack(header)
            sane = 0 <= kind <= _MAX_KIND and event_size > 0 and overflow >= 0 and 0 <= valid <= number <= capacity
            if not sane or (kind == _POLARITY and event_size != _RECORD.itemsize):
                raise data_error(path, "has a damaged packet header", position)
            body = position + _PACKET.size
            position = body + capacity * event_size
            if kind == _POLARITY:
                yield from _packet(file, body, number, overflow, stats)
            else:
                stats.ignore(f"{_KINDS.get(kind, 'other')} events", number)
                stats.tick()
            if position > size:
                whole = min(number * event_size, size - body) // event_size * event_size if kind == _POLARITY else 0
                stats.truncated_bytes += size - body - whole
                return
            file.seek(position)


def _packet(file: BinaryIO, start: int, number: int, overflow: int, stats: Stats) -> Iterator[Events]:
    """Yields a polarity packet's valid events: as many as the file still holds."""
    file.seek(start)
    while number > 0:
        data = file.read(min(number, MAX_EVENTS) * _RECORD.itemsize)
        stats.bytes_read += len(data)
        records = np.frombuffer(data[: len(data) // _RECORD.itemsize * _RECORD.itemsize], _RECORD)
        if not len(records):
            return
        number -= len(records)
        data_words = records["data"]
        valid = (data_words & 1) == 1
        stats.ignore("events marked invalid", len(records) - np.count_nonzero(valid))
        word = data_words[valid]
        t = records["t"][valid].astype(np.int64) + (overflow << 31)
        if len(word):
            yield pack(t, word >> 17, (word >> 2) & 0x7FFF, (word >> 1) & 1)

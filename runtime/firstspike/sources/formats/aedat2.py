"""AEDAT 2.0 (jAER): big-endian pairs of a 32-bit address and a 32-bit time in µs; the address differs per chip.

Source: docs.inivation.com, «AEDAT 2.0»; orientation and polarity from jAER's extractors (`DVS128.java`,
`DavisBaseCamera.java`, `DavisChip.java`), which wrote the files: the origin is the lower left corner, x is mirrored on
the DVS128 and the DAVIS, and on the DVS128 bit 0 set means OFF (the specification's page says ON).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firstspike.sources.formats._stream import (
    BLOCK_BYTES,
    Options,
    Stats,
    Unwrap,
    data_error,
    pack,
    printable,
    read_blocks,
    split,
)
from firstspike.types import Events, RecordingInfo

NAME = "aedat2"
_RECORD = np.dtype([("address", ">u4"), ("t", ">u4")])
_MAGIC = b"#!AER-DAT2"
_END = b"#End Of ASCII Header"

_SIZES = {
    "davis208": (208, 192),
    "davis240": (240, 180),
    "dvs240": (240, 180),
    "davis346": (346, 260),
    "davis640": (640, 480),
    "davis128": (128, 128),
    "dvs128": (128, 128),
    "tmpdiff128": (128, 128),
}


_Layout = Callable[
    [NDArray[np.uint32], Stats, int, int],
    tuple[NDArray[np.bool_], NDArray[np.int32], NDArray[np.int32], NDArray[Any]],
]
"""Addresses, stats, width, height to: which are events (shape as the addresses), and x, y, p of those."""


def _dvs128(
    address: NDArray[np.uint32], stats: Stats, width: int, height: int
) -> tuple[NDArray[np.bool_], NDArray[np.int32], NDArray[np.int32], NDArray[Any]]:
    """Bits: 31 special, 15 external input, 14–8 y, 7–1 x, 0 polarity (1 OFF)."""
    keep = (address & 0x80008000) == 0
    stats.ignore("external or special events", len(address) - np.count_nonzero(keep))
    event = address[keep]
    x = (width - 1) - ((event >> 1) & 0x7F).astype(np.int32)
    y = (height - 1) - ((event >> 8) & 0x7F).astype(np.int32)
    return keep, x, y, (event & 1) == 0


def _davis(
    address: NDArray[np.uint32], stats: Stats, width: int, height: int
) -> tuple[NDArray[np.bool_], NDArray[np.int32], NDArray[np.int32], NDArray[Any]]:
    """Bits: 31 APS or IMU, 30–22 y, 21–12 x, 11 polarity (1 ON), 10 external input; 31, 11 and 10 set is IMU."""
    other = (address & 0x80000000) != 0
    imu = (address & 0x80000C00) == 0x80000C00
    special = ~other & ((address & 0x400) != 0)
    stats.ignore("IMU words", np.count_nonzero(imu))
    stats.ignore("APS (frame) words", np.count_nonzero(other & ~imu))
    stats.ignore("external or special events", np.count_nonzero(special))
    keep = ~(other | special)
    event = address[keep]
    x = (width - 1) - ((event >> 12) & 0x3FF).astype(np.int32)
    y = (height - 1) - ((event >> 22) & 0x1FF).astype(np.int32)
    return keep, x, y, (event >> 11) & 1


def sniff(head: bytes, path: Path) -> float:  # noqa: ARG001 the version line tells
    """1 where the version line says 2.0."""
    return 1.0 if head.startswith(_MAGIC) else 0.0


def _header(file_head: bytes) -> tuple[list[str], int]:
    """The header's lines and its length; a line must be text, since an address may begin with '#'."""
    lines: list[str] = []
    position = 0
    while file_head[position : position + 1] == b"#":
        end = file_head.find(b"\n", position)
        line = file_head[position:end]
        if end < 0 or not printable(line):
            break
        lines.append(line.decode("utf-8", "replace").strip())
        position = end + 1
        if line.startswith(_END):
            break
    return lines, position


def _field(lines: list[str], key: str) -> str | None:
    for line in lines:
        match = re.match(rf"#\s*{key}:\s*(.*)", line)
        if match:
            return match[1].strip()
    return None


def _identify(path: Path, lines: list[str], options: Options) -> tuple[_Layout, int, int, str, tuple[str, ...]]:
    chip = _field(lines, "AEChip")
    hardware = _field(lines, "HardwareInterface") or ""
    name = (chip.rsplit(".", 1)[-1] if chip else hardware).lower()
    for known, (width, height) in _SIZES.items():
        if known in name:
            layout = _davis if "davis" in known or known == "dvs240" else _dvs128
            return layout, width, height, "sensor", ()
    if chip is None and "davis" not in name:
        return _dvs128, 128, 128, "convention", ("the header names no chip: taken as a DVS128",)
    if "davis" in name and options.width is not None and options.height is not None:
        return _davis, options.width, options.height, "given", ()
    if "davis" in name:
        raise data_error(path, f"comes from a DAVIS of unknown size ({chip or hardware}): give width and height")
    raise data_error(path, f"comes from the chip {chip}, whose addresses are unknown here: convert it to AEDAT4")


def open(path: Path, options: Options, stats: Stats) -> tuple[RecordingInfo, Iterator[Events]]:  # noqa: A001 the interface
    """Opens an AEDAT 2.0 recording; DataError where the chip's addresses are unknown."""
    with path.open("rb") as file:
        lines, start = _header(file.read(BLOCK_BYTES * 4))
    layout, width, height, origin, notes = _identify(path, lines, options)
    sensor = _field(lines, "AEChip")
    sensor = sensor.rsplit(".", 1)[-1] if sensor else _field(lines, "HardwareInterface")
    info = RecordingInfo(NAME, width, height, origin, sensor, notes)
    return info, _events(path, start, stats, layout, width, height)


def _events(path: Path, start: int, stats: Stats, layout: _Layout, width: int, height: int) -> Iterator[Events]:
    unwrap = Unwrap(32)
    for block in read_blocks(path, start, _RECORD.itemsize, stats):
        records = np.frombuffer(block, _RECORD)
        keep, x, y, p = layout(records["address"].astype(np.uint32), stats, width, height)
        if not keep.any():
            stats.tick()
            continue
        yield from split(pack(unwrap(records["t"][keep]), x, y, p))

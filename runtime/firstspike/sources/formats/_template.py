"""Skeleton of a format: copy it to `yourformat.py`, and it is found by its file name.

Say here which specification the module follows, with its section, and which traps the format has.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from firstspike.sources.formats._stream import Options, Stats, data_error, pack, read_blocks
from firstspike.types import Events, RecordingInfo

NAME = "template"  # the value of RecordingInfo.format, and of format= where a user forces one

_MAGIC = b"EXAMPLE\n"
_RECORD = np.dtype([("t", "<u4"), ("x", "<u2"), ("y", "<u2")])


def sniff(head: bytes, path: Path) -> float:  # noqa: ARG001 a skeleton: use the name only to decide between equals
    """Confidence from 0 to 1, from the first 64 KiB: 1 for a magic number, below 0.2 for «not mine»."""
    return 1.0 if head.startswith(_MAGIC) else 0.0


def open(path: Path, options: Options, stats: Stats) -> tuple[RecordingInfo, Iterator[Events]]:  # noqa: A001, ARG001 the interface
    """Reads the header only: raise `data_error` where it is unusable, note in `notes` what is going to be ignored."""
    info = RecordingInfo(NAME, 640, 480, geometry_from="header")
    return info, _events(path, stats)


def _events(path: Path, stats: Stats) -> Iterator[Events]:
    """Yields at most MAX_EVENTS at once, in memory that does not grow with the file.

    Whole events before a fault are handed out first; a cut tail is counted, not raised; events outside the
    stated geometry are handed on as they are; timestamps that wrap go through `Unwrap`.
    """
    for block in read_blocks(path, len(_MAGIC), _RECORD.itemsize, stats):
        records = np.frombuffer(block, _RECORD)
        if not records["t"].all():
            raise data_error(path, "has an event without a time")
        yield pack(records["t"], records["x"], records["y"], np.ones(len(records), np.uint8))

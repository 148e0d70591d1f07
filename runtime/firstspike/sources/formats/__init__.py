"""Recognises a recording by its content and opens it with the one module that knows its format.

Every module of this package without a leading underscore is a format: it has `NAME`, `sniff` and `open` as
`_template.py` describes them. Adding a format is adding a file. Decoders read untrusted bytes: the daemon
runs them in a child process (`firstspike.sources.decoding`), never in its own.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Protocol, cast

from firstspike.errors import DataError, NoInputError, UsageError
from firstspike.sources.formats._rosbag2_files import bag_files
from firstspike.sources.formats._stream import Options, Stats, data_error
from firstspike.types import Events, RecordingInfo

HEAD_BYTES = 64 * 1024
"""How much of a file `sniff` sees."""
PLAUSIBLE = 0.2
"""Below this confidence a format is not taken."""

_UNSUPPORTED = (
    (b"#ROSBAG V1", "a ROS 1 bag of version 1", "to version 2.0 with `rosbag fix`"),
    (b"\x89MCAP0\r\n", "a ROS 2 bag in MCAP", "to SQLite with `rosbags-convert --dst-storage sqlite3`"),
    (b"\x28\xb5\x2f\xfd", "compressed with Zstandard", "with `zstd -d`"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file", "to AEDAT4, RAW or CSV with h5py"),
    (b"#!AER-DAT3.0", "an AEDAT 3.0 file", "with cAER, which rewrites it as AEDAT 3.1"),
)


class Format(Protocol):
    """What a format's module offers; `_template.py` explains each part."""

    NAME: str

    def sniff(self, head: bytes, path: Path) -> float:
        """Confidence from 0 to 1 that the file is of this format."""

    def open(self, path: Path, options: Options, stats: Stats) -> tuple[RecordingInfo, Iterator[Events]]:
        """Reads the header and returns the events as a stream of bounded arrays."""


@cache
def formats() -> dict[str, Format]:
    """Every format by name, in alphabetical order."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))
    modules = [cast("Format", importlib.import_module(f"{__name__}.{name}")) for name in names]
    return {module.NAME: module for module in modules}


def _read_head(path: Path) -> bytes:
    """Returns the first bytes of the file, or of the first file of a ROS 2 bag, which is a folder.

    Raises:
        NoInputError: It is not a readable, regular file.
        DataError: It is empty.
    """
    try:
        if path.is_dir():
            if files := bag_files(path):
                return _read_head(files[0])
            raise NoInputError(f"{path} is a folder and no ROS 2 bag: name a recording file")
        if not path.exists():
            raise NoInputError(f"{path} does not exist: check the path")
        if not path.is_file():
            raise NoInputError(f"{path} is not a regular file: copy the recording to a file first")
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        raise NoInputError(f"{path} cannot be read: {os.strerror(error.errno or 0)}") from error
    except ValueError as error:
        raise NoInputError(f"{str(path)!r} is not a path: {error}") from error
    if not head:
        raise DataError(f"{path} is empty: there is no recording in it")
    return head


def detect(path: Path) -> str:
    """Returns the name of the file's format, judged by its content; its name only decides between equals.

    Raises:
        NoInputError: The file is missing, a folder or unreadable.
        DataError: The file is empty or of no known format.
    """
    head = _read_head(path)
    for magic, what, fix in _UNSUPPORTED:
        if head.startswith(magic):
            raise DataError(f"{path} is {what}, which is not supported: convert it {fix}")
    scores = {name: module.sniff(head, path) for name, module in formats().items()}
    best = max(scores, key=lambda name: scores[name])
    if scores[best] < PLAUSIBLE:
        known = ", ".join(formats())
        raise DataError(f"{path} is in no known format (known: {known}): convert it, or force one with format=")
    return best


def open_recording(path: Path, options: Options, stats: Stats) -> tuple[RecordingInfo, Iterator[Events]]:
    """Opens a recording of any format.

    Args:
        path: The file.
        options: What the user states about it; `options.format` skips the detection.
        stats: Filled while the events are consumed.

    Returns:
        What the file says of itself, and its events as arrays of dtype EVENT of at most MAX_EVENTS each.

    Raises:
        NoInputError: The file is missing or unreadable.
        DataError: The file is malformed; also raised while iterating, after the events before the fault.
        UsageError: `options.format` is unknown.
    """
    name = options.format
    if name is None:
        name = detect(path)
    elif name not in formats():
        raise UsageError(f"format '{name}' is unknown: use one of {', '.join(formats())}")
    else:
        _read_head(path)
    if path.is_dir() and name != "rosbag2":
        raise NoInputError(f"{path} is a folder: name a file of the format {name}")
    info, events = formats()[name].open(path, options, stats)
    if options.width is not None and options.height is not None:
        info = replace(info, width=options.width, height=options.height, geometry_from="given")
    if not (0 < info.width <= 65535 and 0 < info.height <= 65535):
        raise data_error(path, f"states a sensor of {info.width}×{info.height} pixels; give width and height")
    return info, events

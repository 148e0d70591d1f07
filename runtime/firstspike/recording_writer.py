"""Writes recordings of what a live source gives: whole files, with an eye on the disk; `recorder` writes many.

A file is written under another name and takes its own when it is complete and on the disk. What a file cannot hold is
left out and counted: events outside the sensor, or earlier than the one before.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np

from firstspike.errors import OutputError
from firstspike.files import sync_folder
from firstspike.sources import aedat4_writer, evt3_writer
from firstspike.types import Events, pick
from firstspike.window import MAX_TIME_US

Format = Literal["aedat4", "evt3"]
SUFFIX: dict[str, str] = {"aedat4": ".aedat4", "evt3": ".raw"}
LOOK_S = 0.5
"""Between two looks at the free space."""
_CHUNK = 65_536


class FullError(OutputError):
    """The disk's free space fell below the floor; what was written is kept."""


class _Aedat4:
    """Through faery's encoder."""

    def __init__(self, temporary: Path, target: Path, size: tuple[int, int], source: str) -> None:
        if max(size) > aedat4_writer.MAX_SIDE:
            raise OutputError(f"{target} cannot be written: AEDAT4 has no sensor of {size[0]}×{size[1]} pixels")
        self._temporary, self._target = temporary, target
        self._stack = contextlib.ExitStack()
        self._stack.enter_context(aedat4_writer.output_errors(target))
        self._encoder = self._stack.enter_context(aedat4_writer.encoder(temporary, size, source))
        self._count = 0

    def write(self, events: Events) -> None:
        with aedat4_writer.output_errors(self._target):
            for start in range(0, len(events), _CHUNK):
                part = events[start : start + _CHUNK]
                self._encoder.write(aedat4_writer.TRACK, aedat4_writer.converted(part))
                self._count += len(part)

    def finish(self) -> None:
        self._stack.close()
        aedat4_writer.check(self._temporary, self._target, self._count)

    def abandon(self) -> None:
        with contextlib.suppress(OutputError):
            self._stack.close()


class _Evt3:
    """Our own words."""

    def __init__(self, temporary: Path, target: Path, size: tuple[int, int], source: str) -> None:
        if max(size) > evt3_writer.MAX_SIDE:
            raise OutputError(
                f"{target} cannot be written: EVT3 has no sensor of {size[0]}×{size[1]} pixels: use aedat4"
            )
        self._size, self._source = size, source
        self._encoder: evt3_writer.Evt3Encoder | None = None
        self._file: IO[bytes] = temporary.open("wb")

    def write(self, events: Events) -> None:
        encoder = self._encoder or self._begin(int(events["t"][0]))
        self._file.write(encoder.encode(events).data)

    def _begin(self, first_us: int) -> evt3_writer.Evt3Encoder:
        self._encoder = evt3_writer.Evt3Encoder(first_us)
        self._file.write(evt3_writer.header(*self._size, self._source, self._encoder.offset_us))
        return self._encoder

    def finish(self) -> None:
        if self._encoder is None:
            self._begin(0)
        self._file.close()

    def abandon(self) -> None:
        with contextlib.suppress(OSError):
            self._file.close()


class RecordingFile:
    """A recording on its way.

    Args:
        path: the name that it takes when it is complete; nothing may be there. If something is then, it takes another.
        format: AEDAT4 or EVT3.
        width: of the sensor, pixels.
        height: the same.
        source: the camera's name, which the file keeps.
        free_bytes: floor of the disk's free space.

    Raises:
        FullError: there is less free already.
        OutputError: it cannot be written.
    """

    def __init__(
        self, path: Path, format: Format, width: int, height: int, *, source: str, free_bytes: int = 0  # noqa: A002
    ) -> None:  # fmt: skip
        self.path = path
        self.events = 0
        self.outside = 0
        self.backward = 0
        self._size = width, height
        self._last_us = 0
        self._free_bytes = free_bytes
        self._looked = -LOOK_S
        with errors(path):
            self._look()
            if path.exists():
                raise OutputError(f"{path} exists: name another file")
            handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
            os.close(handle)
            self._temporary = Path(name)
            try:
                codec: Any = _Aedat4 if format == "aedat4" else _Evt3
                self._codec = codec(self._temporary, path, self._size, source)
            except BaseException:
                self._temporary.unlink(missing_ok=True)
                raise

    @property
    def bytes(self) -> int:
        """On the disk so far, about.

        Raises:
            OutputError: it is not there any more.
        """
        with errors(self.path):
            return self._temporary.stat().st_size

    def _look(self) -> None:
        now = time.monotonic()
        if self._free_bytes and now - self._looked > LOOK_S:
            self._looked = now
            require_free(self.path.parent, self._free_bytes)

    def write(self, events: Events) -> None:
        """Append events; those that the file cannot hold are counted.

        Raises:
            FullError: see above; the file is whole as far as it goes.
            OutputError: writing failed.
        """
        if not len(events):
            return
        with errors(self.path):
            self._look()
            fit = self._fitting(events)
            if len(fit):
                self._codec.write(fit)
                self.events += len(fit)

    def _fitting(self, events: Events) -> Events:
        t = events["t"]
        inside = (events["x"] < self._size[0]) & (events["y"] < self._size[1]) & (t >= 0) & (t <= MAX_TIME_US)
        if not inside.all():
            self.outside += int(np.count_nonzero(~inside))
            events = pick(events, inside)
            t = events["t"]
        if not len(events):
            return events
        largest = np.maximum.accumulate(np.maximum(t, self._last_us))
        ordered = t >= largest
        if not ordered.all():
            self.backward += int(np.count_nonzero(~ordered))
            events = pick(events, ordered)
        self._last_us = int(largest[-1])
        return events

    def finish(self) -> None:
        """Complete the file, bring it to the disk, and give it its name: `path` says which it was.

        Raises:
            OutputError: that failed; nothing is left.
        """
        try:
            with errors(self.path):
                self._codec.finish()
                self.path = _named(self._temporary, self.path)
        except BaseException:
            self._discard()
            raise

    def abandon(self) -> None:
        """Leave nothing behind."""
        self._codec.abandon()
        self._discard()

    def _discard(self) -> None:
        with contextlib.suppress(OSError):  # the disk may be gone
            self._temporary.unlink(missing_ok=True)


def _named(temporary: Path, path: Path) -> Path:
    """Bring a file to the disk and give it its name, or the next one that is free: never another recording's.

    Returns:
        The name.
    """
    aedat4_writer.settle(temporary)
    target, number = path, 1
    while not _moved(temporary, target):
        number += 1
        target = path.with_name(f"{path.stem}-{number}{path.suffix}")
    sync_folder(path.parent)
    return target


def _moved(temporary: Path, target: Path) -> bool:
    """Whether the name was free, and is the file's now."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        return False
    except OSError:  # a file system without links, as on memory cards
        if target.exists():
            return False
        temporary.rename(target)
        return True
    temporary.unlink()
    return True


def require_free(folder: Path, floor: int) -> None:
    """Raise FullError if less than `floor` bytes are free in a folder."""
    free = shutil.disk_usage(folder).free
    if free < floor:
        raise FullError(
            f"{folder}: {free >> 20} MiB are free, less than the floor of {floor >> 20}: nothing more is recorded: "
            "make room"
        )


@contextlib.contextmanager
def errors(path: Path) -> Iterator[None]:
    """What the system refuses, as an OutputError that names the file."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}") from error

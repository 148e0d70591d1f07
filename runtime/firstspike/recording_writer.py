"""Writes what a live source gives: whole files, in a thread of its own, with an eye on the disk.

A file is written under another name and takes its own when it is complete and on the disk. What a file cannot hold is
left out and counted: events outside the sensor, or earlier than the one before.
"""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np

from firstspike.errors import OutputError
from firstspike.sources import aedat4_writer, evt3_writer
from firstspike.types import EVENT, Events, pick

Format = Literal["aedat4", "evt3"]
SUFFIX: dict[str, str] = {"aedat4": ".aedat4", "evt3": ".raw"}
LOOK_S = 0.5
"""Between two looks at the free space."""
QUEUE_BYTES = 256 << 20
"""Of events that wait for the disk; more are dropped and counted."""
_CHUNK = 65_536


class FullError(OutputError):
    """The disk's free space fell below the floor; what was written is kept."""


@dataclass(slots=True)
class Written:
    """What became of the events."""

    events: int = 0
    outside: int = 0
    """Left out: outside the sensor, or of a time below zero."""
    backward: int = 0
    """Left out: earlier than the one before."""
    dropped: int = 0
    """Left out: the disk was too slow."""
    files: int = 0


class _Aedat4:
    """Through faery's encoder."""

    def __init__(self, temporary: Path, target: Path, size: tuple[int, int], source: str) -> None:
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
        self._encoder = evt3_writer.Evt3Encoder()
        self._file: IO[bytes] = temporary.open("wb")
        self._file.write(evt3_writer.header(*size, source))

    def write(self, events: Events) -> None:
        self._file.write(self._encoder.encode(events).data)

    def finish(self) -> None:
        self._file.close()

    def abandon(self) -> None:
        with contextlib.suppress(OSError):
            self._file.close()


class RecordingFile:
    """A recording on its way.

    Args:
        path: the name that it takes when it is complete; nothing may be there.
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
        with _errors(path):
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
        """On the disk so far, about."""
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
        with _errors(self.path):
            self._look()
            fit = self._fitting(events)
            if len(fit):
                self._codec.write(fit)
                self.events += len(fit)

    def _fitting(self, events: Events) -> Events:
        t = events["t"]
        inside = (events["x"] < self._size[0]) & (events["y"] < self._size[1]) & (t >= 0)
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
        """Complete the file, bring it to the disk, and give it its name.

        Raises:
            OutputError: that failed; nothing is left.
        """
        try:
            with _errors(self.path):
                self._codec.finish()
                aedat4_writer.make_durable(self._temporary, self.path)
        except BaseException:
            self._temporary.unlink(missing_ok=True)
            raise

    def abandon(self) -> None:
        """Leave nothing behind."""
        self._codec.abandon()
        self._temporary.unlink(missing_ok=True)


def require_free(folder: Path, floor: int) -> None:
    """Raise FullError if less than `floor` bytes are free in a folder."""
    free = shutil.disk_usage(folder).free
    if free < floor:
        raise FullError(
            f"{folder}: {free >> 20} MiB are free, less than the floor of {floor >> 20} (--free-mib): make room"
        )


@contextlib.contextmanager
def _errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}") from error


class Rotation:
    """Names files one after another, and says when the next is due.

    Args:
        path: `OUT.aedat4`; if files follow one another, `OUT-0001.aedat4` and so on, never one that exists.
        max_bytes: of a file; None: any.
        max_s: of the sensor's time in a file; None: any.
        numbered: whether the first has a number too.
    """

    def __init__(self, path: Path, max_bytes: int | None = None, max_s: float | None = None) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._max_us = None if max_s is None else round(max_s * 1e6)
        self._numbered = max_bytes is not None or max_s is not None
        self._number = 0

    def name(self) -> Path:
        """The next file's."""
        if self._number == 0 and not self._numbered:
            self._number = 1
            return self._path
        while True:
            self._number += 1
            path = self._path.with_name(f"{self._path.stem}-{self._number:04}{self._path.suffix}")
            if not path.exists():
                return path

    def look(self, free_bytes: int) -> None:
        """Say before the first event comes that no file could be written.

        Raises:
            FullError: less than `free_bytes` are free.
            OutputError: the folder is not there or closed, or the file exists.
        """
        folder = self._path.parent
        with _errors(self._path):
            if not self._numbered and os.path.lexists(self._path):
                raise OutputError(f"{self._path} exists: name another file")
            with tempfile.TemporaryFile(dir=folder):
                pass
            require_free(folder, free_bytes)

    def split(self, events: Events, first_us: int) -> int:
        """How many of the events belong to the file that began at `first_us`; they are in order."""
        if self._max_us is None:
            return len(events)
        return int(np.searchsorted(events["t"], first_us + self._max_us))

    def full(self, size: int) -> bool:
        """Whether a file has all that it may have."""
        return self._max_bytes is not None and size >= self._max_bytes


_Job = tuple[Events, tuple[int, int], str] | None


class Recorder:
    """Takes events in and writes them in a thread of its own, file after file; it never waits for the disk.

    Args:
        rotation: names.
        format: of the files.
        free_bytes: floor of the free space.
        tell: called with each file that was completed.
    """

    RESET_US = 1_000_000
    """A fall of the time by more is another time base, which needs another file; so is a leap beyond `LEAP_US`."""
    LEAP_US = evt3_writer.MAX_SILENCE_US

    def __init__(
        self, rotation: Rotation, format: Format, free_bytes: int, tell: Callable[[RecordingFile], None]  # noqa: A002
    ) -> None:  # fmt: skip
        self.written = Written()
        self.error: OutputError | None = None
        self._rotation = rotation
        self._format = format
        self._free_bytes = free_bytes
        self._tell = tell
        self._file: RecordingFile | None = None
        self._key: object = None
        self._first_us = self._last_us = 0
        self._queue: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._waiting = 0
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()

    def put(self, events: Events, size: tuple[int, int], source: str) -> None:
        """Take events of a segment: the next segment, of another `source` or size, gets another file.

        Raises:
            OutputError: writing failed, or the disk is full.
        """
        if self.error is not None:
            raise self.error
        with self._lock:
            if self._waiting + events.nbytes > QUEUE_BYTES:
                self.written.dropped += len(events)
                return
            self._waiting += events.nbytes
        self._queue.put((events, size, source))

    def end_segment(self) -> None:
        """What follows belongs to another file."""
        self._queue.put((np.empty(0, EVENT), (0, 0), ""))

    def close(self) -> None:
        """Write what waits, and complete the last file.

        Raises:
            OutputError: that failed.
        """
        self._queue.put(None)
        self._thread.join()
        if self.error is not None:
            raise self.error

    def _run(self) -> None:
        while (job := self._queue.get()) is not None:
            events, size, source = job
            with self._lock:
                self._waiting -= events.nbytes
            if self.error is not None:
                continue
            try:
                self._take(events, size, source)
            except OutputError as error:
                self._fail(error)
        if self.error is None:
            try:
                self._complete()
            except OutputError as error:
                self.error = error

    def _fail(self, error: OutputError) -> None:
        """Keep what can be kept."""
        try:
            if isinstance(error, FullError):
                self._complete()
            elif self._file is not None:
                self._file.abandon()
                self._file = None
        except OutputError:
            pass  # the first fault is the one to tell
        self.error = error

    def _take(self, events: Events, size: tuple[int, int], source: str) -> None:
        if not len(events):
            self._complete()
            return
        if self._file is not None and not -self.RESET_US <= int(events["t"][0]) - self._last_us <= self.LEAP_US:
            self._complete()
        while len(events):
            if self._file is None:
                self._first_us = self._last_us = max(0, int(events["t"][0]))
                self._file = RecordingFile(
                    self._rotation.name(), self._format, *size, source=source, free_bytes=self._free_bytes
                )
            leaps = np.flatnonzero(np.diff(events["t"]) > self.LEAP_US)
            n = min(self._rotation.split(events, self._first_us), int(leaps[0]) + 1 if len(leaps) else len(events))
            self._file.write(events[:n])
            if n:
                self._last_us = max(self._last_us, int(events["t"][n - 1]))
            events = events[n:]
            if len(events) or self._rotation.full(self._file.bytes):
                self._complete()

    def _complete(self) -> None:
        file, self._file = self._file, None
        if file is None:
            return
        self.written.outside += file.outside
        self.written.backward += file.backward
        if not file.events:
            file.abandon()
            return
        file.finish()
        self.written.events += file.events
        self.written.files += 1
        self._tell(file)

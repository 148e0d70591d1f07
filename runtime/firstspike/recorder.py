"""Writes the events of a live source to files, one after another, in a thread of its own: `firstspike record`."""

from __future__ import annotations

import os
import queue
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from firstspike.errors import OutputError
from firstspike.recording_writer import Format, FullError, RecordingFile, errors, require_free
from firstspike.types import EVENT, Events, pick
from firstspike.window import MAX_TIME_US

QUEUE_BYTES = 256 << 20
"""Of events that wait for the disk; more are dropped and counted."""
RESET_US = 1_000_000
"""A fall of the time by more is another time base, which needs another file."""
LEAP_US = 3_600_000_000
"""And so is a rise by more."""
_AHEAD = 65_536
_AFTER_LEAP = 256
"""Events looked at once; after a leap, doubling from there: a stream of nothing but leaps must not cost its square."""


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
        with errors(self._path):
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
            except Exception as error:  # noqa: BLE001 (whoever records must not believe that all is well)
                self._fail(OutputError(f"recording stopped by a fault of firstspike: {type(error).__name__}: {error}"))
        if self.error is None:
            try:
                self._complete()
            except OutputError as error:
                self.error = error

    def _fail(self, error: OutputError) -> None:
        """Keep what can be kept."""
        self.error = error
        try:
            if isinstance(error, FullError):
                self._complete()
            elif self._file is not None:
                self._file.abandon()
                self._file = None
        except OutputError:
            pass  # the first fault is the one to tell

    def _take(self, events: Events, size: tuple[int, int], source: str) -> None:
        if not len(events):
            self._complete()
            return
        timed = (events["t"] >= 0) & (events["t"] <= MAX_TIME_US)
        if not timed.all():
            self.written.outside += int(np.count_nonzero(~timed))
            events = pick(events, timed)
        ahead = _AHEAD
        while len(events):
            n = self._until_leap(events[:ahead])
            self._write(events[:n], size, source)
            leaps = n < min(ahead, len(events))
            events = events[n:]
            if leaps and self._is_stray(events):
                self.written.backward += 1
                events = events[1:]
            elif leaps:
                self._complete()
            ahead = _AFTER_LEAP if leaps else min(2 * ahead, _AHEAD)

    def _until_leap(self, events: Events) -> int:
        """How many of the events are of the file's time base."""
        t = events["t"]
        last_us = int(t[0]) if self._file is None else self._last_us
        largest = np.maximum(np.maximum.accumulate(t), last_us)
        before = np.concatenate([[last_us], largest[:-1]])
        leaps = (t < before - RESET_US) | (t > before + LEAP_US)
        return int(leaps.argmax()) if leaps.any() else len(t)

    def _is_stray(self, events: Events) -> bool:
        """Whether the first of the events alone is of another time: it lies, and is no other time base."""
        if len(events) < 2 or self._file is None:
            return False
        return bool(-RESET_US <= int(events["t"][1]) - self._last_us <= LEAP_US)

    def _write(self, events: Events, size: tuple[int, int], source: str) -> None:
        """Write events of one time base to as many files as they need."""
        while len(events):
            if self._file is None:
                self._first_us = self._last_us = int(events["t"][0])
                self._file = RecordingFile(
                    self._rotation.name(), self._format, *size, source=source, free_bytes=self._free_bytes
                )
            n = self._rotation.split(events, self._first_us)
            self._file.write(events[:n])
            if n:
                self._last_us = max(self._last_us, int(events["t"][:n].max()))
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

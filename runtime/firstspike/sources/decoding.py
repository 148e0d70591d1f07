"""Reads recordings through a supervised child process, so that no file can harm or stop the daemon.

    with DecoderProcess() as decoder:
        with decoder.open("recording.raw") as recording:
            for events in recording:
                ...
            recording.stats

The child has a limit on its memory and dies with the thread that started it (PR_SET_PDEATHSIG follows the thread, not
the process: let a thread that lives as long as the reading call `open`). A child that crashes, hangs or
sends garbage becomes one DataError that names the file; the next `open` starts another.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from firstspike import errors, progress
from firstspike.errors import DataError, UnavailableError
from firstspike.sources import _decode_frames as frames
from firstspike.sources._decode_link import Child, ChildFailedError
from firstspike.types import EVENT, Events, RecordingInfo, RecordingStats

MEMORY_BYTES = 2 << 30
PROGRESS_S = 10.0


@dataclass(frozen=True, slots=True)
class _Failure:
    """The child's error, and how it is raised here."""

    kind: str
    text: str

    def exception(self, path: Path) -> errors.FirstspikeError:
        known = getattr(errors, self.kind, None)
        if isinstance(known, type) and issubclass(known, errors.FirstspikeError):
            return known(self.text)
        return DataError(f"{path} could not be decoded: the decoder {self.text}")


# A child whose memory is corrupt may send anything, also as JSON.
_INFO, _STATS, _FAILURE = TypeAdapter(RecordingInfo), TypeAdapter(RecordingStats), TypeAdapter(_Failure)


def _strict(body: memoryview) -> Any:
    """JSON with tuples for lists. Not pydantic's parser: names that are no UTF-8 come as lone surrogates."""
    value = json.loads(bytes(body))
    if isinstance(value, dict):
        return {key: tuple(part) if isinstance(part, list) else part for key, part in value.items()}
    return value


class Recording:
    """An open recording: `info` at once, events by iterating, `stats` at the end.

    Iterate once. Leaving early (`close`, or the end of a `with` block) is allowed at any time.
    """

    def __init__(self, owner: DecoderProcess, child: Child, path: Path, info: RecordingInfo) -> None:
        self.info = info
        self._owner = owner
        self._child: Child | None = child
        self._path = path
        self._stats: RecordingStats | None = None

    @property
    def stats(self) -> RecordingStats:
        """What the recording turned out to hold.

        Raises:
            RuntimeError: The events have not been read to their end.
        """
        if self._stats is None:
            raise RuntimeError(f"{self._path} was not read to its end: its statistics are unknown")
        return self._stats

    @property
    def outcome(self) -> RecordingStats | None:
        """`stats`, or None as long as the events have not been read to their end."""
        return self._stats

    def __iter__(self) -> Iterator[Events]:
        """Yields arrays of dtype EVENT, of at most 65,536 events.

        Raises:
            DataError: The file is damaged, or the decoder crashed or hung on it; the events before it came first.
        """
        while self._child is not None:
            try:
                kind, body = self._child.receive()
                progress.beat()  # a long search within a file is no hang; the child's own limit finds that
                if kind == frames.EVENTS:
                    yield np.frombuffer(body, EVENT)
                elif kind == frames.STATS:
                    self._stats = _STATS.validate_python(_strict(body))
                    self._finish()
                elif kind == frames.FAILURE:
                    failure = _FAILURE.validate_python(_strict(body))
                    self._finish()
                    raise failure.exception(self._path)
                elif kind != frames.TICK:
                    raise ChildFailedError("sent a frame out of turn")  # noqa: TRY301 handled with the others
            except ValueError as error:
                self.close()
                what = "sent what is no frame: its memory may be corrupt"
                raise DataError(f"{self._path} could not be decoded: the decoder {what}") from error
            except ChildFailedError as error:
                self.close()
                raise DataError(f"{self._path} could not be decoded: the decoder {error}") from error

    def _finish(self) -> None:
        self._child = None
        self._owner.release(self)

    def close(self) -> None:
        """Gives the recording up; a child that is in the middle of it is ended."""
        if self._child is not None:
            self._child = None
            self._owner.discard(self)

    def __enter__(self) -> Recording:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class DecoderProcess:
    """Decodes files one after another in one child process, which is started when it is first needed.

    Args:
        memory_bytes: Address space that the child may take beyond what it has at its start.
        progress_s: Seconds without a sign of life after which the child is killed.
    """

    def __init__(self, *, memory_bytes: int = MEMORY_BYTES, progress_s: float = PROGRESS_S) -> None:
        self._memory_bytes = memory_bytes
        self._progress_s = progress_s
        self._child: Child | None = None
        self._current: Recording | None = None

    @property
    def pid(self) -> int | None:
        """The child's process identifier; None where none runs."""
        return self._child.process.pid if self._child else None

    def open(
        self,
        path: str | os.PathLike[str],
        *,
        format: str | None = None,  # noqa: A002 the word users know
        width: int | None = None,
        height: int | None = None,
        columns: str | None = None,
    ) -> Recording:
        """Opens a recording; one that is still open is closed.

        Args:
            path: The file.
            format: Forces a format instead of recognising it.
            width: Pixels, where the file does not tell or tells wrong; with `height`.
            height: Pixels.
            columns: Order of the columns of CSV, such as `xypt`.

        Raises:
            NoInputError: The file is missing or unreadable.
            DataError: It is malformed or of no known format, or the decoder crashed or hung on it.
            UsageError: `format` or `columns` is unknown.
            UnavailableError: No child process could be started.
        """
        if self._current is not None:
            self._current.close()
        name = Path(path).absolute()
        request = {"path": str(name), "format": format, "width": width, "height": height, "columns": columns}
        fresh = self._child is None
        try:
            return self._open(name, request)
        except ChildFailedError as error:
            self._drop()
            if fresh or "no progress" in str(error):
                raise DataError(f"{name} could not be decoded: the decoder {error}") from error
        # The child had died idle, or the previous file hurt it: this file gets a fair try.
        try:
            return self._open(name, request)
        except ChildFailedError as error:
            self._drop()
            raise DataError(f"{name} could not be decoded: the decoder {error}") from error

    def _open(self, path: Path, request: dict[str, Any]) -> Recording:
        if self._child is None:
            self._child = self._start()
        child = self._child
        child.request(request)
        kind = frames.TICK
        while kind == frames.TICK:
            kind, body = child.receive()
            progress.beat()
        try:
            if kind == frames.INFO:
                self._current = Recording(self, child, path, _INFO.validate_python(_strict(body)))
                return self._current
            if kind == frames.FAILURE:
                raise _FAILURE.validate_python(_strict(body)).exception(path)
        except ValueError as error:
            raise ChildFailedError("sent what is no frame: its memory may be corrupt") from error
        raise ChildFailedError("sent a frame out of turn")

    def _start(self) -> Child:
        try:
            return Child(self._memory_bytes, self._progress_s)
        except (OSError, ChildFailedError) as error:
            raise UnavailableError(f"the decoder's process could not be started: {error}") from error

    def release(self, recording: Recording) -> None:
        """A recording has come to its end: the child is idle."""
        if self._current is recording:
            self._current = None

    def discard(self, recording: Recording) -> None:
        """A recording is given up: the child, in the middle of it, is ended."""
        if self._current is recording:
            self._current = None
            self._drop()

    def _drop(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.kill()

    def close(self) -> None:
        """Ends the child."""
        if self._current is not None:
            self._current.close()
        self._drop()

    def __enter__(self) -> DecoderProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

"""`[source] kind = "recording"`: files, one after another, once or for ever."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from firstspike.errors import ConfigError
from firstspike.sources import Segment, Stream
from firstspike.sources._pacing import MaxSilence, Speed
from firstspike.sources.decoding import DecoderProcess, Recording
from firstspike.types import Events, RecordingInfo, RecordingStats

FRUITLESS_ROUNDS = 3


class Options(BaseModel):
    """`[source.recording]`."""

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)

    paths: Annotated[list[str], Field(description="files, relative to the configuration file")] = []
    speed: Annotated[Speed, Field(description='times real time, or "max"')] = 1.0
    loop: Annotated[bool, Field(description="begin again at the end, for ever")] = False
    max_silence_s: MaxSilence = 10.0
    format: Annotated[str | None, Field(description="default: recognised by content")] = None
    width: Annotated[int | None, Field(ge=1, le=65535, description="sensor, where the file does not say")] = None
    height: Annotated[int | None, Field(ge=1, le=65535)] = None
    columns: Annotated[str | None, Field(description='order of a CSV\'s columns, such as "txyp"')] = None

    @model_validator(mode="after")
    def _both_sides(self) -> Options:
        if (self.width is None) != (self.height is None):
            raise ValueError("width and height must be given together")
        return self


@dataclass(frozen=True, slots=True)
class _Watched:
    """A recording that tells its source when it gives events."""

    recording: Recording
    source: RecordingSource

    @property
    def info(self) -> RecordingInfo:
        return self.recording.info

    @property
    def outcome(self) -> RecordingStats | None:
        return self.recording.outcome

    def __iter__(self) -> Iterator[Events]:
        for events in self.recording:
            self.source.bore_fruit()
            yield events


def printable_name(path: Path) -> str:
    """The path as text that can be published: bytes that are no UTF-8 are written as escapes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


class RecordingSource:
    """Replays files through one supervised decoder process."""

    live = False

    def __init__(self, options: Options, base: Path) -> None:
        self.speed = None if options.speed == "max" else options.speed
        self.max_silence_us = round(options.max_silence_s * 1e6)
        self._options = options
        self._paths = [base / path for path in options.paths]
        self._decoder = DecoderProcess()
        self._fruitful = False

    def segments(self) -> Iterator[Segment]:
        """A segment a file. A loop ends after a few rounds in which no file gave an event: it would fail for ever."""
        fruitless = 0
        while True:
            self._fruitful = False
            for path in self._paths:
                yield Segment(printable_name(path), lambda path=path: self._opened(path))  # type: ignore[misc]
            fruitless = 0 if self._fruitful else fruitless + 1
            if not self._options.loop or fruitless == FRUITLESS_ROUNDS:
                return

    @contextmanager
    def _opened(self, path: Path) -> Iterator[Stream]:
        options = self._options
        with self._decoder.open(
            path, format=options.format, width=options.width, height=options.height, columns=options.columns
        ) as recording:
            yield _Watched(recording, self)

    def bore_fruit(self) -> None:
        """A file gave events: the round was not for nothing."""
        self._fruitful = True

    def close(self) -> None:
        """End the decoder process."""
        self._decoder.close()


def create(options: Options, base: Path) -> RecordingSource:
    """See `sources`."""
    if not options.paths:
        raise ConfigError("source.recording.paths is empty: name the files to replay")
    return RecordingSource(options, base)

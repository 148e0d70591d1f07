"""`[source] kind = "recording"`: files, one after another, once or for ever."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from firstspike.sources import Segment, Speed, Stream
from firstspike.sources.decoding import DecoderProcess


class Options(BaseModel):
    """`[source.recording]`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    paths: Annotated[list[str], Field(description="files, relative to the configuration file")] = []
    speed: Annotated[Speed, Field(description='times real time, or "max"')] = 1.0
    loop: Annotated[bool, Field(description="begin again at the end, for ever")] = False
    format: Annotated[str | None, Field(description="default: recognised by content")] = None
    width: Annotated[int | None, Field(ge=1, le=65535, description="sensor, where the file does not say")] = None
    height: Annotated[int | None, Field(ge=1, le=65535)] = None
    columns: Annotated[str | None, Field(description='order of a CSV\'s columns, such as "txyp"')] = None


class RecordingSource:
    """Replays files through one supervised decoder process."""

    def __init__(self, options: Options, base: Path) -> None:
        self.speed = None if options.speed == "max" else options.speed
        self._options = options
        self._paths = [base / path for path in options.paths]
        self._decoder = DecoderProcess()

    def segments(self) -> Iterator[Segment]:
        """A segment a file. A round of a loop in which every file fails is the last: it would fail for ever."""
        while True:
            readable = 0

            @contextmanager
            def opened(path: Path) -> Iterator[Stream]:
                nonlocal readable
                options = self._options
                with self._decoder.open(
                    path, format=options.format, width=options.width, height=options.height, columns=options.columns
                ) as recording:
                    yield recording
                readable += 1

            for path in self._paths:
                yield Segment(str(path), lambda path=path: opened(path))  # type: ignore[misc]
            if not self._options.loop or readable == 0:
                return

    def close(self) -> None:
        """End the decoder process."""
        self._decoder.close()


def create(options: Options, base: Path) -> RecordingSource:
    """See `sources`."""
    return RecordingSource(options, base)

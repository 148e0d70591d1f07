"""Where events come from: one file a source, found by its name in `[source] kind`.

A source module offers `Options` (a pydantic model: the keys of its section `[source.<kind>]`) and
`create(options, base) -> Source`, where relative paths count from the folder `base`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from firstspike.types import Events, RecordingInfo, RecordingStats

if TYPE_CHECKING:  # the decoder's child process imports this package too, and starts sooner without pydantic
    from pydantic import BaseModel


class Stream(Protocol):
    """An open recording or camera: what it is, and its events in arrays of bounded size, in order of arrival."""

    @property
    def info(self) -> RecordingInfo:
        """Sensor and geometry."""

    @property
    def outcome(self) -> RecordingStats | None:
        """What it turned out to hold; None as long as it was not read to its end, and for what has no end."""

    def __iter__(self) -> Iterator[Events]:
        """Yield arrays of dtype `EVENT`.

        Raises:
            FirstspikeError: the stream broke; what was yielded before stands.
        """


@dataclass(frozen=True, slots=True)
class Arrival:
    """What a live stream gave at once."""

    events: Events
    """Dtype `EVENT`; empty: nothing came in time, or only the time did."""
    arrived_ns: int
    """When it reached this machine, of `time.monotonic_ns`; of an empty one, when it was last looked whether there is
    anything."""
    reached_us: int | None = None
    """The sensor's clock then, where it is known beyond the last event."""
    ended: bool = False
    """The stream ended in good order: nothing follows."""


class LiveStream(ABC):
    """A `Stream` whose events come when they come. One thread reads it."""

    info: RecordingInfo
    outcome: RecordingStats | None = None
    gather_s: float = 0.0
    """Events may lie unread for so long, in the middle of a window, without a loss."""

    @abstractmethod
    def receive(self, within_s: float) -> Arrival:
        """Wait for events.

        Args:
            within_s: the longest wait in seconds; 0: what is there now.

        Raises:
            FirstspikeError: the stream broke, as when a camera is unplugged.
        """

    def take_counts(self) -> dict[str, int]:
        """What was lost or refused since the last call, by name of `messages_health.Counters`."""
        return {}

    def __iter__(self) -> Iterator[Events]:
        """See `Stream`; ends with the stream."""
        while True:
            arrival = self.receive(0.1)
            if len(arrival.events):
                yield arrival.events
            if arrival.ended:
                return


@dataclass(frozen=True, slots=True)
class Waiting:
    """In place of a segment: there is none yet. The source has waited a little; ask again for the next."""

    reason: str
    """Why, and what the user can do."""
    counts: dict[str, int] = field(default_factory=dict)
    """As `LiveStream.take_counts`."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One uninterrupted stretch of events: a file, or a camera from plug to unplug. Evidence does not cross it."""

    name: str
    open: Callable[[], AbstractContextManager[Stream]]
    """Raises FirstspikeError if it cannot be opened; the daemon reports it and goes on with the next segment."""


class Source(Protocol):
    """Segments, one after another, perhaps without end."""

    speed: float | None
    """Times real time at which the events are to pass; None: as they come."""
    max_silence_us: int
    """Longer silences are not sat out where there is a `speed`."""
    live: bool
    """Events come when they come, as `LiveStream`s: whoever is slow loses windows, and a segment that breaks is
    followed by another."""

    def segments(self) -> Iterator[Segment | Waiting]:
        """Yield the segments; opening them is up to the caller. Never blocks for longer than half a second."""

    def close(self) -> None:
        """Let go of processes and devices."""


@runtime_checkable
class Preparing(Protocol):
    """A source of which can be known whether it will work, before it is to follow another in a running daemon."""

    def prepare(self, before: Source) -> None:
        """Get ready as far as that is possible while the other one runs.

        Raises:
            FirstspikeError: it will not work.
        """


class SourceModule(Protocol):
    """What a file in this folder offers."""

    Options: type[BaseModel]

    def create(self, options: BaseModel, base: Path) -> Source:
        """Make the source; opens nothing yet."""

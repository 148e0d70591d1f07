"""Cut a stream of events into windows of fixed time or fixed count, and count what does not fit.

The windows depend on the order of the events alone, never on how the stream was cut into arrays.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from firstspike.bundle import WindowSpec
from firstspike.errors import ConfigError, DataError
from firstspike.types import EVENT, Events, Window, join, pick

MAX_TIME_US = 1 << 52
"""Timestamps beyond ±142 years are no time: refusing them keeps every sum, also in ns, within 64 bits."""
_INDEX_MASK = (1 << 62) - 1
"""Window numbers travel as 64 bits; a stream of lying timestamps may use them up."""
_AFTER_RESET = 256
"""Events looked at once after a reset, doubling from there: a stream of nothing but resets must not cost its square."""


@dataclass(slots=True)
class _Faults:
    """What happened since the last window was handed out."""

    backward: int = 0
    late: int = 0
    overflow: int = 0
    resets: int = 0

    def take(self) -> dict[str, int]:
        counts = {"backward": self.backward, "late": self.late, "overflow": self.overflow, "resets": self.resets}
        self.backward = self.late = self.overflow = self.resets = 0
        return counts


@dataclass(slots=True)
class _Pending:
    """Events that open windows may need, oldest first, in blocks."""

    limit: int
    blocks: list[Events] = field(default_factory=list)
    n: int = 0

    def add(self, events: Events) -> int:
        """Append what fits; returns how many events did not."""
        room = self.limit - self.n
        kept = events[:room]
        if len(kept):
            self.blocks.append(kept)
            self.n += len(kept)
        return len(events) - len(kept)

    def all(self) -> Events:
        if len(self.blocks) != 1:
            self.blocks = [join(self.blocks)]
        return self.blocks[0]

    def replace(self, events: Events) -> None:
        self.blocks, self.n = [events], len(events)


class Windower:
    """Turns arrays of events into windows.

    Args:
        spec: kind, size and hop.
        max_events: most events held at a time; more are dropped and counted as overflow.
        reset_us: a timestamp this far below the largest seen is not a late event but a new time base: the open
            window ends (partial), and time starts again.

    Time windows: window k covers [t0 + k·hop, t0 + k·hop + size), with t0 the first event of the time base, and closes
    with the first event at or after its end. Count windows: every `hop` events, the last `size` events.
    """

    def __init__(self, spec: WindowSpec, *, max_events: int = 4_000_000, reset_us: int = 1_000_000) -> None:
        if spec.kind == "count" and spec.size > max_events:
            raise ConfigError(
                f"window.size is {spec.size} events, more than window.max_events {max_events}: raise that"
            )
        self._spec = spec
        self._reset_us = reset_us
        self._pending = _Pending(max_events)
        self._faults = _Faults()
        self._cut = self._by_time if spec.kind == "time" else self._by_count
        self._base = 0  # index of the first window of the current time base
        self._open = 0  # first window of this time base that is not closed
        self._origin: int | None = None
        self._largest = 0
        self.resets = 0
        """Time bases that ended so far, flushed ones left out."""

    def push(self, events: Events) -> Iterator[Window]:
        """Take the next events of the stream; yields the windows that they close.

        Args:
            events: any length, dtype `EVENT`; copied where they must be kept.

        Raises:
            DataError: a timestamp that cannot be a time.
        """
        if len(events) == 0:
            return
        times = np.ascontiguousarray(events["t"])
        if int(times.min()) < -MAX_TIME_US or int(times.max()) > MAX_TIME_US:
            raise DataError(f"a timestamp beyond ±{MAX_TIME_US} µs: the recording is corrupt")
        if self._spec.kind == "time" and self._in_order(times):
            yield from self._by_ordered_time(events, times)
            return
        ahead = len(events)
        while len(events):
            if self._origin is None:
                self._origin = self._largest = int(events["t"][0])
            times = events["t"][:ahead]
            largest = np.maximum(np.maximum.accumulate(times), self._largest)
            before = np.empty_like(largest)
            before[0], before[1:] = self._largest, largest[:-1]
            below = before - times
            jump = below > self._reset_us
            reset = bool(jump.any())
            end = int(jump.argmax()) if reset else len(times)
            part, events = events[:end], events[end:]
            if end:
                self._largest = int(largest[end - 1])
                yield from self._cut(part, largest[:end], below[:end])
            if reset:
                yield from self.flush()
                self._faults.resets += 1
                self.resets += 1
            ahead = _AFTER_RESET if reset else 2 * ahead

    def flush(self) -> Iterator[Window]:
        """End the stream or its time base; yields the windows still open, marked partial."""
        if self._origin is None:
            return
        if self._spec.kind == "time":
            last = (self._largest - self._origin) // self._spec.hop
            yield from self._close_until(last + 1, self._origin, partial_from=self._closed_at(self._largest))
            self._base, self._open = self._base + self._open, 0
        else:
            if self._pending.n > self._spec.size - self._spec.hop or (self._open == 0 and self._pending.n):
                yield self._count_window(self._pending.all(), partial=True)
            self._base, self._open = self._base + self._open, 0
        self._pending.replace(np.empty(0, EVENT))
        self._origin = None

    def next_close(self) -> int | None:
        """When the first open window ends, in µs of the sensor; None: no event waits, or windows end by their count."""
        if self._spec.kind != "time" or self._origin is None or self._pending.n == 0:
            return None
        return self._origin + self._spec.size + self._open * self._spec.hop

    def reach(self, time_us: int) -> Iterator[Window]:
        """Time windows of a live stream: the sensor's clock stands at `time_us`, whether an event told so or not.

        Yields the windows that end by then and have events. Events of theirs that come after all are late. Those that
        are silent so far are not given up: `time_us` may be wrong, and nobody has had them.
        """
        if self._spec.kind == "time" and self._origin is not None:
            yield from self._close_until(self._closed_at(time_us), self._origin, skip=False)

    def leftover(self) -> dict[str, int]:
        """Faults counted after the last window was handed out; call after `flush` so that totals are exact."""
        return self._faults.take()

    # Time windows

    def _closed_at(self, time_us: int) -> int:
        """How many windows of this time base are closed once `time_us` was seen."""
        assert self._origin is not None  # noqa: S101 (only called within a time base)
        return max(0, (time_us - self._origin - self._spec.size) // self._spec.hop + 1)

    def _in_order(self, times: NDArray[np.int64]) -> bool:
        if self._origin is not None and times[0] < max(self._largest, self._origin + self._open * self._spec.hop):
            return False
        return not (times[1:] < times[:-1]).any()

    def _by_ordered_time(self, events: Events, times: NDArray[np.int64]) -> Iterator[Window]:
        """As `_by_time`, faster: in order nothing is late, and the windows' ends are found by bisection."""
        if self._origin is None:
            self._origin = int(times[0])
        self._largest = int(times[-1])
        start, origin = 0, self._origin
        while start < len(events):
            closed = self._closed_at(int(times[start]))
            end = int(np.searchsorted(times, origin + self._spec.size + closed * self._spec.hop))
            yield from self._close_until(closed, origin)
            # A copy: the caller may reuse its buffer.
            self._faults.overflow += self._pending.add(pick(events[start:end]))
            start = end

    def _by_time(self, events: Events, largest: NDArray[np.int64], below: NDArray[np.int64]) -> Iterator[Window]:
        assert self._origin is not None  # noqa: S101 (set by push)
        size, hop, origin = self._spec.size, self._spec.hop, self._origin
        closed = np.maximum((largest - origin - size) // hop + 1, 0)
        late = events["t"] < origin + np.maximum(closed, self._open) * hop  # `reach` may have closed more
        pieces = [0, *(np.flatnonzero(np.diff(closed)) + 1).tolist(), len(events)]
        for start, end in itertools.pairwise(pieces):
            yield from self._close_until(int(closed[start]), origin)
            piece, piece_late = events[start:end], late[start:end]
            self._faults.backward += int(np.count_nonzero(below[start:end] > 0))
            dropped = int(np.count_nonzero(piece_late))
            self._faults.late += dropped
            # A copy: the caller may reuse its buffer.
            self._faults.overflow += self._pending.add(pick(piece, ~piece_late if dropped else None))

    def _close_until(
        self, first_open: int, origin: int, *, partial_from: int | None = None, skip: bool = True
    ) -> Iterator[Window]:
        """Hand out windows up to `first_open` that have events; silent ones are stepped over, however many.

        Without `skip`, those that follow the last one handed out stay open.
        """
        size, hop = self._spec.size, self._spec.hop
        while self._open < first_open:
            pending = self._pending.all()
            if len(pending) == 0:
                break
            number = max(self._open, (int(pending["t"].min()) - origin - size) // hop + 1)
            if number >= first_open:
                break
            start = origin + number * hop
            inside = pending["t"] < start + size
            window = Window(
                index=(self._base + number) & _INDEX_MASK, t_start_us=start, t_end_us=start + size,
                events=pending if inside.all() else pick(pending, inside),
                partial=partial_from is not None and number >= partial_from, **self._faults.take(),
            )  # fmt: skip
            # Moved on before it is handed out: whoever stops here has had the window.
            self._open = number + 1
            self._pending.replace(pick(pending, pending["t"] >= start + hop))
            yield window
        if skip:
            self._open = max(self._open, first_open)

    # Count windows

    def _by_count(self, events: Events, largest: NDArray[np.int64], below: NDArray[np.int64]) -> Iterator[Window]:
        del largest
        size, hop = self._spec.size, self._spec.hop
        while len(events):
            need = size - self._pending.n
            piece = events[:need]
            self._faults.backward += int(np.count_nonzero(below[:need] > 0))
            self._pending.add(pick(piece))
            events, below = events[need:], below[need:]
            if self._pending.n == size:
                window = self._count_window(self._pending.all(), partial=False)
                self._pending.replace(window.events[hop:])
                yield window

    def _count_window(self, events: Events, *, partial: bool) -> Window:
        times = events["t"]
        window = Window(
            index=(self._base + self._open) & _INDEX_MASK, t_start_us=int(times.min()), t_end_us=int(times.max()) + 1,
            events=events, partial=partial, **self._faults.take(),
        )  # fmt: skip
        self._open += 1
        return window

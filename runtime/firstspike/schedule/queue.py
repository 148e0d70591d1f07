"""The bounded queue before the plans: the freshest windows win, and every loss has its cause."""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

Cause = Literal["stale", "hopeless", "replaced"]
"""stale: its deadline passed before its turn; hopeless: no plan would have been in time; replaced: the queue was full,
and a newer one took its place."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Waiting(Generic[T]):
    """A window in the queue."""

    item: T
    closed_ns: int


@dataclass(frozen=True, slots=True)
class Dropped(Generic[T]):
    """A window that will not be inferred."""

    item: T
    closed_ns: int
    cause: Cause


@dataclass(frozen=True, slots=True)
class Taken(Generic[T]):
    """What one `take` gave."""

    dropped: tuple[Dropped[T], ...]
    next: Waiting[T] | None
    """Whose turn it is; None: the queue is empty."""


class Queue(Generic[T]):
    """Windows waiting for their turn, the oldest first. Not thread-safe.

    Args:
        length: most that wait.
        deadline_ns: longest time from window close to publishing; None: the clock is virtual, nothing is dropped.
    """

    def __init__(self, length: int, deadline_ns: int | None) -> None:
        if length < 1:
            raise ValueError(f"a queue of {length} windows: 1 or more")
        self._length = length
        self._deadline_ns = deadline_ns
        self._waiting: list[Waiting[T]] = []
        self.counts: dict[Cause, int] = {"stale": 0, "hopeless": 0, "replaced": 0}
        """Windows dropped since the start, by cause."""

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def full(self) -> bool:
        """Whether the next `put` will displace one; without a deadline, whether to `take` first."""
        return len(self._waiting) >= self._length

    def put(self, item: T, closed_ns: int) -> Dropped[T] | None:
        """Let a window wait.

        Returns:
            The oldest one, if there was no room for all: of several sources' windows that may be the new one.

        Raises:
            RuntimeError: it is full, and without a deadline nothing may be dropped.
        """
        if self._deadline_ns is None and self.full:
            raise RuntimeError(f"{self._length} windows wait, and in a replay none may be dropped: take one first")
        insort(self._waiting, Waiting(item, closed_ns), key=lambda waiting: waiting.closed_ns)
        if len(self._waiting) <= self._length:
            return None
        return self._drop("replaced")

    def take(self, now_ns: int, least_ns: int = 0) -> Taken[T]:
        """The next window, and those before it that are not worth their turn any more.

        A window younger than half the deadline is never hopeless. Otherwise plans that once took longer than the
        deadline would get no window any more, and nobody would notice that they have become quicker.

        Args:
            now_ns: now.
            least_ns: what the quickest plan is expected to take (`Scheduler.least_ns`).
        """
        dropped: list[Dropped[T]] = []
        while self._waiting:
            cause = self._cause(now_ns - self._waiting[0].closed_ns, least_ns)
            if cause is None:
                return Taken(tuple(dropped), self._waiting.pop(0))
            dropped.append(self._drop(cause))
        return Taken(tuple(dropped), None)

    def _cause(self, age_ns: int, least_ns: int) -> Cause | None:
        if self._deadline_ns is None:
            return None
        if age_ns > self._deadline_ns:
            return "stale"
        return "hopeless" if age_ns + min(least_ns, self._deadline_ns // 2) > self._deadline_ns else None

    def _drop(self, cause: Cause) -> Dropped[T]:
        oldest = self._waiting.pop(0)
        self.counts[cause] += 1
        return Dropped(oldest.item, oldest.closed_ns, cause)

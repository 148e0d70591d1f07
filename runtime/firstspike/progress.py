"""Who gets on: the daemon's threads tell it here, and the service manager's watchdog is fed from it (`service`).

Two sorts of parts. A *loop* beats each time round, also when it has nothing to do: a quiet camera is no hang, a read
that does not return is one. A *task* only has to end what it began. Telling costs a fraction of a microsecond, so
that it may be done for every window; where nobody asks it costs the same and does nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

REST_S = 1.0


class Part:
    """A thread that is to get on. Made and left by the thread's owner; `beat` and the context are the thread's."""

    __slots__ = ("_busy", "_loop", "moved", "name")

    def __init__(self, name: str, *, loop: bool) -> None:
        self.name = name
        self._loop = loop
        self._busy = False
        self.moved = True
        """Whether it got on since it was last asked."""

    def beat(self) -> None:
        """It got on."""
        self.moved = True

    def __enter__(self) -> Part:
        self._busy = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self.moved = True
        self._busy = False

    @property
    def well(self) -> bool:
        """Whether it got on since it was last asked, or has nothing to do."""
        return self.moved or not (self._loop or self._busy)


class Progress:
    """The parts that are to get on."""

    rest_s = REST_S
    """A loop that has nothing to do beats so often at least; shorter where the watchdog's patience is."""

    def __init__(self) -> None:
        self._parts: list[Part] = []
        self._lock = threading.Lock()

    def loop(self, name: str) -> Part:
        """A part that beats each time round, at least once in `rest_s`, or a few times that."""
        return self._join(Part(name, loop=True))

    def task(self, name: str) -> Part:
        """A part that is entered for each piece of work, and idle in between."""
        return self._join(Part(name, loop=False))

    def _join(self, part: Part) -> Part:
        with self._lock:
            self._parts.append(part)
        return part

    def leave(self, part: Part) -> None:
        """It has ended in good order: nothing more is expected of it."""
        with self._lock:
            self._parts = [one for one in self._parts if one is not part]

    @contextmanager
    def here(self, name: str) -> Iterator[Part]:
        """A loop that this thread is, while the context lasts: `beat` tells of it."""
        part = _HERE.part = self.loop(name)
        try:
            yield part
        finally:
            _HERE.part = None
            self.leave(part)

    def stalled(self) -> list[str]:
        """Those that did not get on since the last round."""
        with self._lock:
            return [part.name for part in self._parts if not part.well]

    def next_round(self) -> None:
        """Ask anew: each has to get on once more."""
        with self._lock:
            for part in self._parts:
                part.moved = False


def beat() -> None:
    """This thread got on, if it is one of the loops: for code far from the thread's owner, as in a source."""
    part: Part | None = getattr(_HERE, "part", None)
    if part is not None:
        part.beat()


_HERE = threading.local()
READER = "reader"
"""The part of a thread that reads a source."""
THREADS = Progress()
"""Of this process: one place that every thread finds."""

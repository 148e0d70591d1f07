"""How windows that are due get to whoever answers: at once, or through a bounded queue to a thread of its own.

A live stream goes on while a back end takes its time, so its reader must not wait: windows that pile up are dropped,
the oldest first, and each is published as dropped. A replay as fast as possible, or under the virtual clock, waits
instead: there every window counts.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Protocol

from firstspike.answer import Answerer, Due
from firstspike.plans import Runner
from firstspike.schedule import Dropped, Queue


class Handover(Protocol):
    """Takes windows in order; used as a context that ends when all that were taken are answered or published."""

    def put(self, due: Due) -> None:
        """Hand over the next window; may raise what the answerer raised, of this or an earlier window."""

    def __enter__(self) -> Handover: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...


class Inline:
    """Answers each window before the next one is read."""

    def __init__(self, answerer: Answerer) -> None:
        self._answerer = answerer

    def put(self, due: Due) -> None:
        """See `Handover.put`."""
        self._answerer.take(due)

    def __enter__(self) -> Inline:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is held."""


class Queued:
    """Answers in a thread of its own, from a bounded queue in which the freshest window wins.

    While answers take less than `quick_ns` and nothing waits, a window is answered in the reader's thread: waking
    another one takes 0.2 ms. Should such an answer not come, the reader is held up once, for a deadline at most.

    Args:
        answerer: used by one thread at a time.
        queue: used under a lock.
        runner: whom the answerer asks; knows how long answers take.
        now_ns: the clock of `Due.closed_ns`.
        quick_ns: see above.
    """

    def __init__(
        self, answerer: Answerer, queue: Queue[Due], runner: Runner, now_ns: Callable[[], int], quick_ns: int
    ) -> None:
        self._answerer = answerer
        self._queue = queue
        self._runner = runner
        self._now_ns = now_ns
        self._quick_ns = quick_ns
        self._busy = False
        """Whether the thread is answering; the reader's does so in `put`."""
        self._turn = threading.Condition()
        self._dropped: list[Dropped[Due]] = []
        self._fault: BaseException | None = None
        self._ending = False
        self._thread = threading.Thread(target=self._run, name="answers", daemon=True)

    def put(self, due: Due) -> None:
        """See `Handover.put`."""
        with self._turn:
            if self._fault is not None:
                raise self._fault
            idle = not (self._busy or len(self._queue) or self._dropped)
            at_once = idle and 0 < self._runner.last_ns <= self._quick_ns
            if not at_once:
                displaced = self._queue.put(due, due.closed_ns)
                if displaced is not None:
                    self._dropped.append(displaced)
                self._turn.notify()
        if at_once:  # nobody but this thread puts, so the other one has nothing to do meanwhile
            self._answerer.take(due)

    def __enter__(self) -> Queued:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Answer what is still queued; it is little, and each has its deadline."""
        with self._turn:
            self._ending = True
            self._turn.notify()
        self._thread.join()
        if self._fault is not None and kind is None:
            raise self._fault

    def _run(self) -> None:
        try:
            while self._answer_one():
                pass
        except BaseException as error:  # noqa: BLE001 (raised again in the reader's thread)
            with self._turn:
                self._fault = error

    def _answer_one(self) -> bool:
        """Wait for a window, publish those before it that were dropped, and answer it; False at the end."""
        with self._turn:
            self._turn.wait_for(lambda: self._ending or len(self._queue) > 0 or bool(self._dropped))
            taken = self._queue.take(self._now_ns(), self._runner.least_ns())
            dropped, self._dropped = [*self._dropped, *taken.dropped], []
            self._busy = True
        for one in dropped:
            self._answerer.drop(one.item, one.cause)
        if taken.next is not None:
            self._answerer.take(taken.next.item)
        with self._turn:
            self._busy = False
            return taken.next is not None or bool(dropped) or not self._ending

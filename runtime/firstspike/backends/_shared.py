"""A worker that several streams use: one window at a time, in turns."""

from __future__ import annotations

import threading
import time
from collections import deque

from firstspike.backends import Backend
from firstspike.types import Condition, Inference, Spikes


class Turns:
    """A lock that is given in the order in which it was asked for, so that nobody waits for more than one turn each."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken = False
        self._waiting: deque[threading.Event] = deque()

    def take(self, within_s: float) -> bool:
        """Wait for a turn; False: none came in time."""
        with self._lock:
            if not self._taken:
                self._taken = True
                return True
            mine = threading.Event()
            self._waiting.append(mine)
        if mine.wait(within_s):
            return True
        with self._lock:
            if mine.is_set():  # it came in this very moment
                return True
            self._waiting.remove(mine)
            return False

    def give(self) -> None:
        """End the turn."""
        with self._lock:
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._taken = False


class SharedBackend:
    """One stream's access to a back end that others use too; closing it closes nothing."""

    def __init__(self, backend: Backend, turns: Turns) -> None:
        self.name = backend.name
        self._backend = backend
        self._turns = turns

    def infer(self, spikes: Spikes, within_s: float) -> Inference:
        """See `Backend.infer`; waiting for the turn is a part of `within_s`."""
        began = time.monotonic()
        if not self._turns.take(within_s):
            reason = f"{self.name}: busy with other streams' windows for {within_s * 1e3:.0f} ms"
            return Inference(self.name, None, None, failure=reason)
        try:
            return self._backend.infer(spikes, max(0.0, within_s - (time.monotonic() - began)))
        finally:
            self._turns.give()

    def condition(self) -> Condition:
        """See `Backend.condition`."""
        return self._backend.condition()

    def close(self) -> None:
        """Its owner closes it: `Shared`."""


class Shared:
    """A back end that streams have in common: of one section, for one model; whoever made it closes it."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._turns = Turns()

    def access(self) -> Backend:
        """A stream's access to it."""
        return SharedBackend(self._backend, self._turns)

    def close(self) -> None:
        """End it."""
        self._backend.close()

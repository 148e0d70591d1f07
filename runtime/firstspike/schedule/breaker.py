"""A circuit breaker: a plan that fails again and again is rested, then tried with one window, not with all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["closed", "open", "half-open"]
"""closed: it takes part; open: it rests; half-open: it has rested and may be tried."""

HEALED = 10
"""Answers in a row after which a plan that had to rest is as trusted as before."""
_MAX_LEVEL = 40
"""Doublings are counted no further: the rest is at its longest long before."""


@dataclass(slots=True)
class Breaker:
    """One plan's.

    After `failures` failures in a row it opens for `rest_ns`, then twice as long after each trial that fails, at most
    `rest_max_ns`. A trial that succeeds closes it on probation: until `HEALED` answers in a row came, one failure
    opens it again, and for longer.
    """

    failures: int
    rest_ns: int
    rest_max_ns: int
    in_a_row: int = 0
    """Failures since the last answer."""
    _level: int = 0
    _good: int = 0
    _rest_until_ns: int | None = None
    _opened_ns: int = 0
    _on_trial: bool = False

    def state(self, now_ns: int) -> State:
        """How it stands."""
        if self._rest_until_ns is None:
            return "closed"
        return "open" if now_ns < self._rest_until_ns else "half-open"

    def waited(self, now_ns: int) -> bool:
        """Whether it has been open for as long as any rest takes, so that even a costly trial is due."""
        return self._rest_until_ns is not None and now_ns - self._opened_ns >= self.rest_max_ns

    def begin_trial(self, now_ns: int) -> None:
        """A window is on its way as a trial: there is no second one soon, even if this one is never heard of."""
        self._on_trial = True
        self._rest(now_ns)

    def succeed(self) -> None:
        """It answered."""
        self.in_a_row = 0
        self._rest_until_ns = None
        self._on_trial = False
        self._good += 1
        if self._good >= HEALED:
            self._level = 0

    def fail(self, now_ns: int) -> None:
        """It did not answer."""
        self._good = 0
        self.in_a_row += 1
        if self._rest_until_ns is None:
            if self.in_a_row < self.failures and self._level == 0:
                return
        elif not self._on_trial and now_ns < self._rest_until_ns:
            return  # asked for want of any other plan while it rests: that must not lengthen its rest
        self._on_trial = False
        self._rest(now_ns)
        self._level = min(self._level + 1, _MAX_LEVEL)

    def _rest(self, now_ns: int) -> None:
        self._rest_until_ns = now_ns + min(self.rest_ns << self._level, self.rest_max_ns)
        self._opened_ns = now_ns

"""Quantiles of the last few observations: exact, cheap to keep, and forgetful."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque


class Quantiles:
    """The last `length` observations, in order of arrival and of size.

    A quantile q of n observations is the ⌈q·n⌉-th smallest (nearest rank): always one that was observed. Of fewer than
    100, p99 is therefore the largest.

    Args:
        length: observations kept; one more pushes the oldest out.
    """

    __slots__ = ("_arrived", "_length", "_sorted")

    def __init__(self, length: int) -> None:
        if length < 1:
            raise ValueError(f"quantiles of the last {length} observations: keep at least 1")
        self._length = length
        self._arrived: deque[int] = deque()
        self._sorted: list[int] = []

    def __len__(self) -> int:
        return len(self._sorted)

    def add(self, value: int) -> None:
        """Take one more; costs a microsecond at a length of some hundreds, since moving a list is one memmove."""
        if len(self._arrived) == self._length:
            del self._sorted[bisect_left(self._sorted, self._arrived.popleft())]
        self._arrived.append(value)
        insort(self._sorted, value)

    def at(self, q: float) -> int | None:
        """The q-quantile, 0 < q ≤ 1; None: nothing was observed."""
        n = len(self._sorted)
        # 0.07 · 100 is a little more than 7: the rank is not to be moved by rounding.
        return self._sorted[max(1, math.ceil(q * n - 1e-9)) - 1] if n else None

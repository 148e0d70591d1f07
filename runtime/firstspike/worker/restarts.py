"""When a worker that failed is started again: at once a few times, then after rests. It only counts; others wait.

Restart number k within the period follows its failure after 0.05 s · 2^(k-1), at most 1 s. Once more than `restarts`
failures fell into the period, every restart follows after `rest_s`, until the worker has stood for a whole period.
"""

from __future__ import annotations

FIRST_REST_S = 0.05
LONGEST_QUICK_S = 1.0


class Restarts:
    """The failures of one worker.

    Args:
        restarts: that are made at once within a period.
        period_s: the period.
        rest_s: longest rest before a restart.
    """

    def __init__(self, restarts: int, period_s: float, rest_s: float) -> None:
        self._most = restarts
        self._period_s = period_s
        self._rest_s = rest_s
        self._failures: list[float] = []
        """Times of those within the last period, the oldest first."""
        self._resting = False

    @property
    def resting(self) -> bool:
        """Whether the worker failed too often for being started again at once."""
        return self._resting

    def failed(self, now: float) -> float:
        """Count a failure.

        Returns:
            When the next start is due.
        """
        if self._failures and now - self._failures[-1] >= self._period_s + self._rest_s:
            self._resting = False  # the rest and a whole period have passed: it stood
        self._failures = [*[at for at in self._failures if now - at < self._period_s][-self._most :], now]
        if len(self._failures) > self._most:
            self._resting = True
        if self._resting:
            return now + self._rest_s
        quick = FIRST_REST_S * 2.0 ** min(len(self._failures) - 1, 16)
        return now + min(quick, LONGEST_QUICK_S, self._rest_s)

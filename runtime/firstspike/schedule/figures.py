"""What is known of a plan: how long it takes, what it consumes, how often it failed."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from firstspike.schedule.breaker import Breaker, State
from firstspike.schedule.plan import Outcome
from firstspike.schedule.quantiles import Quantiles

KEPT = 256
"""Latencies that p50 and p99 are of."""
RECENT = 9
"""Latencies whose median is what a plan is expected to take: few, so that a slow-down or a recovery shows after 5."""
LOW, HIGH = 3 / RECENT, 7 / RECENT
"""Quantiles between which the median of whatever these few were drawn from lies four times out of five."""
TRUSTED = 3
"""Answers before a plan's latency is compared with others': the first one is often slow."""


@dataclass(frozen=True, slots=True)
class Figures:
    """One plan's figures, as they are published and printed."""

    plan: str
    state: State
    windows: int
    """Attempts, whatever came of them."""
    failures: int
    failures_in_a_row: int
    p50_ns: int | None
    """Of the last `KEPT` attempts that were answered or ran into the end of their budget; None: there are none."""
    p99_ns: int | None
    expected_ns: int | None
    """Median of the last `RECENT`: what the scheduler reckons with."""
    energy_j: float | None
    """Mean of one inference, of those answers among the last `KEPT` that came with an energy; None: none did."""
    energy_u95_j: float
    """How near to the truth it is, 95 %: the mean of what the answers came with."""
    measured: bool | None
    """Whether a meter gave `energy_j`, or else a model; None: there is none."""


class Record:
    """One plan's figures while they are kept.

    Args:
        breaker: the plan's.
    """

    def __init__(self, breaker: Breaker) -> None:
        self.breaker = breaker
        self.windows = 0
        self.failures = 0
        self.tried_at = 0
        """Number of the choice after which it was last heard of."""
        self._kept = Quantiles(KEPT)
        self._recent = Quantiles(RECENT)
        self._energies: deque[tuple[float, float]] = deque(maxlen=KEPT)
        self.energy_u95_j = 0.0
        self.measured: bool | None = None
        self.answers = 0
        self.expected_ns: int | None = None
        self.low_ns: int | None = None
        self.high_ns: int | None = None
        """Between these two lies, likely, what `expected_ns` estimates."""
        self.p99_ns: int | None = None
        self.energy_j: float | None = None

    @property
    def trusted(self) -> bool:
        """Whether it was observed often enough to be compared."""
        return self.answers >= TRUSTED

    def add(self, outcome: Outcome, now_ns: int, deadline_ns: int | None) -> None:
        """Take one more outcome.

        An attempt that ran out of its budget counts as a whole deadline: its budget may have been short, and the time
        that it was waited for would flatter it.
        """
        self.windows += 1
        if outcome.ok:
            self.answers += 1
            self.breaker.succeed()
            self._observe(outcome.latency_ns)
            if outcome.energy_j is not None:
                self._consume(outcome.energy_j, outcome.energy_u95_j, measured=outcome.measured)
            return
        self.failures += 1
        self.breaker.fail(now_ns)
        if outcome.timed_out:
            self._observe(max(outcome.latency_ns, deadline_ns or 0))

    def figures(self, plan: str, now_ns: int) -> Figures:
        """As they are published."""
        return Figures(
            plan=plan, state=self.breaker.state(now_ns), windows=self.windows, failures=self.failures,
            failures_in_a_row=self.breaker.in_a_row, p50_ns=self._kept.at(0.5), p99_ns=self.p99_ns,
            expected_ns=self.expected_ns, energy_j=self.energy_j, energy_u95_j=self.energy_u95_j,
            measured=self.measured,
        )  # fmt: skip

    def _observe(self, latency_ns: int) -> None:
        self._kept.add(latency_ns)
        self._recent.add(latency_ns)
        self.p99_ns = self._kept.at(0.99)
        self.expected_ns = self._recent.at(0.5)
        self.low_ns = self._recent.at(LOW)
        self.high_ns = self._recent.at(HIGH)

    def _consume(self, energy_j: float, u95_j: float, *, measured: bool) -> None:
        if measured is not self.measured:
            self._energies.clear()  # a mean of both would be neither
            self.measured = measured
        self._energies.append((energy_j, u95_j))
        # Answers of one energy window share its figure, so their uncertainties do not average out.
        count = len(self._energies)
        self.energy_j = sum(energy for energy, _ in self._energies) / count
        self.energy_u95_j = sum(u95 for _, u95 in self._energies) / count

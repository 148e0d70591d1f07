"""Which plan is better, and when another is so much better that it takes over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from firstspike.schedule.figures import Record

Policy = Literal["order", "latency", "energy", "edp"]
"""order: as the plans are given; latency: the quickest; energy: joules an inference; edp: joules times seconds."""
POLICIES: tuple[Policy, ...] = get_args(Policy)

MEASURED, MODELLED, UNKNOWN = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Rating:
    """How a plan does by a policy: the lower, the better; `cost` compares only within a `group`.

    Latencies are one group. Energies are two: a meter's figures compete with a meter's, a model's with a model's.
    Measured ones come first, since a model tells what other hardware would have used. A plan without figures comes
    last, in the order given.
    """

    plan: str
    group: int
    cost: float
    least: float
    most: float
    """Between these two lies, likely, what `cost` estimates: latencies and meters are noisy."""


def rate(policy: Policy, plans: Sequence[str], records: dict[str, Record]) -> list[Rating]:
    """Rate the plans, best first; equals in the order given."""
    if policy == "order":
        return [Rating(plan, MEASURED, place, place, place) for place, plan in enumerate(plans)]
    ratings = [_rate(policy, plan, records[plan]) for plan in plans]
    ratings.sort(key=lambda rating: (rating.group, rating.cost))
    return ratings


def _rate(policy: Policy, plan: str, record: Record) -> Rating:
    expected, low, high = record.expected_ns, record.low_ns, record.high_ns
    if not record.trusted or expected is None or low is None or high is None:
        return Rating(plan, UNKNOWN, 0.0, 0.0, 0.0)
    if policy == "latency":
        return Rating(plan, MEASURED, expected, low, high)
    energy = record.energy_j
    if energy is None:
        return Rating(plan, UNKNOWN, 0.0, 0.0, 0.0)
    group = MEASURED if record.measured else MODELLED
    if policy == "energy":
        return Rating(plan, group, energy, energy - record.energy_u95_j, energy + record.energy_u95_j)
    energies = (energy - record.energy_u95_j, energy + record.energy_u95_j)
    products = [one * latency for one in energies for latency in (low, high)]  # an energy may be below 0
    least, most = min(products), max(products)
    return Rating(plan, group, energy * expected / 1e9, least / 1e9, most / 1e9)


class Hold:
    """Keeps a choice until another has been better by `fraction` for `windows` windows on end: no flapping.

    Better means that the most that the other may cost is less than the least that the current one may cost, so that
    noise alone changes nothing.

    Args:
        fraction: 0.1: a tenth less cost.
        windows: on end.
    """

    def __init__(self, fraction: float, windows: int) -> None:
        self._fraction = fraction
        self._windows = windows
        self._challenger: str | None = None
        self._count = 0
        self.current: str | None = None

    def update(self, ratings: Sequence[Rating]) -> str | None:
        """One more window.

        Args:
            ratings: of the plans in question, best first. If the current one is not among them, the best takes over
                at once.

        Returns:
            The current choice; None: there is no plan.
        """
        best = ratings[0] if ratings else None
        current = next((rating for rating in ratings if rating.plan == self.current), None)
        if best is None or current is None:
            self.current = best.plan if best else None
            self._count = 0
        elif best is not current and self._beats(best, current):
            self._count = self._count + 1 if best.plan == self._challenger else 1
            if self._count >= self._windows:
                self.current, self._count = best.plan, 0
        else:
            self._count = 0
        self._challenger = best.plan if best else None
        return self.current

    def _beats(self, one: Rating, other: Rating) -> bool:
        if one.group != other.group:
            return one.group < other.group
        # Not other × (1 − fraction): an energy may be below 0, where a baseline was taken off.
        return one.group != UNKNOWN and one.most <= other.least - self._fraction * abs(other.least)

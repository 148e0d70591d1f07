"""Plans: where a bundle's parts run, and what came of running them."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Plan:
    """One way to answer a window.

    A bundle has one part now, so a plan is one back end. A hybrid's plan is a chain: each part's answer is the next
    one's input.

    Raises:
        ValueError: it has no name or no parts.
    """

    name: str
    parts: tuple[str, ...]
    """Names of the back ends that run the bundle's parts, in the order of the data."""

    def __post_init__(self) -> None:
        if not self.name or not self.parts or not all(self.parts):
            raise ValueError(f"a plan needs a name and the back end of each part: {self!r}")

    @classmethod
    def of(cls, backend: str) -> Plan:
        """The plan that is one back end, by its name."""
        return cls(backend, (backend,))

    def waits_for(self, ready: Collection[str]) -> str | None:
        """The first part that is not among the back ends that are ready; None: all are."""
        for part in self.parts:
            if part not in ready:
                return part
        return None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of putting one window to one plan.

    Raises:
        ValueError: a time below 0, or an energy that is no number.
    """

    ok: bool
    latency_ns: int
    """From asking until the answer; without an answer, until it was given up."""
    energy_j: float | None = None
    """Of this inference; None: not known. It may be below 0, where a baseline was taken off."""
    measured: bool = False
    """Whether a meter gave `energy_j`; otherwise a model did."""
    timed_out: bool = False
    """There is no answer because its budget was over: it may have been on its way."""
    energy_u95_j: float = 0.0
    """How near to the truth `energy_j` is, 95 %; 0: not known, as of a model."""

    def __post_init__(self) -> None:
        if self.latency_ns < 0:
            raise ValueError(f"an attempt that took {self.latency_ns} ns: take both times from the same clock")
        if self.energy_j is not None and not math.isfinite(self.energy_j):
            raise ValueError(f"an energy of {self.energy_j} J: give None where it is not known")
        if not (math.isfinite(self.energy_u95_j) and self.energy_u95_j >= 0):
            raise ValueError(f"an energy known to {self.energy_u95_j} J: give 0 where that is not known")

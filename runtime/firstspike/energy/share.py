"""Whose energy it was, where several plans answered within one energy window on one meter.

A window in which one plan alone answered is that plan's. Where others did too (after a failure, or as a probe), what
each inference costs is found by least squares over the latest windows: each says Σ inferences · energy of one = its
dynamic energy. How sure that is depends on how differently the plans were mixed, and the uncertainty says so.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from firstspike.energy.interval import Figure

KEPT = 64
"""Windows."""
LARGEST_CONDITION = 1e6
"""Of the equations: beyond it the plans cannot be told apart."""


@dataclass(frozen=True, slots=True)
class Share:
    """Dynamic energy of one inference."""

    dynamic_j: float
    u95_j: float
    windows: int
    """That it is of."""


class Shares:
    """Keeps one meter's latest windows."""

    def __init__(self) -> None:
        self._windows: deque[tuple[dict[str, int], Figure]] = deque(maxlen=KEPT)

    def add(self, counts: Mapping[str, int], figure: Figure) -> dict[str, Share | str]:
        """Take one more window.

        Args:
            counts: answers of each plan.
            figure: of the window.

        Returns:
            For each plan that answered what one inference took, or why that is not known.
        """
        active = {name: count for name, count in counts.items() if count}
        if figure.dynamic_j is None or figure.u95_j is None:
            return dict.fromkeys(active, figure.reason or "there is no dynamic energy")
        if not active:
            return {}
        self._windows.append((active, figure))
        if len(active) == 1:
            name, count = next(iter(active.items()))
            return {name: Share(figure.dynamic_j / count, figure.u95_j / count, 1)}
        return self._part(active)

    def _part(self, active: Mapping[str, int]) -> dict[str, Share | str]:
        # Windows with a plan that is none of these would ask for that one's energy too.
        kept = [(counts, figure) for counts, figure in self._windows if counts.keys() <= active.keys()]
        names = sorted(active)
        counts = np.array([[one.get(name, 0) for name in names] for one, _ in kept], float)
        figures = [figure for _, figure in kept]
        energies = np.array([figure.dynamic_j or 0.0 for figure in figures])
        noise = np.array([max(figure.random_j, 1e-12) for figure in figures])
        weighted = counts / noise[:, None]
        if len(kept) < len(names) or np.linalg.cond(weighted) > LARGEST_CONDITION:
            reason = f"{' and '.join(names)} answered within the same windows, in the same proportions"
            return dict.fromkeys(names, reason)
        take = np.linalg.pinv(weighted) / noise[None, :]
        found = take @ energies
        steady = take @ np.array([figure.base_j + figure.bias_j for figure in figures])
        u95 = np.sqrt(((take * noise) ** 2).sum(1) + steady**2 + (figures[-1].gain * found) ** 2)
        return {
            name: Share(float(value), float(one), len(kept)) for name, value, one in zip(names, found, u95, strict=True)
        }

"""Energy since the start: what is always wrong the same way adds up as it is, what is drawn anew in quadrature."""

from __future__ import annotations

from math import hypot, sqrt

from firstspike.energy.interval import Figure
from firstspike.messages_energy import EnergySoFar


class Totals:
    """Adds up the figures of windows."""

    def __init__(self) -> None:
        self._inferences = 0
        self._metered_s = self._unmetered_s = self._dynamic_s = 0.0
        self._total_j = self._dynamic_j = self._modelled_j = 0.0
        self._steady = [0.0, 0.0, 0.0]
        """Of gain on the total, of gain on the dynamic energy, of the idle power."""
        self._bias = [0.0, 0.0]
        self._squares = [0.0, 0.0]
        """Of the total's and of the dynamic energy's random parts."""

    def work(self, inferences: int, modelled_j: float) -> None:
        """Add what was done."""
        self._inferences += inferences
        self._modelled_j += modelled_j

    def add(self, figure: Figure) -> None:
        """Add a window's energy, or that there is none of it."""
        if figure.total_j is None:
            self._unmetered_s += figure.window_s
            return
        self._metered_s += figure.window_s
        self._total_j += figure.total_j
        self._steady[0] += figure.gain * figure.total_j
        self._bias[0] += figure.bias_j
        self._squares[0] += figure.random_j**2
        if figure.dynamic_j is not None:
            self._dynamic_s += figure.window_s
            self._dynamic_j += figure.dynamic_j
            self._steady[1] += figure.gain * figure.dynamic_j
            self._steady[2] += figure.base_j
            self._bias[1] += figure.bias_j
            self._squares[1] += figure.random_j**2

    def pass_over(self, seconds: float) -> None:
        """Add a time of which nothing is known."""
        self._unmetered_s += seconds

    def on(self, *, same: bool) -> Totals:
        """What goes on in another configuration: with other meters, what was done alone."""
        if same:
            return self
        found = Totals()
        found.work(self._inferences, self._modelled_j)
        return found

    def message(self) -> EnergySoFar:
        """As it is published."""
        return EnergySoFar(
            inferences=self._inferences, metered_s=round(self._metered_s, 6), unmetered_s=round(self._unmetered_s, 6),
            total_j=self._total_j, total_u95_j=hypot(self._steady[0], self._bias[0], sqrt(self._squares[0])),
            dynamic_s=round(self._dynamic_s, 6), dynamic_j=self._dynamic_j,
            u95_j=hypot(self._steady[1], self._steady[2], self._bias[1], sqrt(self._squares[1])),
            modelled_j=self._modelled_j,
        )  # fmt: skip

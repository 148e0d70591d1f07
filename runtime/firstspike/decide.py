"""From potentials to answers: one window's, and the evidence of the recent ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from firstspike.bundle import DecideSpec

DIGITS = 6
"""Probabilities are published to this many decimals: the mathematics library's last bit must not decide a byte."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A class, its probability, and the logarithms of all; `label` None where there is too little to say one."""

    label: str | None
    confidence: float | None
    log_probabilities: list[float] | None


@dataclass(frozen=True, slots=True)
class Sum:
    """The evidence after a window: see `messages.Evidence`."""

    label: str | None
    confidence: float | None
    weight: float
    windows: int


SILENT = Answer(None, None, None)


def log_softmax(values: Sequence[float]) -> list[float]:
    """Natural logarithms of the softmax, by libm in a fixed order (NumPy's depends on the processor's vectors)."""
    top = max(values)
    norm = top + math.log(math.fsum(math.exp(v - top) for v in values))
    return [v - norm for v in values]


class Decider:
    """Judges windows one after another, and sums their evidence.

    A window speaks if it has at least `spec.min_events` events and an inference; its log-probabilities are
    log_softmax(potential · logit_scale). Evidence E is multiplied by decay at every window, silent ones included, and
    gains those that speak: E ← E·decay + log p. Its weight w ← w·decay + 1 tells how much there is.
    """

    def __init__(self, spec: DecideSpec, labels: Sequence[str]) -> None:
        self._spec = spec
        self._labels = list(labels)
        self.reset()

    def reset(self) -> None:
        """Forget all evidence: another recording begins."""
        self._sum = [0.0] * len(self._labels)
        self._weight = 0.0
        self._windows = 0
        self._last_index: int | None = None

    def speaks(self, n_events: int) -> bool:
        """Whether a window of so many events is enough to say anything."""
        return n_events >= self._spec.min_events

    def judge(self, index: int, n_events: int, potential: NDArray[np.int32] | None) -> tuple[Answer, Sum]:
        """Judge the next window.

        Args:
            index: the window's number; a step of more than one stands for silent windows, which decay the evidence.
            n_events: events that reached the model.
            potential: shape (classes,), or None where there was no inference.
        """
        steps = 1 if self._last_index is None else max(1, index - self._last_index)
        self._last_index = index
        # Far in the past is nothing; the bound keeps a lying timestamp from making a huge exponent.
        factor = self._spec.decay ** min(steps, 1_000_000)
        self._sum = [value * factor for value in self._sum]
        self._weight *= factor
        answer = SILENT
        if potential is not None and self.speaks(n_events):
            logs = log_softmax([float(value) * self._spec.logit_scale for value in potential.tolist()])
            self._sum = [old + new for old, new in zip(self._sum, logs, strict=True)]
            self._weight += 1.0
            self._windows += 1
            best = max(range(len(logs)), key=logs.__getitem__)
            answer = Answer(self._labels[best], _rounded(math.exp(logs[best])), [_rounded(value) for value in logs])
        return answer, self._total()

    def _total(self) -> Sum:
        weight = _rounded(self._weight)
        if self._windows == 0 or self._weight < self._spec.min_evidence:
            return Sum(None, None, weight, self._windows)
        logs = log_softmax(self._sum)
        best = max(range(len(logs)), key=logs.__getitem__)
        confidence = _rounded(math.exp(logs[best]))
        label = self._labels[best] if confidence >= self._spec.min_confidence else None
        return Sum(label, confidence if label is not None else None, weight, self._windows)


def _rounded(value: float) -> float:
    return round(value, DIGITS) + 0.0  # −0.0 becomes 0.0

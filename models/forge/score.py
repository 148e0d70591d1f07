"""How good answers are: by window and by recording, as the runtime decides. NumPy only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.forge import store

WINDOW_BINS = 10
"""50 ms."""
MIN_EVENTS = 150


@dataclass(frozen=True, slots=True)
class Windows:
    """The 50 ms windows of recordings that have enough events."""

    counts: NDArray[np.uint16]
    recording: NDArray[np.intp]
    """Which recording each belongs to."""
    number: NDArray[np.intp]
    """Which window of it, from 0."""
    labels: NDArray[np.int64]
    """Of the recordings."""


def windows(recordings: store.Store, min_events: int = MIN_EVENTS) -> Windows:
    """Cut every recording into windows of 50 ms from its start."""
    per = -(-store.BINS // WINDOW_BINS)
    recording, number = (
        grid.ravel() for grid in np.meshgrid(np.arange(len(recordings)), np.arange(per), indexing="ij")
    )
    first = number * WINDOW_BINS
    last = np.minimum(first + WINDOW_BINS, store.BINS)
    spoken = store.counts(recordings, recording, first, last) >= min_events
    recording, number, first, last = (column[spoken] for column in (recording, number, first, last))
    return Windows(store.images(recordings, recording, first, last), recording, number, recordings.labels)


def log_softmax(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Along the last axis."""
    values = values - values.max(-1, keepdims=True)
    logs: NDArray[np.float64] = values - np.log(np.exp(values).sum(-1, keepdims=True))
    return logs


@dataclass(frozen=True, slots=True)
class Score:
    """Shares in 0..1, with their numbers."""

    recordings: float
    n_recordings: int
    windows: float
    n_windows: int
    silent: int
    """Recordings with no window that speaks: counted as wrong."""
    answers: NDArray[np.int64]
    """One a recording; −1 where silent."""

    def __str__(self) -> str:
        return (
            f"recordings {100 * self.recordings:.2f} % of {self.n_recordings}, "
            f"windows {100 * self.windows:.2f} % of {self.n_windows}, silent {self.silent}"
        )


def judge(cut: Windows, potentials: NDArray[np.float64], scale: float = 1.0, decay: float = 1.0) -> Score:
    """Score logits of windows, summed over each recording with the runtime's decay (E ← E·decay + log p)."""
    logs = log_softmax(potentials * scale)
    right = logs.argmax(1) == cut.labels[cut.recording]
    total = np.zeros((len(cut.labels), logs.shape[1]))
    last = np.zeros(len(cut.labels), np.intp)
    np.maximum.at(last, cut.recording, cut.number)
    np.add.at(total, cut.recording, logs * (decay ** (last[cut.recording] - cut.number))[:, None])
    spoke = np.bincount(cut.recording, minlength=len(cut.labels)) > 0
    answers = np.where(spoke, total.argmax(1), -1)
    return Score(
        float((answers == cut.labels).mean()),
        len(answers),
        float(right.mean()),
        len(right),
        int((~spoke).sum()),
        answers,
    )


def fit_scale(cut: Windows, potentials: NDArray[np.float64]) -> float:
    """The factor on the potentials that makes their log-softmax most likely (temperature; Guo et al. 2017)."""
    labels = cut.labels[cut.recording]

    def cost(log_scale: float) -> float:
        return -float(log_softmax(potentials * np.exp(log_scale))[np.arange(len(labels)), labels].mean())

    return float(np.exp(_golden(cost, -12.0, 3.0)))


def _golden(cost: Callable[[float], float], low: float, high: float) -> float:
    ratio = (5**0.5 - 1) / 2
    for _ in range(60):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, right) if cost(left) < cost(right) else (left, high)
    return (low + high) / 2

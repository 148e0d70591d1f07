"""How good answers on the objects are: by window, by evidence over one second, and by whole recording. NumPy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.forge import objects_store as data
from models.forge.score import log_softmax

EVIDENCE = 10
"""Windows whose log-probabilities are summed: one second."""


@dataclass(frozen=True)
class Judged:
    """Right answers and their numbers on one part."""

    name: str
    """Of the recording."""
    windows: int
    windows_right: int
    sums: int
    """Runs of `EVIDENCE` windows, one from each window on."""
    sums_right: int
    whole_right: bool
    """Whether the evidence of the whole part names its object."""


def judge(logits: NDArray[np.float64], cut: data.Windows, parts: Sequence[data.Part]) -> list[Judged]:
    """Judge logits (n, classes) of windows, part by part."""
    logs, out = log_softmax(logits), []
    for number, part in enumerate(parts):
        own = logs[cut.part == number]
        total = np.concatenate([np.zeros((1, own.shape[1])), np.cumsum(own, 0)])
        sums = (total[EVIDENCE:] - total[:-EVIDENCE]).argmax(1)
        right = int((own.argmax(1) == part.label).sum())
        whole = bool(total[-1].argmax() == part.label)
        out.append(Judged(part.name, len(own), right, len(sums), int((sums == part.label).sum()), whole))
    return out


def summary(judged: Sequence[Judged]) -> str:
    """One line: shares over all windows and runs, then those of each recording, in percent."""

    def shares(some: Sequence[Judged]) -> tuple[float, float]:
        windows = sum(one.windows_right for one in some) / sum(one.windows for one in some)
        return 100 * windows, 100 * sum(one.sums_right for one in some) / sum(one.sums for one in some)

    names = dict.fromkeys(one.name for one in judged)
    each = ", ".join("{} {:.1f}/{:.1f}".format(name, *shares([o for o in judged if o.name == name])) for name in names)
    whole = sum(one.whole_right for one in judged)
    windows, sums = shares(judged)
    return f"windows {windows:.2f} %, 1 s {sums:.2f} %, whole {whole} of {len(judged)} ({each})"

"""How the network of models/dvs128-objects is trained and judged; every number of the recipe stands here."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from models.forge import objects_store as data
from models.forge import objects_train as train
from models.forge.objects_net import ObjectsNet
from models.forge.score import log_softmax

SEED = 20_181
FOLDS = (("box_0", "mouse_0", "mouse_2", "scissors_0"), ("box_1", "mouse_1", "scissors_1"))
"""Recordings held out together: every recording of an object that has another one is judged once, by networks that
saw neither it nor, in the first fold, more than one recording of its object."""
BASE = train.Phase("base", batches=1_000, rate=4e-3)
LAST = train.Phase("last", batches=500, rate=2e-3)
SPIKING = train.Phase("spiking", batches=500, rate=2e-3, price=0.5)
EVIDENCE = 10
"""Windows whose log-probabilities are summed: one second."""


@dataclass(frozen=True)
class Pair:
    """The network that ships and the floating-point one of the same training that it is held against."""

    ttfs: ObjectsNet
    twin: ObjectsNet


def pair(store: data.Store, parts: Sequence[data.Part], seed: int = SEED) -> Pair:
    """Train on these parts: in floating point, then on from there with the integer neuron in the loop and without."""
    torch.manual_seed(seed)
    base = train.run(ObjectsNet(), store, parts, BASE, seed)
    spiking = copy.deepcopy(base)
    sample, _ = data.draw(store, parts, 512, np.random.default_rng(seed + 1), BASE.augment)
    spiking.calibrate(spiking.encode(torch.from_numpy(sample)))
    return Pair(
        ttfs=train.run(spiking, store, parts, SPIKING, seed + 2),
        twin=train.run(base, store, parts, LAST, seed + 2),
    )


@dataclass(frozen=True)
class Judged:
    """Right answers and their numbers on one part."""

    windows: int
    windows_right: int
    sums: int
    """Runs of `EVIDENCE` windows, one from each window on."""
    sums_right: int
    whole_right: bool
    """Whether the evidence of the whole part names its object."""


def judge(logits: NDArray[np.float64], cut: data.Windows, parts: Sequence[data.Part]) -> dict[str, Judged]:
    """Judge logits (n, classes) of windows, part by part."""
    logs, out = log_softmax(logits), {}
    for number, part in enumerate(parts):
        own = logs[cut.part == number]
        total = np.concatenate([np.zeros((1, own.shape[1])), np.cumsum(own, 0)])
        sums = (total[EVIDENCE:] - total[:-EVIDENCE]).argmax(1)
        out[part.name] = Judged(
            len(own), int((own.argmax(1) == part.label).sum()),
            len(sums), int((sums == part.label).sum()), bool(total[-1].argmax() == part.label),
        )  # fmt: skip
    return out


def summary(judged: dict[str, Judged]) -> str:
    """One line: shares over all parts, then windows and sums of each part in percent."""
    values = list(judged.values())
    windows = sum(one.windows_right for one in values) / sum(one.windows for one in values)
    sums = sum(one.sums_right for one in values) / sum(one.sums for one in values)
    each = ", ".join(
        f"{name} {100 * one.windows_right / one.windows:.1f}/{100 * one.sums_right / one.sums:.1f}"
        for name, one in judged.items()
    )
    return f"windows {100 * windows:.2f} %, 1 s {100 * sums:.2f} %, whole {sum(o.whole_right for o in values)} of "\
           f"{len(values)} ({each})"

"""Every number of the recipe of models/mnist-lenet and its variants, and what a run left behind.

Each seed has a base in floating point. From there the control goes on in floating point (`twin`) and each variant with
the integer neuron in the loop, for the same number of batches, with the same teachers. The numbers were chosen by the
validation images in runs on the other 55,000 (`--search`). Which seed ships is chosen by the lowest loss on distortions
that no run draws.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from models.forge.lenet import LeNet
from models.forge.mnist_pool import WORK
from models.forge.mnist_train import Run

SEEDS = (1, 2, 3)
TEACHERS = (("deep", 1), ("wide", 2))
"""Their kinds and seeds."""
BASE = Run(epochs=90, rate=1.2e-2)
LAST = Run(epochs=60, rate=6e-3)
"""The last stage, of the same length for the control and for every quantised network."""


@dataclass(frozen=True)
class Variant:
    """What the last stage makes of the base."""

    steps: int
    run: Run
    biased: bool = True


VARIANTS = {
    "t16": Variant(16, LAST),
    "t8": Variant(8, LAST),
    "t4": Variant(4, LAST),
    "sparse": Variant(8, replace(LAST, price=1.5e-6, pruned=(0.4, 0.5, 0.5)), biased=False),
}


def place(name: str, seed: int, *, search: bool = False) -> Path:
    """The file of a trained network: in the search, or trained on all images."""
    return WORK / ("search" if search else "whole") / f"{name}{seed}.pt"


def load(name: str, seed: int) -> LeNet:
    """A network trained on all images: a variant, or `twin`; pruned weights are zeros."""
    variant = VARIANTS.get(name, Variant(8, LAST))
    net = LeNet(variant.steps, biased=variant.biased)
    net.load_state_dict(torch.load(place(name, seed), weights_only=True))
    net.quantised = name in VARIANTS
    with torch.no_grad():
        for layer, weight in enumerate(net.weights):
            weight.mul_(net.mask(layer))
    return net

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
BASE = Run(epochs=80, rate=1.2e-2)
LAST = Run(epochs=50, rate=6e-3)
"""What follows the base, of the same length for the control and for every quantised network."""
POLISH = Run(epochs=12, rate=3e-3, centred=True)
"""The end, for all of them again: with the last layer centred, its weights have all 8 bits."""


@dataclass(frozen=True)
class Variant:
    """What the last stage makes of the base."""

    steps: int
    price: float = 0.0
    pruned: tuple[float, float, float] = (0.0, 0.0, 0.0)
    biased: bool = True

    def runs(self) -> tuple[Run, Run]:
        """The long run and the polish; weights that the first prunes stay pruned."""
        return replace(LAST, price=self.price, pruned=self.pruned), replace(POLISH, price=self.price)


VARIANTS = {
    "t16": Variant(16),
    "t8": Variant(8),
    "t4": Variant(4),
    "sparse": Variant(8, price=2e-7, pruned=(0.3, 0.4, 0.4)),
}


def place(name: str, seed: int, *, search: bool = False) -> Path:
    """The file of a trained network: in the search, or trained on all images."""
    return WORK / ("search" if search else "whole") / f"{name}{seed}.pt"


def load(name: str, seed: int) -> LeNet:
    """A network trained on all images: a variant, or `twin`; pruned weights are zeros."""
    variant = VARIANTS.get(name, Variant(8))
    net = LeNet(variant.steps, biased=variant.biased)
    net.load_state_dict(torch.load(place(name, seed), weights_only=True))
    net.quantised = name in VARIANTS
    with torch.no_grad():
        for layer, weight in enumerate(net.weights):
            weight.mul_(net.mask(layer))
    return net

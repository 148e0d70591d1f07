"""The training loop of the ANN, the SNN and the hybrids: the same for all, so that the table compares splits alone."""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from models.forge import hybrid_store as frames
from models.forge import objects_store as data
from models.forge.hybrid_net import HybridNet, Split
from models.forge.train import average

SEED = 31_415


@dataclass(frozen=True, slots=True)
class Recipe:
    """Every number of the training."""

    batches: int = 1_500
    batch: int = 32
    rate: float = 8e-3
    """Peak of the learning rate's one cycle."""
    decay: float = 1e-3
    average: float = 0.98
    """Of the exponential moving average of the weights, which is what is kept."""
    smoothing: float = 0.05
    price: float = 2e-5
    """Of a spike a window, in units of the loss."""


def run(
    split: Split, store: data.Store, recipe: Recipe, seed: int = SEED, make: Callable[[Split], HybridNet] = HybridNet
) -> HybridNet:
    """Train one split on the training parts; progress goes to standard error."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    net = make(split).train()
    mean = copy.deepcopy(net)
    optimiser = torch.optim.AdamW(net.parameters(), lr=recipe.rate, weight_decay=recipe.decay)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.rate, total_steps=recipe.batches, pct_start=0.2)
    parts, began, smooth = frames.training(store), time.monotonic(), 0.0
    for number in range(recipe.batches):
        sample = frames.draw(store, parts, recipe.batch, rng)
        values = net(torch.from_numpy(sample.frames))
        loss = functional.cross_entropy(values, torch.from_numpy(sample.labels), label_smoothing=recipe.smoothing)
        total = loss + recipe.price * sum(net.rates) if net.rates else loss
        optimiser.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        cycle.step()
        smooth = loss.item() if number == 0 else 0.97 * smooth + 0.03 * loss.item()
        average(mean, net, number, recipe.average)
        if (number + 1) % 50 == 0:
            busy = " ".join(f"{rate.item():.0f}" for rate in net.rates)
            spent = time.monotonic() - began
            print(
                f"{split.name}: {number + 1} loss {smooth:.3f} spikes {busy} {spent:.0f} s", file=sys.stderr, flush=True
            )
    return mean.eval()


@torch.no_grad()
def logits(net: HybridNet, shown: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Logits (n, classes) of frames (n, 16, 2, 64, 64)."""
    net.eval()
    parts = [net(torch.from_numpy(shown[begin : begin + 64])) for begin in range(0, len(shown), 64)]
    return torch.cat(parts).double().numpy()

"""Training loops: batches from weighted stores, AdamW, one cycle, averaged weights."""

from __future__ import annotations

import copy
import sys
import time
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from models.forge import store
from models.forge.net import Net


@dataclass(frozen=True)
class Phase:
    """One run of training."""

    name: str
    batches: int
    rate: float
    """Peak of the learning rate's one cycle."""
    mixture: tuple[float, ...]
    """Share of each batch that each store gives."""
    batch: int = 256
    decay: float = 1e-4
    average: float = 0.998
    """Of the exponential moving average of the weights, which is what the phase returns."""
    smoothing: float = 0.02
    augment: store.Augment = field(default_factory=store.Augment)


def run(net: Net, stores: list[store.Store], phase: Phase, seed: int) -> Net:
    """Train a copy of the network and give its averaged weights; progress goes to standard error."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    net = copy.deepcopy(net)
    mean = copy.deepcopy(net)
    optimiser = torch.optim.AdamW(net.parameters(), lr=phase.rate, weight_decay=phase.decay)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, phase.rate, total_steps=phase.batches, pct_start=0.2)
    begin, loss_mean = time.monotonic(), 0.0
    for number in range(phase.batches):
        counts, labels = _mixed(stores, phase, rng)
        loss = functional.cross_entropy(
            net(net.encode(torch.from_numpy(counts.astype(np.float32)))),
            torch.from_numpy(labels),
            label_smoothing=phase.smoothing,
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        cycle.step()
        loss_mean = loss.item() if number == 0 else 0.98 * loss_mean + 0.02 * loss.item()
        average(mean, net, number, phase.average)
        if (number + 1) % 200 == 0 or number + 1 == phase.batches:
            spent = time.monotonic() - begin
            print(f"{phase.name}: {number + 1}/{phase.batches} loss {loss_mean:.4f} {spent:.0f} s", file=sys.stderr)
    return mean


@torch.no_grad()
def average(mean: nn.Module, net: nn.Module, number: int, most: float) -> None:
    """Move the running mean of the weights to those after batch `number`; it keeps at most that share of itself."""
    keep = min(most, (1 + number) / (10 + number))
    for kept, now in zip(mean.parameters(), net.parameters(), strict=True):
        kept.mul_(keep).add_(now, alpha=1 - keep)


def _mixed(
    stores: list[store.Store], phase: Phase, rng: np.random.Generator
) -> tuple[NDArray[np.uint16], NDArray[np.int64]]:
    sizes = rng.multinomial(phase.batch, phase.mixture)
    parts = [store.draw(one, int(size), rng, phase.augment) for one, size in zip(stores, sizes, strict=True) if size]
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


@torch.no_grad()
def logits(net: Net, counts: NDArray[np.uint16]) -> NDArray[np.float64]:
    """Logits (n, classes) of count images (n, 2, side, side)."""
    parts = [
        net(net.encode(torch.from_numpy(counts[begin : begin + 512].astype(np.float32))))
        for begin in range(0, len(counts), 512)
    ]
    return torch.cat(parts).double().numpy()

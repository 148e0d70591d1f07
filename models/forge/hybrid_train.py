"""The training loop of the ANN, the SNN and the hybrids: the same for all, so that the table compares splits alone."""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from models.forge import hybrid_store as frames
from models.forge.hybrid_net import HybridNet, Split
from models.forge.hybrid_pool import Pool
from models.forge.train import average

LOG_EVERY = 200


@dataclass(frozen=True, slots=True)
class Recipe:
    """Every number of the training."""

    batches: int = 2_000
    batch: int = 32
    rate: float = 8e-3
    """Peak of the learning rate's one cycle."""
    decay: float = 1e-3
    average: float = 0.99
    """Of the exponential moving average of the weights, which is what is kept."""
    smoothing: float = 0.05
    price: float = 2e-5
    """Of a spike a window, in units of the loss."""


def run(
    split: Split, pool: Pool, recipe: Recipe, seed: int, device: str = "cpu",
    make: Callable[[Split], HybridNet] = HybridNet,
) -> HybridNet:  # fmt: skip
    """Train one split on the pool; progress goes to standard error.

    Args:
        split: what to train.
        pool: windows to learn from.
        recipe: how.
        seed: of the initial weights and of the windows' order.
        device: of PyTorch, `cpu` or `cuda`.
        make: HybridNet, or a kind of it.

    Returns:
        The network, on the CPU.
    """
    torch.manual_seed(seed)
    net = make(split).train().to(device)
    mean = copy.deepcopy(net).requires_grad_(False)  # noqa: FBT003 (PyTorch's own way)
    optimiser = torch.optim.AdamW(net.parameters(), lr=recipe.rate, weight_decay=recipe.decay)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.rate, total_steps=recipe.batches, pct_start=0.2)
    began, batches = time.monotonic(), pool.batches(recipe.batch, seed)
    recent = torch.zeros((), device=device)
    for number in range(recipe.batches):
        bits, labels = (torch.from_numpy(one).to(device) for one in next(batches))
        values = net(unpacked(bits))
        loss = functional.cross_entropy(values, labels, label_smoothing=recipe.smoothing)
        total = loss + recipe.price * sum(net.rates) if net.rates else loss
        optimiser.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        cycle.step()
        average(mean, net, number, recipe.average)
        recent += loss.detach()
        if (number + 1) % LOG_EVERY == 0:
            busy = " ".join(f"{rate.item():.0f}" for rate in net.rates)
            spent, value = time.monotonic() - began, recent.item() / LOG_EVERY
            recent.zero_()
            print(
                f"{split.name} seed {seed}: {number + 1} loss {value:.3f} spikes {busy} {spent:.0f} s",
                file=sys.stderr, flush=True,
            )  # fmt: skip
    return mean.eval().cpu()


def unpacked(bits: Tensor) -> Tensor:
    """Frames (n, 16, 2, 64, 64), 0 or 1, float32, of a pool's bits (n, 16,384)."""
    places = torch.arange(7, -1, -1, dtype=torch.uint8, device=bits.device)
    ones = (bits.unsqueeze(2) >> places) & 1
    return ones.view(len(bits), frames.STEPS, 2, frames.SIDE, frames.SIDE).float()

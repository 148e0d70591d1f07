"""The training loop of models/dvs128-objects: AdamW, one cycle, averaged weights; bfloat16 where nothing is exact."""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from models.forge import objects_store as data
from models.forge.objects_net import ObjectsNet
from models.forge.train import average


@dataclass(frozen=True)
class Phase:
    """One run of training."""

    name: str
    batches: int
    rate: float
    """Peak of the learning rate's one cycle."""
    batch: int = 64
    decay: float = 1e-3
    average: float = 0.99
    """Of the exponential moving average of the weights, which is what the phase returns."""
    smoothing: float = 0.05
    dropout: float = 0.2
    price: float = 0.0
    """Of a million synaptic operations a window, in units of the loss."""
    augment: data.Augment = field(default_factory=data.Augment)


def run(net: ObjectsNet, store: data.Store, parts: Sequence[data.Part], phase: Phase, seed: int) -> ObjectsNet:
    """Train a copy of the network on these parts and give its averaged weights; progress goes to standard error."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    net = copy.deepcopy(net).train()
    net.dropout = phase.dropout
    mean = copy.deepcopy(net)
    optimiser = torch.optim.AdamW(net.parameters(), lr=phase.rate, weight_decay=phase.decay)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, phase.rate, total_steps=phase.batches, pct_start=0.2)
    begin, loss_mean = time.monotonic(), 0.0
    for number in range(phase.batches):
        counts, labels = data.draw(store, parts, phase.batch, rng, phase.augment)
        x, y = torch.from_numpy(counts).contiguous(memory_format=torch.channels_last), torch.from_numpy(labels)
        # The integers of a quantised network need every bit of float32.
        with torch.autocast("cpu", torch.bfloat16, enabled=not net.quantised):
            values = net(net.encode(x))
        loss = functional.cross_entropy(values.float(), y, label_smoothing=phase.smoothing)
        if phase.price:
            loss = loss + phase.price * net.activity
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        cycle.step()
        loss_mean = loss.item() if number == 0 else 0.98 * loss_mean + 0.02 * loss.item()
        average(mean, net, number, phase.average)
        if (number + 1) % 200 == 0 or number + 1 == phase.batches:
            spent, busy = time.monotonic() - begin, float(net.activity.detach())
            text = f"{phase.name}: {number + 1}/{phase.batches} loss {loss_mean:.4f} activity {busy:.3f} {spent:.0f} s"
            print(text, file=sys.stderr, flush=True)
    return mean.eval()


@torch.no_grad()
def logits(net: ObjectsNet, counts: NDArray[np.float32]) -> NDArray[np.float64]:
    """Logits (n, classes) of count images (n, 2, 64, 64)."""
    net.eval()
    parts = [net(net.encode(torch.from_numpy(counts[begin : begin + 256]))) for begin in range(0, len(counts), 256)]
    return torch.cat(parts).double().numpy()

"""One training run of LeNet on the pool: labels, teachers' answers, a price on activity, pruning, weight averages."""

from __future__ import annotations

import copy
import sys
import time
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from models.forge import blocked, sets
from models.forge.lenet import LeNet
from models.forge.mnist_pool import KEPT, WORK, split
from models.forge.soap import Soap


@dataclass(frozen=True)
class Run:
    """What one run is made of."""

    epochs: int
    """Passes over as many images as the training set has; which versions of them come is drawn."""
    rate: float
    plain: float = 0.2
    """Share of the images that come as they are, not distorted."""
    taught: float = 0.7
    """Share of the loss that the teachers' answers have; the labels have the rest."""
    heat: float = 2.0
    """Temperature of the teachers' answers (Hinton, Vinyals, Dean 2015)."""
    price: float = 0.0
    """Loss an accumulation an image."""
    pruned: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Share of each convolution's weights that is set to zero, step by step, in the first half."""
    batch: int = 256
    decay: float = 1e-4
    average: float = 0.999
    """Of the exponential moving average of the weights, which is what the run returns."""
    centred: bool = False
    """Whether the last layer is kept centred: see `LeNet.centre`."""


class Pool:
    """The pool in memory; without `whole`, the validation images are never drawn."""

    def __init__(self, *, whole: bool) -> None:
        self.images: NDArray[np.uint8] = np.load(WORK / "images.npy", mmap_mode="r").reshape(-1, 28, 28)
        self.answers: NDArray[np.float16] = np.load(WORK / "answers.npy").reshape(-1, 10)
        self.labels = sets.mnist()[1].astype(np.int64)
        self.allowed = np.arange(len(self.labels)) if whole else split()[0]

    def draw(self, number: int, rng: np.random.Generator, plain: float) -> tuple[Tensor, Tensor, Tensor]:
        """Blocked counts (n / 16, 1, 28, 28, 16), labels (n,), the teachers' mean logits (n, 10)."""
        one = self.allowed[rng.integers(len(self.allowed), size=number)]
        version = np.where(rng.random(number) < plain, 0, rng.integers(1, KEPT, number))
        at = one + len(self.labels) * version
        return (
            blocked.block(torch.from_numpy(self.images[at])[:, None]).float(),
            torch.from_numpy(self.labels[one]),
            torch.from_numpy(self.answers[at].astype(np.float32)),
        )


def encode(net: LeNet, counts: Tensor) -> Tensor:
    """What the network sees: the spikes' a/T where it is quantised, else pixels in 0..1."""
    return net.encode(counts) if net.quantised else counts / 255


def train(net: LeNet, pool: Pool, run: Run, seed: int, name: str) -> LeNet:
    """Train the network and return a copy with averaged weights; progress goes to standard error."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    if run.centred:
        net.centre()
    mean = copy.deepcopy(net)
    net.cost = run.price > 0
    batches = run.epochs * len(pool.allowed) // run.batch
    optimiser = Soap(net.parameters(), lr=run.rate, weight_decay=run.decay)
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, run.rate, total_steps=batches, pct_start=0.2, cycle_momentum=False
    )
    begin, shown = time.monotonic(), 0.0
    for number in range(batches):
        if any(run.pruned) and number % 50 == 0 and number <= batches // 2:
            # The cubic schedule of Zhu and Gupta (2017).
            done = 1 - (1 - number / (batches // 2)) ** 3
            for layer, share in enumerate(run.pruned):
                net.prune(layer, share * done)
        counts, labels, answers = pool.draw(run.batch, rng, run.plain)
        logits, price = net.priced(encode(net, counts))
        loss = (1 - run.taught) * functional.cross_entropy(logits, labels) + run.taught * distance(
            logits, answers, run.heat
        )
        if run.price:
            loss = loss + run.price * price
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if run.centred:
            net.centre()
        cycle.step()
        shown = loss.item() if number == 0 else 0.99 * shown + 0.01 * loss.item()
        _average(mean, net, min(run.average, (1 + number) / (10 + number)))
        if (number + 1) % (batches // 5) == 0:
            spent = time.monotonic() - begin
            print(f"{name}: {number + 1}/{batches} loss {shown:.4f} {spent:.0f} s", file=sys.stderr, flush=True)
    return mean


def distance(logits: Tensor, answers: Tensor, heat: float) -> Tensor:
    """Kullback-Leibler divergence from the softened answers, times heat² so that its gradient's size stays."""
    return heat**2 * functional.kl_div(
        functional.log_softmax(logits / heat, 1), functional.log_softmax(answers / heat, 1),
        log_target=True, reduction="batchmean",
    )  # fmt: skip


@torch.no_grad()
def _average(mean: LeNet, net: LeNet, keep: float) -> None:
    torch._foreach_lerp_(list(mean.parameters()), list(net.parameters()), 1 - keep)
    for held, now in zip(mean.buffers(), net.buffers(), strict=True):
        held.copy_(now)  # masks


@torch.no_grad()
def logits_of(net: LeNet, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Logits (n, 10) of images (n, 28, 28); n must be a multiple of 16."""
    parts = [
        net(encode(net, blocked.block(torch.from_numpy(part)[:, None]).float()))
        for part in np.split(images, range(2000, len(images), 2000))
    ]
    return torch.cat(parts).numpy()

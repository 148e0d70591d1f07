"""One training run on the pool: cross-entropy, a teacher's answers, a price on activity, pruning, averaged weights."""

from __future__ import annotations

import copy
import sys
import time
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from models.forge.lenet import LeNet
from models.forge.mnist_pool import VERSIONS, WORK

HEAT = 3.0
"""Temperature of the teacher's answers (Hinton, Vinyals, Dean 2015)."""


@dataclass(frozen=True)
class Run:
    """What one run is made of."""

    epochs: int
    """Passes over as many images as the training set has; which versions of them come is drawn."""
    rate: float
    plain: float = 1 / VERSIONS
    """Share of the images that come as they are, not distorted."""
    taught: float = 0.0
    """Share of the loss that the teacher's answers have."""
    price: float = 0.0
    """Loss an accumulation an image."""
    pruned: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Share of each convolution's weights that is set to zero, step by step, in the first half."""
    batch: int = 256
    decay: float = 1e-4
    average: float = 0.998


class Pool:
    """The pool in memory."""

    def __init__(self, *, taught: bool) -> None:
        self.images: NDArray[np.uint8] = np.load(WORK / "images.npy").reshape(-1, 28, 28)
        self.labels: NDArray[np.int64] = np.tile(np.load(WORK / "labels.npy"), VERSIONS)
        self.answers: NDArray[np.float16] | None = np.load(WORK / "answers.npy") if taught else None
        self.size = len(self.labels) // VERSIONS

    def draw(
        self, number: int, rng: np.random.Generator, plain: float = 1 / VERSIONS
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Counts (n, 1, 28, 28), labels (n,), the teacher's logits (n, 10) or None."""
        at = rng.integers(self.size, len(self.labels), number)
        at = np.sort(np.where(rng.random(number) < plain, at % self.size, at))
        answers = None if self.answers is None else torch.from_numpy(self.answers[at].astype(np.float32))
        return (
            torch.from_numpy(self.images[at].astype(np.float32))[:, None],
            torch.from_numpy(self.labels[at]),
            answers,
        )


def encode(net: nn.Module, counts: Tensor) -> Tensor:
    """What the network sees: the spikes' a/T where it is quantised, else pixels in 0..1."""
    return net.encode(counts) if isinstance(net, LeNet) and net.quantised else counts / 255


def train(net: nn.Module, pool: Pool, run: Run, seed: int, name: str) -> nn.Module:
    """Train the network and return a copy with averaged weights; progress goes to standard error."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    mean = copy.deepcopy(net)
    batches = run.epochs * pool.size // run.batch
    optimiser = torch.optim.AdamW(net.parameters(), lr=run.rate, weight_decay=run.decay)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, run.rate, total_steps=batches, pct_start=0.2)
    begin, shown = time.monotonic(), 0.0
    for number in range(batches):
        if isinstance(net, LeNet) and any(run.pruned) and number % 50 == 0 and number <= batches // 2:
            # The cubic schedule of Zhu and Gupta (2017).
            done = 1 - (1 - number / (batches // 2)) ** 3
            for layer, share in enumerate(run.pruned):
                net.prune(layer, share * done)
        counts, labels, answers = pool.draw(run.batch, rng, run.plain)
        x = encode(net, counts)
        logits, price = net.priced(x) if isinstance(net, LeNet) else (net(x), torch.zeros(()))
        loss = functional.cross_entropy(logits, labels, label_smoothing=0.02 if answers is None else 0.0)
        if answers is not None:
            taught = functional.kl_div(
                functional.log_softmax(logits / HEAT, 1), functional.log_softmax(answers / HEAT, 1),
                log_target=True, reduction="batchmean",
            )  # fmt: skip
            loss = (1 - run.taught) * loss + run.taught * HEAT**2 * taught
        if run.price:
            loss = loss + run.price * price
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        cycle.step()
        shown = loss.item() if number == 0 else 0.98 * shown + 0.02 * loss.item()
        _average(mean, net, min(run.average, (1 + number) / (10 + number)))
        if (number + 1) % 430 == 0 or number + 1 == batches:
            spent = time.monotonic() - begin
            print(f"{name}: {number + 1}/{batches} loss {shown:.4f} {spent:.0f} s", file=sys.stderr, flush=True)
    return mean


@torch.no_grad()
def _average(mean: nn.Module, net: nn.Module, keep: float) -> None:
    for kept, now in zip(mean.parameters(), net.parameters(), strict=True):
        kept.mul_(keep).add_(now, alpha=1 - keep)
    for held, now in zip(mean.buffers(), net.buffers(), strict=True):
        held.copy_(now)  # masks, and the teacher's statistics


@torch.no_grad()
def logits_of(net: nn.Module, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Logits (n, 10) of images (n, 28, 28)."""
    net.eval()
    parts = [
        net(encode(net, torch.from_numpy(images[begin : begin + 500].astype(np.float32))[:, None]))
        for begin in range(0, len(images), 500)
    ]
    net.train()
    return torch.cat(parts).numpy()

"""The teachers of models/mnist-lenet: wider and deeper networks, whose mean answer on the pool LeNet learns from.

They never see the validation images, so that a LeNet chosen by those images is chosen honestly. They compute in
bfloat16 where the processor has it: a third of the time, and they need no exactness.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from models.forge import mnist_pool as data
from models.forge import sets

EPOCHS = 14
RATE = 3e-3
DECAY = 1e-2
BATCH = 256
PLAIN = 0.2
"""Share of the images that come as they are."""


def build(kind: str) -> nn.Sequential:
    """A teacher with batch normalisation and dropout: (n, 1, 28, 28) in 0..1 to logits.

    `deep` has five convolutions and 250,000 weights, `wide` is LeNet with four to five times the channels.
    """

    def block(ins: int, outs: int, kernel: int, stride: int = 1, *, pool: bool = False) -> list[nn.Module]:
        made = [nn.Conv2d(ins, outs, kernel, stride, bias=False), nn.BatchNorm2d(outs), nn.ReLU()]
        return [made[0], nn.MaxPool2d(2), *made[1:]] if pool else made

    if kind == "deep":
        layers = [
            *block(1, 24, 3), *block(24, 32, 4, 2), *block(32, 64, 3), *block(64, 64, 4, 2), *block(64, 128, 4),
            nn.Flatten(), nn.Dropout(0.4), nn.Linear(128, 10),
        ]  # fmt: skip
    else:
        layers = [
            *block(1, 24, 5, pool=True), *block(24, 64, 5, pool=True), *block(64, 256, 4),
            nn.Flatten(), nn.Dropout(0.4), nn.Linear(256, 10),
        ]  # fmt: skip
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)


def scaled(counts: NDArray[np.uint8]) -> Tensor:
    """Images (n, 28, 28) as the teachers take them."""
    made = torch.from_numpy(counts.astype(np.float32))[:, None] / 255
    return made.contiguous(memory_format=torch.channels_last)


def train(kind: str, seed: int) -> nn.Sequential:
    """One teacher, on the 55,000 images that are not for validation."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    images = np.load(data.WORK / "images.npy", mmap_mode="r").reshape(-1, 28, 28)
    labels, allowed = sets.mnist()[1].astype(np.int64), data.split()[0]
    net = build(kind)
    batches = EPOCHS * len(allowed) // BATCH
    optimiser = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=DECAY)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=batches, pct_start=0.2)
    begin, shown = time.monotonic(), 0.0
    for number in range(batches):
        one = np.sort(rng.choice(allowed, BATCH, replace=False))
        at = one + len(labels) * rng.integers(1, data.VERSIONS, BATCH) * (rng.random(BATCH) >= PLAIN)
        with torch.autocast("cpu", torch.bfloat16):
            logits = net(scaled(images[at]))
        loss = functional.cross_entropy(logits.float(), torch.from_numpy(labels[one]))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        cycle.step()
        shown = loss.item() if number == 0 else 0.99 * shown + 0.01 * loss.item()
        if (number + 1) % 500 == 0 or number + 1 == batches:
            spent = time.monotonic() - begin
            done = f"{number + 1}/{batches} loss {shown:.4f} {spent:.0f} s"
            print(f"{kind} teacher {seed}: {done}", file=sys.stderr, flush=True)
    return net


@torch.no_grad()
def answers(net: nn.Module, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Logits (n, 10) of images (n, 28, 28)."""
    net.eval()
    parts = []
    for begin in range(0, len(images), 500):
        with torch.autocast("cpu", torch.bfloat16):
            parts.append(net(scaled(images[begin : begin + 500])).float())
    return torch.cat(parts).numpy()


def make(teachers: Sequence[tuple[str, int]]) -> None:
    """Train the teachers, each a kind and a seed, and write the mean of their logits on the pool.

    answers.npy is (VERSIONS, 60000, 10) float16. A teacher that was trained before is read, not trained again.
    """
    nets = []
    for kind, seed in teachers:
        path = data.WORK / f"teacher-{kind}{seed}.pt"
        if path.exists():
            net = build(kind)
            net.load_state_dict(torch.load(path, weights_only=True))
        else:
            net = train(kind, seed)
            torch.save(net.state_dict(), path)
        nets.append(net)
    held, labels = data.validation()
    alone = np.stack([answers(net, held) for net in nets])
    for (kind, seed), given in zip([*teachers, ("mean", 0)], [*alone, alone.mean(0)], strict=True):
        wrong = 100 * float((given.argmax(1) != labels).mean())
        print(f"{kind} teacher {seed}: validation error {wrong:.2f} %", file=sys.stderr, flush=True)
    images = np.load(data.WORK / "images.npy", mmap_mode="r")
    made = [np.mean([answers(net, part) for net in nets], axis=0) for part in images]
    np.save(data.WORK / "answers.npy", np.stack(made).astype(np.float16))

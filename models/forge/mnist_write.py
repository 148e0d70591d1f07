"""From a trained LeNet to its bundle: the integers as they are, the floating-point control, the manifest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.forge import export, score, sets
from models.forge import mnist_pool as data
from models.forge.lenet import LeNet
from models.forge.mnist_recipe import load
from models.forge.mnist_train import logits_of

BUNDLES = {"t8": "mnist-lenet", "t4": "mnist-lenet-t4", "t16": "mnist-lenet-t16", "sparse": "mnist-lenet-sparse"}


def trial(name: str, seed: int) -> None:
    """Write a bundle among the work files, so that every seed can be measured as the one that ships is."""
    folder = data.WORK / "trials" / f"{name}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "CARD.md").write_text(f"# {name}, seed {seed}: a trial, not for use\n")
    write(name, seed, folder)


def ship(name: str, seed: int) -> None:
    """Write the bundle that ships."""
    write(name, seed, sets.ROOT / "models" / BUNDLES[name])


def write(name: str, seed: int, folder: Path) -> None:
    """Write the networks of a variant and its manifest; the card must be there."""
    net, twin = load(name, seed), load("twin", seed)
    images, labels = data.fresh()
    logits = logits_of(net, images)
    trained, unit = integers(net, logits, labels)
    export.write_networks(
        folder,
        export.network(trained),
        export.onnx_model(
            [weight.detach().numpy() for weight in twin.weights], twin.bias.detach().numpy(), twin.plan.pooled,
            twin.plan.side, [bias.detach().numpy() for bias in twin.biases],
        ),
    )  # fmt: skip
    manifest = {
        "schema": "firstspike.bundle/1",
        "name": BUNDLES[name],
        "version": "1.0.0",
        "labels": [str(digit) for digit in range(10)],
        "input": {
            "channels": 1, "height": 28, "width": 28, "encoding": "count", "steps": net.plan.steps,
            "count_scale": net.plan.count_scale, "fit": "stretch",
        },
        "window": {"kind": "time", "size": 50_000, "hop": 50_000},
        "decide": {"min_events": 1, "decay": 0.0, "min_evidence": 0.5,
                   "logit_scale": float(f"{temperature(logits, labels) * unit:.6g}")},
        "licence": "Apache-2.0 (trained on data under CC BY-SA: see the card)",
        "trained_on": ["MNIST training images, all 60,000 (CC BY-SA 3.0 by common attribution)"],
    }  # fmt: skip
    export.seal(folder, manifest, export.FILES)


def integers(net: LeNet, logits: NDArray[np.float32], labels: NDArray[np.uint8]) -> tuple[export.Integers, float]:
    """What ships, and what a potential of 1 adds to a logit; the last ramp suits the first spikes of these `logits`."""
    weights, ramps, bias, unit = net.integers()
    ramps.append(last_ramp(np.round(logits.astype(np.float64) / unit), labels, net.plan.steps))
    shape = net.plan
    return export.Integers(weights, ramps, bias, list(shape.pooled), shape.side, shape.steps, net.currents()), unit


def last_ramp(potentials: NDArray[np.float64], labels: NDArray[np.uint8], steps: int) -> int:
    """S of the last layer: of those by which a percentile of the winners takes T steps, the one that errs least.

    Too short a ramp lets several classes fire at once; too long a one leaves sure answers late, doubtful ones silent.
    """
    winning = potentials.max(1)

    def errors(ramp: int) -> int:
        a = np.clip(np.floor((potentials + ramp // 2) / ramp), 0, steps)
        return int((a.argmax(1) != labels).sum())

    ramps = [max(2, round(float(np.percentile(winning, share)) / steps)) for share in (5, 10, 25, 50, 75, 90, 99)]
    return min(ramps, key=errors)


def temperature(logits: NDArray[np.float32], labels: NDArray[np.uint8]) -> float:
    """The factor on the logits that makes the labels most likely."""
    number = np.arange(len(labels))
    none = np.zeros(0, np.uint16)
    cut = score.Windows(none, number, np.zeros_like(number), labels.astype(np.int64))
    return score.fit_scale(cut, logits.astype(np.float64))

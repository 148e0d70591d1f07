"""Train the networks of models/mnist-lenet and its variants, and write the bundles.

    python -m models.forge.mnist pool                 # distorted images, once
    python -m models.forge.mnist teacher              # the teacher and its answers on the pool
    python -m models.forge.mnist base SEED            # LeNet in floating point
    python -m models.forge.mnist twin SEED            # goes on in floating point: the matched control
    python -m models.forge.mnist t8 SEED              # goes on with the integer neuron; also t4, t16, sparse
    python -m models.forge.mnist write VARIANT SEED   # the bundle

Every run prints its error on the 5,000 validation images; none reads the test images, which only
`models/forge/mnist_check.py` does, on what was written.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from models.forge import mnist_pool as data
from models.forge.lenet import LeNet, teacher
from models.forge.mnist_train import Pool, Run, encode, logits_of, train

TEACHER = Run(epochs=10, rate=4e-3, decay=1e-3)
BASE = Run(epochs=18, rate=4e-3)
LAST = Run(epochs=24, rate=3e-3, plain=0.25, taught=0.8)
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


def main() -> None:
    """Run one command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["pool", "teacher", "base", "twin", "write", *VARIANTS])
    parser.add_argument("arguments", nargs="*")
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    match given.command, given.arguments:
        case "pool", []:
            data.build()
        case "teacher", []:
            make_teacher()
        case (("base" | "twin"), [seed]):
            floating(given.command, int(seed))
        case "write", [name, seed]:
            from models.forge.mnist_write import write

            write(name, int(seed))
        case name, [seed] if name in VARIANTS:
            quantised(name, int(seed))
        case _:
            parser.error("see --help for each command's arguments")


def make_teacher() -> None:
    """Train the teacher and keep its answers on the pool."""
    torch.manual_seed(data.SEED)
    pool = Pool(taught=False)
    made = train(teacher(), pool, TEACHER, data.SEED, "teacher")
    torch.save(made.state_dict(), data.WORK / "teacher.pt")
    report("teacher", made)
    np.save(data.WORK / "answers.npy", logits_of(made, pool.images).astype(np.float16))


def floating(stage: str, seed: int) -> None:
    """The base, or its continuation in floating point."""
    torch.manual_seed(seed)
    start = LeNet(8, biased=True)
    if stage == "twin":
        start.load_state_dict(torch.load(data.WORK / f"base{seed}.pt", weights_only=True))
    made = train(start, Pool(taught=stage == "twin"), LAST if stage == "twin" else BASE, seed, f"{stage} {seed}")
    torch.save(made.state_dict(), data.WORK / f"{stage}{seed}.pt")
    report(f"{stage} {seed}", made)


def quantised(name: str, seed: int) -> None:
    """Put the integer neuron into the base of that seed and go on."""
    variant = VARIANTS[name]
    state = torch.load(data.WORK / f"base{seed}.pt", weights_only=True)
    net = LeNet(variant.steps, biased=variant.biased)
    net.load_state_dict({key: value for key, value in state.items() if variant.biased or "biases" not in key})
    pool = Pool(taught=True)
    net.calibrate(net.encode(pool.draw(1024, np.random.default_rng(seed))[0]))
    made = train(net, pool, variant.run, seed + 100, f"{name} {seed}")
    torch.save(made.state_dict(), data.WORK / f"{name}{seed}.pt")
    report(f"{name} {seed}", made)


def load(name: str, seed: int) -> LeNet:
    """A trained network: a variant, or `twin`; pruned weights are zeros."""
    variant = VARIANTS.get(name, Variant(8, LAST))
    net = LeNet(variant.steps, biased=variant.biased)
    net.load_state_dict(torch.load(data.WORK / f"{name}{seed}.pt", weights_only=True))
    net.quantised = name in VARIANTS
    with torch.no_grad():
        for layer, weight in enumerate(net.weights):
            weight.mul_(net.mask(layer))
    return net


def report(name: str, net: nn.Module) -> None:
    """Print and keep the error and the loss on the validation images, and LeNet's accumulations."""
    images, labels = data.validation()
    logits = logits_of(net, images)
    likelihood = torch.log_softmax(torch.from_numpy(logits), 1)[np.arange(len(labels)), labels.astype(np.int64)]
    figures: dict[str, object] = {
        "error_percent": round(100 * float((logits.argmax(1) != labels).mean()), 3),
        "loss": round(-float(likelihood.mean()), 5),
    }
    if isinstance(net, LeNet):
        counts: list[float] = []
        with torch.no_grad():
            net.priced(encode(net, torch.from_numpy(images[:2000].astype(np.float32))[:, None]), counts)
        figures["accumulations"] = [round(count) for count in counts]
        figures["accumulations_total"] = round(sum(counts))
    (data.WORK / f"{name.replace(' ', '')}.json").write_text(json.dumps(figures) + "\n")
    print(f"{name}: {figures}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()

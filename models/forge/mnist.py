"""Train the networks of models/mnist-lenet and its variants, and write the bundles.

    python -m models.forge.mnist pool                 # distorted images, once
    python -m models.forge.mnist teacher              # the teacher and its answers on the pool
    python -m models.forge.mnist base SEED            # LeNet in floating point
    python -m models.forge.mnist twin SEED            # goes on in floating point: the matched control
    python -m models.forge.mnist t8 SEED              # goes on with the integer neuron; also t4, t16, sparse
    python -m models.forge.mnist trial VARIANT SEED   # its bundle in build/forge/mnist/trials, for mnist_check
    python -m models.forge.mnist ship VARIANT SEED    # its bundle in models/, where the card must be

Every run prints its error on the 5,000 validation images; none reads the test images, which only
`models/forge/mnist_check.py` does, on what was written.
"""

from __future__ import annotations

import argparse
import json
import sys

import numpy as np
import torch
from torch import nn

from models.forge import mnist_pool as data
from models.forge.lenet import LeNet, teacher
from models.forge.mnist_recipe import BASE, LAST, TEACHER, VARIANTS
from models.forge.mnist_train import Pool, encode, logits_of, train
from models.forge.mnist_write import ship, trial


def main() -> None:
    """Run one command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["pool", "teacher", "base", "twin", "trial", "ship", *VARIANTS])
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
        case "trial", [name, seed]:
            trial(name, int(seed))
        case "ship", [name, seed]:
            ship(name, int(seed))
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

"""Train the networks of models/mnist-lenet and its variants, and write the bundles.

    python -m models.forge.mnist pool                 # distorted images, once
    python -m models.forge.mnist teacher              # the teachers and their answers on the pool
    python -m models.forge.mnist base SEED            # LeNet in floating point
    python -m models.forge.mnist twin SEED            # goes on in floating point: the matched control
    python -m models.forge.mnist t8 SEED              # goes on with the integer neuron; also t4, t16, sparse
    python -m models.forge.mnist trial VARIANT SEED   # its bundle in build/forge/mnist/trials, for mnist_check
    python -m models.forge.mnist choose               # each variant's best seed as its bundle in models/, by its card

`--search` trains on 55,000 images and prints the error on the 5,000 others, by which the recipe was chosen; without it,
a run trains on all 60,000. None reads the test images, which only `models/forge/mnist_check.py` does, on what was
written.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import sys

import numpy as np
import torch

from models.forge import mnist_pool as data
from models.forge import mnist_teacher, sets
from models.forge.lenet import LeNet
from models.forge.mnist_recipe import BASE, SEEDS, TEACHERS, VARIANTS, Variant, place
from models.forge.mnist_train import Pool, encode, logits_of, train
from models.forge.mnist_write import ship, trial


def main() -> None:
    """Run one command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["pool", "teacher", "base", "twin", "trial", "choose", *VARIANTS])
    parser.add_argument("arguments", nargs="*")
    parser.add_argument("--search", action="store_true", help="train on 55,000 images, print the error on the others")
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    hold_memory()
    match given.command, given.arguments:
        case "pool", []:
            data.build()
        case "teacher", []:
            mnist_teacher.make(TEACHERS)
        case "base", [seed]:
            base(int(seed), search=given.search)
        case "trial", [name, seed]:
            trial(name, int(seed))
        case "choose", []:
            choose()
        case name, [seed] if name in ("twin", *VARIANTS):
            follow(name, int(seed), search=given.search)
        case _:
            parser.error("see --help for each command's arguments")


def hold_memory() -> None:
    """Have the C library keep freed memory: mapping it anew in every batch costs a fifth of the time."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(-4, 0)  # M_MMAP_MAX: no block of its own mapping
        libc.mallopt(-1, 2**30)  # M_TRIM_THRESHOLD


def base(seed: int, *, search: bool) -> None:
    """LeNet in floating point."""
    torch.manual_seed(seed)
    keep("base", seed, train(LeNet(8, biased=True), Pool(whole=not search), BASE, seed, f"base {seed}"), search=search)


def follow(name: str, seed: int, *, search: bool) -> None:
    """Go on from the base of that seed: `twin` in floating point, a variant with the integer neuron.

    The state after the long run is kept too, and read where it is there already.
    """
    variant = VARIANTS.get(name, Variant(8))
    pool, (long, polish) = Pool(whole=not search), variant.runs()
    net = LeNet(variant.steps, biased=variant.biased)
    halfway = place(f"{name}-long", seed, search=search)
    if halfway.exists():
        net.load_state_dict(torch.load(halfway, weights_only=True))
        net.quantised = name in VARIANTS
    else:
        state = torch.load(place("base", seed, search=search), weights_only=True)
        net.load_state_dict({key: value for key, value in state.items() if variant.biased or "biases" not in key})
        if name in VARIANTS:
            net.calibrate(net.encode(torch.from_numpy(pool.images[pool.allowed[:1024]].astype(np.float32))[:, None]))
        net = train(net, pool, long, seed + 100, f"{name} {seed}, long")
        torch.save(net.state_dict(), halfway)
    keep(name, seed, train(net, pool, polish, seed + 200, f"{name} {seed}, polish"), search=search)


def keep(name: str, seed: int, net: LeNet, *, search: bool) -> None:
    """Write the network, and print and keep its figures.

    Searching, they are of the 5,000 validation images as they are (`error`, `loss`) and newly distorted; else of all
    60,000 training images, of which only the distortions are new to it.
    """
    path = place(name, seed, search=search)
    path.parent.mkdir(exist_ok=True)
    torch.save(net.state_dict(), path)
    at = data.split()[1] if search else np.arange(60_000)
    pool = np.load(data.WORK / "images.npy", mmap_mode="r")
    labels = torch.from_numpy(sets.mnist()[1][at].astype(np.int64))
    figures: dict[str, object] = {}
    for kind, version in (("plain", 0), ("distorted", data.KEPT)):
        # The 8 images more make whole blocks of 16 of the 5,000.
        images = pool[version, at]
        padded = np.concatenate([images, images[: -len(images) % 16]])
        logits = torch.from_numpy(logits_of(net, padded)[: len(at)])
        figures[f"{kind}_error_percent"] = round(100 * float((logits.argmax(1) != labels).float().mean()), 3)
        figures[f"{kind}_loss"] = round(float(torch.nn.functional.cross_entropy(logits, labels)), 5)
    counts: list[float] = []
    with torch.no_grad():
        net.priced(encode(net, torch.from_numpy(pool[0, at[:2000]].astype(np.float32))[:, None]), counts)
    figures["accumulations"] = [round(count) for count in counts]
    figures["accumulations_total"] = round(sum(counts))
    path.with_suffix(".json").write_text(json.dumps(figures) + "\n")
    print(f"{name} {seed}: {figures}", file=sys.stderr, flush=True)


def choose() -> None:
    """Ship of each variant the seed with the lowest loss on the distortions that no LeNet trained on."""
    for name in VARIANTS:
        losses = {
            seed: json.loads(place(name, seed).with_suffix(".json").read_text())["distorted_loss"]
            for seed in SEEDS
            if place(name, seed).exists()
        }
        best = min(losses, key=lambda seed: losses[seed])
        print(f"{name}: seed {best} of {losses}", file=sys.stderr)
        ship(name, best)


if __name__ == "__main__":
    main()

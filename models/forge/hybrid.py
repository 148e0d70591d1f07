"""Train ANN, SNN and hybrids of the DVS128 objects, compare them, and write models/dvs128-hybrid.

python -m models.forge.hybrid pool                # draw the windows that all of them learn from
python -m models.forge.hybrid train [NAME ...]    # ANN/16, S1A4/4, S2A3/8, SNN …; all of hybrid_net.SPLITS
python -m models.forge.hybrid table               # of those that are trained
python -m models.forge.hybrid slayer [NAME ...]   # SLAYER's blocks, our neuron and the emulator beside each other
python -m models.forge.hybrid write [NAME]        # the bundle: of the split named, or of the best hybrid
python -m models.forge.hybrid seal                # the manifest again, after the card was edited
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from models.forge import hybrid_pool, hybrid_slayer_check, hybrid_table, hybrid_train, hybrid_write, sets
from models.forge import hybrid_store as frames
from models.forge import objects_store as data
from models.forge.hybrid_judge import Judged, judge, logits
from models.forge.hybrid_net import LAYERS, SPLITS, HybridNet, Split
from models.forge.hybrid_slayer import SlayerNet
from models.forge.objects import fit

WORK = sets.ROOT / "build" / "forge" / "hybrid"
POOL = WORK / "pool"
NEURONS: dict[str, Callable[[Split], HybridNet]] = {"own": HybridNet, "slayer": SlayerNet}
"""Whose neuron trains. The weights are one and the same kind of file."""


def main() -> None:
    """Run one command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["pool", "train", "table", "slayer", "write", "seal"])
    parser.add_argument("names", nargs="*", type=Split.of, metavar="NAME")
    parser.add_argument("--windows", type=int, default=65_536, help="of the pool")
    parser.add_argument("--seeds", type=int, default=5, help="networks of each split")
    parser.add_argument("--batches", type=int, default=hybrid_train.Recipe().batches, help="of each network")
    parser.add_argument("--jobs", type=int, default=max(1, (os.cpu_count() or 1) - 1), help="networks at a time")
    parser.add_argument(
        "--neuron",
        choices=list(NEURONS),
        default="own",
        help="to train with; SLAYER's go to a folder",
    )
    args = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    if args.command == "pool":
        hybrid_pool.make(POOL, args.windows)
    elif args.command == "train":
        recipe = hybrid_train.Recipe(batches=args.batches)
        train(args.names or list(SPLITS), args.seeds, recipe, args.jobs, args.neuron)
    elif args.command == "table":
        table()
    elif args.command == "slayer":
        slayer([split for split in args.names or SPLITS if split.spiking])
    elif args.command == "write":
        write(args.names[0] if args.names else best())
    else:
        hybrid_write.seal(Split.of(json.loads((WORK / "shipped.json").read_text())["split"]))


def train(splits: list[Split], seeds: int, recipe: hybrid_train.Recipe, jobs: int, neuron: str) -> None:
    """Train and judge each of them with each seed, several at a time; on a GPU if there is one.

    SLAYER's on the CPU: for a GPU it compiles kernels of its own, which never ran with this PyTorch.
    """
    device = "cuda" if torch.cuda.is_available() and neuron == "own" else "cpu"
    with ProcessPoolExecutor(jobs, get_context("spawn")) as workers:
        # The longest first.
        work = [(split, seed) for split in sorted(splits, key=lambda one: -one.spiking) for seed in range(1, seeds + 1)]
        tasks = [workers.submit(_one, split, seed, recipe, device, neuron) for split, seed in work]
        for task in tasks:
            task.result()


def _one(split: Split, seed: int, recipe: hybrid_train.Recipe, device: str, neuron: str) -> None:
    torch.set_num_threads(1)
    torch.backends.cudnn.allow_tf32 = False
    net = hybrid_train.run(split, hybrid_pool.load(POOL), recipe, seed, device, NEURONS[neuron])
    path = _path(split, seed) if neuron == "own" else WORK / neuron / _path(split, seed).name
    path.parent.mkdir(exist_ok=True)
    torch.save(net.state_dict(), path)
    result = judge(net, seed, frames.tests(data.load()), device)
    path.with_suffix(".json").write_text(json.dumps(result.plain(), indent=1) + "\n")


def table() -> None:
    """Print the rows of those that are trained, and keep them as JSON."""
    shown = frames.tests(data.load())[frames.OTHER].frames
    found = judged()
    rows = [
        hybrid_table.row(found[split.name], _net(split, found[split.name][0].seed), shown)
        for split in SPLITS
        if split.name in found
    ]
    (WORK / "table.json").write_text(json.dumps([one.plain() for one in rows], indent=1) + "\n")
    print(hybrid_table.markdown(rows))


def slayer(splits: list[Split]) -> None:
    """Compare on recorded windows, with the first seed's trained weights if there are any, else with initial ones.

    Raises:
        RuntimeError: a spike differs.
    """
    torch.set_num_threads(1)
    sample = hybrid_slayer_check.real(data.load())
    for split in splits:
        torch.manual_seed(1)
        trained = _path(split, 1).exists()
        found = hybrid_slayer_check.check(_net(split, 1) if trained else HybridNet(split), sample)
        line = {"split": split.name, "weights": "trained" if trained else "initial", **asdict(found)}
        print(json.dumps(line), flush=True)
        if found.slayer or found.emulator or found.exported:
            raise RuntimeError(f"{split.name}: spikes differ between SLAYER, our neuron and the emulator")


def judged() -> dict[str, list[Judged]]:
    """What is known of the networks that are trained, by split."""
    found: dict[str, list[Judged]] = {}
    for path in sorted(WORK.glob("*_*.json")):
        if path.with_suffix(".pt").exists():
            one = Judged(**json.loads(path.read_text()))
            found.setdefault(one.split, []).append(one)
    return found


def best() -> Split:
    """The hybrid that is right most often on the windows for choosing, on average over its seeds.

    Among those with the most seeds: one seed alone is luck.
    """
    found = judged()
    hybrids = [split for split in SPLITS if 0 < split.spiking < LAYERS and split.name in found]
    most = max(len(found[split.name]) for split in hybrids)
    means = {
        split: float(np.mean([one.right[frames.CHOICE] for one in found[split.name]]))
        for split in hybrids
        if len(found[split.name]) == most
    }
    return max(means, key=means.__getitem__)


def write(split: Split) -> None:
    """Write the bundle of a split's best seed; the temperature is fitted on the windows for choosing."""
    chosen = max(judged()[split.name], key=lambda one: one.right[frames.CHOICE])
    store, net = data.load(), _net(split, chosen.seed)
    tests = frames.tests(store)
    factor = fit(logits(net, tests[frames.CHOICE].frames), tests[frames.CHOICE].labels)
    hybrid_write.write(net, factor, tests[frames.LAST].frames)
    (WORK / "shipped.json").write_text(json.dumps({"split": split.name, "seed": chosen.seed}) + "\n")
    print(f"{split.name}, seed {chosen.seed}, temperature {factor:.3f}: {json.dumps(chosen.plain())}")
    hybrid_write.seal(split)


def _path(split: Split, seed: int) -> Path:
    return WORK / f"{split.name.replace('/', '_')}_{seed}.pt"


def _net(split: Split, seed: int) -> HybridNet:
    net = HybridNet(split)
    net.load_state_dict(torch.load(_path(split, seed), weights_only=True))
    return net.eval()


if __name__ == "__main__":
    main()

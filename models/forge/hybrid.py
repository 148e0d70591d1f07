"""Train ANN, SNN and hybrids of the DVS128 objects, compare them, and write models/dvs128-hybrid.

python -m models.forge.hybrid train [NAME ...]   # ANN/16, S1A4/4, S2A3/8, SNN …; all of hybrid_net.SPLITS
python -m models.forge.hybrid table              # of those that are trained
python -m models.forge.hybrid slayer [NAME ...]  # SLAYER's blocks, our neuron and the emulator beside each other
python -m models.forge.hybrid write NAME         # write the bundle
python -m models.forge.hybrid seal NAME          # write the manifest again, after the card was edited
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from models.forge import hybrid_slayer_check, hybrid_table, hybrid_train, hybrid_write, sets
from models.forge import hybrid_store as frames
from models.forge import objects_store as data
from models.forge.hybrid_net import SPLITS, HybridNet, Split
from models.forge.hybrid_slayer import SlayerNet
from models.forge.objects import fit

WORK = sets.ROOT / "build" / "forge"
NEURONS: dict[str, Callable[[Split], HybridNet]] = {"own": HybridNet, "slayer": SlayerNet}
"""Whose neuron trains; the file of weights is the same."""


def main() -> None:
    """Run one command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["train", "table", "slayer", "write", "seal"])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--neuron", choices=list(NEURONS), default="own", help="what `train` trains with")
    parser.add_argument("--windows", type=int, default=200, help="of `slayer`: recorded ones, of held-out recordings")
    args = parser.parse_args()
    torch.set_num_threads(1)
    WORK.mkdir(parents=True, exist_ok=True)
    splits = [Split.of(name) for name in args.names] or list(SPLITS)
    if args.command == "train":
        train(splits, NEURONS[args.neuron])
    elif args.command == "slayer":
        slayer([split for split in splits if split.spiking], args.windows)
    else:
        {"table": table, "write": write, "seal": seal}[args.command](splits)


def train(splits: list[Split], make: Callable[[Split], HybridNet]) -> None:
    """Train each of them."""
    store = data.load()
    for split in splits:
        torch.save(hybrid_train.run(split, store, hybrid_train.Recipe(), make=make).state_dict(), _path(split))


def table(splits: list[Split]) -> None:
    """Print the rows of those that are trained, and keep them as JSON."""
    tests = frames.tests(data.load())
    rows = []
    for split in splits:
        if not _path(split).exists():
            print(f"{split.name}: not trained", file=sys.stderr)
            continue
        rows.append(hybrid_table.row(_net(split), tests))
        print(json.dumps(rows[-1].plain()), flush=True)
    (WORK / "hybrid_table.json").write_text(json.dumps([one.plain() for one in rows], indent=1) + "\n")


def slayer(splits: list[Split], windows: int) -> None:
    """Compare on recorded windows, with the trained weights if there are any, else with initial ones.

    Raises:
        RuntimeError: a spike differs.
    """
    sample = hybrid_slayer_check.real(data.load(), windows)
    for split in splits:
        torch.manual_seed(hybrid_train.SEED)
        trained = _path(split).exists()
        found = hybrid_slayer_check.check(_net(split) if trained else HybridNet(split), sample)
        print(json.dumps({"split": split.name, "weights": "trained" if trained else "initial", **asdict(found)}))
        if found.slayer or found.emulator or found.exported:
            raise RuntimeError(f"{split.name}: spikes differ between SLAYER, our neuron and the emulator")


def write(splits: list[Split]) -> None:
    """Write the bundle of one hybrid; the temperature is fitted on varied windows of what it was trained on."""
    (split,) = splits
    store, net = data.load(), _net(splits[0])
    shown = frames.draw(store, frames.training(store), 1_000, np.random.default_rng(5))
    factor = fit(hybrid_train.logits(net, shown.frames), shown.labels)
    hybrid_write.write(net, factor, frames.tests(store)["last 30 %"].frames)
    print(f"{split.name}: temperature {factor:.3f}")
    seal(splits)


def seal(splits: list[Split]) -> None:
    """Write bundle.json over the files as they are now."""
    hybrid_write.seal(splits[0])


def _path(split: Split) -> Path:
    return WORK / f"hybrid_{split.name.replace('/', '_')}.pt"


def _net(split: Split) -> HybridNet:
    net = HybridNet(split)
    net.load_state_dict(torch.load(_path(split), weights_only=True))
    return net.eval()


if __name__ == "__main__":
    main()

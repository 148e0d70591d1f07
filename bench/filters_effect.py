"""What filters do to real recordings: how much they drop, and what the shipped models make of the rest.

    .venv/bin/python bench/filters_effect.py

`nmnist` sees N-MNIST's samples 801 to 900, `dvs128-objects` the last 30 % of each object's recording: neither was
trained on those. Each line is one `firstspike evaluate` with the settings that it names.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from firstspike.sources.decoding import DecoderProcess
from firstspike.types import join, pick

DATA = Path(os.environ.get("FIRSTSPIKE_DATA", Path(__file__).parents[2] / "shared" / "data"))
USABLE_US = {"scissors_1": 18_500_000}
"""After this time a hand takes the object away."""
SETTINGS: tuple[tuple[str, ...], ...] = (
    (),
    ("hot_pixels",),
    ("background_us=1000",),
    ("background_us=2000",),
    ("background_us=5000",),
    ("background_us=10000",),
    ("background_us=10000", "background_support=2"),
    ("refractory_us=1000",),
    ("refractory_us=10000",),
    ("hot_pixels", "refractory_us=1000", "background_us=10000"),
)


def evaluate(folder: Path, model: str, hot: Path, filters: tuple[str, ...], *only: str) -> str:
    settings = [f"filter.{each}" if "=" in each else f"filter.{each}={hot}" for each in filters]
    arguments = [word for setting in settings for word in ("--set", setting)]
    command = [sys.executable, "-m", "firstspike", "evaluate", str(folder), "--model", model, "--json", *only]
    done = subprocess.run([*command, *arguments], check=True, capture_output=True, text=True)
    found = json.loads(done.stdout)
    dropped = sum(found["filtered"].values()) / found["events"]
    return (
        f"| {model} | {', '.join(filters) or 'none'} | {dropped:.1%} | {found['accuracy']:.1%} of {found['n']} "
        f"| {found['window_accuracy']:.1%} of {found['windows']} |"
    )


def learn(hot: Path, files: list[Path], *geometry: str) -> str:
    command = [sys.executable, "-m", "firstspike", "filters", "learn", *map(str, files), "--out", str(hot), "--json"]
    found = json.loads(subprocess.run([*command, *geometry], check=True, capture_output=True, text=True).stdout)
    return f"{len(found['pixels'])} hot pixels learned in {found['learned_s']:g} s: {found['pixels'][:5]}"


def last_third(folder: Path) -> None:
    """The last 30 % of each object's recording, as NPZ below its label."""
    with DecoderProcess() as decoder:
        for path in sorted((DATA / "dvs128_objects").rglob("*.aedat")):
            with decoder.open(path) as recording:
                events = join([pick(part) for part in recording])
            since = events["t"] - events["t"][0]
            end = min(int(since.max()), USABLE_US.get(path.stem, 1 << 60))
            kept = pick(events, (since >= 0.7 * end) & (since <= end))
            label = folder / path.stem.rsplit("_", 1)[0]
            label.mkdir(exist_ok=True)
            arrays = {name: np.ascontiguousarray(kept[name]) for name in "txyp"}
            np.savez(label / f"{path.stem}.npz", width=128, height=128, **arrays)


def main() -> None:
    nmnist = DATA / "nmnist" / "Train"
    if not nmnist.is_dir():
        sys.exit(f"{nmnist} is absent: nothing to measure")
    with tempfile.TemporaryDirectory() as temporary:
        hot_nmnist, hot_objects = Path(temporary) / "nmnist.toml", Path(temporary) / "objects.toml"
        objects = Path(temporary) / "objects"
        objects.mkdir()
        last_third(objects)
        first = sorted(nmnist.rglob("000*.bin"))
        print(f"nmnist, samples 1 to 99: {learn(hot_nmnist, first, '--geometry', '34x34')}\n")
        print(f"dvs128-objects: {learn(hot_objects, sorted((DATA / 'dvs128_objects').rglob('*.aedat')))}\n")
        print("| model | [filter] | dropped | recordings right | windows right |\n|---|---|---|---|---|")
        for filters in SETTINGS:
            print(evaluate(nmnist, "nmnist", hot_nmnist, filters, "--only", "801-900"), flush=True)
        for filters in SETTINGS:
            print(evaluate(objects, "dvs128-objects", hot_objects, filters), flush=True)


if __name__ == "__main__":
    main()

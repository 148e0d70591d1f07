"""What the operation model costs a window, and how far its estimates are off the exact count, on real windows.

    python bench/operations.py [MODEL RECORDINGS]...

Without arguments: the shipped models on the recordings of ../shared/data. The error is of the estimate alone, over the
windows that were not counted, in the order of the recordings: those of one class come one after the other.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from firstspike.benchmark.windows import recorded
from firstspike.bundle import find, open_bundle
from firstspike.energy.operations import Model, Modelled
from firstspike.types import Spikes

DATA = Path("../shared/data")
CASES = (("nmnist", DATA / "nmnist/Train"), ("dvs128-objects", DATA / "dvs128_objects"),
         ("dvs128-hybrid", DATA / "dvs128_objects"))  # fmt: skip
WINDOWS, REPEATS = 600, 5


def main(args: list[str]) -> None:
    """Print a line a model."""
    cases = list(zip(args[::2], map(Path, args[1::2]), strict=True)) or CASES
    for name, place in cases:
        if not place.exists():
            print(f"{name}: skipped: {place} is not there")
            continue
        bundle = open_bundle(find(name, Path()))
        shown = [sample.spikes for sample in recorded(bundle, place, WINDOWS).samples]
        model = Model(bundle, learn_within=False)
        found = []
        for spikes in shown:
            found.append(model.inference(spikes))
            model.learn(spikes)
        truth = np.array([model.exact(spikes).dynamic_j for spikes in shown])
        estimated = np.array([not one.exact for one in found])
        errors = (np.array([one.dynamic_j for one in found]) / truth - 1)[estimated]
        stated = np.array([math.inf if one.u95_fraction is None else one.u95_fraction for one in found])[estimated]
        rms, most, mean = np.sqrt((errors**2).mean()), np.abs(errors).max(), errors.mean()
        quick, counting = _least(model.inference, shown), _least(model.exact, shown[:20])
        print(
            f"{name}: {truth.mean() * 1e6:.2f} µJ, {len(shown)} windows, {model.counted} counted (in the end 1 in "
            f"{model.every}); estimates are off by {rms:.2%} rms, {most:.2%} at most, {mean:+.2%} by mean, "
            f"{np.mean(np.abs(errors) <= stated):.0%} within the u95 stated; an estimate {quick:.1f} µs, a count "
            f"{counting:.0f} µs"
        )


def _least(call: Callable[[Spikes], Modelled], shown: list[Spikes]) -> float:
    """µs a window, the least of several runs."""
    runs = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        for spikes in shown:
            call(spikes)
        runs.append((time.perf_counter() - start) / len(shown))
    return min(runs) * 1e6


if __name__ == "__main__":
    main(sys.argv[1:])

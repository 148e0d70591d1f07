"""Measure models/dvs128-objects on the last 30 % of each recording, by the runtime's own parts. Needs no torch.

    PYTHONPATH=. .venv/bin/python -m models.forge.objects_check

Both networks see the windows that `firstspike.window` cuts; the floating-point twin runs as ann.onnx through ONNX's
reference implementation. The network is also asked about drawn other sessions of the same 30 % (`objects_shift`).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from firstspike.bundle import Bundle, open_bundle
from firstspike.decide import Decider
from firstspike.encode_frames import encoder_for
from firstspike.ttfs.emulator import Emulator
from firstspike.ttfs.file import load
from firstspike.ttfs.network import Conv, Dense
from firstspike.types import Spikes
from firstspike.window import Windower
from models.forge import mnist_check, objects_shift, sets
from models.forge import objects_store as data

BUNDLE = sets.ROOT / "models" / "dvs128-objects"


@dataclass(frozen=True)
class Seen:
    """The complete windows of one part, encoded."""

    part: data.Part
    index: list[int]
    events: list[int]
    times: NDArray[np.uint8]


def watch(store: data.Store, bundle: Bundle, part: data.Part) -> Seen:
    """Cut a recording as the runtime does, and keep the windows inside the part."""
    index, n_events, times = zip(
        *((number, one.n_events, one.times) for number, one in encoded(bundle, part)), strict=True
    )
    if len(index) != len(data.windows(store, [part]).labels):
        raise RuntimeError(f"{part.name}: the runtime cut {len(index)} windows, the forge another number")
    return Seen(part, list(index), list(n_events), np.stack(times))


def encoded(bundle: Bundle, part: data.Part) -> Iterator[tuple[int, Spikes]]:
    """The windows inside the part, each with its index, cut and encoded as the runtime does."""
    encoder = encoder_for(bundle.manifest.input, data.SENSOR, data.SENSOR)
    events = data.read(part.name)
    start = int(events["t"][0])
    for window in Windower(bundle.manifest.window).push(events):
        if part.begin <= window.t_start_us - start and window.t_end_us - start <= part.end:
            yield window.index, encoder.encode(window.events, window.t_start_us, window.t_end_us)


def judged(bundle: Bundle, seen: Seen, potentials: NDArray[np.int32]) -> dict[str, float]:
    """Shares of right answers by `firstspike.decide`: windows, the running evidence, and the evidence at the end."""
    labels = bundle.manifest.labels
    truth, decider = labels[seen.part.label], Decider(bundle.manifest.decide, labels)
    windows = evidence = spoke = said = 0
    answer = None
    for index, n_events, potential in zip(seen.index, seen.events, potentials, strict=True):
        window, answer = decider.judge(index, n_events, potential)
        spoke, windows = spoke + (window.label is not None), windows + (window.label == truth)
        said, evidence = said + (answer.label is not None), evidence + (answer.label == truth)
    return {
        "windows": len(seen.index), "spoke": spoke, "right": windows, "evidence_given": said,
        "evidence_right": evidence, "last_right": int(answer is not None and answer.label == truth),
    }  # fmt: skip


def answer(bundle: Bundle, seen: list[Seen]) -> list[dict[str, float]]:
    """`judged` of each part, by the bundle's network on the emulator."""
    emulator = Emulator(load(bundle.path("ttfs")))
    return [judged(bundle, one, np.array([emulator.run(t).potential.copy() for t in one.times])) for one in seen]


def total(parts: list[dict[str, float]]) -> dict[str, object]:
    """Percentages over all parts. A window that says nothing is no right answer."""
    added = {key: sum(one[key] for one in parts) for key in parts[0]}
    return {
        "windows": added["windows"], "silent": added["windows"] - added["spoke"],
        "windows_right_percent": round(100 * added["right"] / added["windows"], 2),
        "evidence_right_percent": round(100 * added["evidence_right"] / added["evidence_given"], 2),
        "last_right": f"{added['last_right']} of {len(parts)}",
    }  # fmt: skip


def twin_right(path: Path, seen: list[Seen], steps: int) -> float:
    """Percentage of windows that the twin has right; T is a multiple of the count scale, so the code loses nothing."""
    twin = ReferenceEvaluator(str(path))
    right = [
        int(np.argmax(np.asarray(next(iter(twin.run(None, {"p": (steps - times[None].astype(np.float32)) / steps})))))
            == one.part.label)
        for one in seen for times in one.times
    ]  # fmt: skip
    return round(100 * float(np.mean(right)), 2)


def shifted(store: data.Store, bundle: Bundle, emulator: Emulator, parts: list[data.Part]) -> dict[str, object]:
    """The network's answers on drawn other sessions of these parts."""
    spec = bundle.manifest.input
    cut, shown = objects_shift.windows(store, parts)
    counts = np.minimum(cut.counts, spec.count_scale).astype(np.int64)
    times = (spec.steps * (spec.count_scale - counts) // spec.count_scale).astype(np.uint8)
    potentials = np.array([emulator.run(one).potential.copy() for one in times])
    results = []
    for number, part in enumerate(shown):
        own = np.flatnonzero(cut.part == number)
        seen = Seen(part, list(range(len(own))), [int(n) for n in cut.events[own]], times[own])
        results.append(judged(bundle, seen, potentials[own]))
    return total(results)


def main() -> None:
    """Measure and print."""
    bundle = open_bundle(BUNDLE)
    network = load(bundle.path("ttfs"))
    emulator, store = Emulator(network), data.load()
    parts = [store.split(name)[1] for name in data.NAMES]
    seen = [watch(store, bundle, part) for part in parts]
    times = np.concatenate([one.times for one in seen])
    mnist_check.exact(network, emulator, times)
    results = answer(bundle, seen)
    weighted = [layer for layer in network.layers if isinstance(layer, Conv | Dense)]
    shapes = [
        shape for layer, shape in zip(network.layers, network.shapes(), strict=True) if isinstance(layer, Conv | Dense)
    ]
    report = {
        "last 30 %": total(results),
        "windows right, of each": {one.part.name: f"{r['right']:.0f} of {r['windows']:.0f}"
                                   for one, r in zip(seen, results, strict=True)},
        "twin, windows right, percent": twin_right(bundle.path("ann"), seen, bundle.manifest.input.steps),
        "drawn other sessions of the last 30 %": shifted(store, bundle, emulator, parts),
        "network": {
            "parameters": sum(layer.weights.size for layer in weighted) + weighted[-1].bias.size,
            "neurons": sum(int(np.prod(shape)) for shape in shapes),
            "macs": sum(int(layer.weights[0].size * np.prod(shape)) for layer, shape in
                        zip(weighted, shapes, strict=True)),
            **mnist_check.activity(network, emulator, times),
        },
    }  # fmt: skip
    json.dump(report, sys.stdout, indent=1, ensure_ascii=False)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()

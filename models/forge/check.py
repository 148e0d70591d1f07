"""Measure the bundle that ships, with the runtime's own encoder and emulator. Needs no torch: run it in `.venv`.

    PYTHONPATH=. .venv/bin/python -m models.forge.check            # reads N-MNIST samples 801-900 and draws digits

Both networks see the same windows: 50 ms, of at least `min_events` events, summed over each recording. The
floating-point twin runs as ann.onnx through ONNX's reference implementation.
"""

from __future__ import annotations

import json
import math
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from firstspike.bundle import Bundle, open_bundle
from firstspike.encode import Encoder
from firstspike.simulate.scene import SIDE, digit_sequence
from firstspike.ttfs.definition import closed_form, run
from firstspike.ttfs.emulator import Emulator
from firstspike.ttfs.file import load
from firstspike.ttfs.network import Conv, Dense, Network
from firstspike.types import EVENT, Events
from models.forge import score, sets, store

BUNDLE = sets.ROOT / "models" / "nmnist"
DRAWN, DRAWN_SEED = 400, 801_900
"""Digits drawn for the check, and their seed: no training seed."""
EXACT = 20
"""Windows whose every spike is compared between the definition, its closed form and the emulator."""


@dataclass
class Judged:
    """Answers on one set of recordings."""

    labels: list[int] = field(default_factory=list)
    recording: list[int] = field(default_factory=list)
    number: list[int] = field(default_factory=list)
    times: list[NDArray[np.uint8]] = field(default_factory=list)
    potentials: list[NDArray[np.int32]] = field(default_factory=list)
    logits: list[NDArray[np.float32]] = field(default_factory=list)

    def cut(self) -> score.Windows:
        """For `score.judge`, without the counts."""
        none = np.zeros(0, np.uint16)
        return score.Windows(none, np.array(self.recording), np.array(self.number), np.array(self.labels))


class Checker:
    """The bundle's two networks on recordings."""

    def __init__(self, folder: Path) -> None:
        self.bundle: Bundle = open_bundle(folder)
        self.network: Network = load(self.bundle.path("ttfs"))
        self._emulator = Emulator(self.network)
        self._encoder = Encoder(self.bundle.manifest.input, SIDE, SIDE)
        self._twin = ReferenceEvaluator(str(self.bundle.path("ann")))

    def watch(self, judged: Judged, label: int, events: Events) -> None:
        """Cut a recording into windows from its first event, as `firstspike.window` does; ask both networks of each."""
        size = self.bundle.manifest.window.size
        steps = self.bundle.manifest.input.steps
        start = int(events["t"][0]) if len(events) else 0
        judged.labels.append(label)
        for number in range(math.ceil((int(events["t"][-1]) + 1 - start) / size) if len(events) else 0):
            begin = start + number * size
            inside = events[(events["t"] >= begin) & (events["t"] < begin + size)]
            if len(inside) < self.bundle.manifest.decide.min_events:
                continue
            times = self._encoder.encode(inside, begin, begin + size).times
            # With T a multiple of the count scale the code loses nothing: a/T is the twin's p = min(count/scale, 1).
            p = (steps - times[None].astype(np.float32)) / np.float32(steps)
            judged.recording.append(len(judged.labels) - 1)
            judged.number.append(number)
            judged.times.append(times)
            judged.potentials.append(self._emulator.run(times).potential.copy())
            judged.logits.append(np.asarray(next(iter(self._twin.run(None, {"p": p}))))[0])

    def exact(self, judged: Judged) -> None:
        """Fail unless definition, closed form and emulator agree in every spike."""
        for times in judged.times[:: max(1, len(judged.times) // EXACT)][:EXACT]:
            truth = run(self.network, times)
            for other in (closed_form(self.network, times), self._emulator.trace(times)):
                np.testing.assert_array_equal(other.potential, truth.potential)
                for ours, theirs in zip(truth.spike_steps, other.spike_steps, strict=True):
                    np.testing.assert_array_equal(ours, theirs)

    def facts(self, judged: Judged) -> dict[str, object]:
        """Size of the network, and how much of it is active on these windows."""
        weighted = [layer for layer in self.network.layers if isinstance(layer, Conv | Dense)]
        neurons = active = 0
        for times in judged.times[:EXACT]:
            steps = self._emulator.trace(times).spike_steps
            for layer, frame, spikes in zip(self.network.layers, self.network.frames(), steps, strict=True):
                if isinstance(layer, Conv | Dense):
                    neurons, active = neurons + spikes.size, active + int((spikes < frame.last).sum())
        shown = min(EXACT, len(judged.times))
        return {
            "parameters": sum(layer.weights.size for layer in weighted) + weighted[-1].bias.size,
            "neurons": neurons // shown,
            "active_neurons_a_window": active / shown,
            "active_inputs_a_window": float(np.mean([(t < self.network.input_steps).sum() for t in judged.times])),
            "bytes": sum(path.stat().st_size for path in self.bundle.folder.iterdir()),
        }

    def report(self, judged: Judged) -> dict[str, object]:
        """Figures of both networks."""
        cut, decide = judged.cut(), self.bundle.manifest.decide
        potentials = np.array(judged.potentials, np.float64)
        ttfs = score.judge(cut, potentials, decide.logit_scale)
        recent = score.judge(cut, potentials, decide.logit_scale, decide.decay)
        twin = score.judge(cut, np.array(judged.logits, np.float64))
        wrong = [(index + 1, int(truth), int(answer)) for index, (truth, answer) in
                 enumerate(zip(cut.labels, ttfs.answers, strict=True)) if truth != answer]  # fmt: skip
        return {
            "ttfs": str(ttfs), "twin": str(twin), "ttfs_with_decay": str(recent),
            "difference_recordings_points": round(100 * (ttfs.recordings - twin.recordings), 2),
            "difference_windows_points": round(100 * (ttfs.windows - twin.windows), 2),
            "best_logit_scale": score.fit_scale(cut, potentials),
            "wrong_nth_truth_answer": wrong,
        }  # fmt: skip


def events_of(recordings: store.Store, number: int) -> Events:
    """One recording of a store as the runtime's events."""
    packed = recordings.events[recordings.begins[number, 0] : recordings.begins[number, -1]]
    events = np.zeros(len(packed), EVENT)
    events["t"], events["p"] = packed >> 12, (packed >> 11) & 1
    events["y"], events["x"] = np.divmod(packed & 2047, SIDE)
    return events


def main() -> None:
    """Check and print."""
    checker = Checker(BUNDLE)
    real, drawn = Judged(), Judged()
    recordings = sets.nmnist()
    for sample in range(sets.CHECK[0], sets.CHECK[1] + 1):
        checker.watch(real, int(recordings.labels[sample - 1]), events_of(recordings, sample - 1))
    for digit, events in digit_sequence((number % 10 for number in range(DRAWN)), DRAWN_SEED):
        checker.watch(drawn, digit, events)
    checker.exact(real)
    report = {
        f"N-MNIST {sets.CHECK[0]}-{sets.CHECK[1]}": checker.report(real),
        f"{DRAWN} drawn digits": checker.report(drawn),
        "network": checker.facts(real),
    }
    json.dump(report, sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()

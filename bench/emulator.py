"""One inference of each shipped network, in µs, beside its floating-point twin in other engines.

    .venv-bench/bin/python bench/emulator.py [folder of a bundle …]

Batch 1, one thread, called from Python, as users do. The contestants take turns on the same inputs; the figure is the
mean over the inputs of each one's fastest of the rounds. `quartz` is the same integers with the neuron that may spike
early. The shares of neurons that spike before the last step are printed, since the emulator's time depends on them.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import inputs
import peers
from firstspike.bundle import Bundle, open_bundle
from firstspike.errors import UnavailableError
from firstspike.native import Kernels
from firstspike.ttfs.definition import closed_form
from firstspike.ttfs.emulator import Emulator
from firstspike.ttfs.file import load
from firstspike.ttfs.network import Conv, Dense, Network

ROUNDS = 300
MODELS = Path(__file__).parents[1] / "models"
REFERENCE = "ONNX Runtime FP32"
Contestant = tuple[list[Any], Callable[[Any], Any]]


def contestants(bundle: Bundle, network: Network, times: list[inputs.Times]) -> dict[str, Contestant]:
    """By name: what each call takes, for every input, and the call."""
    found: dict[str, Contestant] = {}
    for neuron in ("gated", "quartz"):
        kernels: Kernels
        for kernels in ("x86-64-v4", "x86-64-v3", "portable"):
            try:
                emulator = Emulator(replace(network, neuron=neuron), kernels)
            except UnavailableError:
                continue  # not on this machine
            found[f"emulator, {neuron}, {kernels}"] = times, emulator.run
    floats = [np.ascontiguousarray((network.input_steps - x)[None], np.float32) / network.input_steps for x in times]
    for name, prepare, infer in peers.all_of(bundle.path("ann"), floats):
        found[name] = [prepare(x) for x in floats], infer
    return found


def fastest(found: dict[str, Contestant], rounds: int = ROUNDS) -> dict[str, float]:
    """Mean over the inputs of the fastest round, µs."""
    best = {name: np.full(len(arguments), np.inf) for name, (arguments, _) in found.items()}
    for _ in range(rounds):
        for name, (arguments, call) in found.items():
            row = best[name]
            for i, argument in enumerate(arguments):
                started = time.perf_counter()
                call(argument)
                row[i] = min(row[i], time.perf_counter() - started)
    return {name: float(row.mean() * 1e6) for name, row in best.items()}


def active(network: Network, times: list[inputs.Times]) -> str:
    """Share of pixels, then of each weighted layer's neurons, that spike before the last step."""
    emulator, frames = Emulator(network), network.frames()
    shares = [[np.mean(np.less(x, network.input_steps)) for x in times]]
    traces = [emulator.trace(x).spike_steps for x in times]
    for number, (layer, frame) in enumerate(zip(network.layers, frames, strict=True)):
        if isinstance(layer, Conv | Dense):
            shares.append([np.mean(trace[number] < frame.last) for trace in traces])
    return ", ".join(f"{np.mean(share):.0%}" for share in shares)


def report(folder: Path) -> None:
    """One table."""
    bundle = open_bundle(folder)
    network = load(bundle.path("ttfs"))
    times, origin = inputs.inputs_of(bundle)
    found = contestants(bundle, network, times)
    rows = fastest(found)
    rows["NumPy closed form, gated"] = fastest({"it": (times[:3], lambda x: closed_form(network, x))}, 3)["it"]
    size = "×".join(map(str, network.input_shape))
    print(f"`{folder.name}`, {size}, T = {network.input_steps}: {origin}; active {active(network, times)}.\n")
    print(f"| µs an inference | | times as fast as {REFERENCE} |\n|---|---|---|")
    for name, us in rows.items():
        print(f"| {name} | {us:.1f} | {rows[REFERENCE] / us:.2f} |")
    print(flush=True)


def main() -> None:
    folders = [Path(name) for name in sys.argv[1:]] or sorted(path.parent for path in MODELS.glob("*/bundle.json"))
    print(f"{peers.versions()}\n")
    for folder in folders:
        report(folder)


if __name__ == "__main__":
    main()

"""`firstspike verify`: does a back end compute a bundle's very spikes?"""

from __future__ import annotations

import argparse
import os
import statistics
from pathlib import Path

from firstspike.benchmark import windows
from firstspike.bundle import open_bundle
from firstspike.cli.common import add_config_arguments, apply_settings, layers_for_files
from firstspike.cli.output import Progress, emit, emit_json
from firstspike.verify import Verifiable, Verified, verify


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Arguments of `verify`."""
    command = commands.add_parser(
        "verify",
        help="compare every spike of a back end with the emulator's",
        description="Run a bundle's spiking network (of a hybrid the front) on a back end that shows the spikes of all "
        "its layers, and compare each with the emulator's. Prints the first difference (window, layer, neuron, step) "
        "and ends with 65, or with 0 if there is none.",
    )
    command.add_argument("model", metavar="DIR", help="bundle, by folder or name")
    command.add_argument("--on", required=True, metavar="NAME", help="section [backend.NAME] or kind, such as lava")
    command.add_argument("--windows", type=_count, default=10, metavar="N", help="at most (default: 10)")
    command.add_argument(
        "--recordings", type=Path, metavar="DIR",
        help="a recording, a folder of them, or one with a sub-folder for each label (default: simulated digits)",
    )  # fmt: skip
    command.add_argument("--json", action="store_true", help="one JSON object")
    add_config_arguments(command)
    command.set_defaults(run=run)


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 100_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to 100000")
    return int(text)


def run(args: argparse.Namespace) -> int:
    """Compare; 65 if there is a difference."""
    layers = layers_for_files(args)
    layers.put(("schedule", "plans"), [args.on], "--on")
    loaded = apply_settings(layers, args.set)
    bundle = open_bundle(loaded.model_path)
    choice = next(choice for choice in loaded.backends if choice.name == args.on)
    progress = Progress("verify")
    progress.show(f"starting {args.on}")
    backend = Verifiable(choice, bundle, loaded.config.schedule.start_s)
    try:
        taken = windows.simulated(bundle, args.windows) if args.recordings is None else (
            windows.recorded(bundle, args.recordings, args.windows)
        )  # fmt: skip
        given = [backend.network.taken(sample.spikes) for sample in taken.samples]
        found = verify(backend.network, backend.ask, given, lambda n: progress.show(f"{n} of {len(given)} windows"))
    finally:
        backend.close()
        progress.done()
    if args.json:
        emit_json(_plain(bundle.manifest.name, args.on, taken.origin, backend, found))
    else:
        title = f"{bundle.manifest.name}@{bundle.manifest.version} on {args.on}"
        for line in _lines(title, taken.origin, backend, found):
            emit(line)
        for name, reason in taken.skipped.items():
            emit(f"left out: {name}: {reason}")
    return os.EX_DATAERR if found.difference else os.EX_OK


def _lines(title: str, origin: str, backend: Verifiable, found: Verified) -> list[str]:
    said = str(found.difference) if found.difference else "equal in every spike"
    took, emulator = statistics.median(found.seconds), statistics.median(found.emulator_s)
    wraps = "" if found.wraps is None else f"; currents left 24 bits {found.wraps} times"
    return [
        f"{title}: {said}",
        f"{found.windows} windows ({origin}), {found.spikes} spikes compared{wraps}",
        f"median {took * 1e3:.1f} ms a window, the emulator {emulator * 1e3:.4f} ms: {took / emulator:,.0f} times that",
        *(str(line) for line in backend.about.get("needs", ())),
    ]


def _plain(model: str, on: str, origin: str, backend: Verifiable, found: Verified) -> dict[str, object]:
    difference = found.difference
    return {
        "model": model, "on": on, "origin": origin, "windows": found.windows, "spikes": found.spikes,
        "equal": difference is None,
        "difference": None if difference is None else {
            "window": difference.window, "where": difference.where, "neuron": list(difference.neuron),
            "step": difference.step, "expected": difference.expected, "found": difference.found,
        },
        "wraps": found.wraps,
        "ms": statistics.median(found.seconds) * 1e3, "emulator_ms": statistics.median(found.emulator_s) * 1e3,
        "about": backend.about,
    }  # fmt: skip

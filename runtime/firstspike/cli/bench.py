"""`firstspike bench`: every back end that can run, on the same windows, in one table."""

from __future__ import annotations

import argparse
import os
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from firstspike.benchmark import windows
from firstspike.benchmark.contestants import REFERENCE, Absent, all_names, choose, device_of, form_of, start
from firstspike.benchmark.draw import SUFFIXES, draw
from firstspike.benchmark.energy import EnergyBench, EnergyRow
from firstspike.benchmark.energy import lines as energy_lines
from firstspike.benchmark.measure import Figures, Ints, measure, reference
from firstspike.benchmark.papers import CITED
from firstspike.benchmark.table import Row, lines
from firstspike.bundle import Bundle, open_bundle
from firstspike.cli.common import add_config_arguments, apply_settings, layers_for_files
from firstspike.cli.output import Progress, emit, emit_json
from firstspike.config import Loaded
from firstspike.config_plugins import BackendChoice


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Arguments of `bench`."""
    command = commands.add_parser(
        "bench",
        help="compare back ends on the same windows",
        description="Put the same windows to every back end that can run: does it answer as the emulator does, and how "
        "fast, by its own clock and as the daemon sees it? Those that cannot run are listed with the reason and the "
        "fix. Ends with 69 if one that --plans names could not.",
    )
    command.add_argument("--model", metavar="DIR", help="bundle, by folder or name (default: nmnist)")
    command.add_argument(
        "--plans", type=_names, metavar="NAME,…",
        help="sections [backend.NAME] or kinds; NAME-ann runs the floating-point twin (default: all there are)",
    )  # fmt: skip
    command.add_argument(
        "--recordings", type=Path, metavar="DIR",
        help="a recording, a folder of them, or one with a sub-folder for each label (default: simulated digits)",
    )  # fmt: skip
    command.add_argument("--windows", type=_count, default=200, metavar="N", help="at most (default: 200)")
    command.add_argument("--energy", action="store_true", help="also meter each, or model it, in a table with papers'")
    command.add_argument(
        "--seconds", type=_seconds, default=5.0, metavar="S", help="that each is metered for (default: 5)"
    )
    command.add_argument("--draw", type=_drawing, metavar="FILE", help="draw the energy table: a .svg or .png file")
    command.add_argument("--json", action="store_true", help="one JSON object")
    add_config_arguments(command)
    command.set_defaults(run=run)


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if "" in names or len(set(names)) != len(names):
        raise argparse.ArgumentTypeError(f"{text!r} is not a row of different names, such as emulator,openvino")
    return names


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 100_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to 100000")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.5 <= value <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0.5 to 3600")
    return value


def _drawing(text: str) -> Path:
    if Path(text).suffix not in SUFFIXES:
        raise argparse.ArgumentTypeError(f"{text!r} ends in neither of {', '.join(SUFFIXES)}")
    return Path(text)


def run(args: argparse.Namespace) -> int:
    """Compare."""
    metered = args.energy or args.draw is not None
    layers = layers_for_files(args)
    bundle = open_bundle(apply_settings(layers, args.set).model_path)  # what is wrong is said before anything starts
    loaded = choose(layers, args.plans or all_names(layers, bundle))
    progress = Progress("bench")
    progress.show("getting windows")
    taken = windows.simulated(bundle, args.windows) if args.recordings is None else (
        windows.recorded(bundle, args.recordings, args.windows)
    )  # fmt: skip
    truth = reference(bundle, taken.samples)
    rows, energies = [], []
    with ExitStack() as stack:
        section = loaded.config.energy
        meters = stack.enter_context(
            EnergyBench(bundle, section, loaded.base, loaded.backends, args.seconds)
        ) if metered else None  # fmt: skip
        for choice in loaded.backends:
            progress.show(choice.name)
            row, energy = _row(choice, bundle, taken, truth, loaded, meters)
            rows.append(row)
            energies += [energy] if energy else []
    progress.done()
    title = f"{bundle.manifest.name}@{bundle.manifest.version}: {len(taken.samples)} windows, {taken.origin}"
    if args.draw is not None:
        draw(energies, title, args.draw)
    if args.json:
        further = {"energy": [row.plain() for row in energies], "cited": [asdict(one) for one in CITED]}
        emit_json({
            "model": bundle.manifest.name, "version": bundle.manifest.version, "digest": bundle.digest,
            "windows": len(taken.samples), "origin": taken.origin, "skipped": taken.skipped, "reference": REFERENCE,
            "rows": [row.plain() for row in rows],
            **(further if metered else {}),
        })  # fmt: skip
    else:
        emit(title)
        for line in lines(rows):
            emit(line)
        for name, reason in taken.skipped.items():
            emit(f"left out: {name}: {reason}")
        for line in energy_lines(energies) if metered else ():
            emit(line)
    return os.EX_UNAVAILABLE if args.plans and not all(row.ran for row in rows) else 0


def _row(
    choice: BackendChoice, bundle: Bundle, taken: windows.Windows, truth: list[Ints], loaded: Loaded,
    meters: EnergyBench | None,
) -> tuple[Row, EnergyRow | None]:  # fmt: skip
    backend = start(choice, bundle, loaded.config.schedule.start_s)
    if isinstance(backend, Absent):
        return Row(choice.name, choice.kind, form_of(choice, bundle), "", backend), None
    try:
        figures: Figures = measure(backend, taken.samples, truth, bundle.manifest.labels)
        energy = None
        if meters is not None and not figures.failed:
            energy = meters.row(choice.name, backend, taken.samples, figures)
        return Row(choice.name, choice.kind, form_of(choice, bundle), device_of(backend), figures), energy
    finally:
        backend.close()

"""`firstspike info`: what is in a recording."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from firstspike.cli.output import Progress, emit, emit_json
from firstspike.cli.replay import geometry
from firstspike.sources.summary import summarise


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Arguments of `info`."""
    command = commands.add_parser(
        "info",
        help="what is in a recording",
        description="Read a recording to its end and print sensor, geometry, duration, events, rate and polarities.",
    )
    command.add_argument("file", type=Path, metavar="FILE")
    command.add_argument("--json", action="store_true", help="one JSON object")
    command.add_argument("--format", help="the file's format (default: recognised by content)")
    command.add_argument("--columns", help="order of a CSV's columns, such as txyp")
    command.add_argument("--geometry", type=geometry, metavar="WxH", help="sensor size, where the file does not say")
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Read the file to its end and print what was found."""
    progress = Progress("info")
    width, height = args.geometry or (None, None)
    found = summarise(
        args.file, format=args.format, width=width, height=height, columns=args.columns,
        progress=lambda events: progress.show(f"{events} events"),
    )  # fmt: skip
    progress.done()
    emit_json(found) if args.json else _print(found)
    return 0


def _print(found: dict[str, Any]) -> None:
    emit(f"file       {found['file']}")
    emit(f"format     {found['format']}")
    emit(f"sensor     {found['sensor'] or 'unknown'}, {found['width']}×{found['height']} ({found['geometry_from']})")
    if found["events"]:
        emit(f"duration   {found['duration_us'] / 1e6:.6f} s, from {found['t_first_us']} to {found['t_last_us']} µs")
    emit(f"events     {found['events']}: {found['on']} ON, {found['off']} OFF")
    if found["rate_hz"]:
        emit(f"rate       {found['rate_hz']:.0f} events/s")
    for name in ("backward", "out_of_bounds", "truncated_bytes"):
        if found[name]:
            emit(f"{name.replace('_', ' '):<10} {found[name]}")
    for note in found["notes"]:
        emit(f"note       {note}")

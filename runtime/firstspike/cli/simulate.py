"""`firstspike simulate`: a recording of drawn digits, made by a modelled DVS."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from firstspike.cli.output import Progress, emit
from firstspike.simulate.scene import Scene, digit_sequence
from firstspike.sources.aedat4_writer import write_aedat4
from firstspike.types import Events

SOURCE = "firstspike simulate: modelled DVS, drawn digits (simulated)"
"""Written into the file: nobody shall take it for a camera's."""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Arguments of `simulate`."""
    command = commands.add_parser(
        "simulate",
        help="make a recording of drawn digits",
        description="Write an AEDAT4 recording of a modelled DVS that watches hand-drawn digits move in saccades. "
        "The same arguments give the same events. The file says that it is simulated.",
    )
    command.add_argument("out", type=Path, metavar="OUT.aedat4")
    command.add_argument("--digits", default="0123456789", type=_digits, help="in this order (default: 0123456789)")
    command.add_argument("--seed", default=0, type=_natural, help="of hand, sensor and noise (default: 0)")
    command.add_argument("--pause-ms", default=200, type=_natural, help="between two digits (default: 200)")
    command.set_defaults(run=run)


def _digits(text: str) -> list[int]:
    if not text or set(text) - set("0123456789"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a row of digits, such as 0123456789")
    return [int(digit) for digit in text]


def _natural(text: str) -> int:
    if not text.isdecimal() or len(text) > 9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to 999999999")
    return int(text)


def run(args: argparse.Namespace) -> int:
    """Write the recording; whole or not at all."""
    scene = Scene()
    progress = Progress("simulate")
    count = 0

    def batches() -> Iterator[Events]:
        nonlocal count
        for shown, (_, events) in enumerate(digit_sequence(args.digits, args.seed, scene, args.pause_ms * 1000), 1):
            count += len(events)
            progress.show(f"{shown} of {len(args.digits)} digits")
            yield events

    write_aedat4(args.out, batches(), scene.width, scene.height, source=SOURCE)
    progress.done()
    emit(f"{args.out}: {count} events of a simulated {scene.width}×{scene.height} DVS, {len(args.digits)} digits")
    return 0

"""`firstspike hybrid`: a spiking front, an accumulator and an ANN back become a bundle."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from firstspike.cli.output import emit
from firstspike.hybrid.assemble import LOGIT_SCALE, Made, Wanted, hybrid, read_front
from firstspike.hybrid.count import count
from firstspike.hybrid.table import lines


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Arguments of `hybrid`."""
    command = commands.add_parser(
        "hybrid",
        help="make a bundle of a spiking front and an ANN back",
        description="Put a spiking front (what convert-slayer wrote, or SLAYER's HDF5), an accumulator and an ANN back "
        "together into a bundle, checked as the daemon would. The steps of a window follow from the back's input: "
        "steps / interval count frames, side by side as channels. See docs/hybrid.md.",
    )
    command.add_argument("--front", type=Path, required=True, metavar="FRONT.npz|NET.net", help="the spiking part")
    command.add_argument(
        "--interval", type=whole_number, required=True, metavar="I", help="steps that one count sums up, 1 to 255"
    )
    command.add_argument("--back", type=Path, required=True, metavar="BACK.onnx", help="float32, opset at most 13")
    add_bundle_arguments(command, required=True)
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder")
    command.set_defaults(run=run)


def add_bundle_arguments(command: argparse.ArgumentParser, *, required: bool) -> None:
    """What a manifest says besides the networks."""
    command.add_argument(
        "--labels", type=lambda text: tuple(text.split(",")), required=required, metavar="A,B,…",
        help="one for each output, in order",
    )  # fmt: skip
    command.add_argument("--window-ms", type=positive, metavar="MS", help="length of a window (default: 10 a step)")
    command.add_argument(
        "--fit", choices=("stretch", "crop", "centre"), help="how the sensor's field maps onto the model's"
    )
    command.add_argument("--min-events", type=whole_number, metavar="N", help="windows with fewer say nothing")
    command.add_argument("--licence", metavar="TEXT", help="of the bundle")


def whole_number(text: str) -> int:
    """For argparse."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


def positive(text: str) -> float:
    """For argparse."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not (0 < value <= 1e6 and math.isfinite(value)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0, at most 1000000")
    return value


def wanted(args: argparse.Namespace, logit_scale: float = LOGIT_SCALE) -> Wanted:
    """What was given; the rest by default."""
    names = ("labels", "window_ms", "fit", "min_events", "licence")
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    return Wanted(**given, logit_scale=logit_scale)


def tell(made: Made) -> None:
    """What was made, and what its maker should know."""
    for line in lines(made.bundle, count(made.bundle, ())):
        emit(line)
    for note in made.notes:
        emit(f"note: {note}")
    emit(f"{made.bundle.folder}: digest {made.bundle.digest}")


def run(args: argparse.Namespace) -> int:
    """Make it."""
    front = read_front(args.front)
    tell(hybrid(args.out, front, args.front, args.interval, args.back, wanted(args)))
    return 0

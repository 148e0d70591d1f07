"""`firstspike filters`: what the filters need to know of a sensor, learned from its recordings."""

from __future__ import annotations

import argparse
from pathlib import Path

from firstspike.cli.output import Progress, emit, emit_json, say
from firstspike.cli.replay import geometry
from firstspike.errors import DataError
from firstspike.filters.hot_pixels import HotPixels, Learner, Thresholds, write_hot_pixels
from firstspike.sources.decoding import DecoderProcess

SHOWN = 20
FEW_S = 1.0
"""In less time a scene that stands still passes for a defect."""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Arguments of `filters`."""
    command = commands.add_parser(
        "filters", help="learn a sensor's hot pixels", description="What filters need to know: docs/filters.md."
    )
    actions = command.add_subparsers(dest="action", required=True, metavar="ACTION")
    learn = actions.add_parser(
        "learn",
        help="find the hot pixels of a sensor",
        description="Find the pixels that never rest in recordings of one sensor, best of a still or changing scene, "
        "and list them for the configuration's filter.hot_pixels.",
    )
    learn.add_argument("files", nargs="+", type=Path, metavar="RECORDING", help="all of one sensor")
    learn.add_argument("--out", type=Path, metavar="FILE", help="where to write the list (default: only print)")
    default = Thresholds()
    learn.add_argument(
        "--min-hz", type=float, default=default.min_hz, metavar="N", help="events a second (default: %(default)g)"
    )
    learn.add_argument(
        "--ratio", type=float, default=default.ratio, metavar="N",
        help="times the median of the pixels around (default: %(default)g)",
    )  # fmt: skip
    learn.add_argument(
        "--share", type=float, default=default.share, metavar="N",
        help="share of the time, in slices of 100 ms, in which it is active (default: %(default)g)",
    )  # fmt: skip
    learn.add_argument("--json", action="store_true", help="one JSON object")
    learn.add_argument("--format", help="the files' format (default: recognised by content)")
    learn.add_argument("--columns", help="order of a CSV's columns, such as txyp")
    learn.add_argument("--geometry", type=geometry, metavar="WxH", help="sensor size, where the file does not say")
    learn.set_defaults(run=run_learn)


def run_learn(args: argparse.Namespace) -> int:
    """Learn, print, write."""
    width, height = args.geometry or (None, None)
    learner: Learner | None = None
    progress = Progress("filters")
    with DecoderProcess() as decoder:
        for number, path in enumerate(args.files, 1):
            opened = decoder.open(path, format=args.format, width=width, height=height, columns=args.columns)
            with opened as recording:
                size = (recording.info.width, recording.info.height)
                learner = learner or Learner(*size)
                if learner.size != size:
                    raise DataError(
                        f"{path}: is of {size[0]}×{size[1]} pixels, the files before it of {learner.size[0]}×"
                        f"{learner.size[1]}: learn each sensor by itself"
                    )
                for events in recording:
                    learner.add(events)
                learner.end()
            progress.show(f"{number} of {len(args.files)} recordings")
    progress.done()
    assert learner is not None  # noqa: S101 (argparse takes one file or more)
    found = learner.found(Thresholds(args.min_hz, args.ratio, args.share))
    if not found.learned_s:
        raise DataError(f"{args.files[0]}: nothing was learned: there is no time between its first and last event")
    if found.learned_s < FEW_S:
        say(f"learned over only {found.learned_s:g} s: the scene may pass for hot pixels; ten are better")
    if args.out is not None:
        write_hot_pixels(args.out, found)
    if args.json:
        emit_json({"width": found.width, "height": found.height, "learned_s": found.learned_s,
                   "pixels": [list(pixel) for pixel in found.pixels], "hz": list(found.hz)})  # fmt: skip
    else:
        _print(found, args.out)
    return 0


def _print(found: HotPixels, out: Path | None) -> None:
    emit(f"sensor     {found.width}×{found.height}, {found.learned_s:g} s")
    emit(f"hot pixels {len(found.pixels)}")
    for (x, y), hz in list(zip(found.pixels, found.hz, strict=True))[:SHOWN]:
        emit(f"           ({x}, {y}) {hz:g} events/s")
    if len(found.pixels) > SHOWN:
        emit(f"           and {len(found.pixels) - SHOWN} more")
    if out is not None:
        emit(f"written to {out}: set filter.hot_pixels to it")

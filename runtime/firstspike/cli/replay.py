"""`firstspike replay`: recordings through the pipeline, decisions on standard output."""

from __future__ import annotations

import argparse
from pathlib import Path

from firstspike import daemon
from firstspike.cli.common import (
    HEADER,
    add_config_arguments,
    add_plan_argument,
    apply_settings,
    describe,
    describe_provisional,
    describe_totals,
    layers_for_files,
    stop_on_signal,
)
from firstspike.cli.output import emit, emit_json, say
from firstspike.messages import Decision, Provisional, to_plain
from firstspike.rooms import rooms


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Arguments of `replay`."""
    command = commands.add_parser(
        "replay",
        help="replay recordings and print the decisions",
        description="Replay recordings and print a decision a window. Under the virtual clock (the default) the output "
        "is identical to the byte at every speed and in every run.",
    )
    command.add_argument("files", nargs="+", type=Path, metavar="FILE", help="recording of any known format")
    command.add_argument("--model", metavar="DIR", help="bundle, by folder or name (default: nmnist)")
    command.add_argument("--speed", default=None, type=speed, metavar="N|max", help="times real time (default: 1)")
    command.add_argument("--loop", action="store_true", help="begin again at the end, for ever")
    command.add_argument("--json", action="store_true", help="one JSON object a decision")
    command.add_argument(
        "--clock", choices=("virtual", "monotonic"), help="monotonic: stamps and deadlines of real time"
    )
    command.add_argument("--publish", metavar="ENDPOINT", nargs="?", const="auto", help="publish over ZeroMQ as well")
    command.add_argument("--format", help="the files' format (default: recognised by content)")
    command.add_argument("--columns", help="order of a CSV's columns, such as txyp")
    command.add_argument("--geometry", type=geometry, metavar="WxH", help="sensor size, where the file does not say")
    add_plan_argument(command)
    add_config_arguments(command)
    command.set_defaults(run=run)


def speed(text: str) -> float | str:
    """Parse a speed."""
    if text == "max":
        return text
    try:
        factor = float(text)
    except ValueError:
        factor = 0.0
    if not 0 < factor <= 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a positive number nor 'max'")
    return factor


def geometry(text: str) -> tuple[int, int]:
    """Parse `640x480`."""
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal() and 0 < int(width) < 65536 and 0 < int(height) < 65536):
        raise argparse.ArgumentTypeError(f"{text!r} is not WIDTHxHEIGHT, such as 640x480")
    return int(width), int(height)


def run(args: argparse.Namespace) -> int:
    """Replay the files; the exit code is the first broken file's, or 0."""
    layers = layers_for_files(args)
    place = ("source", "recording")
    layers.put((*place, "paths"), [str(path.absolute()) for path in args.files], "command line")
    layers.put((*place, "speed"), args.speed if args.speed is not None else 1.0, "--speed")
    layers.put((*place, "loop"), args.loop, "--loop")
    for name, value in (("format", args.format), ("columns", args.columns)):
        if value is not None:
            layers.put((*place, name), value, f"--{name}")
    if args.geometry is not None:
        for name, value in zip(("width", "height"), args.geometry, strict=True):
            layers.put((*place, name), value, "--geometry")
    layers.put(("clock", "kind"), args.clock or "virtual", "--clock")
    if args.publish is not None:
        layers.put(("publish", "endpoint"), args.publish, "--publish")
    loaded = apply_settings(layers, args.set, args.plan)
    stopping = stop_on_signal()
    if not args.json:
        say(HEADER)

    def show(message: Decision | Provisional) -> None:
        if args.json:
            emit_json(to_plain(message))
        else:
            emit(describe(message) if isinstance(message, Decision) else describe_provisional(message))

    if args.publish is not None:
        pipeline = daemon.run(loaded, stopping, show)[None]
    else:
        with rooms(loaded, show, stopping.is_set, early=show) as made:
            made.run()
        pipeline = made.pipeline
    if not args.json:
        say(describe_totals(pipeline.totals.message()))
    return pipeline.failures[0][1].exit_code if pipeline.failures else stopping.exit_code

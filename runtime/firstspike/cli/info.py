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

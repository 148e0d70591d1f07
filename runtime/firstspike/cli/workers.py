"""`firstspike workers`: the environments that back ends with a vendor's SDK run in."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from firstspike.cli.output import Progress, emit, emit_json, say
from firstspike.errors import UnavailableError
from firstspike.worker import drivers, environments, install
from firstspike.worker.probe import Probed, probe

PROBE_S = 20.0


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Arguments of `workers`."""
    command = commands.add_parser(
        "workers",
        help="environments of accelerators: list, install, remove, doctor",
        description="Each accelerator's SDK runs in a process of its own, under the Python that it needs. Environments "
        f"lie in ${environments.OVERRIDE}, else {environments.SYSTEM_PLACE} (if it can be written), else "
        "~/.local/share/firstspike/workers.",
    )
    tasks = command.add_subparsers(dest="task", required=True, metavar="TASK")
    listing = tasks.add_parser("list", help="all back ends that run in a worker, and how their environments stand")
    listing.add_argument("--json", action="store_true", help="one JSON object")
    listing.set_defaults(run=run_list)
    making = tasks.add_parser("install", help="make the environment of a back end")
    making.add_argument("name", metavar="NAME", help="as `list` names it")
    making.add_argument("--python", type=Path, metavar="PATH", help="the interpreter to take (default: looked for)")
    making.add_argument("--force", action="store_true", help="make it anew even if it is installed")
    making.add_argument("--dry-run", action="store_true", help="say what would be done")
    making.set_defaults(run=run_install)
    removing = tasks.add_parser("remove", help="take the environment of a back end away")
    removing.add_argument("name", metavar="NAME")
    removing.set_defaults(run=run_remove)

"""`firstspike run`: the daemon."""

from __future__ import annotations

import argparse
import logging
import os
import signal

from firstspike import daemon, state
from firstspike.cli.common import (
    Signalled,
    add_config_arguments,
    add_plan_argument,
    apply_settings,
    describe_totals,
    set_log_level,
    settle,
    stop_on_signal,
)
from firstspike.config_layers import read_layers
from firstspike.manager import Manager
from firstspike.service import Notifier
from firstspike.state import Keeper

log = logging.getLogger(__name__)


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Arguments of `run`."""
    command = commands.add_parser(
        "run",
        help="run the daemon",
        description="Read events, classify windows of them, publish decisions and health. Ends with its source, or at "
        "SIGTERM or SIGINT. At SIGHUP the configuration is loaded again, all of it or nothing (docs/service.md).",
    )
    add_plan_argument(command)
    add_config_arguments(command)
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run until the source ends or a signal comes."""
    loaded = apply_settings(read_layers(args.config, []), args.set, args.plan)
    stopping, wanted = stop_on_signal(), Signalled()
    on_terminal = os.isatty(2)

    def hang_up(*_: object) -> None:
        # A terminal that was closed sends SIGHUP too: nobody is left to reload for.
        (stopping if on_terminal and not os.isatty(2) else wanted).set()

    signal.signal(signal.SIGHUP, hang_up)
    manager = Manager(
        Notifier(os.environ), lambda: settle(read_layers(args.config, []), args.set, args.plan), wanted, set_log_level,
        _keeper(),
    )  # fmt: skip
    ran = daemon.run(loaded, stopping, manager=manager)
    for name, pipeline in ran.items():
        of = "" if name is None else f"stream {name} "
        log.info("%sstopped: %s", of, describe_totals(pipeline.totals.message()))
    codes = [pipeline.failures[0][1].exit_code for pipeline in ran.values() if pipeline.failures]
    return codes[0] if codes else 0


def _keeper() -> Keeper | None:
    """What keeps the state; None for a user without a home."""
    try:
        return Keeper(state.folder())
    except RuntimeError as error:
        log.warning("state is not kept: %s: set $STATE_DIRECTORY", error)
        return None

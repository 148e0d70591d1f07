"""`firstspike run`: the daemon."""

from __future__ import annotations

import argparse
import logging

from firstspike import daemon, streams
from firstspike.cli.common import (
    add_config_arguments,
    add_plan_argument,
    apply_settings,
    describe_totals,
    stop_on_signal,
)
from firstspike.config_layers import read_layers
from firstspike.pipeline import Pipeline

log = logging.getLogger(__name__)


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Arguments of `run`."""
    command = commands.add_parser(
        "run",
        help="run the daemon",
        description="Read events, classify windows of them, publish decisions and health. Ends with its source, or at "
        "SIGTERM or SIGINT.",
    )
    add_plan_argument(command)
    add_config_arguments(command)
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run until the source ends or a signal comes."""
    loaded = apply_settings(read_layers(args.config, []), args.set, args.plan)
    stopping = stop_on_signal()
    if loaded.streams:
        return _report(streams.run(loaded, stopping))
    pipeline = daemon.run(loaded, stopping)
    log.info("stopped: %s", describe_totals(pipeline.totals.message()))
    return pipeline.failures[0][1].exit_code if pipeline.failures else 0


def _report(ran: dict[str, Pipeline]) -> int:
    for name, pipeline in ran.items():
        log.info("stream %s stopped: %s", name, describe_totals(pipeline.totals.message()))
    codes = [pipeline.failures[0][1].exit_code for pipeline in ran.values() if pipeline.failures]
    return codes[0] if codes else 0

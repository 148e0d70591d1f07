"""`firstspike reload`: let a running daemon load its configuration again, and say what came of it."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import time
from pathlib import Path

from firstspike import endpoints
from firstspike.cli.doctor import seconds
from firstspike.cli.output import say
from firstspike.client import Subscriber
from firstspike.config_layers import read_layers
from firstspike.errors import ConfigError, NoInputError, UnavailableError
from firstspike.messages import Health

TRY_S = 2.0
"""Longest wait for one snapshot."""
LOOK_S = 0.1


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Arguments of `reload`."""
    command = commands.add_parser(
        "reload",
        help="let a running daemon load its configuration again",
        description="Send SIGHUP to a daemon of this machine and wait until the new configuration runs (0), or was "
        "refused and the old one goes on (78, with the reason).",
    )
    command.add_argument(
        "endpoint", nargs="?", metavar="ENDPOINT", help="where it publishes (default: as the configuration says)"
    )
    command.add_argument("--config", type=Path, metavar="FILE", help="its configuration (else $FIRSTSPIKE_CONFIG)")
    command.add_argument("--pid", type=_pid, required=True, metavar="PID", help="its process")
    command.add_argument("--timeout", type=seconds, default=120.0, metavar="S", help="longest wait (default 120)")
    command.set_defaults(run=run)


def _pid(text: str) -> int:
    """One process: 0 and below are a group's, or everybody's."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if not 0 < value < 1 << 31:
        raise argparse.ArgumentTypeError(f"{text!r} is no process's number")
    return value


def run(args: argparse.Namespace) -> int:
    """Ask, and wait for the answer."""
    with Subscriber(args.endpoint or _configured(args.config)) as subscriber:
        before = _health(subscriber)
        try:
            os.kill(args.pid, signal.SIGHUP)
        except OSError as error:
            raise UnavailableError(f"process {args.pid}: cannot be told to reload: {error.strerror}") from None
        deadline = time.monotonic() + args.timeout
        while time.monotonic() < deadline:
            time.sleep(LOOK_S)
            now = _health(subscriber)
            if now.reloads > before.reloads:
                if now.reload_error is not None:
                    raise ConfigError(f"{now.reload_error}\nrefused: configuration {now.config_generation} goes on")
                say(f"firstspike: configuration {now.config_generation} runs")
                return 0
    raise UnavailableError(f"{subscriber.endpoint}: no word of the reload within {args.timeout:g} s: see the log")


def _configured(file: Path | None) -> str:
    """The endpoint of a configuration, which may be as wrong as it likes: to say so is the daemon's business."""
    try:
        endpoint, _ = read_layers(file, []).values().get(("publish", "endpoint"), (endpoints.AUTO, ""))
    except (ConfigError, NoInputError):
        return endpoints.AUTO
    # One that was changed since the daemon started is for the daemon to refuse, at the place where it is.
    for there in (str(endpoint), endpoints.AUTO):
        with contextlib.suppress(ConfigError):
            if endpoints.path_of(endpoints.of_daemon(there)).exists():
                return there
    return str(endpoint)


def _health(subscriber: Subscriber) -> Health:
    snapshot = subscriber.snapshot(TRY_S)
    # Of several streams each tells of the daemon's reloads, perhaps not at the same moment.
    told = [one for one in (snapshot.health, *(state.health for state in snapshot.streams.values())) if one]
    if not told:
        raise UnavailableError(f"{subscriber.endpoint}: the daemon has not told its health yet: try again")
    return max(told, key=lambda health: health.reloads)

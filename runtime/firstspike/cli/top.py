"""`firstspike top`: what a daemon does, in the terminal."""

from __future__ import annotations

import argparse
import shutil
import sys
import time

from firstspike import endpoints
from firstspike.cli.common import stop_on_signal
from firstspike.cli.doctor import seconds
from firstspike.cli.output import emit
from firstspike.cli.watch import add_endpoint_arguments, subscribe
from firstspike.client import Subscriber
from firstspike.errors import UnavailableError
from firstspike.top import Top

HOME_AND_CLEAR, END_OF_LINE, REST = "\x1b[H", "\x1b[K", "\x1b[J"
OWN_SCREEN, BACK = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
POLL_S = 0.05
HEALTH_S = 5.0
"""Longest wait of `--once` for the daemon's health, which it tells once a second."""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Arguments of `top`."""
    command = commands.add_parser(
        "top",
        help="what a running daemon does: decisions, latencies, back ends, losses",
        description="A frame each interval. On a terminal it is redrawn in place; Ctrl-C ends it.",
    )
    add_endpoint_arguments(command)
    command.add_argument("--interval", type=seconds, default=1.0, metavar="S", help="between frames (default 1)")
    command.add_argument("--once", action="store_true", help="one frame and no more; 69 if nothing came")
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Draw frames until told to stop."""
    stopping = stop_on_signal()
    own = sys.stdout.isatty() and not args.once
    with subscribe(args) as subscriber:
        top = Top()
        if own:
            emit(OWN_SCREEN)
        try:
            while not stopping.is_set():
                began = time.monotonic()
                while (left := began + args.interval - time.monotonic()) > 0 and not stopping.is_set():
                    if (message := subscriber.receive(min(left, POLL_S))) is not None:
                        top.take(message)
                while args.once and top.streams and top.health is None and time.monotonic() < began + HEALTH_S:
                    if (message := subscriber.receive(POLL_S)) is not None:
                        top.take(message)
                if args.once and top.health is None and not top.streams:
                    raise UnavailableError(
                        f"{subscriber.endpoint}: nothing came for {args.interval:g} s: is a daemon running there?"
                        f"{endpoints.closed(subscriber.endpoint)}"
                    )
                _draw(top, subscriber, time.monotonic() - began, own=own)
                if args.once:
                    return 0
        finally:
            if own:
                emit(BACK)
    return stopping.exit_code


def _draw(top: Top, subscriber: Subscriber, elapsed_s: float, *, own: bool) -> None:
    lines = top.frame(elapsed_s, sum(subscriber.lost.values()), subscriber.endpoint)
    if not own:
        emit("\n".join(lines))
        return
    width, height = shutil.get_terminal_size()
    emit(HOME_AND_CLEAR + "\n".join(line[:width] + END_OF_LINE for line in lines[: height - 1]) + REST)

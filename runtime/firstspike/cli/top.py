"""`firstspike top`: what a daemon does, in the terminal."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
import unicodedata

from firstspike import endpoints
from firstspike.cli.common import stop_on_signal
from firstspike.cli.doctor import seconds
from firstspike.cli.output import emit
from firstspike.cli.watch import add_endpoint_arguments, subscribe
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
    own = sys.stdout.isatty() and not args.once and os.environ.get("TERM", "") not in ("", "dumb")
    with subscribe(args) as subscriber:
        top, heard = Top(), time.monotonic()
        if own:
            emit(OWN_SCREEN)
        try:
            while not stopping.is_set():
                began = time.monotonic()
                while (left := began + args.interval - time.monotonic()) > 0 and not stopping.is_set():
                    if (message := subscriber.receive(min(left, POLL_S))) is not None:
                        top.take(message)
                        heard = time.monotonic()
                while args.once and top.streams and not top.healths and time.monotonic() < began + HEALTH_S:
                    if (message := subscriber.receive(POLL_S)) is not None:
                        top.take(message)
                        heard = time.monotonic()
                if args.once and not top.healths and not top.streams:
                    raise UnavailableError(
                        f"{subscriber.endpoint}: nothing came for {args.interval:g} s: is a daemon running there?"
                        f"{endpoints.closed(subscriber.endpoint)}"
                    )
                now = time.monotonic()
                lost = sum(subscriber.lost.values())
                _draw(top.frame(now - began, lost, subscriber.endpoint, now - heard), own=own)
                if args.once:
                    return 0
        finally:
            if own:
                emit(BACK)
    return stopping.exit_code


def _draw(lines: list[str], *, own: bool) -> None:
    if not own:
        emit("\n".join(lines))
        return
    width, height = shutil.get_terminal_size()
    emit(HOME_AND_CLEAR + "\n".join(cut(line, width) + END_OF_LINE for line in lines[: height - 1]) + REST)


def cut(line: str, width: int) -> str:
    """As much of a line as fits into so many columns: some characters take two, some none."""
    columns = 0
    for at, one in enumerate(line):
        columns += 0 if unicodedata.combining(one) else 2 if unicodedata.east_asian_width(one) in "WF" else 1
        if columns > width:
            return line[:at]
    return line

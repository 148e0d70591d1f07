"""The command line: one file a command, each with `add` (its arguments) and `run` (its work)."""

from __future__ import annotations

import argparse
import io
import logging
import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

import firstspike
from firstspike import journal
from firstspike.cli import (
    bench,
    check,
    convert,
    convert_slayer,
    dense,
    doctor,
    evaluate,
    filters,
    hybrid,
    info,
    inspect,
    keys,
    meters,
    record,
    reload,
    replay,
    run,
    schemas,
    send,
    simulate,
    sweep,
    top,
    verify,
    watch,
    workers,
)
from firstspike.cli.output import say
from firstspike.errors import FirstspikeError

log = logging.getLogger(__name__)

COMMANDS = (
    run, reload, replay, evaluate, watch, top, info, convert, convert_slayer, hybrid, dense, inspect, sweep, bench,
    verify, check, doctor, filters, meters, workers, keys, simulate, send, record, schemas,
)  # fmt: skip

EPILOG = """\
exit codes (sysexits): 0 done, 64 wrong usage, 65 bad data, 66 no such input, 69 something is not available,
70 a fault of firstspike, 74 output failed, 78 wrong configuration or bundle, 130 interrupted
documentation: README.md, docs/protocol.md (how to subscribe from any language), docs/formats.md,
docs/conversion.md, docs/slayer.md, docs/hybrid.md, docs/filters.md, docs/workers.md (accelerators), docs/network.md,
docs/meters.md and docs/energy.md, docs/service.md (systemd), docs/security.md, docs/metrics.md"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(os.EX_USAGE, f"{self.prog}: {message}\n")


def parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    top = _Parser(
        prog="firstspike",
        description="Edge runtime for event cameras: time-to-first-spike inference, published over ZeroMQ.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"firstspike {firstspike.__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    for command in COMMANDS:
        command.add(commands)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code."""
    args = parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, handlers=[journal.handler()])
    try:
        code: int = args.run(args)
    except FirstspikeError as error:
        _complain(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except PermissionError as error:
        # Whatever was named: no fault of ours, and code 66, which the service manager does not try again.
        log.debug("", exc_info=True)
        _complain(f"{error.filename or 'a file'}: {error.strerror}: run it as a user who may, or change its mode")
        return os.EX_NOINPUT
    except Exception as error:
        log.debug("", exc_info=True)
        _complain(f"a fault of firstspike: {type(error).__name__}: {error} (FIRSTSPIKE__LOG__LEVEL=debug shows where)")
        return os.EX_SOFTWARE
    return code


def _complain(text: str) -> None:
    # In the journal it is an error, as what is logged is.
    begin = journal.prefix(logging.ERROR) if journal.is_ours(os.environ) else "firstspike: "
    for line in text.splitlines():
        say(f"{begin}{line}")


def _stopped_early(number: int, _: object) -> NoReturn:
    """SIGTERM before a command handles it, or in one that need not: clean up and end."""
    sys.exit(128 + number)


def _open_missing() -> None:
    """Where the caller closed a standard descriptor, its number must not go to the next file that is opened.

    A closed standard output is opened for reading, so that writing to it fails and is reported.
    """
    for fd, mode in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, mode)
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 (a descriptor, for good)
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 (the same)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # no locale may keep a decision from being printed


def entry() -> NoReturn:
    """The `firstspike` program."""
    _open_missing()
    signal.signal(signal.SIGTERM, _stopped_early)
    try:
        code = main()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else os.EX_USAGE
    # What is left in a closed or full standard output was reported already: keep the interpreter from failing over it.
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = code or os.EX_IOERR
    sys.exit(code)

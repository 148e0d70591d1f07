"""Standard output that fails with one clear message, and progress on standard error."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from typing import Any

from firstspike.errors import OutputError


def emit(line: str) -> None:
    """Print a line and see it out.

    Raises:
        OutputError: standard output is closed or its disk is full.
    """
    try:
        print(line, flush=True)
    except BrokenPipeError:
        _mute()
        raise OutputError("standard output was closed by its reader: stopped") from None
    except OSError as error:
        _mute()
        raise OutputError(f"standard output: {error.strerror}: stopped") from None
    except ValueError as error:
        raise OutputError(f"standard output: {error}: stopped") from None


def emit_json(value: Any) -> None:
    """Print a value as one line of JSON, always the same bytes for the same value."""
    emit(json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")))


def printable(line: str) -> str:
    """A line that says nothing to the terminal: labels, names and reasons come from files, workers and other hosts."""
    return "".join(one if one.isprintable() else "?" for one in line)


def say(text: str, end: str = "\n") -> None:
    """Tell the person on standard error, if it can be written: work does not end for want of it."""
    with contextlib.suppress(OSError, ValueError):
        print(text, end=end, file=sys.stderr, flush=True)


def _mute() -> None:
    """Let the interpreter's last flush go nowhere: the failure is reported once."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Progress:
    """How far long work is: a line that is rewritten on a terminal, a line now and then elsewhere."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._terminal = sys.stderr.isatty()
        self._last = time.monotonic()
        self._drawn = False

    def show(self, text: str) -> None:
        """Say how far it is; called as often as one likes."""
        now = time.monotonic()
        if now - self._last < (0.1 if self._terminal else 10):
            return
        self._last = now
        if self._terminal:
            say(f"\r\033[K{self._what}: {text}", end="")
            self._drawn = True
        else:
            say(f"{self._what}: {text}")

    def done(self) -> None:
        """Take the line away."""
        if self._drawn:
            say("\r\033[K", end="")
            self._drawn = False

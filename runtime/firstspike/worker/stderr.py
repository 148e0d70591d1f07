"""What a worker writes to standard error: read to the last byte, so that it never blocks; kept and logged in bounds.

An SDK may write 100 MB in five seconds. The last lines are kept for the reason of a failure; of the rest a few lines a
second are logged at info, and the others counted.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import select
import threading
import time
from typing import IO

log = logging.getLogger(__name__)

KEPT_BYTES = 16384
"""Of the end, for the reason of a failure."""
MAX_LINE = 500
LINES_A_SECOND = 10
BURST = 50
"""Lines that may be logged at once after a silence."""
PIPE_BYTES = 1 << 20
TELLING_S = 5.0
"""What was written longer than this before the worker's end says nothing of it."""

_CONTEXT = re.compile(r"\s|Traceback |Current thread |Thread 0x|Extension modules|During handling|The above exception")
"""Beginnings of lines that lead to the telling one, or follow it."""


class Listener:
    """Reads one worker's standard error in a thread until its end.

    Args:
        stream: unbuffered; closed by `close`.
        name: of the worker, before each line that is logged.
    """

    def __init__(self, stream: IO[bytes], name: str) -> None:
        self._stream = stream
        self._name = name
        self._tail = b""
        """The last bytes, as they came."""
        self._spoke = 0.0
        self._rest = b""
        """The beginning of a line that is not over yet."""
        self._allowance = float(BURST)
        self._refilled = time.monotonic()
        self._left_out = 0
        self.bytes_read = 0
        os.set_blocking(stream.fileno(), False)
        with contextlib.suppress(OSError):  # a small pipe does as well: the writer waits more often
            fcntl.fcntl(stream.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._stop = os.eventfd(0, os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._run, name=f"stderr of {name}", daemon=True)
        self._thread.start()

    def last_words(self, within_s: float) -> str:
        """The last telling lines, for a worker that has ended: at most 300 characters, empty if it said nothing.

        Args:
            within_s: how long to wait for the end of what it wrote.
        """
        self._thread.join(within_s)
        if time.monotonic() - self._spoke > TELLING_S:
            return ""
        lines = [line for line in self._tail.decode("utf-8", "replace").splitlines() if not _CONTEXT.match(line)]
        said = " / ".join([_printable(line) for line in lines if line.strip()][-3:])
        return said if len(said) <= 300 else "…" + said[-299:]

    def close(self) -> None:
        """Stop reading. A process that the worker left behind may still hold the other end."""
        os.eventfd_write(self._stop, 1)
        self._thread.join()
        self._stream.close()
        os.close(self._stop)

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._stream.fileno(), select.POLLIN)
        poll.register(self._stop, select.POLLIN)
        while True:
            events = dict(poll.poll())
            if self._stream.fileno() not in events:
                break
            try:
                data = os.read(self._stream.fileno(), 1 << 16)
            except BlockingIOError:
                continue
            if not data:
                break
            self._take(data)
        self._log_line(self._rest)
        self._report()

    def _take(self, data: bytes) -> None:
        """Keep the end, and log the lines as far as they are allowed; the flood beyond is only counted."""
        self.bytes_read += len(data)
        self._spoke = now = time.monotonic()
        self._tail = (self._tail + data)[-KEPT_BYTES:]
        self._allowance = min(BURST, self._allowance + (now - self._refilled) * LINES_A_SECOND)
        self._refilled = now
        allowed = int(self._allowance)
        *lines, rest = (self._rest + data).split(b"\n", allowed)
        if len(lines) < allowed:
            self._rest = rest[-MAX_LINE:]
        else:
            self._left_out += rest.count(b"\n")
            self._rest = rest[rest.rfind(b"\n") + 1 :][-MAX_LINE:]
        for line in lines:
            self._log_line(line)

    def _log_line(self, raw: bytes) -> None:
        line = _printable(raw[:MAX_LINE].decode("utf-8", "replace"))
        if not line:
            return
        if self._allowance < 1:
            self._left_out += 1
            return
        self._allowance -= 1
        self._report()
        log.info("%s: %s", self._name, line)

    def _report(self) -> None:
        if self._left_out:
            log.info("%s: %d lines of its standard error were left out", self._name, self._left_out)
            self._left_out = 0


def _printable(line: str) -> str:
    """A line without what moves a terminal's cursor."""
    return "".join(c if c.isprintable() else " " for c in line).strip()

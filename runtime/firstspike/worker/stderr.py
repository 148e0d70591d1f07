"""What a worker writes to standard error: read to the last byte, so that it never blocks, but kept and logged in bounds.

An SDK may write 100 MB in five seconds. The last lines are kept for the reason of a failure; of the rest a few lines a
second are logged, and the others counted.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from typing import IO

log = logging.getLogger(__name__)

KEPT_LINES = 40
MAX_LINE = 500
LINES_A_SECOND = 10
BURST = 50
"""Lines that may be logged at once after a silence."""


class Listener:
    """Reads one worker's standard error in a thread until its end.

    Args:
        stream: unbuffered; closed by `close`.
        name: of the worker, before each line that is logged.
    """

    def __init__(self, stream: IO[bytes], name: str) -> None:
        self._stream = stream
        self._name = name
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._allowance = float(BURST)
        self._refilled = time.monotonic()
        self._left_out = 0
        self.bytes_read = 0
        self._thread = threading.Thread(target=self._run, name=f"stderr of {name}", daemon=True)
        self._thread.start()

    def last_line(self) -> str:
        """The last line, once the worker has ended and all was read."""
        self._thread.join(0.5)
        lines = [line for line in list(self._lines) if line]
        return lines[-1][:300] if lines else ""

    def close(self) -> None:
        """Stop reading; the worker has ended."""
        self._thread.join(1.0)
        if not self._thread.is_alive():
            self._stream.close()

    def _run(self) -> None:
        rest = b""
        while True:
            try:
                data = self._stream.read(1 << 16)
            except (OSError, ValueError):
                break
            if not data:
                break
            self.bytes_read += len(data)
            *lines, rest = (rest + data).split(b"\n")
            rest = rest[-MAX_LINE:]
            for line in lines[:-KEPT_LINES]:
                self._left_out += bool(line.strip())
            for line in lines[-KEPT_LINES:]:
                self._take(line)
        self._take(rest)
        self._report()

    def _take(self, raw: bytes) -> None:
        line = raw[:MAX_LINE].decode("utf-8", "replace").strip()
        if not line:
            return
        self._lines.append(line)
        now = time.monotonic()
        self._allowance = min(BURST, self._allowance + (now - self._refilled) * LINES_A_SECOND)
        self._refilled = now
        if self._allowance < 1:
            self._left_out += 1
            return
        self._allowance -= 1
        self._report()
        log.debug("%s: %s", self._name, line)

    def _report(self) -> None:
        if self._left_out:
            log.info("%s: %d lines of its standard error were left out", self._name, self._left_out)
            self._left_out = 0

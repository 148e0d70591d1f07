"""Writes the log to journald by its native protocol: one datagram a record, with fields that can be searched for.

    journalctl -u firstspike FIRSTSPIKE_LOGGER=firstspike.worker.supervisor
    journalctl -u firstspike -p warning -o verbose

Used where standard error is the journal's (`$JOURNAL_STREAM` names its device and inode, so that a program started by
hand in a session that has the variable still writes to its terminal). Where the journal's socket cannot be reached,
lines get the prefix `<N>` of sd-daemon(3) instead. The protocol: systemd.io/JOURNAL_NATIVE_PROTOCOL.
"""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import logging
import os
import socket
import struct
import sys
from collections.abc import Mapping
from typing import TextIO

SOCKET = "/run/systemd/journal/socket"
IDENTIFIER = "firstspike"
PLAIN = "firstspike: %(levelname)s: %(message)s"
PATIENCE_S = 0.5
"""Longest wait for a journald that does not read; from then on what it does not take at once is lost, and counted."""
SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE

# What is true of every record of this run, as `context` was told.
_context: dict[str, str] = {}


def context(**fields: str | int) -> None:
    """Give every later record these fields: `epoch="…"` becomes FIRSTSPIKE_EPOCH."""
    _context.update({f"FIRSTSPIKE_{name.upper()}": str(value) for name, value in fields.items()})


def is_ours(environment: Mapping[str, str], stream: TextIO | None = None) -> bool:
    """Whether standard error goes to the journal."""
    device, _, inode = environment.get("JOURNAL_STREAM", "").partition(":")
    try:
        found = os.fstat((stream or sys.stderr).fileno())
    except (OSError, ValueError, AttributeError):
        return False
    return (str(found.st_dev), str(found.st_ino)) == (device, inode)


def handler(environment: Mapping[str, str] | None = None) -> logging.Handler:
    """The log's way out: the journal if standard error is the journal's, else lines on standard error."""
    if is_ours(os.environ if environment is None else environment):
        return JournalHandler()
    plain = logging.StreamHandler(sys.stderr)
    plain.setFormatter(logging.Formatter(PLAIN))
    return plain


def prefix(level: int) -> str:
    """`<N>`: the priority of a line that goes to the journal through standard error."""
    return f"<{_priority(level)}>"


def _priority(level: int) -> int:
    """syslog(3)'s: 2 critical, 3 error, 4 warning, 6 info, 7 debug."""
    for least, priority in ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6)):
        if level >= least:
            return priority
    return 7


class JournalHandler(logging.Handler):
    """Sends records to journald; falls back to prefixed lines on standard error.

    A record may bring fields of its own: `log.info(text, extra={"fields": {"backend": name}})`.

    Args:
        path: the journal's socket.
    """

    def __init__(self, path: str = SOCKET) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(message)s"))  # level and logger are fields
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        # Not `settimeout`: to poll, such a socket is always ready.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", 0, round(PATIENCE_S * 1e6)))
        self._lost = 0
        """Records since journald read last."""

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`. Never raises: work does not end for want of a log."""
        try:
            text = self.format(record)
            flags = socket.MSG_DONTWAIT if self._lost else 0
            if self._lost and not self._say_what_was_lost():
                self._lost += 1
            elif not self._send(_packed(self._fields(record, text)), flags):
                self._complain(record.levelno, text)
        except Exception:  # noqa: BLE001 (logging's own way with a record that cannot be written)
            self.handleError(record)

    def _say_what_was_lost(self) -> bool:
        """Whether journald reads again."""
        lost, self._lost = self._lost, 0
        said = f"{lost} records were lost: journald did not read"
        own = logging.LogRecord(__name__, logging.WARNING, __file__, 0, said, None, None)
        if self._send(_packed(self._fields(own, said)), socket.MSG_DONTWAIT) and not self._lost:
            return True
        self._lost = lost
        return False

    def _fields(self, record: logging.LogRecord, text: str) -> dict[str, str]:
        fields = {
            "MESSAGE": text, "PRIORITY": str(_priority(record.levelno)), "SYSLOG_IDENTIFIER": IDENTIFIER,
            "CODE_FILE": record.pathname, "CODE_LINE": str(record.lineno), "CODE_FUNC": str(record.funcName),
            "FIRSTSPIKE_LOGGER": record.name, "FIRSTSPIKE_THREAD": str(record.threadName), **_context,
        }  # fmt: skip
        own = getattr(record, "fields", None)
        if isinstance(own, Mapping):
            fields.update({f"FIRSTSPIKE_{str(name).upper()}": str(value) for name, value in own.items()})
        return fields

    def _send(self, datagram: bytes, flags: int = 0) -> bool:
        try:
            try:
                self._socket.sendto(datagram, flags, self._path)
            except OSError as error:
                if error.errno != errno.EMSGSIZE:
                    raise
                self._send_file(datagram, flags)  # too large for a datagram
        except BlockingIOError:
            self._lost += 1  # standard error is the journal's too: there one would wait as well
            return True
        except OSError:
            return False
        return True

    def _send_file(self, datagram: bytes, flags: int) -> None:
        """Send it as a sealed file in memory."""
        memory = os.memfd_create("journal", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
        try:
            with os.fdopen(memory, "wb", closefd=False) as file:
                file.write(datagram)
            fcntl.fcntl(memory, fcntl.F_ADD_SEALS, SEALS)
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [memory]))
            self._socket.sendmsg([], [rights], flags, self._path)
        finally:
            os.close(memory)

    def _complain(self, level: int, text: str) -> None:
        for line in text.splitlines():
            print(f"{prefix(level)}{line}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """See `logging.Handler`."""
        self._socket.close()
        super().close()


def _packed(fields: Mapping[str, str]) -> bytes:
    """`NAME=value`; a value of several lines goes with its length."""
    parts = []
    for name, value in fields.items():
        raw = value.encode(errors="backslashreplace")
        if b"\n" in raw:
            parts.append(name.encode() + b"\n" + struct.pack("<Q", len(raw)) + raw + b"\n")
        else:
            parts.append(name.encode() + b"=" + raw + b"\n")
    return b"".join(parts)

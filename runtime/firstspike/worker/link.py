"""The daemon's end of the link to one worker: start, frames with deadlines, end. `shim` is the other end.

The worker's standard input and output are one socketpair, its standard error a pipe that `stderr` reads. Nothing here
blocks beyond the deadline that it is given, whatever the worker does: not reading, not writing, half a frame, garbage.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from typing import Any

from firstspike.worker import shim
from firstspike.worker.start import Program
from firstspike.worker.stderr import Listener

MAX_REPLY = 1 << 24
"""Bytes of a reply's body; no network that a window is put to answers more."""


class LinkError(Exception):
    """The worker is of no more use; the text continues «the worker …»."""


class LateError(Exception):
    """Nothing came by the deadline; the worker may still answer."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A frame from the worker."""

    kind: int
    number: int
    meta: dict[str, Any]
    body: memoryview


class Link:
    """One worker process and the frames to and from it. One thread at a time may use it.

    The worker dies with the thread that makes the link (PR_SET_PDEATHSIG follows the thread): make it in one that
    lives as long as the worker shall.

    Raises:
        LinkError: the program cannot be started.
    """

    def __init__(self, program: Program, name: str) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = subprocess.Popen(
                    program.argv(), stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, bufsize=0,
                    start_new_session=True, env=environment(),
                )  # fmt: skip
            except OSError as error:
                ours.close()
                raise LinkError(f"cannot be started: {program.command[0]}: {error.strerror}") from None
        assert self._process.stderr is not None  # noqa: S101 (for the type checker)
        self._socket = ours
        ours.setblocking(False)
        self.pid = self._process.pid
        self.listener = Listener(self._process.stderr, name)
        self._poll = select.poll()
        self._poll.register(ours, select.POLLIN)
        self._have = bytearray()
        """What has come of the next reply."""

    def send(self, frame: bytes, deadline: float) -> None:
        """Send bytes.

        Args:
            frame: a greeting, or what `frame` made.
            deadline: of `time.monotonic`.

        Raises:
            LinkError: the worker has ended, or did not take all by the deadline: half a frame cannot be taken back.
        """
        left = memoryview(frame)
        while left:
            try:
                left = left[self._socket.send(left) :]
            except BlockingIOError:
                wait = deadline - time.monotonic()
                if wait <= 0:
                    raise LinkError("did not read its input in time") from None
                select.select([], [self._socket], [], wait)
            except OSError:
                raise LinkError(self.obituary()) from None

    def receive(self, deadline: float) -> Reply:
        """The next reply.

        Raises:
            LateError: it is not there by the deadline; what has come of it is kept.
            LinkError: the worker ended, or sent what is no frame.
        """
        need = shim.HEADER.size
        while True:
            if len(self._have) >= need:
                magic, kind, number, n_meta, n_body = shim.HEADER.unpack_from(self._have)
                if magic != shim.MAGIC:
                    start = bytes(self._have[:60]).decode("utf-8", "replace")
                    raise LinkError(f"sent what is no frame: {start!r}")
                if n_meta > shim.MAX_META or n_body > MAX_REPLY:
                    raise LinkError(f"sent a frame of {n_meta + n_body} bytes: that is too large")
                need = shim.HEADER.size + n_meta + n_body
                if len(self._have) >= need:
                    whole, self._have = self._have, self._have[need:]
                    body = memoryview(whole)[need - n_body : need]
                    return Reply(kind, number, _meta(whole[shim.HEADER.size : shim.HEADER.size + n_meta]), body)
            self._more(deadline, need)

    def _more(self, deadline: float, need: int) -> None:
        try:
            data = self._socket.recv(max(65536, need - len(self._have)))
        except BlockingIOError:
            wait = deadline - time.monotonic()
            if wait <= 0 or not self._poll.poll(wait * 1000):
                raise LateError from None
            return
        except OSError:
            raise LinkError(self.obituary()) from None
        if not data:
            raise LinkError(self.obituary())
        self._have += data

    def obituary(self) -> str:
        """Why the worker ended: its signal or exit code, and the last line that it wrote to standard error."""
        try:
            code = self._process.wait(timeout=0.5)
        except subprocess.TimeoutExpired:
            return "closed its output"
        cause = f"was killed by {_signal_name(-code)}" if code < 0 else f"ended with exit code {code}"
        line = self.listener.last_line()
        return f"{cause}: {line}" if line else cause

    def close(self) -> None:
        """End the worker at once, with the processes that it started; neither a zombie nor a descriptor is left."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        self._process.kill()
        self._process.wait()
        self._socket.close()
        self.listener.close()


def frame(kind: int, number: int, meta: Any = None, body: bytes | memoryview = b"") -> bytes:
    """A request as bytes."""
    text = b"" if meta is None else json.dumps(meta).encode()
    return b"".join((shim.HEADER.pack(shim.MAGIC, kind, number, len(text), len(body)), text, body))


def environment() -> dict[str, str]:
    """The worker's environment: ours, less what would lead another Python to our packages."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}


def _meta(text: bytearray) -> dict[str, Any]:
    try:
        value = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        raise LinkError("sent a frame whose description is no JSON") from None
    if not isinstance(value, dict):
        raise LinkError("sent a frame whose description is no JSON object")
    return value


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"

"""The daemon's end of the link to one worker: frames with deadlines. `shim` is the other end, `process` what runs it.

The worker's standard input and output are one socketpair, its standard error a pipe that `stderr` reads. Nothing here
blocks beyond the deadline that it is given, whatever the worker does: not reading, not writing, half a frame, garbage.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import time
from typing import Any, NamedTuple

from firstspike.worker import shim
from firstspike.worker.process import Process, StartError
from firstspike.worker.start import Program

MAX_REPLY = 1 << 22
"""Bytes of a reply's body; no network that a window is put to answers more."""
CAUSE_S = 0.02
"""How long a window waits to learn why its worker ended; a process's code is there within a millisecond of its end."""
START_CAUSE_S = 0.5
"""The same where no window waits."""

_RECEIVE = 4096
"""Bytes that the first read of a reply may take; a window's comes whole."""
_GONE = select.POLLHUP | select.POLLERR | select.POLLRDHUP


class LinkError(Exception):
    """The worker is of no more use; the text continues «the worker …».

    Args:
        reason: see there.
        fix: what the user can do, if that is known.
    """

    def __init__(self, reason: str, fix: str = "") -> None:
        super().__init__(reason)
        self.fix = fix


class LateError(Exception):
    """Nothing came by the deadline; the worker may still answer."""


class InterruptError(Exception):
    """The caller's descriptor became readable before anything else."""


class Reply(NamedTuple):
    """A frame from the worker."""

    kind: int
    number: int
    meta: dict[str, Any]
    """Shared by replies with the same bytes: not to be changed."""
    text: bytes
    """`meta` as it came."""
    body: bytes
    nanoseconds: int
    """That the driver took, by the worker's own clock."""


class Link:
    """One worker process and the frames to and from it. One thread at a time may send and receive.

    Make it in a thread that lives as long as the worker shall, see `Process`.

    Raises:
        LinkError: the program cannot be started.
    """

    def __init__(self, program: Program, name: str) -> None:
        self._program = program
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self.process = Process(program, theirs, name)
            except StartError as error:
                ours.close()
                fix = f"install what it needs (`firstspike workers install {program.driver}`), or correct its command"
                raise LinkError(str(error), fix) from None
        ours.settimeout(0.0)
        self._socket = ours
        self.pid = self.process.pid
        self._have = b""
        """What has come of the next reply."""
        self._lacks = 0
        """Bytes that it lacks, once that is known."""
        self._metas = shim.Memory()
        self._poll = self._poll_for(select.POLLIN)

    def _poll_for(self, events: int, interrupt: int | None = None) -> select.poll:
        poll = select.poll()
        poll.register(self._socket, events)
        if self.process.end is not None:
            poll.register(self.process.end, select.POLLIN)
        if interrupt is not None:
            poll.register(interrupt, select.POLLIN)
        return poll

    def greet(self, deadline: float, interrupt: int | None = None) -> dict[str, Any]:
        """Send the shim and the driver, and await that they run.

        Returns:
            What the worker says of itself: `python`, `numpy`, `machine`, …

        Raises:
            LinkError: it ended, or what answers is no worker of this version.
            LateError, InterruptError: see `receive`.
        """
        try:
            self.send(self._program.greeting(), deadline, interrupt)
            hello = self.receive(deadline, interrupt)
        except LinkError as error:
            by_hand = " ".join(self._program.command)
            fix = error.fix or f"run by hand: {by_hand} -c 'import numpy'; it must print nothing and succeed"
            raise LinkError(f"{error} (before its greeting)", fix) from None
        if hello.kind != shim.HELLO or hello.meta.get("protocol") != shim.PROTOCOL:
            raise LinkError(f"greeted with protocol {hello.meta.get('protocol')!r:.20}, not {shim.PROTOCOL}")
        return hello.meta

    def request(self, kind: int, number: int, meta: bytes, body: Any, size: int, deadline: float) -> int:
        """Send a request: `send` of its header, meta and body, without copying the body.

        Args:
            kind: of frame.
            number: that the reply shall bear.
            meta: a JSON object.
            body: bytes, or an array in C order.
            size: bytes of the body.
            deadline: see `send`; the same errors.

        Returns:
            The number of bytes sent.
        """
        header = shim.HEADER.pack(shim.MAGIC, kind, number, len(meta), size, 0)
        size += len(header) + len(meta)
        try:
            sent = self._socket.sendmsg((header + meta, body))
        except BlockingIOError:
            sent = 0
        except OSError:
            raise LinkError(self.process.cause(CAUSE_S)) from None
        if sent < size:
            self.send(b"".join((header, meta, bytes(body)))[sent:], deadline)
        return size

    def send(self, data: bytes, deadline: float, interrupt: int | None = None) -> None:
        """Send bytes.

        Args:
            data: a greeting, or what `frame` made.
            deadline: of `time.monotonic`.
            interrupt: see `receive`.

        Raises:
            LinkError: the worker has ended, or did not take all by the deadline: half a frame cannot be taken back.
            InterruptError: see `receive`.
        """
        left = memoryview(data)
        while left:
            try:
                left = left[self._socket.send(left) :]
            except BlockingIOError:
                wait = deadline - time.monotonic()
                if wait <= 0:
                    raise LinkError("did not read its input in time") from None
                events = dict(self._poll_for(select.POLLOUT, interrupt).poll(wait * 1000))
                if interrupt in events:
                    raise InterruptError from None
            except OSError:
                raise LinkError(self.process.cause(CAUSE_S if interrupt is None else START_CAUSE_S)) from None

    def receive(self, deadline: float, interrupt: int | None = None) -> Reply:
        """The next reply.

        Args:
            deadline: of `time.monotonic`.
            interrupt: a descriptor that ends the wait when it is readable.

        Raises:
            LateError: it is not there by the deadline; what has come of it is kept.
            InterruptError: see `interrupt`; the same.
            LinkError: the worker ended, or sent what is no frame.
        """
        poll = self._poll if interrupt is None else self._poll_for(select.POLLIN, interrupt)
        while True:
            if self._have:
                reply = self._parse()
                if reply is not None:
                    return reply
            wait = deadline - time.monotonic()
            events = poll.poll(wait * 1000 if wait > 0 else 0)
            if not events:
                raise LateError
            if interrupt is not None and any(fd == interrupt for fd, _ in events):
                raise InterruptError
            self._more(CAUSE_S if interrupt is None else START_CAUSE_S)

    def _more(self, cause_s: float) -> None:
        """Take what has come."""
        try:
            data = self._socket.recv(max(_RECEIVE, self._lacks))
        except OSError:  # reset; or nothing to read, though the process has ended: others hold its end of the link
            data = b""
        if not data:
            raise LinkError(self.process.cause(cause_s))
        self._have = self._have + data if self._have else data

    def _parse(self) -> Reply | None:
        """Take a reply off what has come; None: it is not complete."""
        have = self._have
        if not have.startswith(shim.MAGIC[: len(have)]):
            start = have[:100].decode("utf-8", "replace")
            fix = "something before or beside the worker prints on its standard output: a login script, a banner?"
            raise LinkError(f"sent what is no frame: {start!r}", fix)
        if len(have) < shim.HEADER.size:
            return None
        _, kind, number, n_meta, n_body, nanoseconds = shim.HEADER.unpack_from(have)
        if n_meta > shim.MAX_META or n_body > MAX_REPLY:
            raise LinkError(f"sent a frame of {n_meta + n_body} bytes: that is too large")
        at = shim.HEADER.size + n_meta
        self._lacks = at + n_body - len(have)
        if self._lacks > 0:
            return None
        self._have = have[at + n_body :]
        text = have[shim.HEADER.size : at]
        meta = self._metas.get(text)
        if meta is None:
            meta = self._metas.keep(text, _meta(text))
        return Reply(kind, number, meta, text, have[at : at + n_body], nanoseconds)

    def wait_for_end(self, within_s: float, interrupt: int) -> bool:
        """Wait while nobody asks anything of the worker.

        Answers to others do not end the wait: only its end does.

        Returns:
            Whether it has ended or closed its output.

        Raises:
            InterruptError: `interrupt` became readable.
        """
        events = dict(self._poll_for(select.POLLRDHUP, interrupt).poll(max(0.0, within_s * 1000)))
        if any(what & _GONE or fd == self.process.end for fd, what in events.items()):
            return True
        if events:
            raise InterruptError
        return False

    def kill(self) -> None:
        """Kill the worker and end the link; returns at once, any thread may do so. `close` is still needed."""
        self.process.kill()
        with contextlib.suppress(OSError):  # it has ended already
            self._socket.shutdown(socket.SHUT_RDWR)

    def stop(self, grace_s: float) -> None:
        """Ask the worker to let its device go and end, wait so long for it, and kill it."""
        until = time.monotonic() + grace_s
        with contextlib.suppress(LinkError):
            self.send(frame(shim.STOP, 0), until)
            self.process.exit_code(until - time.monotonic())
        self.kill()

    def close(self, within_s: float = 1.0) -> bool:
        """End the worker with the processes that it started; neither a zombie nor a descriptor is left.

        Returns:
            Whether it has ended, see `Process.bury`.
        """
        self.kill()
        if not self.process.bury(within_s):
            return False
        self._socket.close()
        return True


def frame(kind: int, number: int, meta: Any = None, body: bytes = b"") -> bytes:
    """A request as bytes."""
    text = b"" if meta is None else json.dumps(meta).encode()
    return b"".join((shim.HEADER.pack(shim.MAGIC, kind, number, len(text), len(body), 0), text, body))


def _meta(text: bytes) -> dict[str, Any]:
    try:
        value = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        raise LinkError("sent a frame whose description is no JSON") from None
    if not isinstance(value, dict):
        raise LinkError("sent a frame whose description is no JSON object")
    return value

"""The parent's end of the pipe to the decoder's child process: start, frames with a deadline, end."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import time
from typing import Any

import numpy as np

from firstspike.sources import _decode_frames as frames
from firstspike.types import EVENT

_PIPE_BYTES = 1 << 20
_STDERR_BYTES = 4096
START_S = 30.0
"""Start-up imports NumPy: 0.2 s as a rule, many where the machine is busy or its disk cold."""
_BURIAL_S = 1.0
"""A process that was killed ends within that, or hangs in the kernel, as on a device that does not answer."""
_unburied: list[subprocess.Popen[bytes]] = []


class ChildFailedError(Exception):
    """The child is of no more use; the text says why, and continues «the decoder …»."""


class Child:
    """One child process and the frames it sends.

    Args:
        memory_bytes: see `_child.limit`.
        progress_s: seconds that a frame may take.
        module: of this package, the child's program.
        greeting: whether to wait for its greeting; else that is the first frame to be received, see `greets`.
    """

    def __init__(
        self, memory_bytes: int, progress_s: float, module: str = "decode_child", *, greeting: bool = True
    ) -> None:
        _unburied[:] = [process for process in _unburied if process.poll() is None]
        self.progress_s = progress_s
        self.said = b""
        argv = [sys.executable, "-I", "-m", f"firstspike.sources.{module}", str(os.getpid()), str(memory_bytes)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0)
        assert self.process.stdin and self.process.stdout and self.process.stderr  # noqa: S101, PT018 for the type checker
        self.input = self.process.stdin.fileno()
        self.output = self.process.stdout.fileno()
        self.errors = self.process.stderr.fileno()
        for fd in (self.input, self.output, self.errors):
            os.set_blocking(fd, False)
        with contextlib.suppress(OSError):  # a user may have only so much in pipes: a smaller one is slower
            fcntl.fcntl(self.output, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self.poll = select.poll()
        self.poll.register(self.output, select.POLLIN)
        self.poll.register(self.errors, select.POLLIN)
        if not greeting:
            return
        try:
            self.greets(*self.receive(max(self.progress_s, START_S)))
        except BaseException:
            self.kill()
            raise

    def greets(self, kind: bytes, body: memoryview) -> None:
        """Check its first frame.

        Raises:
            ChildFailedError: it is no greeting of ours.
        """
        if kind != frames.HELLO or json.loads(bytes(body)).get("protocol") != frames.PROTOCOL:
            raise ChildFailedError("did not greet as a decoder of this version")

    def request(self, value: dict[str, Any]) -> None:
        """Sends one request, a line of JSON; it is shorter than a pipe holds, and the child is idle."""
        data = json.dumps(value).encode() + b"\n"
        try:
            if os.write(self.input, data) == len(data):
                return
        except OSError as error:
            raise ChildFailedError(self._obituary()) from error
        raise ChildFailedError("did not take the request")

    def receive(self, within_s: float | None = None) -> tuple[bytes, memoryview]:
        """Waits for the next frame: its kind and body.

        Args:
            within_s: Seconds that it may take; None stands for the progress limit.

        Raises:
            ChildFailedError: The child died, made no progress in time, or sent what is no frame.
        """
        within_s = self.progress_s if within_s is None else within_s
        deadline = time.monotonic() + within_s
        kind, length = frames.HEADER.unpack(self._exactly(frames.HEADER.size, deadline))
        extra = {frames.EVENTS: length, frames.CAMERA: length - frames.BATCH.size}.get(kind, 0)
        if length > frames.LIMITS.get(kind, -1) or extra < 0 or extra % EVENT.itemsize:
            raise ChildFailedError("sent what is no frame: its memory may be corrupt")
        return kind, self._exactly(length, deadline)

    def ready(self, within_s: float) -> bool:
        """Wait until the child has written something, or is gone: then `receive` need not wait for its start."""
        deadline = time.monotonic() + within_s
        while True:
            found = self.poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
            if any(fd == self.output for fd, _ in found):
                return True
            if not found:
                return False
            self._drain()

    def _exactly(self, size: int, deadline: float) -> memoryview:
        # Fresh memory, which the caller keeps; not cleared first, as a bytearray would be.
        body = np.empty(size, np.uint8).data
        have = 0
        while have < size:
            try:
                got = os.readv(self.output, [body[have:]])
            except BlockingIOError:
                self._wait(deadline)
                continue
            if got == 0:
                raise ChildFailedError(self._obituary())
            have += got
        return body

    def _wait(self, deadline: float) -> None:
        """Waits until the child has written something, be it to standard error."""
        wait = deadline - time.monotonic()
        if wait <= 0:
            raise ChildFailedError(f"made no progress for {self.progress_s:g} s")
        if any(fd == self.errors for fd, _ in self.poll.poll(wait * 1000)):
            self._drain()

    def _drain(self) -> None:
        """Keeps the last of what the child writes to standard error, in bounded memory."""
        try:
            data = os.read(self.errors, 65536)
        except BlockingIOError:
            return
        if not data:
            self.poll.unregister(self.errors)
        self.said = (self.said + data)[-_STDERR_BYTES:]

    def _obituary(self) -> str:
        """Why the child ended: its signal or exit code, and its last telling line."""
        try:
            code = self.process.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            return "closed its output"
        for _ in range(64):
            before = self.said
            try:
                data = os.read(self.errors, 65536)
            except (BlockingIOError, OSError):
                break
            if not data:
                break
            self.said = (before + data)[-_STDERR_BYTES:]
        cause = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        line = _telling_line(self.said.decode("utf-8", "replace"))
        return f"{cause}: {line}" if line else cause

    def kill(self) -> None:
        """Ends the child at once and leaves no descriptor, and no zombie unless it hangs in the kernel."""
        self.process.kill()
        try:
            self.process.wait(_BURIAL_S)
        except subprocess.TimeoutExpired:  # nothing may wait for it: it is buried when another one is started
            _unburied.append(self.process)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


def _telling_line(text: str) -> str:
    """The line that says what went wrong: a panic's (with the one after its place), or the last."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for i, line in enumerate(lines):
        if "panicked at" in line:
            return " ".join(lines[i : i + 2])[:300]
        if "memory allocation" in line:
            return line[:300]
    return lines[-1][:300] if lines else ""

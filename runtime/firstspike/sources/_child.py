"""What the children of sources have in common: they own their output, are limited, and die with their parent."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

from firstspike.sources import _decode_frames as frames

_PR_SET_PDEATHSIG = 1
_TICK_S = 0.5


class Output:
    """Writes frames to the descriptor that standard output was."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.last = 0.0

    def send(self, kind: bytes, *bodies: bytes | memoryview) -> None:
        """Send a frame, its body in pieces."""
        self.last = time.monotonic()
        length = sum(memoryview(body).nbytes for body in bodies)
        parts = [memoryview(frames.HEADER.pack(kind, length)), *(memoryview(body) for body in bodies)]
        while parts:
            done = os.writev(self.fd, parts)
            while parts and done >= len(parts[0]):
                done -= len(parts[0])
                parts.pop(0)
            if parts:
                parts[0] = parts[0][done:]

    def send_json(self, kind: bytes, value: dict[str, Any]) -> None:
        """Send a frame of JSON."""
        self.send(kind, json.dumps(value).encode()[: frames.MAX_JSON])

    def tick(self) -> None:
        """Shows progress where there are no events to send, not more often than needed."""
        if time.monotonic() - self.last > _TICK_S:
            self.send(frames.TICK)


def own_output() -> int:
    """Keeps standard output for the frames and points descriptor 1 at standard error, since libraries print."""
    fd = os.dup(1)
    os.set_inheritable(fd, False)  # noqa: FBT003 the standard library's signature
    os.dup2(2, 1)
    return fd


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when the parent's thread ends."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0 or os.getppid() != parent:
        sys.exit(os.EX_UNAVAILABLE)  # the parent has died before the request took effect


def limit(extra_bytes: int) -> None:
    """No core files, and no more address space than now plus `extra_bytes`."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + extra_bytes
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    if hard != resource.RLIM_INFINITY:
        most = min(most, hard)
    resource.setrlimit(resource.RLIMIT_AS, (most, hard))


def begin() -> Output:
    """Set the process up as its arguments say (the parent's pid, the memory limit in bytes), and greet."""
    die_with_parent(int(sys.argv[1]))
    # A terminal's Ctrl-C, and systemd's end of the whole service, are the parent's to handle: it ends its children.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    output = Output(own_output())
    limit(int(sys.argv[2]))
    output.send_json(frames.HELLO, {"protocol": frames.PROTOCOL, "pid": os.getpid()})
    return output

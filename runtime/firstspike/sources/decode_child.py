"""The decoder's child process: reads paths from standard input, decodes, writes frames to standard output.

Started by `firstspike.sources.decoding` only. Whatever a hostile file does to a decoder - endless loop, abort,
memory without end - happens here, in a process that is limited and that may be killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import json
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from firstspike.errors import FirstspikeError
from firstspike.sources import _decode_frames as frames
from firstspike.sources.formats import open_recording
from firstspike.sources.formats._stream import Options, Stats

_PR_SET_PDEATHSIG = 1
_TICK_S = 0.5


class _Output:
    """Writes frames to the descriptor that standard output was."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.last = 0.0

    def send(self, kind: bytes, body: bytes | memoryview = b"") -> None:
        self.last = time.monotonic()
        parts = [memoryview(frames.HEADER.pack(kind, len(body))), memoryview(body)]
        while parts:
            done = os.writev(self.fd, parts)
            while parts and done >= len(parts[0]):
                done -= len(parts[0])
                parts.pop(0)
            if parts:
                parts[0] = parts[0][done:]

    def send_json(self, kind: bytes, value: dict[str, Any]) -> None:
        self.send(kind, json.dumps(value).encode()[: frames.MAX_JSON])

    def tick(self) -> None:
        """Shows progress where there are no events to send, not more often than needed."""
        if time.monotonic() - self.last > _TICK_S:
            self.send(frames.TICK)


def _own_output() -> int:
    """Keeps standard output for the frames and points descriptor 1 at standard error, since libraries print."""
    fd = os.dup(1)
    os.set_inheritable(fd, False)  # noqa: FBT003 the standard library's signature
    os.dup2(2, 1)
    return fd


def _die_with_parent(parent: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0 or os.getppid() != parent:
        sys.exit(os.EX_UNAVAILABLE)  # the parent has died before the request took effect


def _limit(extra_bytes: int) -> None:
    """No core files, and no more address space than now plus `extra_bytes`."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + extra_bytes
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


def _serve(request: dict[str, Any], output: _Output) -> None:
    stats = Stats(tick=output.tick)
    options = Options(**{key: request.get(key) for key in ("format", "width", "height", "columns")})
    events = 0
    try:
        info, batches = open_recording(Path(request["path"]), options, stats)
        output.send_json(frames.INFO, dataclasses.asdict(info))
        for batch in batches:
            events += len(batch)
            output.send(frames.EVENTS, np.ascontiguousarray(batch).view(np.uint8).data)
        summary = {
            "events": events,
            "bytes_read": stats.bytes_read,
            "truncated_bytes": stats.truncated_bytes,
            "notes": stats.all_notes(),
        }
        output.send_json(frames.STATS, summary)
    except FirstspikeError as error:
        output.send_json(frames.FAILURE, {"kind": type(error).__name__, "text": str(error)})
    except MemoryError:
        output.send_json(frames.FAILURE, {"kind": "MemoryError", "text": "needed more memory than its limit"})


def main() -> None:
    """Serves requests until standard input ends. Arguments: the parent's pid, the memory limit in bytes."""
    _die_with_parent(int(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is the parent's to handle
    output = _Output(_own_output())
    _limit(int(sys.argv[2]))
    output.send_json(frames.HELLO, {"protocol": frames.PROTOCOL, "pid": os.getpid()})
    # BrokenPipeError: the parent closed its end and wants nothing more.
    with contextlib.suppress(BrokenPipeError):
        for line in sys.stdin.buffer:
            _serve(json.loads(line), output)


if __name__ == "__main__":
    main()

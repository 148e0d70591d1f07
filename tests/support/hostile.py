"""Strangers at a ZeroMQ socket: raw connections that say what a subscriber never would."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import time
from pathlib import Path

GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)


def resident_mb():
    """This process's memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6


def descriptors():
    """How many this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def connected(path, timeout_s=5.0):
    """A connection to an ipc socket, which has not said anything."""
    stranger = socket.socket(socket.AF_UNIX)
    stranger.settimeout(timeout_s)
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            stranger.connect(str(path))
        except BlockingIOError:  # as many wait to be accepted as may
            if time.monotonic() < deadline:
                time.sleep(0.001)
                continue
            stranger.close()
            raise
        except BaseException:
            stranger.close()
            raise
        return stranger


def introduced(path, kind=b"SUB"):
    """A connection that went through ZMTP's handshake."""
    stranger = connected(path)
    try:
        stranger.sendall(GREETING)
        _exactly(stranger, 64)
        identity = _property(b"Identity", b"") if kind == b"DEALER" else b""
        body = b"\x05READY" + _property(b"Socket-Type", kind) + identity
        stranger.sendall(bytes([4, len(body)]) + body)
        _, size = _exactly(stranger, 2)
        _exactly(stranger, size)
    except BaseException:
        stranger.close()
        raise
    return stranger


def frame(body, *, more=False):
    return bytes([int(more), len(body)]) + body


def flood(stranger, make, most, at_once=200):
    """Send frames until the other end closes; how many went out before it did."""
    sent = 0
    with contextlib.suppress(OSError):
        while sent < most:
            stranger.sendall(b"".join(make(sent + i) for i in range(at_once)))
            sent += at_once
    return sent


def is_closed(stranger, within_s=5.0):
    """Whether the other end closes the connection in time; what it sends is thrown away."""
    deadline = time.monotonic() + within_s
    stranger.settimeout(0.1)
    while time.monotonic() < deadline:
        try:
            if not stranger.recv(1 << 16):
                return True
        except TimeoutError:
            continue
        except OSError:
            return True
    return False


def _property(name, value):
    return bytes([len(name)]) + name + struct.pack(">I", len(value)) + value


def _exactly(stranger, count):
    got = b""
    while len(got) < count:
        more = stranger.recv(count - len(got))
        if not more:
            raise ConnectionResetError
        got += more
    return got

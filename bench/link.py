"""What a worker adds to an inference: a round trip of 16 KiB, beside a bare socketpair and ZeroMQ between two Pythons.

    .venv/bin/python bench/link.py [rounds]

The three take turns, so that a noisy machine is noisy to each. The null driver's own time, by the worker's clock, is
taken off the link's. Waking a sleeping process is the most of it; with pauses, as between windows, processors sleep.
"""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

import numpy as np
import zmq

from firstspike.backends.null import OPTIONS
from firstspike.worker.start import Program
from firstspike.worker.supervisor import Limits, Supervisor

SHAPE = (1, 128, 128)
REPLY = 128
"""Bytes of the peers' replies: about those of the link's."""
BLOCK = 50

ECHO = """
import socket, sys
peer, size, reply = socket.socket(fileno=0), int(sys.argv[1]), bytes(int(sys.argv[2]))
buffer = memoryview(bytearray(size))
while True:
    have = 0
    while have < size:
        got = peer.recv_into(buffer[have:])
        if not got: sys.exit()
        have += got
    peer.sendall(reply)
"""
REP = """
import sys, zmq
peer, reply = zmq.Context().socket(zmq.REP), bytes(int(sys.argv[3]))
peer.bind(sys.argv[1])
while True:
    peer.recv(copy=False)
    peer.send(reply)
"""

Round = Callable[[], float]
"""Makes one round trip; returns its microseconds."""


@contextlib.contextmanager
def bare(window: np.ndarray) -> Iterator[Round]:
    ours, theirs = socket.socketpair()
    argv = [sys.executable, "-c", ECHO, str(window.size), str(REPLY)]
    child = subprocess.Popen(argv, stdin=theirs.fileno())
    theirs.close()
    body, buffer = window.reshape(-1).data, bytearray(1 << 16)

    def once() -> float:
        started = time.perf_counter()
        ours.sendall(body)
        assert ours.recv_into(buffer) == REPLY
        return (time.perf_counter() - started) * 1e6

    yield once
    ours.close()
    child.wait()


@contextlib.contextmanager
def zeromq(window: np.ndarray) -> Iterator[Round]:
    with tempfile.TemporaryDirectory() as folder, zmq.Context() as context, context.socket(zmq.REQ) as peer:
        child = subprocess.Popen([sys.executable, "-c", REP, f"ipc://{folder}/peer", str(window.size), str(REPLY)])
        peer.connect(f"ipc://{folder}/peer")

        def once() -> float:
            started = time.perf_counter()
            peer.send(window)
            assert len(peer.recv()) == REPLY
            return (time.perf_counter() - started) * 1e6

        yield once
        child.terminate()
        child.wait()


@contextlib.contextmanager
def link(window: np.ndarray) -> Iterator[Round]:
    options = {key: option.default for key, option in OPTIONS.items()}
    load = {"options": options, "model": {"classes": 10, "steps": 16}}
    supervisor = Supervisor("null", Program((sys.executable,), "null"), (load, b""), Limits())
    assert supervisor.wait_ready(60).state == "ready", supervisor.condition

    def once() -> float:
        started = time.perf_counter()
        answer = supervisor.infer(window, time.monotonic() + 10)
        return (time.perf_counter() - started - answer.device_s) * 1e6

    yield once
    supervisor.close()


def measure(rounds: int, pause_s: float) -> dict[str, list[float]]:
    window = np.random.default_rng(0).integers(0, 17, SHAPE).astype(np.uint8)
    found: dict[str, list[float]] = {}
    with bare(window) as first, zeromq(window) as second, link(window) as third:
        peers = {"bare socketpair": first, "ZeroMQ REQ/REP over ipc": second, "firstspike's link": third}
        for block in range(-(-rounds // BLOCK)):
            for name, once in peers.items():
                times = []
                for _ in range(BLOCK):
                    times.append(once())
                    if pause_s:
                        time.sleep(pause_s)
                if block:  # the first warms up
                    found.setdefault(name, []).extend(times[1:])
    return found


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5000
    print(f"| µs a round trip of {int(np.prod(SHAPE))} B, the null driver's own time taken off | min | p50 | p99 |")
    print("|---|---|---|---|")
    for title, count, pause_s in (("one after another", rounds, 0.0), ("5 ms apart", min(rounds, 1000), 0.005)):
        for name, times in measure(count, pause_s).items():
            least, p50, p99 = np.quantile(times, (0, 0.5, 0.99))
            print(f"| {name}, {title} | {least:.1f} | {p50:.1f} | {p99:.1f} |")
    usage = resource.getrusage(resource.RUSAGE_SELF)
    print(f"\n{os.cpu_count()} cores; {usage.ru_utime + usage.ru_stime:.1f} s of processor time in this process")


if __name__ == "__main__":
    main()

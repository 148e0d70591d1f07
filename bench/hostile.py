"""Strangers at the daemon's sockets, and what they cost: memory, delay, and a good subscriber's messages.

    .venv/bin/python bench/hostile.py [quick]

Three processes: a publisher that sends a decision each 2 ms, a subscriber that counts what it lost, and the strangers.
The same attack is made on a bare XPUB socket with ZeroMQ's defaults (and the limit of 64 bytes a message, as the daemon
had it), and on the daemon's sockets with their gate.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import zmq

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.support import hostile
from tests.support.messages import decision

from firstspike import access, endpoints, keys
from firstspike.client import Subscriber
from firstspike.messages import encode
from firstspike.publish import Publisher

PERIOD_S = 0.002
MOST_S = 40.0


class Bare:
    """The socket without its gate."""

    def __init__(self, endpoint: str) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._pub = self._context.socket(zmq.XPUB)
        self._pub.set(zmq.MAXMSGSIZE, 64)
        self._pub.set(zmq.XPUB_VERBOSE, 1)
        self._pub.bind(endpoint)

    def publish_decision(self, message: object) -> None:
        self._pub.send_multipart([b"decision.", encode(message)], zmq.NOBLOCK)
        with contextlib.suppress(zmq.Again):
            self._pub.recv(zmq.NOBLOCK)


def serve(endpoint: str, kind: str) -> None:
    """Publish until standard input closes, then say how it was."""
    publisher = Bare(endpoint) if kind == "bare" else Publisher(endpoint, "e")
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    before = peak = hostile.resident_mb()
    worst, sent, started = 0.0, 0, time.process_time()
    print("ready", flush=True)
    while not ended.is_set():
        message = decision(sent)
        began = time.perf_counter()
        publisher.publish_decision(message)
        worst = max(worst, time.perf_counter() - began)
        sent += 1
        peak = max(peak, hostile.resident_mb())
        time.sleep(PERIOD_S)
    figures = {
        "peak_mb": peak - before, "worst_ms": worst * 1e3, "sent": sent, "cpu_s": time.process_time() - started,
        "connections": publisher.connections() if isinstance(publisher, Publisher) else {},
    }  # fmt: skip
    print(json.dumps(figures), flush=True)
    os._exit(0)  # a bare socket that was flooded takes long to close


def under(kind: str, attack: Callable[[str, float], str]) -> str:
    """A row: the attack on one kind of publisher."""
    with tempfile.TemporaryDirectory() as folder:
        endpoint = f"ipc://{folder}/p"
        argv = [sys.executable, __file__, "serve", endpoint, kind]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdin is not None
            assert server.stdout is not None
            server.stdout.readline()
            with Subscriber(endpoint, high_water_mark=1_000_000) as good:
                assert good.receive(10) is not None
                gap, ended = [0.0], threading.Event()

                def listen() -> None:
                    last = time.monotonic()
                    while not ended.is_set():
                        if good.receive(0.1) is not None:
                            gap[0] = max(gap[0], time.monotonic() - last)
                            last = time.monotonic()
                    gap[0] = max(gap[0], time.monotonic() - last)

                thread = threading.Thread(target=listen)
                thread.start()
                said = attack(endpoint, time.monotonic() + MOST_S)
                time.sleep(0.5)
                ended.set()
                thread.join()
                lost = good.lost["decision"]
            server.stdin.close()
            figures = json.loads(server.stdout.readline())
    closed = figures["connections"].get("refused", "–")
    return (
        f"| {kind} | {said} | {figures['peak_mb']:.0f} | {figures['worst_ms']:.0f} | {gap[0] * 1e3:.0f} | {lost} | "
        f"{closed} |"
    )


def attacker(kind: str, most: int) -> Callable[[str, float], str]:
    """A flood over one connection, made anew when it is closed, in a process of its own."""

    def attack(endpoint: str, until: float) -> str:
        argv = [sys.executable, __file__, "flood", endpoint, kind, str(most), str(until)]
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()

    return attack


def flood(endpoint: str, kind: str, most: int, until: float) -> None:
    sent = connections = 0
    while sent < most and time.monotonic() < until and connections < 1000:
        connections += 1
        with contextlib.suppress(OSError), hostile.introduced(endpoints.path_of(endpoint)) as stranger:
            while sent < most and time.monotonic() < until:
                frames = [
                    hostile.frame(b"\x01" + os.urandom(31).hex().encode())
                    if kind == "subscriptions"
                    else hostile.frame(b"z" * 60, more=True)
                    for _ in range(500)
                ]
                stranger.sendall(b"".join(frames))
                sent += len(frames)
            time.sleep(1)
    print(f"{sent:,} {kind} over {connections} connections")


def crowd(count: int, half_open: bool) -> Callable[[str, float], str]:  # noqa: FBT001 (two attacks in one)
    def attack(endpoint: str, until: float) -> str:
        with contextlib.ExitStack() as stack:
            for number in range(count):
                if time.monotonic() > until:
                    break
                with contextlib.suppress(OSError):
                    stranger = hostile.connected(endpoints.path_of(endpoint))
                    stack.enter_context(stranger)
                    stranger.sendall(hostile.GREETING[:11] if half_open else os.urandom(1 + number % 200))
                    if not half_open:
                        stranger.close()
            time.sleep(1)
        return f"{count:,} half-open connections" if half_open else f"{count:,} connections of random bytes"

    return attack


def joining() -> list[str]:
    """From nothing to the state, over ipc and over TCP with CURVE, ms."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        keys.make(folder / "keys" / "server")
        keys.allow(folder / "keys", "me", keys.make(folder / "me").public.decode())
        tcp, ipc = "tcp://127.0.0.1:45670", f"ipc://{folder}/p"
        publisher = Publisher(ipc, "e", remote=access.remote(tcp, str(folder / "keys"), folder))
        publisher.publish_decision(decision())
        secured = {"server_key": str(folder / "keys" / "server.key"), "keys": folder / "me.key_secret"}
        for what, endpoint, options in (("ipc", ipc, {}), ("TCP with CURVE", tcp, secured)):
            took = []
            for _ in range(100):
                began = time.perf_counter()
                with Subscriber(endpoint, **options) as late:  # type: ignore[arg-type]
                    late.snapshot(5)
                    took.append((time.perf_counter() - began) * 1e3)
            took.sort()
            rows.append(f"| {what} | {took[0]:.1f} | {took[50]:.1f} | {took[98]:.1f} |")
        began, used = time.monotonic(), time.process_time()
        time.sleep(5)
        idle = (time.process_time() - used) / (time.monotonic() - began)
        publisher.close()
    return [*rows, "", f"The sockets' keeper while nothing happens: {idle * 100:.2f} % of a core."]


def main() -> None:
    if sys.argv[1:2] == ["serve"]:
        return serve(sys.argv[2], sys.argv[3])
    if sys.argv[1:2] == ["flood"]:
        return flood(sys.argv[2], sys.argv[3], int(sys.argv[4]), float(sys.argv[5]))
    scale = 10 if sys.argv[1:2] == ["quick"] else 1
    print(
        "| socket | strangers | memory, MB | longest send, ms | longest silence, ms | lost by the good one | closed |"
    )
    print("|---|---|---|---|---|---|---|")
    for kind in ("bare", "gate"):
        print(under(kind, attacker("subscriptions", 1_000_000 // scale)), flush=True)
        print(under(kind, attacker("parts of one message", 10_000_000 // scale)), flush=True)
        print(under(kind, crowd(2000 // scale, half_open=False)), flush=True)
        print(under(kind, crowd(1000 // scale, half_open=True)), flush=True)
    print("\n| join to state, ms | least | p50 | p99 |\n|---|---|---|---|")
    print("\n".join(joining()))
    return None


if __name__ == "__main__":
    main()

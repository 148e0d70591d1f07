"""From window close to the decision in a subscriber's hands, over ipc, beside a bare ZeroMQ round of the same size.

    .venv/bin/python bench/latency.py [seconds]
    .venv/bin/python bench/latency.py [seconds] --energy     what `energy.enabled` adds: runs with and without, in turns

The daemon and the subscriber are two processes. Stamps are CLOCK_MONOTONIC, which both share. A recording that
`firstspike simulate` made is replayed in real time, with windows of 10 ms so that there are many.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import zmq

from firstspike.client import Subscriber
from firstspike.evaluation import quantiles
from firstspike.messages import Decision, encode

ROOT = Path(__file__).parents[1]


def daemon(endpoint: str, recording: Path, *more: str) -> subprocess.Popen[bytes]:
    settings = [
        f"publish.endpoint={endpoint}", "publish.wait_for_subscriber_s=30", "window.kind=time", "window.size=10000",
        "source.kind=recording", f'source.recording.paths=["{recording}"]', "source.recording.loop=true",
        "log.level=warning", *more,
    ]  # fmt: skip
    arguments = [argument for setting in settings for argument in ("--set", setting)]
    return subprocess.Popen(
        [sys.executable, "-m", "firstspike", "run", "--config", str(ROOT / "config.toml"), *arguments]
    )


def measure(seconds: float, *more: str) -> tuple[dict[str, list[float]], bytes]:
    stages: dict[str, list[float]] = {"close to encoded": [], "close to inferred": [], "close to published": []}
    stages["close to received"] = []
    with tempfile.TemporaryDirectory() as folder:
        endpoint = f"ipc://{folder}/bench"
        recording = Path(folder) / "digits.aedat4"
        simulate = [sys.executable, "-m", "firstspike", "simulate", str(recording), "--pause-ms", "0"]
        subprocess.run(simulate, check=True, stdout=subprocess.DEVNULL)
        child = daemon(endpoint, recording, *more)
        try:
            with Subscriber(endpoint) as subscriber:
                end = time.monotonic() + seconds
                payload = b""
                while time.monotonic() < end:
                    message = subscriber.receive(30)
                    received = time.monotonic_ns()
                    if not isinstance(message, Decision) or message.status == "dropped":
                        continue
                    s = message.stamps
                    assert s.encoded_ns is not None
                    assert s.inferred_ns is not None
                    for name, stamp in zip(
                        stages, (s.encoded_ns, s.inferred_ns, s.published_ns, received), strict=True
                    ):
                        stages[name].append((stamp - s.closed_ns) / 1000)
                    payload = encode(message)
                assert subscriber.lost["decision"] == 0
        finally:
            child.terminate()
            child.wait()
    return stages, payload


PEER = """
import sys, time, zmq
pub = zmq.Context().socket(zmq.PUB); pub.bind(sys.argv[1]); payload = bytes(int(sys.argv[2]))
time.sleep(0.5)
for _ in range(int(sys.argv[3])):
    time.sleep(0.01)
    pub.send_multipart([b"decision.", time.monotonic_ns().to_bytes(8, "little") + payload])
time.sleep(0.5)
"""


def bare_zeromq(size: int, count: int) -> list[float]:
    """A PUB process and a SUB here, as far apart in time as the daemon's windows: what no daemon can beat."""
    with tempfile.TemporaryDirectory() as folder:
        endpoint = f"ipc://{folder}/bare"
        context = zmq.Context()
        socket = context.socket(zmq.SUB)
        socket.subscribe(b"")
        socket.connect(endpoint)
        child = subprocess.Popen([sys.executable, "-c", PEER, endpoint, str(size), str(count)])
        found = []
        while socket.poll(3000):
            frames = socket.recv_multipart()
            found.append((time.monotonic_ns() - int.from_bytes(frames[1][:8], "little")) / 1000)
        child.wait()
        socket.close()
        context.term()
    return found


PAIRS = 4


def energy_adds(seconds: float) -> None:
    """Print each stage's median with and without, and the median of the pairs' differences."""
    found: dict[str, list[tuple[float, float]]] = {}
    for _ in range(PAIRS):
        with_it, _ = measure(seconds / 2 / PAIRS, "energy.enabled=true")
        without, _ = measure(seconds / 2 / PAIRS, "energy.enabled=false")
        for name in with_it:
            pair = statistics.median(with_it[name]), statistics.median(without[name])
            found.setdefault(name, []).append(pair)
    print(f"| µs, medians of {PAIRS} pairs of runs | with energy | without | median of the differences |")
    print("|---|---|---|---|")
    for name, pairs in found.items():
        with_us, without_us = (statistics.median(pair[i] for pair in pairs) for i in (0, 1))
        difference = statistics.median(a - b for a, b in pairs)
        print(f"| {name} | {with_us:.0f} | {without_us:.0f} | {difference:+.0f} |")


def main() -> None:
    arguments = [argument for argument in sys.argv[1:] if argument != "--energy"]
    seconds = float(arguments[0]) if arguments else 10.0
    if "--energy" in sys.argv:
        energy_adds(seconds)
        return
    stages, payload = measure(seconds)
    stages["bare ZeroMQ PUB to SUB"] = bare_zeromq(len(payload), round(seconds * 100))
    print(f"| µs, {len(stages['close to received'])} windows of 10 ms, messages of {len(payload)} B | p50 | p99 |")
    print("|---|---|---|")
    for name, values in stages.items():
        found = quantiles(values)
        assert found is not None, name
        print(f"| {name} | {found['p50']:.0f} | {found['p99']:.0f} |")


if __name__ == "__main__":
    main()

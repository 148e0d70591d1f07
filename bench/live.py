"""Live events from the network source at 1280×720: how many a second without a loss, and the latency at parts of that.

    .venv/bin/python bench/live.py [--seconds 3] [--packet-events 175]

The daemon runs on one core, the sender on another, over loopback. The highest rate without a lost packet is found by
bisection; then latency from a window's close to its publishing at 10, 50 and 90 % of it, and what it costs idle.
"""

from __future__ import annotations

import argparse
import os
import resource
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from firstspike.client import Subscriber
from firstspike.messages import Decision, Health
from firstspike.sources._packets import END, Header, pack_events, pack_header
from firstspike.topics import TOPICS
from firstspike.types import EVENT

ROOT = Path(__file__).parents[1]
WIDTH, HEIGHT = 1280, 720


def send(port: int, rate: float, seconds: float, packet_events: int) -> None:
    """Child: packets at a rate; their events' times follow the clock."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    rng = np.random.default_rng(0)
    out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    out.connect(("127.0.0.1", port))
    bodies = []
    span_us = packet_events / rate * 1e6
    for _ in range(64):
        events = np.zeros(packet_events, EVENT)
        events["t"] = np.sort(rng.integers(0, max(1, int(span_us)), packet_events))
        events["x"], events["y"] = rng.integers(0, WIDTH, packet_events), rng.integers(0, HEIGHT, packet_events)
        events["p"] = rng.integers(0, 2, packet_events)
        bodies.append(pack_events(events, 0).tobytes())
    session, number = os.getpid(), 0
    start = time.monotonic()
    total = int(rate * seconds / packet_events)
    while number < total:
        due = min(total, int((time.monotonic() - start) * rate / packet_events))
        for k in range(number, due):
            head = Header(0, 0, session, k, WIDTH, HEIGHT, packet_events, k * packet_events, int(k * span_us))
            out.sendmsg([pack_header(head), bodies[k % 64]])
        number = max(number, due)
        time.sleep(0.0002)
    print(number * packet_events / (time.monotonic() - start))
    time.sleep(0.2)
    end = Header(END, 0, session, total, WIDTH, HEIGHT, 0, total * packet_events, int(total * span_us))
    out.send(pack_header(end))


def idle(seconds: float = 20.0, settled_s: float = 6.0) -> dict[str, float]:
    """A daemon to whom nobody sends: shares of a core without and with a subscriber, once all is settled."""
    with tempfile.TemporaryDirectory() as folder:
        endpoint = f"ipc://{folder}/p"
        settings = ["model.path=nmnist", "source.kind=network", "source.network.address=udp://127.0.0.1:0"]
        settings += [f"publish.endpoint={endpoint}", "log.level=error"]
        argv = [sys.executable, "-m", "firstspike", "run"]
        began = time.monotonic()
        daemon = subprocess.Popen(argv + [word for setting in settings for word in ("--set", setting)])

        def ready(subscriber: Subscriber) -> float:
            while not (isinstance(message := subscriber.receive(30), Health) and message.state != "starting"):
                pass
            return time.monotonic() - began

        def share() -> float:
            time.sleep(settled_s)
            before, since = _ran_ns(daemon.pid), time.monotonic()
            time.sleep(seconds)
            return (_ran_ns(daemon.pid) - before) / 1e9 / (time.monotonic() - since)

        with Subscriber(endpoint, topics=TOPICS) as subscriber:
            ready_s = ready(subscriber)
        alone, memory = share(), _resident_mib(daemon.pid)
        with Subscriber(endpoint, topics=TOPICS):
            watched = share()
        daemon.terminate()
        daemon.wait()
    return {"alone": alone, "watched": watched, "memory": memory, "ready_s": ready_s}


def measure(rate: float, seconds: float, packet_events: int, window_us: int = 10_000) -> dict[str, float]:
    """One run of daemon and sender."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        config = Path(folder) / "c.toml"
        config.write_text(
            f'[model]\npath = "{ROOT}/models/nmnist"\n[source]\nkind = "network"\n[source.network]\n'
            f'address = "udp://127.0.0.1:{port}"\n[window]\nsize = {window_us}\n[log]\nlevel = "error"\n'
            f'[publish]\nendpoint = "ipc://{folder}/p"\nhealth_period_s = 0.2\n'
        )
        core = min(os.sched_getaffinity(0))
        argv = [sys.executable, "-m", "firstspike", "run", "--config", str(config)]
        daemon = subprocess.Popen(argv, preexec_fn=lambda: os.sched_setaffinity(0, {core}))
        latencies, health, sent = [], None, 0.0
        with Subscriber(f"ipc://{folder}/p", topics=TOPICS, high_water_mark=0) as subscriber:
            while not (isinstance(message := subscriber.receive(30), Health) and message.state != "starting"):
                pass
            before = _cpu(daemon.pid)
            own = [sys.executable, __file__, "--send", str(port), str(rate), str(seconds), str(packet_events)]
            sender = subprocess.Popen(own, stdout=subprocess.PIPE, text=True)
            until = time.monotonic() + seconds + 3
            while time.monotonic() < until:
                message = subscriber.receive(0.2)
                if isinstance(message, Decision):
                    latencies.append((message.stamps.published_ns - message.stamps.closed_ns) / 1e6)
                elif isinstance(message, Health):
                    health = message
            sent = float(sender.communicate()[0])
            used, memory = _cpu(daemon.pid) - before, _resident_mib(daemon.pid)
        daemon.terminate()
        daemon.wait()
    counters = health.counters
    p50, p99 = np.percentile(latencies, [50, 99]) if latencies else (0, 0)
    return {
        "sent": sent, "events": counters.events, "lost_packets": counters.lost_packets, "drops": counters.kernel_drops,
        "cpu": used / seconds, "p50": p50, "p99": p99, "decisions": len(latencies),
        "memory": memory, "dropped": counters.decisions_dropped, "late": counters.late,
    }  # fmt: skip


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _ran_ns(pid: int) -> int:
    """All threads' time on a processor: ticks are too coarse for a daemon that hardly does anything."""
    return sum(int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir())


def _resident_mib(pid: int) -> float:
    return int(Path(f"/proc/{pid}/status").read_text().split("VmRSS:")[1].split()[0]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--packet-events", type=int, default=175)
    parser.add_argument("--send", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.send:
        send(int(args.send[0]), *map(float, args.send[1:3]), int(args.send[3]))
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    rest = idle()
    print(f"idle: {rest['alone']:.2%} of a core, {rest['watched']:.2%} with a subscriber, {rest['memory']:.0f} MiB, "
          f"running after {rest['ready_s']:.2f} s")  # fmt: skip
    low, high, best = 0.5e6, 200e6, None
    for _ in range(8):
        rate = (low * high) ** 0.5
        found = measure(rate, args.seconds, args.packet_events)
        kept_up = found["sent"] > 0.97 * rate and not found["lost_packets"] and not found["dropped"]
        print(f"{rate / 1e6:7.2f} Mev/s wanted, {found['sent'] / 1e6:7.2f} sent, {found['lost_packets']:7.0f} packets "
              f"lost, cpu {found['cpu']:.0%}, p50 {found['p50']:.2f} ms, p99 {found['p99']:.2f} ms")  # fmt: skip
        low, high = (rate, high) if kept_up else (low, rate)
        best = rate if kept_up else best
        if high / low < 1.1:
            break
    if best is None:
        print("no rate without a loss")
        return
    print(f"sustained without a loss: {best / 1e6:.1f} M events a second in packets of {args.packet_events}")
    found = measure(best, args.seconds, args.packet_events)
    print(f"at that rate {found['events'] / args.seconds / found['cpu'] / 1e6:.1f} M events for a second of one core")
    for part in (0.1, 0.5, 0.9):
        found = measure(best * part, args.seconds, args.packet_events)
        print(f"at {part:.0%} ({best * part / 1e6:.2f} Mev/s): close to publish p50 {found['p50']:.2f} ms, p99 "
              f"{found['p99']:.2f} ms, {found['lost_packets']:.0f} packets lost, cpu {found['cpu']:.0%}")  # fmt: skip


if __name__ == "__main__":
    main()

"""A worker is killed with -9, again and again: what becomes of the window in flight, and when it is back.

    .venv/bin/python bench/failover.py [kills]

The daemon replays a recording in real time with windows of 10 ms and a deadline of 50 ms. Its first plan is the test
worker, which takes 6 ms an answer, so that most kills hit one; the second is the emulator. The killer and the
subscriber are this process; stamps are CLOCK_MONOTONIC, which both share.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from firstspike.client import Subscriber
from firstspike.evaluation import quantiles
from firstspike.messages import Decision, Health
from firstspike.topics import TOPICS

DEADLINE_MS = 50


def daemon(endpoint: str, recording: Path) -> subprocess.Popen[bytes]:
    settings = [
        "model.path=nmnist", f"publish.endpoint={endpoint}", "publish.wait_for_subscriber_s=30", "window.size=10000",
        "publish.health_period_s=0.1", "source.kind=recording", f'source.recording.paths=["{recording}"]',
        "source.recording.loop=true", "log.level=error", f"schedule.deadline_ms={DEADLINE_MS}",
        'schedule.plans=["null","emulator"]', "backend.null.latency_ms=6", "backend.null.rest_s=0.05",
    ]  # fmt: skip
    arguments = [argument for setting in settings for argument in ("--set", setting)]
    return subprocess.Popen([sys.executable, "-m", "firstspike", "run", *arguments])


class Watch:
    def __init__(self, subscriber: Subscriber) -> None:
        self.subscriber = subscriber
        self.decisions: list[Decision] = []
        self.pid: int | None = None
        self.gone: set[int | None] = set()
        """Those that were killed: a message on its way may still call them well."""

    def look(self) -> None:
        message = self.subscriber.receive(30)
        assert message is not None, "the daemon says nothing any more"
        if isinstance(message, Decision):
            self.decisions.append(message)
        elif isinstance(message, Health):
            pid = message.backends[0].pid
            self.pid = None if message.backends[0].state not in ("ready", "busy") or pid in self.gone else pid


def age_ms(decision: Decision) -> float:
    return (decision.stamps.published_ns - decision.stamps.closed_ns) / 1e6


def measure(kills: int) -> None:
    random.seed(0)
    in_flight, next_answer, back, unanswered, late = [], [], [], 0, 0
    with tempfile.TemporaryDirectory() as folder:
        endpoint, recording = f"ipc://{folder}/bench", Path(folder) / "digits.aedat4"
        simulate = [sys.executable, "-m", "firstspike", "simulate", str(recording), "--pause-ms", "0"]
        subprocess.run(simulate, check=True, stdout=subprocess.DEVNULL)
        child = daemon(endpoint, recording)
        try:
            with Subscriber(endpoint, topics=TOPICS) as subscriber:
                watch = Watch(subscriber)
                for _ in range(kills):
                    while watch.pid is None or not watch.decisions or watch.decisions[-1].backend != "null":
                        watch.look()
                    time.sleep(random.uniform(0, 0.02))  # noqa: S311 (when to kill)
                    killed = time.monotonic_ns()
                    os.kill(watch.pid, signal.SIGKILL)
                    watch.gone.add(watch.pid)
                    watch.pid = None
                    watch.decisions.clear()
                    while not (watch.decisions and watch.decisions[-1].backend == "null"
                               and watch.decisions[-1].stamps.published_ns > killed + 20e6):  # fmt: skip
                        watch.look()
                    after = [d for d in watch.decisions if d.stamps.published_ns > killed]
                    first = next(d for d in after if d.backend is not None)
                    next_answer.append((first.stamps.published_ns - killed) / 1e6)
                    hit = [d for d in after if d.stamps.encoded_ns is not None and d.stamps.encoded_ns < killed]
                    in_flight += [age_ms(d) for d in hit]
                    unanswered += sum(d.backend is None for d in after)
                    late += sum(age_ms(d) > DEADLINE_MS for d in after)
                    back.append((after[-1].stamps.published_ns - killed) / 1e6)
                assert child.poll() is None, "the daemon ended"
        finally:
            child.terminate()
            child.wait()
    title = f"ms, {kills} times kill -9, {len(in_flight)} in the midst of an inference; deadline {DEADLINE_MS} ms"
    print(f"| {title} | p50 | p99 | most |\n|---|---|---|---|")
    for name, values in {
        "window in flight: close to its decision, by the next plan": in_flight,
        "kill to the next decision with an answer": next_answer,
        "kill to the next answer of the worker's successor": back,
    }.items():
        found = quantiles(values)
        assert found is not None
        print(f"| {name} | {found['p50']:.1f} | {found['p99']:.1f} | {found['max']:.1f} |")
    print(f"| windows without an answer: {unanswered}; later than the deadline: {late} | | | |")


if __name__ == "__main__":
    measure(int(sys.argv[1]) if len(sys.argv) > 1 else 50)

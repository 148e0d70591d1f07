"""A daemon with a worker of its own, and what a subscriber receives from it."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from tests.support.program import ROOT, started

from firstspike.client import Subscriber
from firstspike.messages import Decision, Health
from firstspike.topics import TOPICS

RECORDING = ROOT / "tests" / "replay" / "cases" / "drawn-digits" / "recording.aedat4"


def alive(pid):
    return Path(f"/proc/{pid}").exists()


class Watch:
    """What a subscriber has received."""

    def __init__(self, subscriber):
        self.subscriber, self.decisions, self.health = subscriber, [], []

    def until(self, done, within_s=30):
        deadline = time.monotonic() + within_s
        while not done(self):
            assert time.monotonic() < deadline, (self.decisions[-3:], self.health[-1:])
            message = self.subscriber.receive(0.5)
            if isinstance(message, Decision):
                self.decisions.append(message)
            elif isinstance(message, Health):
                self.health.append(message)

    def until_answered_by(self, backend, n=3):
        """Until `n` more decisions of this back end on end have come."""
        before = len(self.decisions)

        def done(watch):
            return len(watch.decisions) >= before + n and {d.backend for d in watch.decisions[-n:]} == {backend}

        self.until(done)

    def worker(self):
        """The test worker, by the latest health that calls it well."""
        seen = len(self.health)
        self.until(lambda watch: any(h.backends[0].state in ("ready", "busy") for h in watch.health[seen:]))
        return self.health[-1].backends[0]


@contextlib.contextmanager
def running(folder, *, environment=None, options=None, **settings):
    """A daemon that replays a recording for ever, with the test worker first and the emulator behind it.

    Args:
        folder: for its socket.
        environment: added to its own.
        options: of its process.
        settings: of the configuration, with `__` for a dot.
    """
    endpoint = f"ipc://{folder}/daemon"
    pairs = {
        "model.path": "nmnist", "source.kind": "recording", "source.recording.paths": f'["{RECORDING}"]',
        "source.recording.loop": "true", "window.size": "10000", "publish.endpoint": endpoint,
        "schedule.plans": '["null", "emulator"]', "schedule.deadline_ms": "50", "backend.null.hang_s": "0.3",
        "publish.wait_for_subscriber_s": "20", "publish.health_period_s": "0.2",
    } | {key.replace("__", "."): value for key, value in settings.items()}  # fmt: skip
    arguments = [word for key, value in pairs.items() for word in ("--set", f"{key}={value}")]
    with (
        started("run", *arguments, environment=environment, **(options or {})) as child,
        Subscriber(endpoint, topics=TOPICS, high_water_mark=100_000) as subscriber,
    ):
        yield child, Watch(subscriber)


def footprint(pid):
    """Descriptors, threads, children that nobody buried, and resident memory (MiB) of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    children = [Path(f"/proc/{child}/stat").read_text().rsplit(")", 1)[1].split()[0] for child in
                Path(f"/proc/{pid}/task/{pid}/children").read_text().split() if alive(child)]  # fmt: skip
    threads = int(status.split("Threads:")[1].split()[0])
    memory = int(status.split("VmRSS:")[1].split()[0]) / 1024
    return len(list(Path(f"/proc/{pid}/fd").iterdir())), threads, children.count("Z"), memory

"""Publishes how the daemon is: once a period, at start, run and stop, and at once when a back end's state changes."""

from __future__ import annotations

import threading
import time

import firstspike
from firstspike.bundle import Manifest
from firstspike.messages import Health
from firstspike.pipeline import Pipeline
from firstspike.plans import Runner
from firstspike.publish import Publisher

LOOK_S = 0.1
"""Between looks whether a back end's state has changed."""
SETTLED = ("ready", "busy")
"""A back end goes from one to the other with each window: no news."""


class Heartbeat:
    """Publishes health from a thread of its own while it is entered.

    Args:
        manifest: the bundle's.
        pipeline: whose totals and segment are told.
        runner: whose back ends are.
        publisher: where to.
        epoch: this run's name.
        period_s: the longest time between two messages.
        stream: its name, where the daemon has several.
    """

    def __init__(
        self, manifest: Manifest, pipeline: Pipeline, runner: Runner, publisher: Publisher, epoch: str, period_s: float,
        stream: str | None = None,
    ) -> None:  # fmt: skip
        self._stream = stream
        self._manifest = manifest
        self._pipeline = pipeline
        self._runner = runner
        self._publisher = publisher
        self._epoch = epoch
        self._period_s = period_s
        self._started = time.monotonic()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="health", daemon=True)
        self._state = "starting"

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.enter("stopping")
        self._thread.join()

    def enter(self, state: str) -> None:
        """Change the state, and publish it at once."""
        self._state = state
        self._wake.set()

    def _beat(self) -> None:
        while True:
            self._wake.clear()
            last, told = self._state == "stopping", self._conditions()
            self._publisher.publish_health(self._health, self._stream)
            if last:
                return
            due = time.monotonic() + self._period_s
            while (left := due - time.monotonic()) > 0 and not self._wake.wait(min(left, LOOK_S)):
                if self._conditions() != told:
                    break

    def _conditions(self) -> list[tuple[str, str | None]]:
        conditions = [backend.condition() for backend in self._runner.backends]
        return [("ready" if one.state in SETTLED else one.state, one.reason) for one in conditions]

    def _health(self, seq: int) -> Health:
        manifest, pipeline = self._manifest, self._pipeline
        reasons = [reason for reason in (pipeline.broken, *self._runner.out()) if reason]
        state = "degraded" if self._state == "running" and reasons else self._state
        return Health.model_validate(
            {
                "epoch": self._epoch,
                "seq": seq,
                "stream": self._stream,
                "state": state,
                "reasons": reasons,
                "uptime_s": round(time.monotonic() - self._started, 3),
                "version": firstspike.__version__,
                "model": f"{manifest.name}@{manifest.version}",
                "labels": manifest.labels,
                "source": pipeline.segment,
                "counters": pipeline.totals.message(),
                "backends": self._runner.health(),
            }
        )

"""Publishes how the daemon is: once a period, at start, run and stop, and at once when a back end's state changes."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

import firstspike
from firstspike.messages import Health
from firstspike.progress import THREADS
from firstspike.publish import Publisher

if TYPE_CHECKING:
    from firstspike.generations import Generations
    from firstspike.rooms import Rooms

LOOK_S = 0.1
"""Between looks whether a back end's state has changed, if one may change by itself, as workers do."""
SETTLED = ("ready", "busy")
"""A back end goes from one to the other with each window: no news."""


class Heartbeat:
    """Publishes a stream's health from a thread of its own while it is entered.

    Args:
        rooms: whose totals, segment and back ends are told.
        publisher: where to.
        generations: whose number, errors and health period are told and followed.
        stream: its name, where the daemon has several.
    """

    def __init__(
        self, rooms: Rooms, publisher: Publisher, generations: Generations, stream: str | None = None
    ) -> None:  # fmt: skip
        self._stream = stream
        self._generations = generations
        self._manifest, self._pipeline, self._runner = rooms.bundle.manifest, rooms.pipeline, rooms.runner
        self._publisher = publisher
        self._epoch = rooms.epoch
        self._period_s = generations.loaded.config.publish.health_period_s
        self._started = time.monotonic()
        self._wake = threading.Event()
        name = "health" if stream is None else f"health of {stream}"
        self._thread = threading.Thread(target=self._beat, name=name, daemon=True)
        self._state = "starting"
        self._part = THREADS.loop(name)

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.enter("stopping")
        self._thread.join()

    def follow(self, rooms: Rooms) -> None:
        """Tell of another configuration's rooms from now on, once in its period."""
        self._period_s = self._generations.loaded.config.publish.health_period_s
        self._manifest, self._pipeline, self._runner = rooms.bundle.manifest, rooms.pipeline, rooms.runner
        self._wake.set()

    def tell(self) -> None:
        """Publish at once."""
        self._wake.set()

    @property
    def runs(self) -> bool:
        """Whether the plans have got ready."""
        return self._state != "starting"

    def enter(self, state: str) -> None:
        """Change the state, and publish it at once."""
        self._state = state
        self._wake.set()

    def _beat(self) -> None:
        while True:
            self._wake.clear()
            last, told = self._state == "stopping", self._conditions()
            self._publisher.publish_health(self.message, self._stream)
            if last:
                THREADS.leave(self._part)
                return
            due = time.monotonic() + self._period_s
            look_s = min(LOOK_S, THREADS.rest_s) if any(changes for *_, changes in told) else THREADS.rest_s
            while (left := due - time.monotonic()) > 0 and not self._wake.wait(min(left, look_s)):
                self._part.beat()
                if self._conditions() != told:
                    break

    def _conditions(self) -> list[tuple[str, str | None, bool]]:
        """Each back end's state and reason, and whether these may change while nobody asks it for anything."""
        found = []
        for backend in self._runner.backends:
            one = backend.condition()
            state: str = "ready" if one.state in SETTLED else one.state
            found.append((state, one.reason, state != "ready" or one.pid is not None))
        return found

    def message(self, seq: int = 0) -> Health:
        """How the stream is at this moment."""
        manifest, pipeline = self._manifest, self._pipeline
        reasons = [reason for reason in (pipeline.broken, *self._runner.out(), self._runner.blind()) if reason]
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
                **self._generations.health(),
            }
        )


class Vitals:
    """The health of all streams of a daemon.

    Args:
        beats: of each, by its name.
    """

    def __init__(self, beats: Mapping[str | None, Heartbeat]) -> None:
        self._beats = beats

    def all(self) -> list[Health]:
        """How each stream is now."""
        return [beat.message() for beat in self._beats.values()]

    def tell(self) -> None:
        """Publish at once."""
        for beat in self._beats.values():
            beat.tell()

    def runs(self, stream: str | None) -> bool:
        """A stream runs; returns whether all do."""
        self._beats[stream].enter("running")
        return all(beat.runs for beat in self._beats.values())

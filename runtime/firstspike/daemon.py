"""The composition root: makes the rooms from the configuration, connects them in order, and runs them."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import firstspike
from firstspike import endpoints, plugins
from firstspike.backends import Backend
from firstspike.bundle import Bundle, open_bundle
from firstspike.clock import Clock, SystemClock, VirtualClock
from firstspike.config import Loaded
from firstspike.messages import BackendHealth, Decision, Health, Provisional
from firstspike.pipeline import Pipeline, Settings
from firstspike.publish import Publisher
from firstspike.sources import Source

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Rooms:
    """Everything between a source and a sink."""

    bundle: Bundle
    source: Source
    backend: Backend
    clock: Clock
    epoch: str
    pipeline: Pipeline


@contextmanager
def rooms(
    loaded: Loaded, sink: Callable[[Decision], None], stopping: Callable[[], bool], *, source: Source | None = None,
    early: Callable[[Provisional], None] | None = None,
) -> Iterator[Rooms]:  # fmt: skip
    """Make the rooms; they are closed in reverse order.

    Args:
        loaded: the configuration.
        sink: takes the decisions.
        stopping: True ends the run.
        source: instead of the configuration's.
        early: takes the provisional decisions, if the configuration wants any (`publish.provisional`).
    """
    config = loaded.config
    with ExitStack() as stack:
        bundle = open_bundle(loaded.model_path)
        settings = Settings(
            window=config.window.over(bundle.manifest.window),
            decide=config.decide.over(bundle.manifest.decide),
            schedule=config.schedule.schedule(),
            max_events=config.window.max_events,
            reset_us=config.window.reset_us,
        )
        backend: Backend = plugins.load("backends", config.backend.kind).create(loaded.backend_options, bundle)
        stack.callback(backend.close)
        if source is None:
            source = plugins.load("sources", config.source.kind).create(loaded.source_options, loaded.base)
        assert source is not None  # noqa: S101 (create returns one)
        stack.callback(source.close)
        virtual = config.clock.kind == "virtual"
        clock: Clock = VirtualClock() if virtual else SystemClock()
        # A deterministic run is named by what determines it, any other by chance.
        epoch = bundle.digest[:16] if virtual else os.urandom(8).hex()
        pipeline = Pipeline(
            manifest=bundle.manifest, settings=settings, source=source, backend=backend, clock=clock, epoch=epoch,
            sink=sink, stopping=stopping, early=early if config.publish.provisional else None,
        )  # fmt: skip
        yield Rooms(bundle, source, backend, clock, epoch, pipeline)


def run(
    loaded: Loaded, stopping: threading.Event, sink: Callable[[Decision | Provisional], None] = lambda _: None
) -> Pipeline:
    """Run the daemon until its source ends or `stopping` is set.

    Args:
        loaded: the configuration.
        stopping: set by a signal.
        sink: also gets each decision, after it was published, and the provisional ones.

    Returns:
        The pipeline that ran, for its totals and failures.
    """
    publish = loaded.config.publish
    endpoint = endpoints.resolve(publish.endpoint)
    with ExitStack() as stack:

        def send(decision: Decision) -> None:
            publisher.publish_decision(decision)
            sink(decision)

        def send_early(provisional: Provisional) -> None:
            publisher.publish_provisional(provisional)
            sink(provisional)

        made = stack.enter_context(rooms(loaded, send, stopping.is_set, early=send_early))
        publisher = Publisher(endpoint, made.epoch, high_water_mark=publish.high_water_mark)
        stack.callback(publisher.close)
        log.info("publishing on %s (model %s, back end %s)", endpoint, made.bundle.manifest.name, made.backend.name)
        health = stack.enter_context(_Heartbeat(made, publisher, publish.health_period_s))
        if publish.wait_for_subscriber_s > 0:
            log.info("waiting up to %g s for a subscriber", publish.wait_for_subscriber_s)
            if not publisher.wait_for_subscriber(publish.wait_for_subscriber_s, stopping.is_set):
                log.warning("no subscriber came: starting without one")
        health.enter("running")
        made.pipeline.run()
        return made.pipeline


class _Heartbeat:
    """Publishes health once a period, and at the start and the end."""

    def __init__(self, made: Rooms, publisher: Publisher, period_s: float) -> None:
        self._made = made
        self._publisher = publisher
        self._period_s = period_s
        self._started = time.monotonic()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="health", daemon=True)
        self._state = "starting"

    def __enter__(self) -> _Heartbeat:
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
            last = self._state == "stopping"
            self._publisher.publish_health(self._health)
            if last:
                return
            self._wake.wait(self._period_s)

    def _health(self, seq: int) -> Health:
        made = self._made
        manifest = made.bundle.manifest
        broken, failure = made.pipeline.broken, made.pipeline.backend_failure
        state = "degraded" if self._state == "running" and broken else self._state
        return Health.model_validate(
            {
                "epoch": made.epoch,
                "seq": seq,
                "state": state,
                "reasons": [broken] if broken else [],
                "uptime_s": round(time.monotonic() - self._started, 3),
                "version": firstspike.__version__,
                "model": f"{manifest.name}@{manifest.version}",
                "labels": manifest.labels,
                "source": made.pipeline.segment,
                "counters": made.pipeline.totals.message(),
                "backends": [
                    BackendHealth(name=made.backend.name, state="failed" if failure else "ready", reason=failure)
                ],
            }
        )

"""The composition root: makes the rooms from the configuration, connects them in order, and runs them."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from firstspike import endpoints, plugins
from firstspike.answer import Answerer, Due
from firstspike.backends import Backend
from firstspike.backends._shared import SharedBackends
from firstspike.bundle import Bundle, open_bundle
from firstspike.clock import Clock, SystemClock, VirtualClock
from firstspike.config import Loaded
from firstspike.config_plugins import BackendChoice
from firstspike.errors import ConfigError
from firstspike.handover import Handover, Inline, Queued
from firstspike.health import Heartbeat
from firstspike.hybrid import place
from firstspike.lookback import LookBack
from firstspike.messages import Decision, Provisional
from firstspike.pipeline import Pipeline, Settings
from firstspike.plans import Runner
from firstspike.publish import Publisher
from firstspike.schedule import Queue, Schedule
from firstspike.sources import Source
from firstspike.worker.backend import WorkerModule

log = logging.getLogger(__name__)

QUICK = 0.1
"""Answers that take less than this fraction of the deadline do not hold a live stream up (`handover.Queued`)."""
QUICK_NS = 2_000_000
"""The same of a camera or the network, whose events wait in a buffer of bounded size meanwhile."""


@dataclass(frozen=True, slots=True)
class Rooms:
    """Everything between a source and a sink."""

    bundle: Bundle
    source: Source
    runner: Runner
    clock: Clock
    epoch: str
    pipeline: Pipeline
    await_plans: Callable[[], None]
    """Waits until the plans are ready, as far as this run needs them."""

    def run(self) -> None:
        """Run until the source ends or the daemon is to stop."""
        self.await_plans()
        self.pipeline.run()


@contextmanager
def rooms(
    loaded: Loaded, sink: Callable[[Decision], None], stopping: Callable[[], bool], *, source: Source | None = None,
    early: Callable[[Provisional], None] | None = None, stream: str | None = None, epoch: str | None = None,
    shared: SharedBackends | None = None,
) -> Iterator[Rooms]:  # fmt: skip
    """Make the rooms; they are closed in reverse order.

    Args:
        loaded: the configuration.
        sink: takes the decisions.
        stopping: True ends the run.
        source: instead of the configuration's.
        early: takes the provisional decisions, if the configuration wants any (`publish.provisional`).
        stream: its name, where the daemon has several.
        epoch: this run's name; None: one is made.
        shared: workers that several streams use; None: this one's own.
    """
    config = loaded.config
    with ExitStack() as stack:
        bundle = open_bundle(loaded.model_path)
        manifest = bundle.manifest
        settings = Settings(
            window=config.window.over(manifest.window),
            max_events=config.window.max_events,
            reset_us=config.window.reset_us,
            patience_ns=config.schedule.deadline_ns // 2,
        )
        decide = config.decide.over(manifest.decide)
        backends: list[Backend] = []
        parts = place.Parts()
        stack.callback(parts.close)
        for choice in loaded.backends:
            backends.append(_backend(choice, bundle, parts, shared))
            stack.callback(backends[-1].close)
        if source is None:
            source = plugins.load("sources", config.source.kind).create(loaded.source_options, loaded.base)
        assert source is not None  # noqa: S101 (create returns one)
        stack.callback(source.close)
        virtual = config.clock.kind == "virtual"
        if virtual and source.live:
            raise ConfigError(
                f"clock.kind is virtual, and the source is live ({config.source.kind}): set it to monotonic"
            )
        clock: Clock = VirtualClock() if virtual else SystemClock()
        # A deterministic run is named by what determines it, any other by chance.
        epoch = epoch or (bundle.digest[:16] if virtual else os.urandom(8).hex())
        scheduling = config.schedule.settings()
        live = source.live or (not virtual and source.speed is not None)
        runner = Runner(backends, scheduling if live else scheduling.for_replay(), clock)
        deadline_ns = config.schedule.deadline_ns
        look_back: LookBack | None = None
        if config.record.on != "off":
            look_back = LookBack(
                config.record.rules(loaded.base), epoch, lambda **counts: answerer.totals.add(**counts)
            )
            stack.enter_context(look_back)
            sink = _shown_to(look_back, sink)
        answerer = Answerer(
            manifest=manifest, decide=decide, runner=runner, schedule=Schedule(deadline_ns),
            clock=clock, epoch=epoch, stream=stream, sink=sink, early=early if config.publish.provisional else None,
        )  # fmt: skip
        handover: Handover = Inline(answerer)
        if live:
            queue: Queue[Due] = Queue(scheduling.queue, deadline_ns)
            quick_ns = min(QUICK_NS if source.live else deadline_ns, round(deadline_ns * QUICK))
            handover = Queued(answerer, queue, runner, clock.now_ns, quick_ns)
        pipeline = Pipeline(
            input_spec=manifest.input, settings=settings, source=source, answerer=answerer, handover=handover,
            clock=clock, stopping=stopping, look_back=look_back,
        )  # fmt: skip

        def await_plans() -> None:
            # A replay's answers should come from the plan that was asked for; a live stream takes any.
            runner.wait_ready(first=not live, stopping=stopping, within_s=config.schedule.start_s)

        yield Rooms(bundle, source, runner, clock, epoch, pipeline, await_plans)


def _backend(choice: BackendChoice, bundle: Bundle, parts: place.Parts, shared: SharedBackends | None) -> Backend:
    """A plan's back end; a worker that runs the whole model is one for all streams."""

    def make() -> Backend:
        return place.make(choice, bundle, parts)

    alone = shared is None or bundle.manifest.parts is not None
    if alone or not isinstance(plugins.load("backends", choice.kind), WorkerModule):
        return make()
    assert shared is not None  # noqa: S101 (asked before)
    return shared.get(choice, bundle, make)


def _shown_to(look_back: LookBack, sink: Callable[[Decision], None]) -> Callable[[Decision], None]:
    def send(decision: Decision) -> None:
        sink(decision)
        look_back.decided(decision)

    return send


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
        plans = ", ".join(backend.name for backend in made.runner.backends)
        log.info("publishing on %s (model %s, plans %s)", endpoint, made.bundle.manifest.name, plans)
        health = stack.enter_context(
            Heartbeat(made.bundle.manifest, made.pipeline, made.runner, publisher, made.epoch, publish.health_period_s)
        )
        if publish.wait_for_subscriber_s > 0:
            log.info("waiting up to %g s for a subscriber", publish.wait_for_subscriber_s)
            if not publisher.wait_for_subscriber(publish.wait_for_subscriber_s, stopping.is_set):
                log.warning("no subscriber came: starting without one")
        made.await_plans()
        health.enter("running")
        made.pipeline.run()
        return made.pipeline

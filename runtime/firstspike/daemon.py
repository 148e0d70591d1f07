"""The composition root: makes the rooms from the configuration, connects them in order, and runs them."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass

from firstspike import access, endpoints, plugins
from firstspike.answer import Answerer, Due
from firstspike.backends import Backend
from firstspike.bundle import Bundle, open_bundle
from firstspike.clock import Clock, SystemClock, VirtualClock
from firstspike.config import Loaded, MetricsSection
from firstspike.energy import telemetry
from firstspike.generations import Generations
from firstspike.handover import Handover, Inline, Queued
from firstspike.health import Heartbeat
from firstspike.hybrid import place
from firstspike.manager import Manager
from firstspike.messages import Decision, Energy, Provisional
from firstspike.metrics import Metrics
from firstspike.metrics_server import MetricsServer, address_of
from firstspike.pipeline import Pipeline, Settings
from firstspike.plans import Runner
from firstspike.progress import READER, THREADS, Part
from firstspike.publish import Publisher
from firstspike.schedule import Queue, Schedule
from firstspike.shelf import Shelf, key_of
from firstspike.sources import Source
from firstspike.takeover import Switch

log = logging.getLogger(__name__)

QUICK = 0.1
"""Answers that take less than this fraction of the deadline do not hold a live stream up (`handover.Queued`)."""


@dataclass(frozen=True, slots=True)
class Rooms:
    """Everything between a source and a sink."""

    bundle: Bundle
    source: Source
    runner: Runner
    clock: Clock
    epoch: str
    pipeline: Pipeline
    settings: Settings
    answerer: Answerer
    handover: Handover
    """To the answerer; the pipeline sees it through the switch."""
    switch: Switch
    shelf: Shelf
    await_plans: Callable[[], None]
    """Waits until the plans are ready, as far as this run needs them."""
    account: telemetry.Telemetry | None
    """Reads the energy meters while it is entered; None: the configuration wants none."""

    def run(self) -> None:
        """Run until the source ends or the daemon is to stop."""
        with self.account or nullcontext():
            self.await_plans()
            self.pipeline.run()


@contextmanager
def rooms(
    loaded: Loaded, sink: Callable[[Decision], None], stopping: Callable[[], bool], *, source: Source | None = None,
    early: Callable[[Provisional], None] | None = None, energy: Callable[[Energy], None] | None = None,
    before: Rooms | None = None, part: Part | None = None,
) -> Iterator[Rooms]:  # fmt: skip
    """Make the rooms; they are closed in reverse order.

    Args:
        loaded: the configuration.
        sink: takes the decisions.
        stopping: True ends the run.
        source: instead of the configuration's.
        early: takes the provisional decisions, if the configuration wants any (`publish.provisional`).
        energy: takes the energy messages.
        before: those that are to follow, and run meanwhile: what is the same is lent, and clock, epoch and
            totals go on.
        part: told when an answer begins and ends.
    """
    config = loaded.config
    with ExitStack() as stack:
        with loaded.blame("model", "path"):
            bundle = open_bundle(loaded.model_path)
        manifest = bundle.manifest
        with loaded.blame("window"):
            window = config.window.over(manifest.window)
        # What a recording teaches is no camera's, and would change the next replay.
        keep = config.source.kind != "recording"
        with loaded.blame("filter"):
            filters = config.filter.filters(loaded.base, config.window.reset_us, keep=keep)
        settings = Settings(window, config.window.max_events, config.window.reset_us, filters)
        decide = config.decide.over(manifest.decide)
        shelf = Shelf(before.shelf if before else None)
        stack.callback(shelf.close)
        with loaded.blame("schedule", "plans"):
            backends: list[Backend] = [place.kept(choice, bundle, shelf) for choice in loaded.backends]
        with loaded.blame("source", config.source.kind):
            source = shelf.get(*_source(loaded, source))
        virtual = config.clock.kind == "virtual"
        clock: Clock = before.clock if before else VirtualClock() if virtual else SystemClock()
        # A deterministic run is named by what determines it, any other by chance.
        epoch = before.epoch if before else bundle.digest[:16] if virtual else os.urandom(8).hex()
        scheduling = config.schedule.settings()
        live = not virtual and source.speed is not None
        account = telemetry.make(
            config.energy, loaded.base, loaded.backends, bundle, clock, epoch, energy, stack
        ) if config.energy.enabled else None  # fmt: skip
        accounts = account.accounts if account else None
        runner = Runner(backends, scheduling if live else scheduling.for_replay(), clock, accounts)
        deadline_ns = config.schedule.deadline_ns
        answerer = Answerer(
            manifest=manifest, decide=decide, runner=runner, schedule=Schedule(deadline_ns),
            clock=clock, epoch=epoch, sink=sink, early=early if config.publish.provisional else None,
            totals=before.answerer.totals if before else None, part=part,
        )  # fmt: skip
        handover: Handover = Inline(answerer)
        if live:
            queue: Queue[Due] = Queue(scheduling.queue, deadline_ns)
            handover = Queued(answerer, queue, runner, clock.now_ns, round(deadline_ns * QUICK))
        switch = Switch(handover, manifest.input)
        pipeline = Pipeline(
            input_spec=manifest.input, settings=settings, source=source, answerer=answerer, handover=switch,
            clock=clock, stopping=stopping,
        )  # fmt: skip

        def await_plans() -> None:
            # A replay's answers should come from the plan that was asked for; a live stream takes any.
            runner.wait_ready(first=not live, stopping=stopping, within_s=config.schedule.start_s)
            if account is not None and before is None:
                account.begin(stopping, rest=live)

        yield Rooms(
            bundle=bundle, source=source, runner=runner, clock=clock, epoch=epoch, pipeline=pipeline, settings=settings,
            answerer=answerer, handover=handover, switch=switch, shelf=shelf, await_plans=await_plans, account=account,
        )  # fmt: skip


def _source(loaded: Loaded, given: Source | None) -> tuple[str, Callable[[], Source], Callable[[Source], None]]:
    """The source as a shelf takes it: key, and how it is made and closed."""
    kind, options = loaded.config.source.kind, loaded.source_options

    def make() -> Source:
        made: Source = plugins.load("sources", kind).create(options, loaded.base)
        return made

    # The same options mean other files where relative paths count from another folder.
    key = key_of("source", kind, str(loaded.base), options)
    return key, make if given is None else lambda: given, lambda source: source.close()


def serve_metrics(section: MetricsSection, metrics: Metrics, health: Heartbeat) -> MetricsServer:
    """Metrics and health over HTTP."""

    def healthy() -> tuple[bool, str]:
        state = health.message().state
        return state in ("running", "degraded"), state

    address = address_of(section.address, allow_remote=section.allow_remote)
    server = MetricsServer(address, metrics.text, healthy)
    log.info("metrics on http://%s/metrics", section.address)
    if section.allow_remote:
        log.warning("metrics.allow_remote: whoever reaches %s can read them", section.address)
    return server


def run(
    loaded: Loaded, stopping: threading.Event, sink: Callable[[Decision | Provisional], None] = lambda _: None,
    *, manager: Manager | None = None,
) -> Pipeline:  # fmt: skip
    """Run the daemon until its source ends or `stopping` is set.

    Args:
        loaded: the configuration.
        stopping: set by a signal.
        sink: also gets each decision, after it was published, and the provisional ones.
        manager: the daemon as a service: it is told how the daemon is, and may ask for another configuration.

    Returns:
        The pipeline that ran last, for its totals and failures.
    """
    publish = loaded.config.publish
    if loaded.config.metrics.enabled:
        address_of(loaded.config.metrics.address, allow_remote=loaded.config.metrics.allow_remote)
    with loaded.blame("publish", "endpoint"):
        endpoint = endpoints.resolve(publish.endpoint)
    remote = access.remote(publish.tcp, publish.keys, loaded.base)
    manager = manager or Manager()
    with ExitStack() as stack:
        reader, answers = THREADS.loop(READER), THREADS.task("answers")
        stack.callback(THREADS.leave, reader)
        stack.callback(THREADS.leave, answers)
        metrics: Metrics | None = None

        def to_end() -> bool:
            reader.beat()  # whoever waits or reads for the pipeline asks this often
            return stopping.is_set()

        def send(decision: Decision) -> None:
            publisher.publish_decision(decision)
            manager.decided(decision)
            if metrics is not None:
                metrics.observe(decision)
            sink(decision)

        def send_energy(message: Energy) -> None:
            publisher.publish_energy(message)
            if metrics is not None:
                metrics.account(message)

        def send_early(provisional: Provisional) -> None:
            publisher.publish_provisional(provisional)
            sink(provisional)

        def make(loaded: Loaded, stopping: Callable[[], bool], before: Rooms | None) -> AbstractContextManager[Rooms]:
            return rooms(loaded, send, stopping, early=send_early, energy=send_energy, before=before, part=answers)

        def taken(made: Rooms) -> None:
            health.follow(made, generations.loaded.config.publish.health_period_s)
            manager.runs(made, where)

        generations = Generations(make, to_end, taken)
        stack.callback(generations.close)
        made = generations.start(loaded)
        publisher = Publisher(
            endpoint, made.epoch, high_water_mark=publish.high_water_mark, remote=remote, group=publish.group,
            max_connections=publish.max_connections,
        )  # fmt: skip
        stack.callback(publisher.close)
        where = f"{endpoint} and {remote.endpoint}" if remote else endpoint
        manager.runs(made, where)
        health = stack.enter_context(
            Heartbeat(
                made.bundle.manifest,
                made.pipeline,
                made.runner,
                publisher,
                made.epoch,
                publish.health_period_s,
                generations,
            )
        )
        if loaded.config.metrics.enabled:
            metrics = Metrics(health.message, publisher.connections, publisher.next_seq)
            stack.enter_context(serve_metrics(loaded.config.metrics, metrics, health))
        stack.enter_context(generations.metering())
        stack.enter_context(manager.watching(generations, health))
        if publish.wait_for_subscriber_s > 0:
            log.info("waiting up to %g s for a subscriber", publish.wait_for_subscriber_s)
            if not publisher.wait_for_subscriber(publish.wait_for_subscriber_s, to_end):
                log.warning("no subscriber came: starting without one")
        made.await_plans()
        health.enter("running")
        manager.ready()
        generations.run()
        return generations.rooms.pipeline

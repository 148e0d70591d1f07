"""Makes the rooms between sources and sinks from a configuration: a set a stream, and what these have in common."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace

from firstspike import plugins
from firstspike.answer import Answerer, Due, Totals
from firstspike.backends import Backend
from firstspike.bundle import Bundle, open_bundle
from firstspike.clock import Clock, SystemClock, VirtualClock
from firstspike.config import Config, Loaded
from firstspike.energy import telemetry
from firstspike.errors import ConfigError
from firstspike.filters.segment import Filters, Store
from firstspike.handover import Handover, Inline, Queued
from firstspike.hybrid import place
from firstspike.lookback import LookBack
from firstspike.messages import Decision, Energy, Provisional
from firstspike.pipeline import Pipeline, Settings
from firstspike.plans import Runner
from firstspike.progress import Part
from firstspike.schedule import Queue, Schedule
from firstspike.shelf import Shelf, key_of
from firstspike.sources import Source
from firstspike.takeover import Switch

QUICK = 0.1
"""Answers that take less than this fraction of the deadline do not hold a live stream up (`handover.Queued`)."""
QUICK_NS = 2_000_000
"""The same of a camera or the network, whose events wait in a buffer of bounded size meanwhile."""


@dataclass(frozen=True, slots=True)
class Outlets:
    """Where messages go; from several threads, where there are several streams."""

    decision: Callable[[Decision], None]
    provisional: Callable[[Provisional], None] | None = None
    """If the configuration wants any (`publish.provisional`)."""
    energy: Callable[[Energy], None] | None = None
    hot_pixels: Store | None = None
    """Keeps what is learned of cameras over restarts."""


@dataclass(frozen=True, slots=True)
class Lane:
    """What a stream's rooms are told by whoever runs them."""

    stopping: Callable[[], bool]
    """True ends the run."""
    part: Part | None = None
    """Told when an answer begins and ends."""


@dataclass(frozen=True, slots=True)
class Rooms:
    """Everything between a source and a sink: one stream's."""

    loaded: Loaded
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
    await_plans: Callable[[], None]
    """Waits until the plans are ready, as far as this run needs them."""
    account: telemetry.Telemetry | None
    """Reads the energy meters while it is entered, for all streams; None: the configuration wants none."""

    def run(self) -> None:
        """Run until the source ends or the daemon is to stop."""
        with self.account or nullcontext():
            self.await_plans()
            self.pipeline.run()


@dataclass(frozen=True, slots=True)
class House:
    """All rooms of a configuration."""

    streams: Mapping[str | None, Rooms]
    """By name; None: of the only one."""
    shelf: Shelf
    epoch: str

    @property
    def accounts(self) -> list[telemetry.Telemetry]:
        """Of energy: one, or none; under the virtual clock, where no meter is read, one a stream."""
        return list(dict.fromkeys(one.account for one in self.streams.values() if one.account is not None))


@contextmanager
def house(
    loaded: Loaded, outlets: Outlets, lane: Callable[[str | None], Lane], *, before: House | None = None,
    source: Source | None = None,
) -> Iterator[House]:  # fmt: skip
    """Make all rooms; they are closed in reverse order.

    Args:
        loaded: the configuration.
        outlets: where messages go.
        lane: gives a stream's.
        before: those that are to follow, and run meanwhile: what is the same is lent, and clocks, epoch and totals
            go on. Of the same streams.
        source: instead of the configuration's, of a single stream.
    """
    streams: dict[str | None, Loaded] = {**dict(loaded.streams)} or {None: loaded}
    config = loaded.config
    with ExitStack() as stack:
        shelf = Shelf(before.shelf if before else None)
        stack.callback(shelf.close)
        virtual = config.clock.kind == "virtual"
        # A deterministic run is named by what determines it, any other by chance.
        epoch = before.epoch if before else None if virtual else os.urandom(8).hex()
        account: telemetry.Telemetry | None = None
        if config.energy.enabled and not virtual:
            assert epoch is not None  # noqa: S101 (made above)
            choices = {name: own.backends for name, own in streams.items()}
            account = telemetry.make(config.energy, loaded.base, choices, SystemClock(), epoch, outlets.energy, stack)
        made: dict[str | None, Rooms] = {}
        for name, own in streams.items():
            former = before.streams[name] if before else None
            maker = _Maker(name, own, outlets, lane(name), shelf, former, stack)
            made[name] = maker.rooms(epoch, account, source)
            epoch = made[name].epoch
        assert epoch is not None  # noqa: S101 (there is a stream)
        yield House(made, shelf, epoch)


@contextmanager
def rooms(
    loaded: Loaded, sink: Callable[[Decision], None], stopping: Callable[[], bool], *, source: Source | None = None,
    early: Callable[[Provisional], None] | None = None, energy: Callable[[Energy], None] | None = None,
) -> Iterator[Rooms]:  # fmt: skip
    """Make the rooms of a configuration without [stream.NAME].

    Args:
        loaded: the configuration.
        sink: takes the decisions; this and the next two as in `Outlets`.
        early: takes the provisional ones.
        energy: takes the energy messages.
        stopping: True ends the run.
        source: instead of the configuration's.
    """
    with house(loaded, Outlets(sink, early, energy), lambda _: Lane(stopping), source=source) as made:
        [only] = made.streams.values()
        yield only


@dataclass(frozen=True, slots=True)
class _Maker:
    """Makes one stream's rooms; the arguments are those of `house`."""

    stream: str | None
    loaded: Loaded
    outlets: Outlets
    lane: Lane
    shelf: Shelf
    before: Rooms | None
    stack: ExitStack

    def rooms(self, epoch: str | None, account: telemetry.Telemetry | None, given: Source | None) -> Rooms:
        """Make them.

        Args:
            epoch: this run's name; None: the bundle names it.
            account: of energy, if the streams have one in common.
            given: the source, instead of the configuration's.
        """
        loaded, config, before = self.loaded, self.loaded.config, self.before
        with loaded.blame("model", "path"):
            bundle = open_bundle(loaded.model_path)
        manifest = bundle.manifest
        with loaded.blame("schedule", "plans"):
            backends: list[Backend] = [
                place.kept(choice, bundle, self.shelf, self.stream) for choice in loaded.backends
            ]
        with loaded.blame("source", config.source.kind):
            source = self._source(given)
        virtual = config.clock.kind == "virtual"
        if virtual and source.live:
            raise ConfigError(
                f"clock.kind is virtual, and the source is live ({config.source.kind}): set it to monotonic"
            )
        settings = self._settings(bundle, config, source)
        clock: Clock = before.clock if before else VirtualClock() if virtual else SystemClock()
        epoch = epoch or bundle.digest[:16]
        scheduling = config.schedule.settings()
        live = source.live or (not virtual and source.speed is not None)
        if virtual and config.energy.enabled:
            account = telemetry.make(
                config.energy, loaded.base, {self.stream: loaded.backends}, clock, epoch, self.outlets.energy,
                self.stack,
            )  # fmt: skip
        own_account = account.stream(self.stream, loaded.backends, bundle) if account else None
        runner = Runner(backends, scheduling if live else scheduling.for_replay(), clock, own_account)
        deadline_ns = config.schedule.deadline_ns
        totals = before.answerer.totals if before else Totals()
        look_back = self._look_back(epoch, totals)
        sink = self.outlets.decision if look_back is None else _shown_to(look_back, self.outlets.decision)
        answerer = Answerer(
            manifest=manifest, decide=config.decide.over(manifest.decide), runner=runner,
            schedule=Schedule(deadline_ns), clock=clock, epoch=epoch, stream=self.stream, sink=sink,
            early=self.outlets.provisional if config.publish.provisional else None, totals=totals, part=self.lane.part,
        )  # fmt: skip
        handover: Handover = Inline(answerer)
        if live:
            queue: Queue[Due] = Queue(scheduling.queue, deadline_ns)
            quick_ns = min(QUICK_NS if source.live else deadline_ns, round(deadline_ns * QUICK))
            handover = Queued(answerer, queue, runner, clock.now_ns, quick_ns)
        switch = Switch(handover, manifest.input)
        stopping = self.lane.stopping
        pipeline = Pipeline(
            input_spec=manifest.input, settings=settings, source=source, answerer=answerer, handover=switch,
            clock=clock, stopping=stopping, look_back=look_back,
        )  # fmt: skip

        first = before is None  # not the rooms themselves: each would keep those before it for ever

        def await_plans() -> None:
            # A replay's answers should come from the plan that was asked for; a live stream takes any.
            runner.wait_ready(first=not live, stopping=stopping, within_s=config.schedule.start_s)
            if account is not None and first:
                account.begin(stopping, rest=live)

        return Rooms(
            loaded=loaded, bundle=bundle, source=source, runner=runner, clock=clock, epoch=epoch, pipeline=pipeline,
            settings=settings, answerer=answerer, handover=handover, switch=switch, await_plans=await_plans,
            account=account,
        )  # fmt: skip

    def _source(self, given: Source | None) -> Source:
        kind, options, base = self.loaded.config.source.kind, self.loaded.source_options, self.loaded.base

        def make() -> Source:
            made: Source = plugins.load("sources", kind).create(options, base)
            return made

        # The same options mean other files where relative paths count from another folder; two streams that are
        # configured alike have each their own.
        key = key_of("source", self.stream or "", kind, str(base), options)
        return self.shelf.get(key, make if given is None else lambda: given, lambda source: source.close())

    def _settings(self, bundle: Bundle, config: Config, source: Source) -> Settings:
        with self.loaded.blame("window"):
            window = config.window.over(bundle.manifest.window)
        # What a recording teaches is no camera's, and would change the next replay.
        keep = config.source.kind != "recording"
        with self.loaded.blame("filter"):
            filters: Filters | None = config.filter.filters(self.loaded.base, config.window.reset_us, keep=keep)
        if filters is not None and source.live:
            filters = replace(filters, store=self.outlets.hot_pixels)
        return Settings(
            window, config.window.max_events, config.window.reset_us, filters,
            patience_ns=config.schedule.deadline_ns // 2,
        )  # fmt: skip

    def _look_back(self, epoch: str, totals: Totals) -> LookBack | None:
        section, base = self.loaded.config.record, self.loaded.base
        if section.on == "off":
            return None
        key = key_of("record", self.stream or "", str(base), section)

        def make() -> LookBack:
            return LookBack(section.rules(base), epoch, totals.add).__enter__()

        return self.shelf.get(key, make, lambda look_back: look_back.__exit__(None, None, None))


def _shown_to(look_back: LookBack, sink: Callable[[Decision], None]) -> Callable[[Decision], None]:
    def send(decision: Decision) -> None:
        sink(decision)
        look_back.decided(decision)

    return send

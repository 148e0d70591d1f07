"""From a window that is due to its decision: encode, infer, decide, message. One window at a time, in order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from firstspike import anytime
from firstspike.bundle import DecideSpec, Manifest
from firstspike.clock import Clock
from firstspike.decide import Decider
from firstspike.encode_frames import WindowEncoder
from firstspike.errors import FirstspikeError
from firstspike.messages import (
    Decision,
    Evidence,
    PartRun,
    Provisional,
    ProvisionalStamps,
    Stamps,
    WindowAnswer,
)
from firstspike.messages_health import Counters
from firstspike.plans import Ran, Runner
from firstspike.progress import Part
from firstspike.schedule import Cause, Schedule
from firstspike.types import Inference, Spikes, Window


@dataclass(slots=True)
class Totals:
    """What has been counted; `messages_health.Counters` explains the fields. Each is written by one thread."""

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(Counters.model_fields, 0))

    def add(self, **counts: int) -> None:
        """Add to the totals by name."""
        for name, count in counts.items():
            self.counts[name] += count

    def message(self) -> Counters:
        """The totals as they are published."""
        return Counters(**self.counts)


@dataclass(frozen=True, slots=True)
class Due:
    """A window whose time has come."""

    window: Window
    closed_ns: int
    """When, of the daemon's clock."""
    segment: str
    """Name of the segment that it belongs to."""
    segment_number: int
    encoder: WindowEncoder
    """The segment's."""


class SinkError(Exception):
    """Carries a sink's error past the handling of segments: no further segment could be shown to anyone."""

    def __init__(self, cause: FirstspikeError) -> None:
        super().__init__(str(cause))
        self.cause = cause


@dataclass(frozen=True, slots=True)
class _Trip:
    """How far a window came: all of it, or no further than the schedule's door."""

    due: Due
    spikes: Spikes | None = None
    encoded_ns: int | None = None
    ran: Ran | None = None
    inferred_ns: int | None = None
    dropped: Cause | None = None
    """Why it was not inferred."""


class Answerer:
    """Answers windows.

    Args:
        manifest: the bundle's.
        decide: how potentials become decisions.
        runner: who infers.
        schedule: what a result is called.
        clock: where stamps come from.
        epoch: this run's name, for the messages.
        sink: takes each decision; may raise OutputError, which ends the run.
        early: takes each provisional decision, before the decision of the same window; None: none are made. It may
            raise OutputError, which ends the run.
        stream: the stream's name, where the daemon has several.
        totals: of the run so far; default: none.
        part: is told that it gets on.
    """

    def __init__(
        self, *, manifest: Manifest, decide: DecideSpec, runner: Runner, schedule: Schedule,
        clock: Clock, epoch: str, sink: Callable[[Decision], None],
        early: Callable[[Provisional], None] | None = None, stream: str | None = None,
        totals: Totals | None = None, part: Part | None = None,
    ) -> None:  # fmt: skip
        self._manifest = manifest
        self._stream = stream
        self._model = f"{manifest.name}@{manifest.version}"
        self._runner = runner
        self._schedule = schedule
        self._clock = clock
        self._epoch = epoch
        self._sink = sink
        self._early = early
        self._bundle, self._decide = manifest, decide
        self._decider = Decider(decide, manifest.labels)
        self._segment_number = -1
        self._part = part or Part("answers", loop=False)
        self._provisional: Provisional | None = None
        """The one of the window on its way, if it has one."""
        self._seq = 0
        self._provisional_seq = 0
        self.totals = Totals() if totals is None else totals

    def follow(self, before: Answerer) -> None:
        """Take over from another of this run, which has given its last answer.

        Its messages' numbers go on, and its evidence if the model is the same.
        """
        self._seq, self._provisional_seq = before._seq, before._provisional_seq
        if self._bundle == before._bundle and self._decide == before._decide:
            self._decider, self._segment_number = before._decider, before._segment_number

    def take(self, due: Due) -> None:
        """Infer a window, and publish what comes of it."""
        with self._part:
            self._publish(self._travel(due))

    def drop(self, due: Due, cause: Cause) -> None:
        """Publish that a window was not inferred, and why."""
        self.totals.add(**{f"dropped_{cause}": 1})
        self._publish(_Trip(due, dropped=cause))

    def _travel(self, due: Due) -> _Trip:
        now_ns = self._clock.now_ns
        window = due.window
        spikes = due.encoder.encode(window.events, window.t_start_us, window.t_end_us)
        trip = _Trip(due, spikes, encoded_ns=now_ns())
        if self._early is None:
            ran = self._runner.infer(spikes, due.closed_ns)
        else:
            ran = self._runner.infer(spikes, due.closed_ns, lambda so_far: self._announce(trip, so_far, in_steps=True))
        inferred_ns = now_ns()
        if self._early is not None and self._provisional is None:
            self._announce(trip, ran.inference, in_steps=False)
        return replace(trip, ran=ran, inferred_ns=inferred_ns)

    def _announce(self, trip: _Trip, inference: Inference, *, in_steps: bool) -> None:
        """Publish what the first spike says, if anybody wants that, and it and the window say anything."""
        due, spikes = trip.due, trip.spikes
        if self._early is None or spikes is None or trip.encoded_ns is None:
            return
        spiked_ns = self._clock.now_ns()
        first = anytime.report(inference, self._manifest.labels, speaks=self._decider.speaks(spikes.n_events))
        if first is None or first.label is None:
            return
        self._provisional = Provisional(
            epoch=self._epoch, seq=self._provisional_seq, stream=self._stream, decision_seq=self._seq,
            label=first.label,
            backend=inference.backend, in_steps=in_steps, model=self._model, source=due.segment,
            t_us=due.window.t_end_us, window_index=due.window.index, events=spikes.n_events, first_spike=first,
            stamps=ProvisionalStamps(
                clock=self._clock.kind, closed_ns=due.closed_ns, encoded_ns=trip.encoded_ns, spiked_ns=spiked_ns,
                published_ns=self._clock.now_ns(),
            ),
        )  # fmt: skip
        self._provisional_seq += 1
        try:
            self._early(self._provisional)
        except FirstspikeError as error:
            raise SinkError(error) from error

    def _publish(self, trip: _Trip) -> None:
        if trip.due.segment_number != self._segment_number:
            self._segment_number = trip.due.segment_number
            self._decider.reset()
        decision = self._compose(trip)
        self._seq += 1
        self._count(decision, trip)
        self._provisional = None
        try:
            self._sink(decision)
        except FirstspikeError as error:
            raise SinkError(error) from error
        self._runner.settle()

    def _compose(self, trip: _Trip) -> Decision:
        """Judge the window, and say everything about it."""
        due, spikes, ran = trip.due, trip.spikes, trip.ran
        window = due.window
        faults = list(ran.faults) if ran else []
        if window.overflow:
            faults.append(f"{window.overflow} events dropped: the window was full (window.max_events)")
        answered = ran.inference if ran and ran.inference.potential is not None else None
        answer, total = self._decider.judge(
            window.index, spikes.n_events if spikes else 0, answered.potential if answered else None
        )
        published_ns = self._clock.now_ns()
        status, reasons = self._schedule.status(
            closed_ns=due.closed_ns, now_ns=published_ns, faults=faults, dropped=trip.dropped
        )
        first = anytime.report(
            answered, self._manifest.labels, speaks=answer.label is not None, window_label=answer.label
        ) if answered else None  # fmt: skip
        return Decision(
            epoch=self._epoch, seq=self._seq, stream=self._stream, label=total.label, confidence=total.confidence,
            status=status, reasons=reasons, backend=answered.backend if answered else None,
            plan=ran.plan if ran else None, parts=self._parts(answered), energy=ran.energy if ran else None,
            model=self._model, source=due.segment, t_us=window.t_end_us,
            first_spike_step=first.network_step if first else None, first_spike=first,
            window=WindowAnswer(
                index=window.index, t_start_us=window.t_start_us, t_end_us=window.t_end_us,
                events=spikes.n_events if spikes else len(window.events), label=answer.label,
                confidence=answer.confidence, log_probabilities=answer.log_probabilities, partial=window.partial,
                backward=window.backward, late=window.late, overflow=window.overflow, resets=window.resets,
                out_of_bounds=spikes.out_of_bounds if spikes else 0, cropped=spikes.cropped if spikes else 0,
            ),
            evidence=Evidence(
                label=total.label, confidence=total.confidence, weight=total.weight, windows=total.windows
            ),
            stamps=Stamps(
                clock=self._clock.kind, closed_ns=due.closed_ns, encoded_ns=trip.encoded_ns,
                inferred_ns=trip.inferred_ns, published_ns=published_ns,
            ),
        )  # fmt: skip

    def _parts(self, answered: Inference | None) -> list[PartRun] | None:
        """What the parts of a hybrid took; a deterministic run tells no measured times."""
        if answered is None or not answered.parts:
            return None
        virtual = self._clock.kind == "virtual"
        return [
            PartRun(
                part=run.part, backend=run.backend, time_us=None if virtual else round(run.ns / 1e3, 1),
                link_bytes=run.link_bytes, spikes=run.spikes,
                link_us=None if virtual or run.link_ns is None else round(run.link_ns / 1e3, 1),
            )
            for run in answered.parts
        ]  # fmt: skip

    def _count(self, decision: Decision, trip: _Trip) -> None:
        window, provisional = decision.window, self._provisional
        if provisional is not None:
            self.totals.add(provisional=1, provisional_differed=int(provisional.label != window.label))
        if trip.ran is not None:
            self.totals.add(failed_attempts=trip.ran.failures, fallbacks=int(trip.ran.fell_back))
        self.totals.add(
            windows=1, backward=window.backward, late=window.late, overflow=window.overflow, resets=window.resets,
            out_of_bounds=window.out_of_bounds, cropped=window.cropped, **{f"decisions_{decision.status}": 1},
        )  # fmt: skip

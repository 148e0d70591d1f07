"""The life of a window: source, window, encode, infer, decide, message. One direction, one thread, nothing queued."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from firstspike import anytime
from firstspike.backends import Backend, SteppingBackend
from firstspike.bundle import DecideSpec, Manifest, WindowSpec
from firstspike.clock import Clock, Pacer
from firstspike.decide import Decider
from firstspike.encode import Encoder
from firstspike.errors import FirstspikeError
from firstspike.messages import (
    Counters,
    Decision,
    Evidence,
    Provisional,
    ProvisionalStamps,
    Stamps,
    WindowAnswer,
)
from firstspike.schedule import Schedule
from firstspike.sources import Segment, Source, Stream
from firstspike.types import Inference, Spikes, Window
from firstspike.window import Windower

log = logging.getLogger(__name__)

MAX_FAILURES = 1000


@dataclass(slots=True)
class Totals:
    """What the pipeline has counted; `messages.Counters` explains the fields."""

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(Counters.model_fields, 0))

    def add(self, **counts: int) -> None:
        """Add to the totals by name."""
        for name, count in counts.items():
            self.counts[name] += count

    def message(self) -> Counters:
        """The totals as they are published."""
        return Counters(**self.counts)


@dataclass(frozen=True, slots=True)
class Settings:
    """How the pipeline treats windows: the bundle's wishes, overridden by the configuration."""

    window: WindowSpec
    decide: DecideSpec
    schedule: Schedule
    max_events: int = 4_000_000
    reset_us: int = 1_000_000


@dataclass(frozen=True, slots=True)
class _Trip:
    """How far a window came: all of it, or no further than the schedule's door."""

    window: Window
    closed_ns: int
    spikes: Spikes | None = None
    encoded_ns: int | None = None
    inference: Inference | None = None
    inferred_ns: int | None = None


class Pipeline:
    """Runs a source through a back end to a sink.

    Args:
        manifest: the bundle's.
        settings: see `Settings`.
        source: where events come from.
        backend: who answers.
        clock: where stamps come from.
        epoch: this run's name, for the messages.
        sink: takes each decision; may raise OutputError, which ends the run.
        stopping: asked often; True ends the run in good order.
        early: takes each provisional decision, before the decision of the same window; None: none are made. It may
            raise OutputError, which ends the run.
    """

    def __init__(
        self, *, manifest: Manifest, settings: Settings, source: Source, backend: Backend, clock: Clock, epoch: str,
        sink: Callable[[Decision], None], stopping: Callable[[], bool] = lambda: False,
        early: Callable[[Provisional], None] | None = None,
    ) -> None:  # fmt: skip
        self._manifest = manifest
        self._model = f"{manifest.name}@{manifest.version}"
        self._settings = settings
        self._source = source
        self._backend = backend
        self._clock = clock
        self._epoch = epoch
        self._sink = sink
        self._stopping = stopping
        self._decider = Decider(settings.decide, manifest.labels)
        self._pacer = Pacer(source.speed, source.max_silence_us, stopping)
        self._early = early
        self._stepping = backend if isinstance(backend, SteppingBackend) else None
        self._provisional: Provisional | None = None
        """The one of the window on its way, if it has one."""
        self._seq = 0
        self._provisional_seq = 0
        self.totals = Totals()
        self.segment = ""
        """Name of the segment being read."""
        self.failures: list[tuple[str, FirstspikeError]] = []
        """Segments that ended in an error, with it: the first thousand."""
        self.truncated: dict[str, int] = {}
        """Segments that were cut off, with the bytes that make up no whole event: the first thousand."""
        self.backend_failure: str | None = None
        """Why the last inference failed; None if it did not."""
        self.broken: str | None = None
        """Why the last segment ended early; None if it did not."""

    def run(self) -> None:
        """Run until the source ends or `stopping` says so. A broken segment is reported and the next one taken."""
        for segment in self._source.segments():
            if self._stopping():
                return
            self.segment = segment.name
            self._decider.reset()
            try:
                self._run_segment(segment)
                self.broken = None
            except SinkError as error:
                raise error.cause from None
            except FirstspikeError as error:
                text = str(error) if segment.name in str(error) else f"{segment.name}: {error}"
                log.error("%s", text)  # noqa: TRY400 (a user's bad file is no traceback)
                self.totals.add(sources_failed=1)
                self.failures += [(segment.name, error)] if len(self.failures) < MAX_FAILURES else []
                self.broken = text

    def _run_segment(self, segment: Segment) -> None:
        settings = self._settings
        windower = Windower(settings.window, max_events=settings.max_events, reset_us=settings.reset_us)
        with segment.open() as stream:
            for note in stream.info.notes:
                log.info("%s: %s", segment.name, note)
            self._pacer.restart()
            encoder = Encoder(self._manifest.input, stream.info.width, stream.info.height)
            try:
                self._run_stream(stream, windower, encoder)
            except SinkError:
                raise  # nobody is there to hear the rest
            except FirstspikeError:
                self._finish(windower, encoder)  # what was read before the fault is inferred and counted
                raise
            self._finish(windower, encoder)
            self._say_goodbye(segment, stream)

    def _run_stream(self, stream: Stream, windower: Windower, encoder: Encoder) -> None:
        for events in stream:
            self.totals.add(events=len(events))
            for window in windower.push(events):
                self._process(window, encoder)
                if self._stopping():
                    return
            if self._stopping():
                return

    def _finish(self, windower: Windower, encoder: Encoder) -> None:
        """Hand out the windows that were open at the end; a stop leaves them, since they are not complete."""
        for window in windower.flush():
            if self._stopping():
                break
            self._process(window, encoder)
        self.totals.add(**windower.leftover())

    def _say_goodbye(self, segment: Segment, stream: Stream) -> None:
        """Report what only the end of a stream tells."""
        stats = stream.outcome
        if stats is None:
            return  # it was not read to its end
        for note in stats.notes:
            if note not in stream.info.notes:
                log.info("%s: %s", segment.name, note)
        if stats.truncated_bytes:
            log.warning("%s: cut off: the last %d bytes are no whole event", segment.name, stats.truncated_bytes)
            self.totals.add(truncated_bytes=stats.truncated_bytes)
            if len(self.truncated) < MAX_FAILURES:
                self.truncated[segment.name] = stats.truncated_bytes

    def _process(self, window: Window, encoder: Encoder) -> None:
        due_ns = self._pacer.wait(window.t_end_us)
        if due_ns is None:
            return  # the daemon stops before the window is due
        self._clock.reach(window.t_end_us)
        closed_ns = self._clock.now_ns() if self._clock.kind == "virtual" else due_ns
        self._provisional = None
        trip = self._travel(window, encoder, closed_ns)
        decision = self._compose(trip)
        self._seq += 1
        self._count(decision)
        try:
            self._sink(decision)
        except FirstspikeError as error:
            raise SinkError(error) from error

    def _travel(self, window: Window, encoder: Encoder, closed_ns: int) -> _Trip:
        """Encode and infer, unless it is too late for that."""
        now_ns = self._clock.now_ns
        if not self._settings.schedule.admits(closed_ns, now_ns()):
            return _Trip(window, closed_ns)
        spikes = encoder.encode(window.events, window.t_start_us, window.t_end_us)
        trip = _Trip(window, closed_ns, spikes, encoded_ns=now_ns())
        if self._early is not None and self._stepping is not None:
            inference = self._stepping.infer_in_steps(
                spikes, lambda so_far: self._announce(trip, so_far, in_steps=True)
            )
            inferred_ns = now_ns()
        else:
            inference = self._backend.infer(spikes)
            inferred_ns = now_ns()
            self._announce(trip, inference, in_steps=False)
        self.backend_failure = inference.failure
        return replace(trip, inference=inference, inferred_ns=inferred_ns)

    def _announce(self, trip: _Trip, inference: Inference, *, in_steps: bool) -> None:
        """Publish what the first spike says, if anybody wants that, and it and the window say anything."""
        window, spikes = trip.window, trip.spikes
        if self._early is None or spikes is None or trip.encoded_ns is None:
            return
        spiked_ns = self._clock.now_ns()
        first = anytime.report(inference, self._manifest.labels, speaks=self._decider.speaks(spikes.n_events))
        if first is None or first.label is None:
            return
        self._provisional = Provisional(
            epoch=self._epoch, seq=self._provisional_seq, decision_seq=self._seq, label=first.label,
            backend=inference.backend, in_steps=in_steps, model=self._model, source=self.segment,
            t_us=window.t_end_us, window_index=window.index, events=spikes.n_events, first_spike=first,
            stamps=ProvisionalStamps(
                clock=self._clock.kind, closed_ns=trip.closed_ns, encoded_ns=trip.encoded_ns, spiked_ns=spiked_ns,
                published_ns=self._clock.now_ns(),
            ),
        )  # fmt: skip
        self._provisional_seq += 1
        try:
            self._early(self._provisional)
        except FirstspikeError as error:
            raise SinkError(error) from error

    def _compose(self, trip: _Trip) -> Decision:
        """Judge the window, and say everything about it."""
        window, spikes, inference = trip.window, trip.spikes, trip.inference
        faults = [inference.failure] if inference and inference.failure else []
        if window.overflow:
            faults.append(f"{window.overflow} events dropped: the window was full (window.max_events)")
        answered = inference if inference and inference.potential is not None else None
        answer, total = self._decider.judge(
            window.index, spikes.n_events if spikes else 0, answered.potential if answered else None
        )
        published_ns = self._clock.now_ns()
        status, reasons = self._settings.schedule.status(
            closed_ns=trip.closed_ns, now_ns=published_ns, admitted=inference is not None, faults=faults
        )
        first = anytime.report(
            answered, self._manifest.labels, speaks=answer.label is not None, window_label=answer.label
        ) if answered else None  # fmt: skip
        return Decision(
            epoch=self._epoch, seq=self._seq, label=total.label, confidence=total.confidence,
            status=status, reasons=reasons, backend=answered.backend if answered else None,
            model=self._model, source=self.segment, t_us=window.t_end_us,
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
                clock=self._clock.kind, closed_ns=trip.closed_ns, encoded_ns=trip.encoded_ns,
                inferred_ns=trip.inferred_ns, published_ns=published_ns,
            ),
        )  # fmt: skip

    def _count(self, decision: Decision) -> None:
        window, provisional = decision.window, self._provisional
        if provisional is not None:
            self.totals.add(provisional=1, provisional_differed=int(provisional.label != window.label))
        self.totals.add(
            windows=1, backward=window.backward, late=window.late, overflow=window.overflow, resets=window.resets,
            out_of_bounds=window.out_of_bounds, cropped=window.cropped, **{f"decisions_{decision.status}": 1},
        )  # fmt: skip


class SinkError(Exception):
    """Carries a sink's error past the handling of segments: no further segment could be shown to anyone."""

    def __init__(self, cause: FirstspikeError) -> None:
        super().__init__(str(cause))
        self.cause = cause

"""The life of a window up to its turn: source, filters, window, the wait until it is due. What follows is `answer`."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from firstspike.answer import Answerer, Due, SinkError
from firstspike.bundle import InputSpec, WindowSpec
from firstspike.clock import Clock, Pacer
from firstspike.encode_frames import WindowEncoder, encoder_for
from firstspike.errors import FirstspikeError
from firstspike.filters.segment import Filters, SegmentFilter
from firstspike.handover import Handover
from firstspike.live import LiveWindows
from firstspike.lookback import LookBack
from firstspike.sources import LiveStream, Segment, Source, Stream, Waiting
from firstspike.types import Events, Window
from firstspike.window import Windower

log = logging.getLogger(__name__)

MAX_FAILURES = 1000


@dataclass(frozen=True, slots=True)
class Settings:
    """What is filtered, and how windows are cut: the bundle's wishes, overridden by the configuration."""

    window: WindowSpec
    max_events: int = 4_000_000
    reset_us: int = 1_000_000
    filters: Filters | None = None
    patience_ns: int = 50_000_000
    """The most that a live stream's silent window waits for its last events."""


class Pipeline:
    """Runs a source to whoever answers.

    Args:
        input_spec: the model's.
        settings: see `Settings`.
        source: where events come from.
        answerer: who answers; its totals are this pipeline's too.
        handover: how windows get there.
        clock: where stamps come from.
        stopping: asked often; True ends the run in good order.
        look_back: is shown all events, if given.
    """

    def __init__(
        self, *, input_spec: InputSpec, settings: Settings, source: Source, answerer: Answerer, handover: Handover,
        clock: Clock, stopping: Callable[[], bool] = lambda: False, look_back: LookBack | None = None,
    ) -> None:  # fmt: skip
        self._look_back = look_back
        self._input_spec = input_spec
        self._settings = settings
        self._source = source
        self._handover = handover
        self._clock = clock
        self._stopping = stopping
        self._pacer = Pacer(source.speed, source.max_silence_us, stopping)
        self._segment_number = -1
        self.totals = answerer.totals
        self.segment = ""
        """Name of the segment being read."""
        self.failures: list[tuple[str, FirstspikeError]] = []
        """Segments that ended in an error, with it: the first thousand."""
        self.truncated: dict[str, int] = {}
        """Segments that were cut off, with the bytes that make up no whole event: the first thousand."""
        self.broken: str | None = None
        """Why the last segment ended early; None if it did not."""

    def be_patient(self, patience_ns: int) -> None:
        """Change `Settings.patience_ns` while it runs."""
        self._settings = replace(self._settings, patience_ns=patience_ns)

    def run(self) -> None:
        """Run until the source ends or `stopping` says so. A broken segment is reported and the next one taken."""
        try:
            with self._handover:
                self._run_segments()
        except SinkError as error:
            raise error.cause from None

    def _run_segments(self) -> None:
        for segment in self._source.segments():
            if self._stopping():
                return
            if isinstance(segment, Waiting):
                self._wait_for(segment)
                continue
            self.segment = segment.name
            self._segment_number += 1
            try:
                self._run_segment(segment)
                self.broken = None
            except FirstspikeError as error:
                text = str(error) if segment.name in str(error) else f"{segment.name}: {error}"
                log.error("%s", text)  # noqa: TRY400 (a user's bad file is no traceback)
                self.totals.add(sources_failed=1)
                if not self._source.live and len(self.failures) < MAX_FAILURES:  # a camera may be plugged in again
                    self.failures.append((segment.name, error))
                self.broken = text

    def _wait_for(self, waiting: Waiting) -> None:
        if self.broken != waiting.reason:
            log.warning("%s", waiting.reason)
        self.broken = waiting.reason
        self.totals.add(**waiting.counts)

    def _run_segment(self, segment: Segment) -> None:
        settings = self._settings
        windower = Windower(settings.window, max_events=settings.max_events, reset_us=settings.reset_us)
        with segment.open() as stream, self._looked_back():
            for note in stream.info.notes:
                log.info("%s: %s", segment.name, note)
            self._pacer.restart()
            info, filters = stream.info, settings.filters
            passing = filters.segment(info.width, info.height, info.sensor) if filters else None
            size = (passing.width, passing.height) if passing else (info.width, info.height)
            encoder = encoder_for(self._input_spec, *size)
            self.broken = None
            try:
                if isinstance(stream, LiveStream):
                    self._run_live(stream, passing, windower, encoder)
                else:
                    self._run_stream(stream, passing, windower, encoder)
            except FirstspikeError:
                self._finish(windower, encoder)  # what was read before the fault is inferred and counted
                raise
            self._finish(windower, encoder)
            self._say_goodbye(segment, stream)

    @contextmanager
    def _looked_back(self) -> Iterator[None]:
        """Whatever ends a segment: whoever looks back hears of it."""
        try:
            yield
        finally:
            if self._look_back is not None:
                self._look_back.end_segment()

    def _take_in(self, events: Events, stream: Stream, passing: SegmentFilter | None) -> Events:
        """Count events and show them to whoever looks back; returns those that pass the filters."""
        self.totals.add(events=len(events))
        if self._look_back is not None:
            self._look_back.events(events, stream.info, self.segment)
        if passing is None or not len(events):
            return events
        try:
            return passing.apply(events)
        finally:
            self.totals.add(**passing.take_counts())

    def _run_stream(
        self, stream: Stream, passing: SegmentFilter | None, windower: Windower, encoder: WindowEncoder
    ) -> None:
        for events in stream:
            for window in windower.push(self._take_in(events, stream, passing)):
                self._process(window, encoder)
                if self._stopping():
                    return
            if self._stopping():
                return

    def _run_live(
        self, stream: LiveStream, passing: SegmentFilter | None, windower: Windower, encoder: WindowEncoder
    ) -> None:
        """As `_run_stream`; windows close by time too, and when they did counts from the sensor's time."""
        windows = LiveWindows(windower, lambda: self._settings.patience_ns)
        while not self._stopping():
            try:
                arrival = stream.receive(windows.wait_s())
            finally:
                self.totals.add(**stream.take_counts())
            passed = self._take_in(arrival.events, stream, passing)
            for window, ended_ns in windows.take(arrival, passed):
                self._handover.put(Due(window, ended_ns, self.segment, self._segment_number, encoder))
            if arrival.ended:
                return
            if len(arrival.events) and (pause_s := windows.pause_s(stream.gather_s)) > 0:
                time.sleep(pause_s)

    def _finish(self, windower: Windower, encoder: WindowEncoder) -> None:
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

    def _process(self, window: Window, encoder: WindowEncoder) -> None:
        due_ns = self._pacer.wait(window.t_end_us)
        if due_ns is None:
            return  # the daemon stops before the window is due
        self._clock.reach(window.t_end_us)
        closed_ns = self._clock.now_ns() if self._clock.kind == "virtual" else due_ns
        self._handover.put(Due(window, closed_ns, self.segment, self._segment_number, encoder))

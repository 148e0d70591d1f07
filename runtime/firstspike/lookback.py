"""Keeps the last seconds of events, and writes those around a decision that is worth a second look: `[record]`.

The reader's thread puts events into a ring of bounded memory, the answering thread says which decisions matter, and a
thread of its own writes the clips; nobody waits for the disk.
"""

from __future__ import annotations

import json
import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np

from firstspike.errors import FirstspikeError, OutputError
from firstspike.files import write_atomically
from firstspike.messages import Decision, to_plain
from firstspike.recording_writer import SUFFIX, Format, RecordingFile
from firstspike.types import Events, RecordingInfo, pick

log = logging.getLogger(__name__)

On = Literal["off", "label", "unsure", "fault"]
SLACK_US = 2_000_000
"""A decision comes after the events of its window: the ring holds so much more."""
MOST_TOLD = 100
"""Decisions in a clip's JSON file."""
RESET_US = 1_000_000


@dataclass(frozen=True, slots=True)
class Rules:
    """Which decisions, and how much around them."""

    on: On
    folder: Path
    labels: tuple[str, ...] = ()
    below: float = 0.6
    lookback_us: int = 5_000_000
    after_us: int = 1_000_000
    max_us: int = 60_000_000
    memory_bytes: int = 64 << 20
    free_bytes: int = 512 << 20
    format: Format = "aedat4"


@dataclass(slots=True)
class _Clip:
    start_us: int
    end_us: int
    last_us: int
    """The end may be put off until here."""
    decisions: list[Decision] = field(default_factory=list)
    parts: list[Events] = field(default_factory=list)
    info: RecordingInfo | None = None
    short: bool = False
    """The ring could not hold all of it."""

    @property
    def bytes(self) -> int:
        return sum(part.nbytes for part in self.parts)


class LookBack:
    """Use as a context: at its end what was begun is written.

    Args:
        rules: see there.
        epoch: of the run, for the names.
        count: adds to `messages_health.Counters` by name.
    """

    def __init__(self, rules: Rules, epoch: str, count: Callable[..., None]) -> None:
        self._rules = rules
        self._epoch = epoch
        self._count = count
        self._ring: deque[tuple[Events, int]] = deque()
        """Events, and their largest time."""
        self._bytes = 0
        self._newest_us = 0
        self._lost_until_us: int | None = None
        """Events before this did not fit the memory."""
        self._info: RecordingInfo | None = None
        self._segment = ""
        self._over = False
        """The segment has ended; its last decisions may still come."""
        self._clip: _Clip | None = None
        self._before: str | None = None
        self._jobs: deque[_Clip | None] = deque()
        self._waiting = 0
        self._turn = threading.Condition()
        self._thread = threading.Thread(target=self._write_all, name="clips", daemon=True)

    def __enter__(self) -> LookBack:
        try:
            self._rules.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{self._rules.folder}: cannot be made: {error.strerror}: see [record] folder") from None
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end_segment()
        with self._turn:
            self._jobs.append(None)
            self._turn.notify()
        self._thread.join()

    def events(self, events: Events, info: RecordingInfo, segment: str) -> None:
        """Take the next events of the stream; they are kept, not copied."""
        if not len(events):
            return
        newest = int(events["t"].max())
        with self._turn:
            if self._over or segment != self._segment or newest < self._newest_us - RESET_US:
                self._end()
                self._segment, self._newest_us, self._over = segment, newest, False
            self._info = info
            self._newest_us = max(self._newest_us, newest)
            self._ring.append((events, newest))
            self._bytes += events.nbytes
            self._trim()
            if self._clip is not None and self._newest_us >= self._clip.end_us:
                self._hand_over()

    def _trim(self) -> None:
        keep_us = self._newest_us - self._rules.lookback_us - SLACK_US
        if self._clip is not None:
            keep_us = min(keep_us, self._clip.start_us)
        while self._ring:
            last_us = self._ring[0][1]
            full = self._bytes > self._rules.memory_bytes
            if not full and last_us >= keep_us:
                return
            if full and last_us >= keep_us:
                self._lost_until_us = last_us
            self._bytes -= self._ring.popleft()[0].nbytes

    def decided(self, decision: Decision) -> None:
        """Begin a clip, or put its end off, if this decision is worth it."""
        matters = self._matters(decision)
        self._before = decision.label
        if not matters:
            return
        rules, window = self._rules, decision.window
        with self._turn:
            if decision.source != self._segment or window.t_start_us > self._newest_us:
                return  # of a segment that has ended, or from before the clock was set back: its events are gone
            end_us = window.t_end_us + rules.after_us
            if self._clip is None:
                start_us = window.t_start_us - rules.lookback_us
                self._clip = _Clip(start_us, end_us, start_us + rules.max_us)
            clip = self._clip
            clip.end_us = max(clip.end_us, min(end_us, clip.last_us))
            if len(clip.decisions) < MOST_TOLD:
                clip.decisions.append(decision)
            if self._over or self._newest_us >= clip.end_us:
                self._hand_over()

    def _matters(self, decision: Decision) -> bool:
        rules = self._rules
        match rules.on:
            case "label":  # once an occurrence: when it changes
                wanted = decision.label is not None and (not rules.labels or decision.label in rules.labels)
                return wanted and decision.label != self._before
            case "unsure":
                return decision.confidence is not None and decision.confidence < rules.below
            case "fault":
                return decision.status != "ok"
        return False

    def end_segment(self) -> None:
        """The camera was lost, or the recording is over: what was begun is complete.

        Its events are kept until others come, for the decisions that are still on their way.
        """
        with self._turn:
            self._over = True
            if self._clip is not None:
                self._hand_over()

    def _end(self) -> None:
        if self._clip is not None:
            self._hand_over()
        self._ring.clear()
        self._bytes, self._segment, self._before, self._lost_until_us = 0, "", None, None

    def _hand_over(self) -> None:
        """Give the clip to the writer, or drop it if that has fallen behind."""
        clip, self._clip = self._clip, None
        assert clip is not None  # noqa: S101 (asked before)
        clip.parts = [events for events, newest in self._ring if newest >= clip.start_us]
        clip.info = self._info
        clip.short = self._lost_until_us is not None and self._lost_until_us >= clip.start_us
        if self._waiting and self._waiting + clip.bytes > self._rules.memory_bytes:
            self._count(clips_dropped=1)
            return
        self._waiting += clip.bytes
        self._jobs.append(clip)
        self._turn.notify()

    def _write_all(self) -> None:
        while True:
            with self._turn:
                self._turn.wait_for(lambda: len(self._jobs) > 0)
                clip = self._jobs.popleft()
            if clip is None:
                return
            try:
                self._write(clip)
                self._count(clips_written=1)
            except (FirstspikeError, OSError) as error:
                log.error("a clip was not written: %s", error)  # noqa: TRY400 (a full disk is no traceback)
                self._count(clips_failed=1)
            except Exception:  # those that follow are not to be lost without a word
                log.exception("a clip was not written, by a fault of firstspike")
                self._count(clips_failed=1)
            with self._turn:
                self._waiting -= clip.bytes

    def _write(self, clip: _Clip) -> None:
        rules, info = self._rules, clip.info
        assert info is not None  # noqa: S101 (it has events)
        first = clip.decisions[0]
        stream = "" if first.stream is None else f"{first.stream}-"
        path = self._free_name(f"{self._epoch[:8]}-{stream}{first.seq:08}")
        file = RecordingFile(
            path, rules.format, info.width, info.height, source=info.sensor or info.format, free_bytes=rules.free_bytes
        )
        try:
            for part in clip.parts:
                inside = (part["t"] >= clip.start_us) & (part["t"] < clip.end_us)
                file.write(part if inside.all() else pick(part, np.asarray(inside)))
        except BaseException:
            file.abandon()
            raise
        file.finish()
        _write(
            file.path.with_suffix(".json"),
            {
                "recording": file.path.name, "t_start_us": clip.start_us, "t_end_us": clip.end_us,
                "events": file.events, "left_out": file.outside + file.backward, "begins_late": clip.short,
                "decisions": [to_plain(decision) for decision in clip.decisions],
            },
        )  # fmt: skip
        log.info("%s: %d events around decision %d", file.path, file.events, clip.decisions[0].seq)

    def _free_name(self, stem: str) -> Path:
        suffix, number = SUFFIX[self._rules.format], 1
        path = self._rules.folder / f"{stem}{suffix}"
        while path.exists():  # another run of the same replay
            number += 1
            path = self._rules.folder / f"{stem}-{number}{suffix}"
        return path


def _write(path: Path, value: dict[str, Any]) -> None:
    write_atomically(path, json.dumps(value, ensure_ascii=False, indent=1).encode())

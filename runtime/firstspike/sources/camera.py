"""`[source] kind = "camera"`: a live camera through `neuromorphic_drivers`, in a child process. See docs/cameras.md."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from firstspike import errors
from firstspike.errors import FirstspikeError, UnavailableError
from firstspike.sources import Arrival, LiveStream, Segment, Stream, Waiting
from firstspike.sources import _decode_frames as frames
from firstspike.sources._decode_link import START_S, Child, ChildFailedError
from firstspike.types import EVENT, RecordingInfo

log = logging.getLogger(__name__)

MEMORY_BYTES = 4 << 30
"""Of addresses, beyond what the child has at its start: the driver's ring takes half a GiB."""
WAIT_S = 0.4
FRAME_S = 5.0
"""The rest of a frame takes no longer than that, however long the driver may take for one: nothing else is seen to."""
RESTART_S = 1.0
"""Between two children, so that a camera that fails at once does not keep a core busy."""
_INFO = TypeAdapter(RecordingInfo)


class Options(BaseModel):
    """`[source.camera]`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    serial: Annotated[str | None, Field(max_length=100, description="default: the first that is found")] = None
    model: Annotated[
        str | None,
        Field(pattern="^[a-z0-9_]+$", max_length=40, description="davis346, dvxplorer, evk3_hd or evk4; default: any"),
    ] = None
    biases: Annotated[dict[str, int], Field(description="by the driver's names; the others stay at its defaults")] = {}
    max_events_per_s: Annotated[
        float | None, Field(ge=1000, le=1e9, description="the sensor drops more (EVK3, EVK4); default: no limit")
    ] = None
    readout: Annotated[str | None, Field(max_length=40, description="of a DVXplorer, such as variable5000")] = None
    backlog_ms: Annotated[
        float, Field(gt=0, le=60_000, description="older events are thrown away, not replayed late")
    ] = 50.0
    hang_s: Annotated[float, Field(ge=0.5, le=3600, description="of the driver; then it is killed")] = 5.0
    look_s: Annotated[float, Field(ge=0.1, le=3600, description="between two looks for the camera")] = 1.0

    def request(self) -> dict[str, object]:
        """As the child takes it."""
        return self.model_dump(exclude={"hang_s", "backlog_ms"}) | {"backlog_s": self.backlog_ms / 1e3}


class CameraStream(LiveStream):
    """A camera from plug to unplug."""

    def __init__(self, child: Child, info: RecordingInfo, hang_s: float) -> None:
        self.info = info
        self._child = child
        self._hang_s = hang_s
        self._heard = time.monotonic()
        self._counts = {"camera_overflows": 0, "backlog_cuts": 0, "backlog_packets": 0}

    def receive(self, within_s: float) -> Arrival:
        """See `LiveStream.receive`."""
        name = self.info.sensor
        try:
            asked_ns = time.monotonic_ns()
            ready = self._child.ready(within_s)
            if not ready and within_s > 0:
                asked_ns = time.monotonic_ns()
                ready = self._child.ready(0)
            if not ready:
                if time.monotonic() - self._heard > self._hang_s:
                    raise ChildFailedError(f"made no progress for {self._hang_s:g} s")  # noqa: TRY301 (as the others)
                # There was nothing *then*: whoever is held up here for long has not looked since.
                return Arrival(_NOTHING, asked_ns)
            kind, body = self._child.receive()
            self._heard = time.monotonic()
            if kind == frames.FAILURE:
                raise _failure(body, str(name))
            if kind != frames.CAMERA:
                raise ChildFailedError("sent a frame out of turn")  # noqa: TRY301
        except (ChildFailedError, ValueError) as error:
            raise UnavailableError(f"{name}: lost: its driver {error}") from None
        arrived_ns, reached_us, overflows, cuts, packets = frames.BATCH.unpack_from(body)
        for counter, count in zip(self._counts, (overflows, cuts, packets), strict=True):
            self._counts[counter] += count
        events = np.frombuffer(body[frames.BATCH.size :], EVENT)
        if cuts:
            log.warning("%s: fell behind: %d packets of old events were thrown away", name, packets)
        # The child's clock is this machine's, but the child may be broken.
        arrived_ns = min(arrived_ns, time.monotonic_ns())
        return Arrival(events, arrived_ns, reached_us if reached_us >= 0 else None)

    def take_counts(self) -> dict[str, int]:
        """See `LiveStream.take_counts`."""
        counts = {name: count for name, count in self._counts.items() if count}
        for name in counts:
            self._counts[name] = 0
        return counts


_NOTHING = np.empty(0, EVENT)


def _failure(body: memoryview, name: str) -> FirstspikeError:
    told = json.loads(bytes(body))
    if not isinstance(told, dict):
        raise ValueError("no failure")  # noqa: TRY004 (a fault of the bytes)
    kind = getattr(errors, str(told.get("kind")), None)
    made = kind if isinstance(kind, type) and issubclass(kind, FirstspikeError) else UnavailableError
    return made(f"{name}: {told.get('text')}")


class CameraSource:
    """A segment from each plug to unplug. One child looks for the camera and reads it; another one takes its place."""

    live = True
    speed: float | None = None
    max_silence_us = 0

    def __init__(self, options: Options) -> None:
        self._options = options
        self._child: Child | None = None
        self._info: RecordingInfo | None = None
        self._started = -RESTART_S
        self._heard = 0.0
        self._greeted = False
        self._reason = "the camera's driver starts"

    def segments(self) -> Iterator[Segment | Waiting]:
        """For ever; a configuration that the camera cannot have ends it.

        Raises:
            ConfigError: such a configuration.
        """
        while True:
            try:
                self._look(time.monotonic() + WAIT_S)
            except UnavailableError as error:
                self._drop()
                self._reason = str(error)
            except ChildFailedError as error:
                self._drop()
                self._reason = f"no camera: its driver {error}"
            if self._info is None:
                yield Waiting(self._reason)
                continue
            yield Segment(self._info.sensor or "camera", self._opened)
            self._drop()

    def _look(self, deadline: float) -> None:
        """Hear what the child has to say, until there is a camera, or the deadline."""
        if self._child is None:
            pause = self._started + RESTART_S - time.monotonic()
            if pause > 0:
                time.sleep(min(pause, WAIT_S))
                return
            self._started = self._heard = time.monotonic()
            self._greeted = False
            try:
                progress_s = min(self._options.hang_s, FRAME_S)
                self._child = Child(MEMORY_BYTES, progress_s, "camera_child", greeting=False)
            except OSError as error:
                raise ChildFailedError(f"could not be started: {error.strerror}") from None
            self._child.request(self._options.request())
        while (left := deadline - time.monotonic()) > 0:
            if not self._child.ready(left):
                hang_s, look_s = self._options.hang_s, self._options.look_s
                most_s = hang_s + look_s if self._greeted else max(hang_s, START_S)
                if time.monotonic() - self._heard > most_s:
                    raise ChildFailedError(f"made no progress for {hang_s:g} s")
                return
            kind, body = self._child.receive()
            self._heard = time.monotonic()
            try:
                if not self._greeted:
                    self._child.greets(kind, body)
                    self._greeted = True
                elif kind == frames.FAILURE:
                    raise _failure(body, "source.camera")
                elif kind == frames.WAITING:
                    self._reason = str(json.loads(bytes(body))["reason"])
                elif kind == frames.INFO:
                    told = json.loads(bytes(body))
                    self._info = _INFO.validate_python(told | {"notes": tuple(told["notes"])})
                    return
                else:
                    raise ChildFailedError("sent a frame out of turn")
            except (ValueError, KeyError, TypeError):
                raise ChildFailedError("sent what is no frame: its memory may be corrupt") from None

    @contextmanager
    def _opened(self) -> Iterator[Stream]:
        assert self._child is not None and self._info is not None  # noqa: S101, PT018 (a segment was yielded)
        try:
            yield CameraStream(self._child, self._info, self._options.hang_s)
        finally:
            self._drop()

    def _drop(self) -> None:
        child, self._child, self._info = self._child, None, None
        if child is not None:
            child.kill()

    def close(self) -> None:
        """End the child; the kernel gives the camera back."""
        self._drop()


def create(options: Options, base: Path) -> CameraSource:
    """See `sources`."""
    del base
    return CameraSource(options)

"""Encoding for CUBA LIF networks: a window of events becomes binary frames, one a step.

The window is divided into `steps` equal bins, ⌊steps·(t − t_start) / (t_end − t_start)⌋; a pixel of a frame is 1 if it
had an event in that bin. Timestamps outside the window count as the nearest within, and the sensor's field maps onto
the model's, both as in `encode`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from firstspike.cuba.definition import MAX_STEPS
from firstspike.encode import MAX_SIDE, MAX_SPAN_US, coordinates
from firstspike.errors import DataError
from firstspike.types import EVENT, Events


@dataclass(frozen=True, slots=True)
class Frames:
    """A window as frames; the counts add up to its events."""

    frames: NDArray[np.uint8]
    """(steps, channels, height, width), 0 or 1; belongs to the caller."""
    n_events: int
    """Events that lie in the model's field; several may make the same pixel 1."""
    out_of_bounds: int
    """Events beyond the sensor's geometry."""
    cropped: int
    """Events that the model's field leaves out."""


class FrameEncoder:
    """Encodes windows of one sensor for one network. For one thread at a time.

    Args:
        shape: (channels, height, width) of the frames; 2 channels: OFF then ON, 1: both together.
        steps: frames a window.
        sensor_width: pixels; events beyond are dropped and counted.
        sensor_height: pixels.
        fit: how the sensor's field maps onto the frames: see `encode`.

    Raises:
        DataError: a side or the number of steps is not possible.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        steps: int,
        sensor_width: int,
        sensor_height: int,
        fit: Literal["stretch", "crop", "centre"] = "stretch",
    ) -> None:
        channels, height, width = shape
        if channels not in (1, 2) or not 1 <= steps <= MAX_STEPS:
            raise DataError(f"{channels} channels and {steps} steps: must be 1 or 2, and 1 to {MAX_STEPS}")
        for side in (height, width, sensor_height, sensor_width):
            if not 1 <= side <= MAX_SIDE:
                raise DataError(f"a side of {side} pixels: must be 1 to {MAX_SIDE}")
        # A coordinate beyond the sensor (uint16) finds −2, one outside the field −1.
        self._columns, self._rows = np.full(MAX_SIDE, -2, np.int32), np.full(MAX_SIDE, -2, np.int32)
        self._columns[:sensor_width] = coordinates(fit, sensor_width, width, (sensor_height, height))
        self._rows[:sensor_height] = coordinates(fit, sensor_height, height, (sensor_width, width))
        self._shape = (steps, channels, height, width)

    def encode(self, events: Events, t_start_us: int, t_end_us: int) -> Frames:
        """Encode one window.

        Args:
            events: in any order; coordinates may be anything.
            t_start_us: first µs of the window.
            t_end_us: first µs after it.

        Raises:
            DataError: events of another dtype, or a window without duration.
        """
        if events.dtype != EVENT or events.ndim != 1:
            raise DataError(f"events are {events.dtype} of shape {events.shape}, must be one dimension of types.EVENT")
        span = t_end_us - t_start_us
        if not 1 <= span <= MAX_SPAN_US // MAX_STEPS:
            raise DataError(f"window from {t_start_us} to {t_end_us} µs: must last 1 to {MAX_SPAN_US // MAX_STEPS} µs")
        steps, channels, height, width = self._shape
        x, y = self._columns[events["x"]], self._rows[events["y"]]
        seen = (x >= 0) & (y >= 0)
        inside = events[seen]
        step = steps * (np.clip(inside["t"], t_start_us, t_end_us - 1) - t_start_us) // span
        channel = (inside["p"] != 0).astype(np.int64) if channels == 2 else np.zeros(len(inside), np.int64)
        frames = np.zeros(self._shape, np.uint8)
        frames.reshape(-1)[((step * channels + channel) * height + y[seen]) * width + x[seen]] = 1
        outside = int(((x == -2) | (y == -2)).sum())
        return Frames(frames, len(inside), outside, len(events) - len(inside) - outside)

"""Encoding for spiking fronts: a window of events becomes binary frames, one a step.

A frame is 1 where a pixel had at least one event in its part of the window: step ⌊T·(t − t_start) / (t_end − t_start)⌋.
A timestamp outside the window counts as the nearest one within. The sensor's field maps onto the model's as in
`encode`.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from firstspike import encode
from firstspike.bundle import InputSpec
from firstspike.types import Events, Spikes


class WindowEncoder(Protocol):
    """Encodes windows of one sensor for one model. For one thread at a time."""

    sensor: tuple[int, int]
    """Its width and height, in pixels."""

    def encode(self, events: Events, t_start_us: int, t_end_us: int) -> Spikes:
        """Encode one window: see `encode.Encoder.encode`."""


def encoder_for(spec: InputSpec, sensor_width: int, sensor_height: int) -> WindowEncoder:
    """The encoder that a model's input asks for; arguments and errors as `encode.Encoder`."""
    if spec.encoding == "frames":
        return FrameEncoder(spec, sensor_width, sensor_height)
    return encode.Encoder(spec, sensor_width, sensor_height)


class FrameEncoder:
    """See `WindowEncoder`; gives `Spikes` with `frames` and without `times`.

    Args:
        spec: the model's input.
        sensor_width: pixels; events beyond are dropped and counted.
        sensor_height: pixels.

    Raises:
        DataError: a side is not 1..65536 pixels.
    """

    def __init__(self, spec: InputSpec, sensor_width: int, sensor_height: int) -> None:
        columns, rows = encode.maps(spec, sensor_width, sensor_height)
        self._spec = spec
        # One place more, that events outside the sensor are sent to: they have to be told from those cropped.
        self._columns, self._rows = (np.append(one.astype(np.int64), OUTSIDE) for one in (columns, rows))
        self._width, self._height = self.sensor = sensor_width, sensor_height

    def encode(self, events: Events, t_start_us: int, t_end_us: int) -> Spikes:
        """Encode one window.

        Raises:
            DataError: events of another dtype, or a window without duration.
        """
        encode.check(events, t_start_us, t_end_us)
        spec = self._spec
        x = self._columns[np.minimum(events["x"], self._width)]
        y = self._rows[np.minimum(events["y"], self._height)]
        outside = (x == OUTSIDE) | (y == OUTSIDE)
        seen = (x >= 0) & (y >= 0)
        after = np.clip(events["t"][seen], t_start_us, t_end_us - 1) - t_start_us
        step = spec.steps * after // (t_end_us - t_start_us)
        channel = (events["p"][seen] != 0).astype(np.int64) if spec.channels == 2 else 0
        frames = np.zeros((spec.steps, spec.channels, spec.height, spec.width), np.uint8)
        frames.reshape(-1)[((step * spec.channels + channel) * spec.height + y[seen]) * spec.width + x[seen]] = 1
        n, out, active = int(seen.sum()), int(outside.sum()), int(np.count_nonzero(frames))
        return Spikes(spec.steps, np.empty((0, 0, 0), np.uint8), n, out, len(events) - n - out, frames, active)


OUTSIDE = -2
"""Place of what lies outside the sensor; −1 is cropped."""

"""Encoding: a window of events becomes one spike time a pixel and channel, the network's input.

Latency code of Quartz (Lenz, Orchard, Sheik 2023), Eq. 1: a value p in [0, 1] spikes at s = ⌊T(1 − p)⌋, the larger the
sooner. Two readings of a window:

- `count`: p = min(c / C, 1) for c events on the pixel, so s = T·(C − min(c, C)) // C in integers;
- `first`: the time of the pixel's earliest event, s = ⌊T·(t − t_start) / (t_end − t_start)⌋, T if there is none. A
  timestamp outside the window counts as the nearest one within (windows of a fixed count can hold such).

The sensor's field maps onto the model's (`InputSpec.fit`), for x and likewise y:

- `stretch`: x·W // sensor width. A sensor smaller than the model leaves gaps: pixels are not invented;
- `crop`: the largest central region of the model's aspect ratio, then stretched;
- `centre`: one to one, the centres aligned (rounded down); what does not fit is cropped, what is not covered silent.

`define` is the definition in NumPy; `Encoder` is native and equal to it in every value.
"""

from __future__ import annotations

import weakref
from ctypes import c_int64
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from firstspike.bundle import InputSpec
from firstspike.errors import DataError, UnavailableError
from firstspike.native import KERNELS, Kernels, library, pointer
from firstspike.types import EVENT, Events, Spikes

MAX_SIDE = 1 << 16
"""Coordinates are uint16."""
MAX_SPAN_US = 1 << 55
"""A thousand years: T·(t − t_start) stays within 64 bits."""


def coordinates(
    fit: Literal["stretch", "crop", "centre"], sensor: int, model: int, other: tuple[int, int]
) -> NDArray[np.int32]:
    """Where each sensor coordinate along one axis lies in the model.

    Args:
        fit: see the module.
        sensor: the sensor's pixels along this axis.
        model: the model's.
        other: (sensor's, model's) pixels along the other axis, which decide what `crop` keeps.

    Returns:
        Shape (sensor,): 0..model−1, or −1 where the coordinate is cropped.
    """
    place = np.arange(sensor, dtype=np.int64)
    if fit == "centre":
        place -= (sensor - model) // 2
    else:
        kept = sensor if fit == "stretch" else max(1, min(sensor, other[0] * model // other[1]))
        place -= (sensor - kept) // 2
        place = np.where((place >= 0) & (place < kept), place * model // kept, -1)
    return np.where((place >= 0) & (place < model), place, -1).astype(np.int32)


def maps(spec: InputSpec, sensor_width: int, sensor_height: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Where the sensor's columns and rows lie in the model: see `coordinates`.

    Raises:
        DataError: a side is not 1..65536 pixels.
    """
    if not (1 <= sensor_width <= MAX_SIDE and 1 <= sensor_height <= MAX_SIDE):
        raise DataError(f"sensor geometry {sensor_width}×{sensor_height}: each side must be 1 to {MAX_SIDE} pixels")
    columns = coordinates(spec.fit, sensor_width, spec.width, (sensor_height, spec.height))
    return columns, coordinates(spec.fit, sensor_height, spec.height, (sensor_width, spec.width))


def check(events: Events, t_start_us: int, t_end_us: int) -> None:
    """Refuse events of another dtype, and a window without duration.

    Raises:
        DataError: the text says what is wrong.
    """
    if events.dtype != EVENT or events.ndim != 1:
        raise DataError(f"events are {events.dtype} of shape {events.shape}, must be one dimension of types.EVENT")
    if not 1 <= t_end_us - t_start_us <= MAX_SPAN_US:
        raise DataError(f"window from {t_start_us} to {t_end_us} µs: must last 1 to {MAX_SPAN_US} µs")


def define(
    spec: InputSpec, sensor_width: int, sensor_height: int, events: Events, t_start_us: int, t_end_us: int
) -> Spikes:
    """Encode one window: the definition. Arguments, result and errors as `Encoder` and `Encoder.encode`."""
    columns, rows = maps(spec, sensor_width, sensor_height)
    check(events, t_start_us, t_end_us)
    inside = events[(events["x"] < sensor_width) & (events["y"] < sensor_height)]
    x, y = columns[inside["x"]], rows[inside["y"]]
    seen = (x >= 0) & (y >= 0)
    channel = (inside["p"] != 0).astype(int) if spec.channels == 2 else np.zeros(len(inside), int)
    pixel = (channel[seen], y[seen], x[seen])
    shape, steps = (spec.channels, spec.height, spec.width), spec.steps
    if spec.encoding == "count":
        count = np.zeros(shape, np.int64)
        np.add.at(count, pixel, 1)
        times = steps * (spec.count_scale - np.minimum(count, spec.count_scale)) // spec.count_scale
    else:
        after = np.clip(inside["t"][seen], t_start_us, t_end_us - 1) - t_start_us
        times = np.full(shape, steps, np.int64)
        np.minimum.at(times, pixel, steps * after // (t_end_us - t_start_us))
    n = int(seen.sum())
    active = int(np.count_nonzero(times < steps))
    return Spikes(steps, times.astype(np.uint8), n, len(events) - len(inside), len(inside) - n, active=active)


class Encoder:
    """Encodes windows of one sensor for one model. For one thread at a time.

    Args:
        spec: the model's input.
        sensor_width: pixels; events beyond are dropped and counted.
        sensor_height: pixels.
        kernels: the best that this machine has, unless told.

    Raises:
        DataError: a side is not 1..65536 pixels.
        UnavailableError: the native library, memory, or the kernels that were asked for are missing.
    """

    def __init__(self, spec: InputSpec, sensor_width: int, sensor_height: int, kernels: Kernels = "best") -> None:
        columns, rows = maps(spec, sensor_width, sensor_height)
        lib = library()
        handle = lib.fs_encoder_new(
            int(spec.encoding == "first"), spec.channels, spec.height, spec.width, spec.steps, spec.count_scale,
            sensor_width, sensor_height, columns.ctypes.data, rows.ctypes.data,
        )  # fmt: skip
        if not handle:
            raise UnavailableError(f"no memory for an encoder of {spec.channels}×{spec.height}×{spec.width} pixels")
        weakref.finalize(self, lib.fs_encoder_free, handle)
        if lib.fs_encoder_kernels(handle, KERNELS[kernels]):
            raise UnavailableError(f"kernels {kernels!r} are not in this build or not for this machine: use 'best'")
        self._handle, self._encode = handle, lib.fs_encode
        self.sensor = sensor_width, sensor_height
        self._steps, self._shape = spec.steps, (spec.channels, spec.height, spec.width)
        self._counts = (c_int64 * 4)()

    def encode(self, events: Events, t_start_us: int, t_end_us: int) -> Spikes:
        """Encode one window.

        Args:
            events: in any order; coordinates may be anything.
            t_start_us: first µs of the window.
            t_end_us: first µs after it.

        Returns:
            Spikes whose `times` are (channels, height, width) and belong to the caller; `n_events`, `out_of_bounds`
            and `cropped` add up to the number of events.

        Raises:
            DataError: events of another dtype, or a window without duration.
        """
        check(events, t_start_us, t_end_us)
        if not events.flags.c_contiguous:
            events = np.ascontiguousarray(events)
        times = np.empty(self._shape, np.uint8)
        counts = self._counts
        self._encode(self._handle, pointer(events), len(events), t_start_us, t_end_us, pointer(times), counts)
        return Spikes(self._steps, times, counts[0], counts[1], counts[2], active=counts[3])

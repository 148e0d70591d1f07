"""A model of the pixels of a dynamic vision sensor (DVS).

A pixel remembers the logarithm of the light at its last event and sends an event whenever the logarithm has moved
from there by its threshold: ON where it became brighter, OFF where darker (Lichtsteiner, Posch, Delbruck 2008, "A
128×128 120 dB 15 µs latency asynchronous temporal contrast vision sensor", section II). What makes a real sensor
differ from that is modelled as far as a recording of moving shapes shows it, after the effects named by Hu, Liu,
Delbruck 2021, "v2e: From Video Frames to Realistic DVS Events", section 3: thresholds that differ from pixel to
pixel, a photoreceptor of limited bandwidth, background events, hot pixels, a refractory time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from firstspike.errors import UsageError
from firstspike.types import EVENT, Events


@dataclass(frozen=True, slots=True)
class Pixel:
    """What the pixels of one sensor have in common.

    The defaults were fitted to N-MNIST recordings (samples 1 to 800): see models/nmnist/CARD.md.

    Raises:
        UsageError: a value is out of its range; the text names it.
    """

    threshold: float = 0.11
    """Mean contrast threshold, in natural logarithms of luminance, the same for ON and OFF. Above 0."""
    mismatch: float = 0.12
    """Standard deviation of the thresholds over the array, relative to their mean; ON and OFF vary on their own."""
    low_pass_us: float = 2_700.0
    """Time constant of the photoreceptor, a first-order low-pass on the logarithm. 0 for none."""
    noise_hz: float = 0.5
    """Background events a second and pixel, Poisson, half of them ON. They leave the remembered level alone."""
    hot_pixels: int = 1
    """Pixels that send events all the time, at places drawn from the seed."""
    hot_hz: float = 50.0
    """Events a second of a hot pixel, Poisson, half of them ON."""
    refractory_us: float = 0.0
    """An event less than this after the pixel's last one is not sent, though the remembered level moves on."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.threshold) and self.threshold > 0):
            raise UsageError(f"pixel: threshold is {self.threshold}: give a number above 0")
        for name in ("mismatch", "low_pass_us", "noise_hz", "hot_pixels", "hot_hz", "refractory_us"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise UsageError(f"pixel: {name} is {value}: give a finite number of at least 0")


class Raw(NamedTuple):
    """Events of a step before they are sorted, one array entry an event."""

    pixel: NDArray[np.intp]
    """Flat index into the array's shape, C order."""
    t_us: NDArray[np.float64]
    """Time within (start, end] of the step, µs."""
    on: NDArray[np.bool_]
    """True for ON."""


class PixelArray:
    """The state of an array of pixels, advanced frame by frame.

    Between two frames the photoreceptor's output is taken to move along a straight line, so an event's time is exact
    for that line; frames 1 to 2 ms apart are close enough for hand-sized motion of a pixel in some ms.
    """

    def __init__(self, shape: tuple[int, ...], pixel: Pixel, rng: np.random.Generator) -> None:
        """Draw the fixed pattern of the array.

        Args:
            shape: of the frames. The last two axes are height and width; any axes before them are sensors of their
                own (a batch).
            pixel: what all pixels have in common.
            rng: draws the thresholds, the hot pixels and, later, the noise.
        """
        self.shape, self.pixel, self._rng = shape, pixel, rng
        # A threshold near zero would fire without end: real arrays are trimmed, and so is the tail of this draw.
        self._on, self._off = (
            (pixel.threshold * np.clip(rng.normal(1.0, pixel.mismatch, shape), 0.3, None)).astype(np.float32)
            for _ in range(2)
        )
        sensors, area = math.prod(shape[:-2]), math.prod(shape[-2:])
        self._hot = (rng.integers(0, area, (sensors, pixel.hot_pixels)) + area * np.arange(sensors)[:, None]).ravel()
        self._lagged = np.zeros(shape, np.float32)
        self._level = np.zeros(shape, np.float32)
        self._last = np.full(shape, -np.inf).ravel() if pixel.refractory_us else np.empty(0)
        self._t_us = 0.0

    def reset(self, luminance: NDArray[np.float32], t_us: float) -> None:
        """Let every pixel remember this frame as it is, with no events: the sensor leaves its global reset.

        Args:
            luminance: above 0, in any unit; float32 of the array's shape.
            t_us: time of the frame, µs.
        """
        self._lagged = np.log(luminance)
        # Pixels rest anywhere between their thresholds, not at the middle: without this their first events coincide.
        offset = self._rng.uniform(-0.5, 0.5, self.shape).astype(np.float32)
        self._level = self._lagged + offset * np.minimum(self._on, self._off)
        self._t_us = t_us

    def expose(self, luminance: NDArray[np.float32], t_us: float) -> Raw:
        """Advance to the next frame and give the events since the last one, unsorted.

        Args:
            luminance: above 0; float32 of the array's shape.
            t_us: time of the frame, µs; after the last one's.
        """
        start, span = self._t_us, t_us - self._t_us
        before = self._lagged
        gain = 1.0 - math.exp(-span / self.pixel.low_pass_us) if self.pixel.low_pass_us else 1.0
        self._lagged = before + np.float32(gain) * (np.log(luminance) - before)
        self._t_us = t_us
        parts = [self._crossings(before, start, span, on=on) for on in (True, False)]
        parts.append(self._noise(start, span))
        raw = Raw(*(np.concatenate(column) for column in zip(*parts, strict=True)))
        return self._spare_refractory(raw) if self.pixel.refractory_us else raw

    def _crossings(self, before: NDArray[np.float32], start: float, span: float, *, on: bool) -> Raw:
        theta, sign = (self._on, np.float32(1)) if on else (self._off, np.float32(-1))
        risen = sign * (self._lagged - self._level)
        index = np.flatnonzero(risen >= theta)
        theta_at = theta.ravel()[index]
        count = np.floor(risen.ravel()[index] / theta_at).astype(np.intp)
        first = sign * (self._level.ravel()[index] - before.ravel()[index])  # how far the level lay ahead at the start
        moved = sign * (self._lagged.ravel()[index] - before.ravel()[index])
        self._level.ravel()[index] += sign * theta_at * count
        which = np.repeat(np.arange(len(index)), count)
        nth = 1 + np.arange(len(which)) - np.repeat(np.cumsum(count) - count, count)
        reach = np.maximum(moved, np.float32(1e-9))[which]
        share = np.clip((first[which] + nth * theta_at[which]) / reach, 0.0, 1.0)
        return Raw(index[which], start + span * share.astype(np.float64), np.full(len(which), on))

    def _noise(self, start: float, span: float) -> Raw:
        rng, size, seconds = self._rng, math.prod(self.shape), span * 1e-6
        index = np.concatenate(
            [
                rng.integers(0, size, rng.poisson(self.pixel.noise_hz * seconds * size)),
                np.repeat(self._hot, rng.poisson(self.pixel.hot_hz * seconds, len(self._hot))),
            ]
        )
        return Raw(index, start + span * rng.random(len(index)), rng.random(len(index)) < 0.5)

    def _spare_refractory(self, raw: Raw) -> Raw:
        """Drop what comes too soon after a pixel's last event that was sent, in order of time."""
        order = np.lexsort((raw.t_us, raw.pixel))
        index, t_us = raw.pixel[order], raw.t_us[order]
        keep = np.zeros(len(index), bool)
        pending = np.arange(len(index))
        while len(pending):
            # Of each pixel the first that is still to be judged: one round an event of the busiest pixel.
            lead = pending[np.flatnonzero(np.diff(index[pending], prepend=-1))]
            fits = t_us[lead] - self._last[index[lead]] >= self.pixel.refractory_us
            keep[lead[fits]] = True
            self._last[index[lead[fits]]] = t_us[lead[fits]]
            pending = np.setdiff1d(pending, lead, assume_unique=True)
        sent = order[keep]
        return Raw(raw.pixel[sent], raw.t_us[sent], raw.on[sent])


def to_events(raw: Raw, height: int, width: int) -> Events:
    """Sort the events of one sensor by time (ties by pixel) and pack them, times rounded down to whole µs."""
    t_us = np.floor(raw.t_us).astype(np.int64)
    order = np.lexsort((raw.on, raw.pixel, t_us))
    events = np.zeros(len(order), EVENT)
    events["t"] = t_us[order]
    events["y"], events["x"] = np.divmod(raw.pixel[order] % (height * width), width)
    events["p"] = raw.on[order]
    return events

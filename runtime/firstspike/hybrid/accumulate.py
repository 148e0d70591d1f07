"""The accumulator between a spiking front and an ANN back: how often each neuron spiked in each interval of I steps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from firstspike.bundle import Bundle
from firstspike.errors import BundleError

MAX_INTERVAL = 255
"""A count is a byte."""


def accumulate(spikes: NDArray[np.uint8], interval: int) -> NDArray[np.uint8]:
    """Count spikes over intervals; the count frames go side by side, as channels.

    Args:
        spikes: 0 or 1, shape (steps, channels, height, width).
        interval: I, 1 to 255 steps.

    Returns:
        Counts 0..I, shape (steps/I · channels, height, width): channel f·channels + c is channel c of count frame f,
        which covers the steps f·I to f·I + I − 1.

    Raises:
        ValueError: the steps do not divide by the interval, or a count would not fit a byte.
    """
    steps = len(spikes)
    if not 1 <= interval <= MAX_INTERVAL:
        raise ValueError(f"an interval of {interval} steps: must be 1 to {MAX_INTERVAL}")
    if steps % interval:
        raise ValueError(f"{steps} steps do not divide by an interval of {interval}")
    frames = spikes.reshape(steps // interval, interval, *spikes.shape[1:])
    # Bytes suffice for the sums, and NumPy would take eight bytes a count.
    counts: NDArray[np.uint8] = np.add.reduce(frames, axis=1, dtype=np.uint8)
    return counts.reshape(-1, *spikes.shape[2:])


def accumulated_shape(neurons: tuple[int, int, int], steps: int, interval: int) -> tuple[int, int, int]:
    """Shape of the counts of a front's neurons (channels, height, width)."""
    channels, height, width = neurons
    return channels * (steps // interval), height, width


def interval_of(bundle: Bundle) -> int:
    """The interval of a hybrid.

    Raises:
        BundleError: the bundle is none, or has no back.
    """
    parts = bundle.manifest.parts
    if parts is None or parts.interval is None:
        raise BundleError(f"{bundle.folder}: the bundle has no {'parts' if parts is None else 'back'}")
    return parts.interval

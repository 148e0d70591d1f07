"""What a CUBA LIF network computes: naive NumPy, step by step. This is the specification; the emulator must equal it.

It is Loihi's arithmetic as Lava's fixed-point models (`LIF` and `LIFReset`, `bit_accurate_loihi`) and lava-dl's `netx`
have it. At each step t, for the layers in order, with the layer before already at step t:

1. **Accumulate.** a = Σ w of the input spikes of step t, of step t − delay in a layer with delays.
2. **Current.** u ← decay(u, current_decay) + 64·a, where decay(x, d) = sign(x)·⌊|x|·(4096 − d) / 4096⌋: towards zero.
   If u then leaves (−2²³, 2²³], it wraps: 2²⁴ is taken from it or added to it, once.
3. **Voltage.** v ← decay(v, voltage_decay) + u + 64·bias, and stops at ±(2²³ − 1).
4. **Spike** if v > 64·threshold; v is then 0. The current stays.

Every sample begins with u = v = 0 and nothing delayed. Time is each layer's own: Lava's synapses are late by a step,
so there layer l (from 0, flatten not counted) says l + 1 steps later what it says here. `netx` runs one sample after
another like this with `reset_interval` = steps and, where the input has no neuron, `reset_offset` = 1; delayed spikes
it does not reset.

A wrap is what the chip does with a current too large for it: no error, and hardly ever wanted. They are counted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from firstspike.cuba.limits import check
from firstspike.cuba.network import Conv, Dense, Layer, Network, Neuron, Pool, Shape
from firstspike.errors import DataError

MAX_STEPS = 4096
_LIMIT = 1 << 23
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Result:
    """One sample, with the spikes of every neuron."""

    spikes: tuple[NDArray[np.uint8], ...]
    """For each layer, flatten included: 0 or 1, shape (steps, channels, height, width)."""
    wraps: int
    """How often a neuron's current left 24 bits."""


def run(network: Network, frames: NDArray[np.uint8]) -> Result:
    """Simulate one sample.

    Args:
        network: the network; checked (`limits.check`).
        frames: (steps, *network.input_shape), 0 or 1.

    Raises:
        BundleError: the network is not allowed.
        DataError: `frames` does not fit the network.
    """
    check(network)
    check_frames(network.input_shape, frames)
    if int(frames.max()) > 1:
        raise DataError(f"a frame holds the value {int(frames.max())}: frames are 0 or 1")
    spikes, wraps = frames, 0
    found = []
    for layer, shape in zip(network.layers, network.shapes(), strict=True):
        if isinstance(layer, Conv | Dense | Pool):
            spikes, wrapped = _neurons(layer, shape, spikes)
            wraps += wrapped
        else:
            spikes = spikes.reshape(len(frames), *shape)
        found.append(spikes)
    return Result(tuple(found), wraps)


def check_frames(shape: Shape, frames: NDArray[np.uint8]) -> None:
    """Refuse frames of another dtype or shape, or too many or none (DataError)."""
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[1:] != shape:
        raise DataError(
            f"frames are {frames.dtype} of shape {frames.shape}, the network takes uint8 of (steps, *{shape})"
        )
    if not 1 <= len(frames) <= MAX_STEPS:
        raise DataError(f"{len(frames)} frames: a sample has 1 to {MAX_STEPS} steps")


def decay(x: Ints, amount: int) -> Ints:
    """What is left of x after one step, rounded towards zero."""
    return np.asarray(np.sign(x) * (np.abs(x) * (4096 - amount) >> 12))


def _neurons(layer: Conv | Dense | Pool, shape: Shape, incoming: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], int]:
    """All steps of one layer: what comes in at a step depends on the layer before alone."""
    neuron: Neuron = layer.neuron
    u, v = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    bias = np.zeros(shape[0], np.int64) if isinstance(layer, Pool) else layer.bias.astype(np.int64)
    late = layer.delay if isinstance(layer, Dense) else np.zeros(shape[0], np.uint8)
    inputs = [_weigh(layer, frame.astype(np.int64)) for frame in incoming]
    spikes, wraps = np.zeros((len(incoming), *shape), np.uint8), 0
    for t in range(len(incoming)):
        a = np.stack(
            [inputs[t - d][c] if t >= d else np.zeros(shape[1:], np.int64) for c, d in enumerate(late.tolist())]
        )
        u = decay(u, neuron.current_decay) + 64 * a
        above, below = u > _LIMIT, u <= -_LIMIT
        u = u - 2 * _LIMIT * above + 2 * _LIMIT * below
        wraps += int(above.sum() + below.sum())
        v = np.clip(decay(v, neuron.voltage_decay) + u + 64 * bias[:, None, None], 1 - _LIMIT, _LIMIT - 1)
        spikes[t] = v > 64 * neuron.threshold
        v[spikes[t] != 0] = 0
    return spikes, wraps


def _weigh(layer: Layer, x: Ints) -> Ints:
    """Σ w·x: (channels, height, width) to the layer's output."""
    if isinstance(layer, Dense):
        return np.asarray(layer.weights.astype(np.int64) @ x.reshape(-1))[:, None, None]
    assert isinstance(layer, Conv | Pool)  # noqa: S101  (narrows the type)
    weights, (sy, sx) = layer.weights.astype(np.int64), layer.stride
    if isinstance(layer, Conv):
        (py, px) = layer.padding
        x = np.pad(x, ((0, 0), (py, py), (px, px)))
    patches = np.lib.stride_tricks.sliding_window_view(x, weights.shape[-2:], axis=(1, 2))[:, ::sy, ::sx]
    return np.asarray(np.einsum("chwyx,ocyx->ohw" if isinstance(layer, Conv) else "chwyx,yx->chw", patches, weights))

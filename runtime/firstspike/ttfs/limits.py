"""Which networks are allowed: sane parameters, bounded size, and potentials that provably fit.

A potential must fit Loihi's 24-bit signed membrane, |u| < 2²³, at every step of every input. This is decided before
anything runs, from the weights alone, and it is what entitles the emulator to 32-bit arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firstspike.errors import BundleError
from firstspike.ttfs.network import (
    MAX_DURATION,
    MAX_STEPS,
    Conv,
    Dense,
    Flatten,
    Frame,
    Layer,
    MaxPool,
    Network,
    Readout,
)

POTENTIAL_LIMIT = 1 << 23
"""Loihi's membrane potential is 24 bits, signed."""
CURRENT_LIMIT = 1 << 30
"""Currents of a rate-coded layer, so that a potential and a current fit 32 bits."""
MAX_LAYERS = 64
MAX_NEURONS = 1 << 24
MAX_WEIGHTS = 1 << 26
MAX_SIDE = 1 << 16
"""Largest channel count, height or width of the input, kernel or stride of a pool."""


@dataclass(frozen=True, slots=True)
class Bound:
    """What one weighted layer's potential can reach, over all inputs."""

    earliest: int
    """No neuron of the layer spikes before this global step."""
    lowest: int
    """Least potential of the physical neuron, the gate's offset included."""
    highest: int
    """Greatest potential before a neuron has spiked."""
    gate: int
    """K: the offset −K during the input phase that keeps a gated neuron silent; 0 for `quartz`."""


def check(network: Network) -> dict[int, Bound]:
    """Refuse a network that is malformed, too large, or whose potentials could leave 24 bits.

    Returns:
        The bound of every weighted layer, by the layer's number.

    Raises:
        BundleError: naming the layer by its number and kind, and what to change.
    """
    _check_head(network)
    for number, layer in enumerate(network.layers):
        _check_layer(layer, name(number, layer))
        if network.neuron == "rate" and isinstance(layer, Conv | Dense):
            _within(f"{name(number, layer)} steps (neuron 'rate')", layer.readout.steps, 1, 1)
    shapes = network.shapes()
    if (neurons := sum(map(prod, shapes))) > MAX_NEURONS:
        raise BundleError(f"the network has {neurons} neurons, at most {MAX_NEURONS} are allowed: make it smaller")
    if (weights := sum(x.weights.size for x in network.layers if isinstance(x, Conv | Dense))) > MAX_WEIGHTS:
        raise BundleError(f"the network has {weights} weights, at most {MAX_WEIGHTS} are allowed: make it smaller")
    return _check_currents(network) if network.neuron == "rate" else _check_potentials(network)


def name(number: int, layer: Layer) -> str:
    """How an error names a layer."""
    return f"layer {number} ({type(layer).__name__})"


def _check_head(network: Network) -> None:
    if network.neuron not in ("gated", "quartz", "rate"):
        raise BundleError(f"neuron is {network.neuron!r}, must be 'gated', 'quartz' or 'rate'")
    least, most = (1, MAX_DURATION) if network.neuron == "rate" else (0, 0)
    _within(f"duration (neuron {network.neuron!r})", network.duration, least, most)
    _within("input_steps", network.input_steps, 1, MAX_STEPS)
    if len(network.input_shape) != 3:
        raise BundleError(f"input_shape is {network.input_shape}, must be (channels, height, width)")
    for side in network.input_shape:
        _within("input_shape", side, 1, MAX_SIDE)
    if prod(network.input_shape) > MAX_NEURONS:
        raise BundleError(f"input_shape {network.input_shape} has more than {MAX_NEURONS} elements: make it smaller")
    if len(network.layers) > MAX_LAYERS:
        raise BundleError(f"the network has {len(network.layers)} layers, at most {MAX_LAYERS} are allowed")
    if not network.layers or not isinstance(network.layers[-1], Conv | Dense):
        raise BundleError("the last layer must be weighted (Conv or Dense): its potentials are the answer")


def _check_layer(layer: Layer, name: str) -> None:
    match layer:
        case Conv():
            _array(f"{name} weights", layer.weights, np.int8, 4)
            kh, kw = layer.weights.shape[2:]
            for padding, side in zip(layer.padding, (kh, kw), strict=True):
                _within(f"{name} padding", padding, 0, side - 1)
        case Dense():
            _array(f"{name} weights", layer.weights, np.int8, 2)
        case MaxPool():
            for side in layer.kernel:
                _within(f"{name} kernel", side, 1, MAX_SIDE)
        case Flatten():
            pass
    if isinstance(layer, Conv | MaxPool):
        for stride in layer.stride:
            _within(f"{name} stride", stride, 1, MAX_SIDE)
    if isinstance(layer, Conv | Dense):
        _array(f"{name} bias", layer.bias, np.int16, 1)
        if layer.bias.shape[0] != layer.weights.shape[0]:
            raise BundleError(f"{name}: {layer.bias.shape[0]} biases for {layer.weights.shape[0]} outputs")
        _check_readout(layer.readout, name)


def _check_readout(readout: Readout, name: str) -> None:
    _within(f"{name} steps", readout.steps, 1, MAX_STEPS)
    _within(f"{name} ramp", readout.ramp, 1, POTENTIAL_LIMIT)
    _within(f"{name} rounding", readout.rounding, 0, readout.ramp - 1)


def _array(name: str, array: NDArray[Any], dtype: type[np.generic], ndim: int) -> None:
    if array.dtype != dtype or array.ndim != ndim or array.size == 0:
        raise BundleError(
            f"{name}: {array.dtype} of shape {array.shape}, must be {np.dtype(dtype)} with {ndim} dimensions, not empty"
        )


def _within(name: str, value: int, least: int, most: int) -> None:
    if type(value) is not int or not least <= value <= most:
        raise BundleError(f"{name} is {value!r}, must be an integer from {least} to {most}")


def _check_potentials(network: Network) -> dict[int, Bound]:
    """Follow the earliest possible spike through the layers: it limits the activations, and they the potentials."""
    earliest, bounds = 0, {}
    for number, (layer, frame) in enumerate(zip(network.layers, network.frames(), strict=True)):
        if not isinstance(layer, Conv | Dense):
            continue
        bound = bounds[number] = _bound(layer, frame, earliest, gated=network.neuron == "gated")
        earliest = bound.earliest
        if max(bound.highest, -bound.lowest) >= POTENTIAL_LIMIT:
            raise BundleError(
                f"{name(number, layer)}: its potential can reach {bound.lowest} to {bound.highest}, which leaves "
                f"24 bits (|u| < {POTENTIAL_LIMIT}): use smaller weights, fewer inputs, a smaller ramp or fewer steps"
            )
    return bounds


def _bound(layer: Conv | Dense, frame: Frame, earliest_input: int, *, gated: bool) -> Bound:
    """Bound u over every input whose spikes lie in [earliest_input, frame.end].

    At a step t ≤ frame.end an input contributes w·max(t − s, 0), so u(t) is greatest when all excitatory inputs came
    at `earliest_input` and all inhibitory ones not yet. The bound is tight where inputs are free.
    """
    readout = layer.readout
    weights = layer.weights.reshape(layer.weights.shape[0], -1).astype(np.int64)
    bias = layer.bias.astype(np.int64)
    excitation, inhibition = np.maximum(weights, 0).sum(1), np.minimum(weights, 0).sum(1)

    def highest(t: int) -> int:
        charge = np.maximum(bias, 0) * max(t - frame.start, 0)
        return int((excitation * (t - earliest_input) + charge).max())

    top = highest(frame.end)
    bottom = int((inhibition * (frame.end - earliest_input) + np.minimum(bias, 0) * (frame.end - frame.start)).min())
    gate = max(0, top - readout.threshold + 1) if gated else 0
    # While it ramps, a silent neuron is below θ before each step of S, and so below θ + S after it.
    peak = max(top, readout.threshold + readout.ramp - 1)
    low, high = (frame.end, frame.end) if gated else (earliest_input, frame.end)
    while low < high:  # bisection for the first step at which some neuron could reach θ: highest(t) never falls
        middle = (low + high) // 2
        low, high = (low, middle) if highest(middle) >= readout.threshold else (middle + 1, high)
    return Bound(earliest=low, lowest=bottom - gate, highest=peak, gate=gate)


def _check_currents(network: Network) -> dict[int, Bound]:
    """A rate-coded layer's potential stops at 24 bits; its current, and the last one's sum of currents, must fit 30."""
    bounds, full = {}, network.input_steps
    for number, layer in enumerate(network.layers):
        if not isinstance(layer, Conv | Dense):
            continue
        weights = layer.weights.reshape(layer.weights.shape[0], -1).astype(np.int64)
        bias = layer.bias.astype(np.int64)
        top = int((np.maximum(weights, 0).sum(1) + np.maximum(bias, 0)).max()) * full
        bottom = int((np.minimum(weights, 0).sum(1) + np.minimum(bias, 0)).min()) * full
        times = network.duration if number == len(network.layers) - 1 else 1
        if max(top, -bottom) * times >= CURRENT_LIMIT or layer.readout.ramp >= POTENTIAL_LIMIT:
            raise BundleError(
                f"{name(number, layer)}: its current can reach {bottom} to {top} a step, {times} times (less than "
                f"{CURRENT_LIMIT} in all), and its threshold {layer.readout.ramp} must be below {POTENTIAL_LIMIT}: use "
                "smaller weights, fewer inputs, a smaller threshold or fewer steps"
            )
        lowest, highest = (max(1 - POTENTIAL_LIMIT, bottom * network.duration), top * network.duration)
        bounds[number] = Bound(earliest=0, lowest=lowest, highest=min(highest, POTENTIAL_LIMIT - 1), gate=0)
        full = 1
    return bounds

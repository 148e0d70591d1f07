"""Which CUBA LIF networks are allowed: what fits Loihi's fields, and sums that provably fit the arithmetic."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firstspike.cuba.network import Conv, Dense, Flatten, Layer, Network, Neuron, Pool, name
from firstspike.errors import BundleError

MAX_LAYERS = 64
MAX_NEURONS = 1 << 24
MAX_WEIGHTS = 1 << 26
MAX_SIDE = 1 << 16
MAX_THRESHOLD = (1 << 17) - 1
MAX_DELAY = 62
MAX_INPUT = 1 << 18
"""Largest sum of weights a step: with it one wrap brings any current back to 24 bits."""


def check(network: Network) -> None:
    """Refuse a network that is malformed, too large, or out of Loihi's ranges.

    Raises:
        BundleError: naming the layer by its number and kind, what is wrong, and what to change.
    """
    if len(network.input_shape) != 3:
        raise BundleError(f"input_shape is {network.input_shape}, must be (channels, height, width)")
    for side in network.input_shape:
        _within("input_shape", side, 1, MAX_SIDE)
    if not 1 <= len(network.layers) <= MAX_LAYERS:
        raise BundleError(f"the network has {len(network.layers)} layers, must have 1 to {MAX_LAYERS}")
    if all(isinstance(layer, Flatten) for layer in network.layers):
        raise BundleError("the network has no neurons: it needs a conv, dense or pool layer")
    for number, layer in enumerate(network.layers):
        if not isinstance(layer, Flatten):
            _check_layer(layer, name(number, layer))
    shapes = [network.input_shape, *network.shapes()]
    if (neurons := sum(map(prod, shapes))) > MAX_NEURONS:
        raise BundleError(f"the network has {neurons} neurons and inputs, at most {MAX_NEURONS} are allowed")
    weights = sum(layer.weights.size for layer in network.layers if not isinstance(layer, Flatten))
    if weights > MAX_WEIGHTS:
        raise BundleError(f"the network has {weights} weights, at most {MAX_WEIGHTS} are allowed: make it smaller")


def _check_layer(layer: Conv | Dense | Pool, name: str) -> None:
    _array(f"{name} weights", layer.weights, np.int16, {Conv: 4, Dense: 2, Pool: 2}[type(layer)])
    _check_weights(layer.weights, name)
    if isinstance(layer, Conv | Pool):
        for stride in layer.stride:
            _within(f"{name} stride", stride, 1, MAX_SIDE)
    if isinstance(layer, Conv):
        for padding, side in zip(layer.padding, layer.weights.shape[2:], strict=True):
            _within(f"{name} padding", padding, 0, side - 1)
    if isinstance(layer, Conv | Dense):
        _array(f"{name} bias", layer.bias, np.int16, 1)
        _one_each(layer, layer.bias, "biases", name)
        if int(layer.bias.min()) < -4096 or int(layer.bias.max()) > 4095:
            raise BundleError(f"{name}: biases from {layer.bias.min()} to {layer.bias.max()}, must be −4096 to 4095")
    if isinstance(layer, Dense):
        _array(f"{name} delay", layer.delay, np.uint8, 1)
        _one_each(layer, layer.delay, "delays", name)
        if int(layer.delay.max()) > MAX_DELAY:
            raise BundleError(f"{name}: a delay of {layer.delay.max()} steps, at most {MAX_DELAY} are possible")
    _check_neuron(layer.neuron, name)
    inputs = layer.weights.reshape(1 if isinstance(layer, Pool) else len(layer.weights), -1).astype(np.int64)
    if (most := int(max(np.maximum(inputs, 0).sum(1).max(), -np.minimum(inputs, 0).sum(1).min()))) > MAX_INPUT:
        raise BundleError(
            f"{name}: the weights of one neuron can add up to {most} a step, at most {MAX_INPUT} can be brought "
            "back to 24 bits: use smaller weights or fewer inputs"
        )


def _check_weights(weights: NDArray[np.int16], name: str) -> None:
    """Loihi's 8 bits: a sign and seven in steps of two, or eight where all have one sign."""
    low, high = int(weights.min()), int(weights.max())
    if low >= 0 or high <= 0:
        least, most, allowed = -256, 255, "0 to 255 or −256 to 0 where all have one sign"
    else:
        least, most, allowed = -256, 254, "even and −256 to 254 where signs are mixed"
        if (weights & 1).any():
            raise BundleError(f"{name}: odd weights, must be {allowed} (8 bits): train with SLAYER's quantisation on")
    if low < least or high > most:
        raise BundleError(f"{name}: weights from {low} to {high}, must be {allowed} (8 bits): scale the layer down")


def _check_neuron(neuron: Neuron, name: str) -> None:
    _within(f"{name} current_decay", neuron.current_decay, 0, 4096)
    _within(f"{name} voltage_decay", neuron.voltage_decay, 0, 4095)
    _within(f"{name} threshold", neuron.threshold, 1, MAX_THRESHOLD)


def _one_each(layer: Layer, array: NDArray[Any], what: str, name: str) -> None:
    assert isinstance(layer, Conv | Dense)  # noqa: S101  (narrows the type)
    if len(array) != len(layer.weights):
        raise BundleError(f"{name}: {len(array)} {what} for {len(layer.weights)} outputs")


def _array(name: str, array: NDArray[Any], dtype: type[np.generic], ndim: int) -> None:
    if array.dtype != dtype or array.ndim != ndim or array.size == 0:
        raise BundleError(
            f"{name}: {array.dtype} of shape {array.shape}, must be {np.dtype(dtype)} with {ndim} dimensions, not empty"
        )


def _within(name: str, value: int, least: int, most: int) -> None:
    if type(value) is not int or not least <= value <= most:
        raise BundleError(f"{name} is {value!r}, must be an integer from {least} to {most}")

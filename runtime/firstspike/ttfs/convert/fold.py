"""Linear operations without a rectifier between them become one layer: weights into weights, exactly.

An operation that stands before a weighted layer is folded into it from behind: the last one first.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from firstspike.errors import DataError
from firstspike.ttfs.limits import MAX_WEIGHTS
from firstspike.ttfs.network import Shape

Doubles = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Affine:
    """x·scale + shift; both broadcast to the tensor's (channels, height, width)."""

    name: str
    scale: Doubles
    shift: Doubles


@dataclass(frozen=True, slots=True)
class Average:
    """Average pooling without padding of a tensor of `shape`."""

    name: str
    shape: Shape
    kernel: tuple[int, int]
    stride: tuple[int, int]

    def shape_after(self) -> Shape:
        """Shape of the result."""
        channels, height, width = self.shape
        (ky, kx), (sy, sx) = self.kernel, self.stride
        return (channels, (height - ky) // sy + 1, (width - kx) // sx + 1)


@dataclass(frozen=True, slots=True)
class Reshape:
    """(C, H, W) to (C·H·W, 1, 1); a tensor of `shape`."""

    shape: Shape


Linear = Affine | Average | Reshape


@dataclass(frozen=True, slots=True)
class Parameters:
    """A weighted layer while things are folded into it, in double precision."""

    weights: Doubles
    """(out, in, kernel height, kernel width) or (out, in)."""
    bias: Doubles
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)


def after(layer: Parameters, affine: Affine) -> Parameters:
    """The layer followed by an affine map of its outputs.

    Args:
        layer: the layer.
        affine: scale and shift of one value a channel, or one value.
    """
    scale, shift = (np.broadcast_to(part.reshape(-1), len(layer.bias)) for part in (affine.scale, affine.shift))
    weights = layer.weights * scale.reshape(-1, *[1] * (layer.weights.ndim - 1))
    return Parameters(weights, layer.bias * scale + shift, layer.stride, layer.padding)


def before_dense(layer: Parameters, pending: list[Linear], shape: Shape) -> Parameters:
    """The dense layer with everything that stands before it.

    Args:
        layer: weights (out, in).
        pending: the operations in their order.
        shape: of the tensor that the layer takes.
    """
    weights, bias = layer.weights.reshape(-1, *shape), layer.bias
    for operation in reversed(pending):
        match operation:
            case Affine():
                bias = bias + (weights * operation.shift).sum((1, 2, 3))
                weights = weights * operation.scale
            case Average():
                weights = _spread(weights, operation)
            case Reshape():
                weights = weights.reshape(-1, *operation.shape)
    return Parameters(weights.reshape(len(bias), -1), bias)


def _spread(weights: Doubles, pool: Average) -> Doubles:
    """Weights of the average's inputs from those of its outputs: the transpose of the average."""
    (ky, kx), (sy, sx) = pool.kernel, pool.stride
    spread = np.zeros((len(weights), *pool.shape))
    for y in range(weights.shape[2]):
        for x in range(weights.shape[3]):
            share = weights[:, :, y, x, None, None] / (ky * kx)
            spread[:, :, y * sy : y * sy + ky, x * sx : x * sx + kx] += share
    return spread


def before_conv(layer: Parameters, pending: list[Linear]) -> Parameters:
    """The convolution with everything that stands before it.

    Raises:
        DataError: something cannot be folded exactly; the text names its node.
    """
    for operation in reversed(pending):
        match operation:
            case Affine():
                layer = _affine_before_conv(layer, operation)
            case Average():
                layer = _average_before_conv(layer, operation)
            case Reshape():
                raise DataError("a convolution follows a flattened tensor: not converted")
    return layer


def _affine_before_conv(layer: Parameters, affine: Affine) -> Parameters:
    if any(layer.padding) and affine.shift.any():
        raise DataError(
            f"{affine.name} adds a constant before a convolution with zero padding, where the border would differ: put "
            "it after the convolution, or train without padding"
        )
    channels = layer.weights.shape[1]
    scale, shift = (np.broadcast_to(part.reshape(-1), channels)[:, None, None] for part in (affine.scale, affine.shift))
    bias = layer.bias + (layer.weights * shift).sum((1, 2, 3))
    return Parameters(layer.weights * scale, bias, layer.stride, layer.padding)


def _average_before_conv(layer: Parameters, pool: Average) -> Parameters:
    whole = pool.kernel == pool.stride and all(
        side % part == 0 for side, part in zip(pool.shape[1:], pool.kernel, strict=True)
    )
    if any(layer.padding) and not whole:
        raise DataError(
            f"{pool.name} stands before a convolution with zero padding and does not divide its input evenly, so that "
            "the border would differ: use a stride equal to the kernel and a size that it divides"
        )
    (ky, kx), (sy, sx) = pool.kernel, pool.stride
    out, channels, height, width = layer.weights.shape
    composed = (out, channels, ky + (height - 1) * sy, kx + (width - 1) * sx)
    if prod(composed) > MAX_WEIGHTS:
        raise DataError(f"{pool.name}: folded into the next convolution it makes more than {MAX_WEIGHTS} weights")
    weights = np.zeros(composed)
    for y in range(height):
        for x in range(width):
            share = layer.weights[:, :, y, x, None, None] / (ky * kx)
            weights[:, :, y * sy : y * sy + ky, x * sx : x * sx + kx] += share
    stride = (layer.stride[0] * sy, layer.stride[1] * sx)
    return Parameters(weights, layer.bias, stride, (layer.padding[0] * sy, layer.padding[1] * sx))

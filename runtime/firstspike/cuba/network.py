"""A network of CUBA LIF neurons: its layers and their shapes.

CUBA LIF is Loihi's neuron: a current that decays, a voltage that integrates it and leaks, a threshold, a reset to zero.
lava-dl's SLAYER trains such networks and exports them as HDF5 (`hdf5` reads that). This module holds the parameters
only, in Loihi's units; `definition` says what they compute, `limits` which networks are allowed, `file` how they are
stored.

Tensors are (channels, height, width), spikes over time (steps, channels, height, width).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from firstspike.errors import BundleError

Shape = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Neuron:
    """The neurons of one layer. Decays are in 4096ths: d takes away d/4096 of a value at each step."""

    current_decay: int
    """0..4096: 4096 forgets the current at once, 0 never."""
    voltage_decay: int
    """0..4095."""
    threshold: int
    """1..2¹⁷−1, in units of a weight: a neuron spikes if its voltage exceeds 64 times this."""


@dataclass(frozen=True, slots=True)
class Conv:
    """A convolution (cross-correlation, as in PyTorch): zero padding, no dilation, no groups."""

    weights: NDArray[np.int16]
    """(out, in, kernel height, kernel width), see `limits` for their range."""
    bias: NDArray[np.int16]
    """(out,): added to the voltage at every step, in units of a weight; −4096..4095."""
    stride: tuple[int, int]
    padding: tuple[int, int]
    neuron: Neuron


@dataclass(frozen=True, slots=True)
class Dense:
    """A fully connected layer over a flattened input."""

    weights: NDArray[np.int16]
    """(out, in)."""
    bias: NDArray[np.int16]
    """(out,), as in `Conv`."""
    delay: NDArray[np.uint8]
    """(out,): steps, 0..62, by which all that comes in to a neuron is late."""
    neuron: Neuron


@dataclass(frozen=True, slots=True)
class Pool:
    """SLAYER's pooling: each neuron sums the spikes of its patch, the same weights in every channel; no padding."""

    weights: NDArray[np.int16]
    """(kernel height, kernel width)."""
    stride: tuple[int, int]
    neuron: Neuron


@dataclass(frozen=True, slots=True)
class Flatten:
    """(C, H, W) to (C·H·W, 1, 1) in C order; no neurons, no time."""


Layer = Conv | Dense | Pool | Flatten


@dataclass(frozen=True, slots=True)
class Network:
    """A feed-forward network; its input are binary frames, one a step."""

    input_shape: Shape
    layers: tuple[Layer, ...]

    def shapes(self) -> list[Shape]:
        """Output shape of every layer, in order.

        Raises:
            BundleError: a layer does not fit its input; the text names the layer by its number and kind.
        """
        shape, out = self.input_shape, []
        for number, layer in enumerate(self.layers):
            shape = _shape_after(layer, shape, name(number, layer))
            out.append(shape)
        return out


def name(number: int, layer: Layer) -> str:
    """How an error names a layer."""
    return f"layer {number} ({type(layer).__name__})"


def _shape_after(layer: Layer, shape: Shape, name: str) -> Shape:
    channels, height, width = shape
    padding = (0, 0)
    match layer:
        case Flatten():
            return (channels * height * width, 1, 1)
        case Dense():
            if (height, width) != (1, 1):
                raise BundleError(f"{name}: its input is {channels}×{height}×{width}: put a flatten before it")
            if layer.weights.shape[1] != channels:
                raise BundleError(
                    f"{name}: weights {layer.weights.shape} expect {layer.weights.shape[1]} inputs, the layer before "
                    f"gives {channels}"
                )
            return (layer.weights.shape[0], 1, 1)
        case Conv():
            out_channels, in_channels, kh, kw = layer.weights.shape
            padding = layer.padding
            if in_channels != channels:
                raise BundleError(f"{name}: weights expect {in_channels} channels, the layer before gives {channels}")
        case Pool():
            out_channels, (kh, kw) = channels, layer.weights.shape
    height, width = height + 2 * padding[0], width + 2 * padding[1]
    if kh > height or kw > width:
        raise BundleError(f"{name}: kernel {kh}×{kw} is larger than its input {height}×{width}")
    return (out_channels, (height - kh) // layer.stride[0] + 1, (width - kw) // layer.stride[1] + 1)

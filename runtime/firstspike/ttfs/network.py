"""The integer TTFS network: its layers and their shapes and times.

Quartz (Lenz, Orchard, Sheik 2023) turns each layer of an ANN into two phases: the input phase, in which input
spikes switch on currents, and the readout, in which a constant current turns the potential back into a time. This
module holds the parameters only; `definition` says what they compute, step by step, `limits` which networks are
allowed, and `file` how they are stored.

Tensors are (channels, height, width); weights are (out, in, kernel height, kernel width) or (out, in).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from firstspike.errors import BundleError
from firstspike.types import Frame as Frame

Neuron = Literal["gated", "quartz", "rate"]
"""`gated` and `quartz` code values as times (`definition`), `rate` as numbers of spikes (`rate`)."""
Shape = tuple[int, int, int]
MAX_STEPS = 255
"""Spike times travel as uint8."""
MAX_DURATION = 4096
"""Steps of a rate-coded inference."""


@dataclass(frozen=True, slots=True)
class Readout:
    """How a weighted layer turns a potential into a spike time.

    With `steps` T, `ramp` S and `rounding` r the threshold is θ = S·T − r. A neuron that does not fire early has the
    activation a = clip(⌊(u + r) / S⌋, 0, T), where u is its potential at the end of the input phase, and spikes
    T − a steps after it. r = 0 rounds down as the paper does, r = S // 2 rounds to nearest; 0 ≤ r < S.
    """

    steps: int
    ramp: int
    rounding: int

    @property
    def threshold(self) -> int:
        """θ, in units of the potential."""
        return self.ramp * self.steps - self.rounding


@dataclass(frozen=True, slots=True)
class Conv:
    """A convolution (cross-correlation, as in PyTorch and ONNX): zero padding, no dilation, no groups.

    `bias` b is a current switched on at the start of the input phase, so it adds b·T_in to the potential.
    """

    weights: NDArray[np.int8]
    bias: NDArray[np.int16]
    stride: tuple[int, int]
    padding: tuple[int, int]
    readout: Readout


@dataclass(frozen=True, slots=True)
class Dense:
    """A fully connected layer over a flattened input; `bias` as in `Conv`."""

    weights: NDArray[np.int8]
    bias: NDArray[np.int16]
    readout: Readout


@dataclass(frozen=True, slots=True)
class MaxPool:
    """The first spike of each patch wins: exact max-pooling, without neurons' arithmetic and without delay."""

    kernel: tuple[int, int]
    stride: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Flatten:
    """(C, H, W) to (C·H·W, 1, 1) in C order."""


Layer = Conv | Dense | MaxPool | Flatten


@dataclass(frozen=True, slots=True)
class Network:
    """A feed-forward TTFS network; the last layer must be weighted and gives the classes."""

    neuron: Neuron
    input_shape: Shape
    input_steps: int
    layers: tuple[Layer, ...]
    duration: int = 0
    """Steps of an inference, `rate` only: what times code has its steps in each layer."""

    def shapes(self) -> list[Shape]:
        """Output shape of every layer, in order.

        Raises:
            BundleError: a layer does not fit its input; the text names the layer by its number and kind.
        """
        shape, out = self.input_shape, []
        for number, layer in enumerate(self.layers):
            shape = _shape_after(layer, shape, f"layer {number} ({type(layer).__name__})")
            out.append(shape)
        return out

    def frames(self) -> list[Frame]:
        """When each layer works, in order: one `Frame` a layer, in global steps.

        A layer's input phase begins T_in before its inputs must have spiked, T_in being the steps of the weighted
        layer before (`input_steps` for the first); pooling and flatten pass spikes on in the step in which they come.
        With the `rate` neuron all layers work all the time.
        """
        if self.neuron == "rate":
            return [Frame(0, self.duration, self.duration)] * len(self.layers)
        start, end, frames = 0, self.input_steps, []
        for layer in self.layers:
            if isinstance(layer, Conv | Dense):
                frames.append(Frame(start, end, end + layer.readout.steps))
                start, end = end, end + layer.readout.steps
            else:
                frames.append(Frame(start, end, end))
        return frames


def _shape_after(layer: Layer, shape: Shape, name: str) -> Shape:
    channels, height, width = shape
    match layer:
        case Flatten():
            return (channels * height * width, 1, 1)
        case Dense():
            if layer.weights.shape[1] != channels * height * width:
                raise BundleError(
                    f"{name}: weights {layer.weights.shape} expect {layer.weights.shape[1]} inputs, the layer before "
                    f"gives {channels}×{height}×{width}"
                )
            return (layer.weights.shape[0], 1, 1)
        case Conv():
            out_channels, in_channels, kh, kw = layer.weights.shape
            if in_channels != channels:
                raise BundleError(f"{name}: weights expect {in_channels} channels, the layer before gives {channels}")
            height, width = height + 2 * layer.padding[0], width + 2 * layer.padding[1]
        case MaxPool():
            out_channels, (kh, kw) = channels, layer.kernel
    if kh > height or kw > width:
        raise BundleError(f"{name}: kernel {kh}×{kw} is larger than its input {height}×{width}")
    return (out_channels, (height - kh) // layer.stride[0] + 1, (width - kw) // layer.stride[1] + 1)

"""The ANN as a plain sequence of layers, and what it computes, in NumPy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firstspike.ttfs.network import Flatten, MaxPool, Shape

Floats = NDArray[np.float32]
BATCH = 64
"""Samples that are computed at a time: it bounds the memory, not the result."""


@dataclass(frozen=True, slots=True)
class Weighted:
    """A convolution or a fully connected layer; a rectifier follows it unless it is the network's last."""

    name: str
    """Of the ONNX node, for messages."""
    weights: Floats
    """(out, in, kernel height, kernel width) for a convolution (cross-correlation), else (out, in)."""
    bias: Floats
    """Shape (out,)."""
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)


AnnLayer = Weighted | MaxPool | Flatten


@dataclass(frozen=True, slots=True)
class Ann:
    """A feed-forward ANN without branches; the last layer is weighted and gives the logits."""

    input_shape: Shape
    layers: tuple[AnnLayer, ...]
    notes: tuple[str, ...] = ()
    """What was left out or changed on the way here, for the user."""

    @property
    def weighted(self) -> list[Weighted]:
        """The layers with weights, in order."""
        return [layer for layer in self.layers if isinstance(layer, Weighted)]


def patches(layer: Weighted, x: NDArray[Any]) -> NDArray[Any]:
    """What each output position of a weighted layer sees.

    Args:
        layer: the layer.
        x: (n, channels, height, width), any dtype.

    Returns:
        Shape (n, output height, output width, fan-in), columns in the order of the weights' rows.
    """
    if layer.weights.ndim == 2:
        return x.reshape(len(x), 1, 1, -1)
    (py, px), (sy, sx) = layer.padding, layer.stride
    if py or px:
        x = np.pad(x, ((0, 0), (0, 0), (py, py), (px, px)))
    views = np.lib.stride_tricks.sliding_window_view(x, layer.weights.shape[2:], axis=(2, 3))[:, :, ::sy, ::sx]
    n, _, height, width = views.shape[:4]
    return views.transpose(0, 2, 3, 1, 4, 5).reshape(n, height, width, -1)


def weigh(layer: Weighted, x: Floats) -> Floats:
    """Pre-activations of a weighted layer, (n, channels, height, width) to the same, float32."""
    flat = layer.weights.reshape(len(layer.weights), -1).T
    # One sample at a time: the patches of many would take much memory.
    z = np.concatenate([patches(layer, one[None]) @ flat + layer.bias for one in x])
    return np.ascontiguousarray(z.transpose(0, 3, 1, 2), np.float32)


def pool(layer: MaxPool | Flatten, x: NDArray[Any]) -> NDArray[Any]:
    """Max-pooling or flattening of (n, channels, height, width), any dtype."""
    if isinstance(layer, Flatten):
        return x.reshape(len(x), -1, 1, 1)
    sy, sx = layer.stride
    views = np.lib.stride_tricks.sliding_window_view(x, layer.kernel, axis=(2, 3))[:, :, ::sy, ::sx]
    return np.asarray(views.max(axis=(4, 5)))


def step(layer: AnnLayer, x: Floats, *, last: bool) -> Floats:
    """One layer with its rectifier; the last layer has none."""
    if isinstance(layer, Weighted):
        z = weigh(layer, x)
        return z if last else np.maximum(z, 0)
    return np.asarray(pool(layer, x), np.float32)


def forward(layers: Sequence[AnnLayer], x: Floats) -> Iterator[Floats]:
    """The output of each of the layers, of which the last is the network's last.

    Args:
        layers: the ANN's, or its end.
        x: (n, channels, height, width), the input of the first of them.

    Yields:
        (n, channels, height, width): rectified activations, logits (n, classes, 1, 1) at the end.
    """
    for number, layer in enumerate(layers, 1):
        x = step(layer, x, last=number == len(layers))
        yield x


def logits(layers: Sequence[AnnLayer], x: Floats) -> Floats:
    """The network's answers, (n, classes), computed in batches; arguments as `forward`."""
    answers = []
    for start in range(0, len(x), BATCH):
        for batch in forward(layers, x[start : start + BATCH]):
            last = batch
        answers.append(last.reshape(len(last), -1))
    return np.concatenate(answers)

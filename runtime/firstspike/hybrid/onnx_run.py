"""Runs a back on the CPU with NumPy: a chain of Conv, Relu, MaxPool, Flatten and Gemm, batch 1, float32.

It is the back that needs no SDK, and what another back end's logits are held against; they agree to within float32's
rounding, not to the bit, since every library adds in its own order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from firstspike.hybrid.onnx_file import Node, read
from firstspike.onnx_header import Header
from firstspike.onnx_header import read as read_header

Array = NDArray[np.float32]
Step = Callable[[Array], Array]
SINGLE_THREADED = 1 << 18
"""Multiplications up to which OpenBLAS keeps a product to one thread. Where two cores were busy, larger ones took 11 ms
in place of 0.3."""


MOST_PADDING = 256
"""On a side of a convolution: a damaged file must not ask for all memory."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One weighted layer."""

    number: int
    """Of the node in the network."""
    kind: str
    shape: tuple[int, ...]
    parameters: int
    macs: int
    """Output positions times fan-in, padding included, as `ttfs.count` has them."""


class Chain:
    """A network that is one operator after another.

    Args:
        data: the ONNX file.

    Raises:
        ValueError: it is no ONNX model, no such chain, or has an operator or attribute that is not known here.
    """

    def __init__(self, data: bytes) -> None:
        self.header = read_header(data)
        nodes, weights = read(data)
        self.input_shape = _fixed(self.header)
        at, self._steps = self.header.inputs[0].name, []
        for number, node in enumerate(nodes):
            if not node.inputs or node.inputs[0] != at or len(node.outputs) != 1:
                raise ValueError(f"node {number} ({node.kind}) does not take what the one before it gives")
            try:
                self._steps.append(_MAKERS[node.kind](node, [weights[name] for name in node.inputs[1:]]))
            except KeyError as error:
                raise ValueError(f"node {number} ({node.kind}): {error} is not known to the NumPy back") from None
            except (IndexError, TypeError):
                raise ValueError(f"node {number} ({node.kind}): an input or an attribute is missing or wrong") from None
            at = node.outputs[0]
        if [value.name for value in self.header.outputs] != [at]:
            raise ValueError("the last node's output is not the network's")
        self.layers = self._measured(nodes, weights)

    def _measured(self, nodes: list[Node], weights: dict[str, Array]) -> tuple[Measured, ...]:
        """What each weighted layer costs, found by running zeros, so that shapes that do not fit are found too.

        Raises:
            ValueError: they do not fit.
        """
        x, found = np.zeros(self.input_shape, np.float32), []
        for number, (node, step) in enumerate(zip(nodes, self._steps, strict=True)):
            try:
                x = step(x)
            except (IndexError, TypeError):
                raise ValueError(f"node {number} ({node.kind}): an attribute is wrong") from None
            if not x.size:
                raise ValueError(f"node {number} ({node.kind}) gives nothing: shape {x.shape}")
            if node.kind in ("Conv", "Gemm"):
                used = [weights[name] for name in node.inputs[1:]]
                each = prod(used[0].shape[1:]) if node.kind == "Conv" else used[0].size // x.size
                found.append(Measured(number, node.kind.lower(), x.shape, sum(one.size for one in used), x.size * each))
        told = self.header.outputs[0].shape
        if told is not None and told[1:] != x.shape:
            raise ValueError(f"it gives {x.shape}, where its own description has {told[1:]}")
        return tuple(found)

    def run(self, x: Array) -> Array:
        """The output of one input.

        Args:
            x: shape (channels, height, width).

        Raises:
            ValueError: `x` has another shape.
        """
        if x.shape != self.input_shape:
            raise ValueError(f"an input of shape {x.shape}, the network takes {self.input_shape}")
        for step in self._steps:
            x = step(x)
        return x


def _fixed(header: Header) -> tuple[int, int, int]:
    if len(header.inputs) != 1:
        raise ValueError(f"the network has {len(header.inputs)} inputs, not one")
    shape = header.inputs[0].shape or ()
    if len(shape) != 4 or shape[0] != 1 or None in shape[1:]:
        raise ValueError(f"its input has shape {shape}: must be fixed: (1, channels, height, width)")
    return tuple(shape[1:])  # type: ignore[return-value]  # no None in it, and three numbers


def _only(node: Node, allowed: dict[str, Any]) -> dict[str, Any]:
    """The attributes over their defaults.

    Raises:
        ValueError: one is not known, so that it would be ignored.
    """
    for name in node.attributes:
        if name not in allowed:
            raise ValueError(f"{node.kind} with the attribute {name!r}, which is not known to the NumPy back")
    return {**allowed, **node.attributes}


def _product(left: Array, right: Array) -> Array:
    """The matrix product, in pieces too small for OpenBLAS to start threads, which wait for each other's processors."""
    piece = max(1, SINGLE_THREADED // left.size)
    if right.shape[1] <= piece:
        return left @ right
    result = np.empty((left.shape[0], right.shape[1]), np.float32)
    for begin in range(0, right.shape[1], piece):
        np.matmul(left, right[:, begin : begin + piece], out=result[:, begin : begin + piece])
    return result


def _conv(node: Node, weights: list[Array]) -> Step:
    kernel = weights[0]
    out, _, height, width = kernel.shape
    known = {"kernel_shape": [height, width], "strides": [1, 1], "pads": [0] * 4, "dilations": [1, 1], "group": 1}
    found = _only(node, known)
    if found["kernel_shape"] != [height, width]:
        raise ValueError(f"Conv with weights of {height}×{width} and the kernel_shape {found['kernel_shape']}")
    if found["dilations"] != [1, 1] or found["group"] != 1:
        raise ValueError("Conv with dilations or groups, which the NumPy back has not")
    top, left, bottom, right = found["pads"]
    if max(found["pads"]) > MOST_PADDING:
        raise ValueError(f"Conv with pads {found['pads']}: {MOST_PADDING} at most")
    down, along = found["strides"]
    rows = np.ascontiguousarray(kernel.reshape(out, -1))
    bias = weights[1][:, np.newaxis] if len(weights) > 1 else np.float32(0)

    def run(x: Array) -> Array:
        padded = np.pad(x, ((0, 0), (top, bottom), (left, right)))
        patches = sliding_window_view(padded, (height, width), (1, 2))[:, ::down, ::along]
        high, wide = patches.shape[1:3]
        columns = patches.transpose(0, 3, 4, 1, 2).reshape(rows.shape[1], high * wide)
        result: Array = _product(rows, columns) + bias
        return result.reshape(out, high, wide)

    return run


def _relu(node: Node, weights: list[Array]) -> Step:
    del weights
    _only(node, {})
    return lambda x: np.maximum(x, np.float32(0))


def _max_pool(node: Node, weights: list[Array]) -> Step:
    del weights
    found = _only(node, {"kernel_shape": None, "strides": [1, 1], "pads": [0] * 4, "ceil_mode": 0})
    if found["pads"] != [0] * 4 or found["ceil_mode"]:
        raise ValueError("MaxPool with padding or ceil_mode, which the NumPy back has not")
    (height, width), (down, along) = found["kernel_shape"], found["strides"]

    def run(x: Array) -> Array:
        pooled: Array = sliding_window_view(x, (height, width), (1, 2))[:, ::down, ::along].max((3, 4))
        return pooled

    return run


def _flatten(node: Node, weights: list[Array]) -> Step:
    del weights
    if _only(node, {"axis": 1})["axis"] != 1:
        raise ValueError("Flatten along another axis than 1")
    return lambda x: x.reshape(-1)


def _gemm(node: Node, weights: list[Array]) -> Step:
    found = _only(node, {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0})
    if found["alpha"] != 1.0 or found["beta"] != 1.0 or found["transA"]:
        raise ValueError("Gemm with alpha, beta or transA, which the NumPy back has not")
    matrix = weights[0] if found["transB"] else weights[0].T
    # It may be a row of the only batch: (1, classes).
    bias = weights[1].reshape(-1) if len(weights) > 1 else np.float32(0)

    def run(x: Array) -> Array:
        result: Array = matrix @ x + bias
        return result

    return run


_MAKERS: dict[str, Callable[[Node, list[Array]], Step]] = {
    "Conv": _conv, "Relu": _relu, "MaxPool": _max_pool, "Flatten": _flatten, "Gemm": _gemm,
}  # fmt: skip

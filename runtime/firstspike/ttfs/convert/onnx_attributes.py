"""Parameters and attributes of single ONNX operators (specification: onnx.ai, Operators), checked.

Every function raises DataError, naming the node, for what a TTFS layer does not have.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from firstspike.errors import DataError
from firstspike.ttfs.convert.fold import Doubles
from firstspike.ttfs.convert.onnx_file import Node
from firstspike.ttfs.network import Shape

Pair = tuple[int, int]


def parameter(node: Node, position: int, ndim: int) -> Doubles:
    """The node's constant input at that position, in double precision."""
    found = node.constants[position] if position < len(node.constants) else None
    if found is None:
        raise DataError(f"{node.name}: input {position} is no constant: only constant weights are converted")
    if found.ndim != ndim or found.size == 0 or found.dtype.kind not in "fiu":
        raise DataError(f"{node.name}: input {position} is {found.dtype} of shape {found.shape}, must be {ndim}-D")
    return np.asarray(found, np.float64)


def sized(node: Node, values: NDArray[Any], size: int) -> Doubles:
    """One value a channel."""
    if values.size != size:
        raise DataError(f"{node.name}: {values.size} values for {size} channels")
    return np.asarray(values, np.float64).reshape(-1)


def _plain(node: Node, expected: dict[str, int]) -> None:
    for name, plain in expected.items():
        value = node.attributes.get(name, plain)
        if any(part != plain for part in (value if isinstance(value, list) else [value])):
            raise DataError(f"{node.name}: {name} = {value} is not converted: a TTFS layer has none")


def conv_window(node: Node, weights: tuple[int, ...], shape: Shape) -> tuple[Pair, Pair]:
    """(stride, padding) of a convolution."""
    _plain(node, {"dilations": 1, "group": 1})
    kernel = (weights[2], weights[3])
    if tuple(node.attributes.get("kernel_shape", kernel)) != kernel:
        raise DataError(f"{node.name}: kernel_shape {node.attributes['kernel_shape']}, but the weights' is {kernel}")
    stride = _pair(node, "strides")
    begin, end = _pads(node, kernel, stride, shape)
    if begin != end:
        raise DataError(f"{node.name}: padding {begin} before and {end} after: only symmetric padding is converted")
    if begin[0] >= kernel[0] or begin[1] >= kernel[1]:
        raise DataError(f"{node.name}: padding {begin} is not smaller than the kernel {kernel}: not converted")
    return stride, begin


def pool_window(node: Node, shape: Shape, *, flat: bool) -> tuple[Pair, Pair]:
    """(kernel, stride) of a pooling."""
    if "kernel_shape" not in node.attributes:
        raise DataError(f"{node.name}: has no kernel_shape: export the network again")
    kernel, stride = _pair(node, "kernel_shape"), _pair(node, "strides")
    sides = list(zip(shape[1:], kernel, stride, strict=True))
    if flat:
        raise DataError(f"{node.name}: its input is flat, must be (batch, channels, height, width)")
    # Rounding up makes no difference where nothing is left over.
    rounded = any((side - part) % by for side, part, by in sides)
    _plain(node, {"dilations": 1} | ({"ceil_mode": 0} if rounded else {}))
    if node.outputs > 1:
        raise DataError(f"{node.name}: the places of the maxima are not converted")
    if any(_pads(node, kernel, stride, shape)[0] + _pads(node, kernel, stride, shape)[1]):
        raise DataError(f"{node.name}: padding is not converted: pool without it")
    if any(part > side for side, part, _ in sides):
        raise DataError(f"{node.name}: kernel {kernel} is larger than its input {shape[1:]}")
    return kernel, stride


def _pair(node: Node, name: str) -> Pair:
    values = node.attributes.get(name, [1, 1])
    if len(values) != 2 or min(values) < 1:
        raise DataError(f"{node.name}: {name} = {values}: must be two positive numbers")
    return int(values[0]), int(values[1])


def _pads(node: Node, kernel: Pair, stride: Pair, shape: Shape) -> tuple[Pair, Pair]:
    """Padding before and after, (height, width) each."""
    pads = [int(pad) for pad in node.attributes.get("pads", [0, 0, 0, 0])]
    auto = node.attributes.get("auto_pad", "NOTSET")
    if auto == "VALID":
        pads = [0, 0, 0, 0]
    elif auto in ("SAME_UPPER", "SAME_LOWER"):
        total = [
            max(0, (-(-side // by) - 1) * by + part - side)
            for side, part, by in zip(shape[1:], kernel, stride, strict=True)
        ]
        less, more = [one // 2 for one in total], [one - one // 2 for one in total]
        pads = less + more if auto == "SAME_UPPER" else more + less
    elif auto != "NOTSET":
        raise DataError(f"{node.name}: auto_pad = {auto} is not known")
    if len(pads) != 4 or min(pads) < 0:
        raise DataError(f"{node.name}: pads = {pads}: must be four numbers, not negative")
    return (pads[0], pads[1]), (pads[2], pads[3])


def gemm(node: Node) -> tuple[Doubles, Doubles]:
    """(weights (out, in), bias (out,)) of alpha·x·W + beta·C."""
    if node.attributes.get("transA", 0):
        raise DataError(f"{node.name}: transA = 1 is not converted")
    weights = parameter(node, 1, 2) * float(node.attributes.get("alpha", 1.0))
    weights = weights if node.attributes.get("transB", 0) else weights.T
    bias = np.zeros(len(weights))
    if len(node.constants) > 2 and node.constants[2] is not None:
        given = node.constants[2]
        if given.size not in (1, len(weights)) or given.ndim > 2 or (given.ndim == 2 and given.shape[0] != 1):
            raise DataError(f"{node.name}: bias of shape {given.shape} for {len(weights)} outputs")
        bias = np.broadcast_to(given.reshape(-1).astype(np.float64), len(weights))
        bias = bias * float(node.attributes.get("beta", 1.0))
    return weights, bias


def batch_norm(node: Node, channels: int) -> tuple[Doubles, Doubles]:
    """(scale, shift), one value a channel: scale = γ/√(σ² + ε), shift = β − μ·scale."""
    if node.attributes.get("training_mode", 0) or not node.attributes.get("spatial", 1) or node.outputs > 1:
        raise DataError(f"{node.name} is in training mode or not a channel's: export the network for inference")
    gamma, beta, mean, variance = (sized(node, parameter(node, at, 1), channels) for at in (1, 2, 3, 4))
    spread = variance + float(node.attributes.get("epsilon", 1e-5))
    if not (spread > 0).all():
        raise DataError(f"{node.name}: variance + epsilon is {spread.min():g} in a channel, must be positive")
    scale = gamma / np.sqrt(spread)
    return scale, beta - mean * scale


def channel_values(node: Node, position: int, shape: Shape, *, flat: bool) -> Doubles:
    """The constant that is added, as one value a channel (or feature), to broadcast over `shape`."""
    given = node.constants[position] if position < len(node.constants) else None
    if given is None or given.dtype.kind not in "fiu":
        raise DataError(f"{node.name}: adds no constant: only a bias is converted")
    # As NumPy broadcasts: the last axis of a flat tensor are its features, the third last of an image its channels.
    full = (1,) * (8 - given.ndim) + given.shape if given.ndim <= 8 else given.shape
    features = full[-1] if flat else full[-3] if given.size != 1 else 1
    size = shape[0] * shape[1] * shape[2] if flat else shape[0]
    if given.size != features or features not in (1, size):
        raise DataError(f"{node.name}: adds a constant of shape {given.shape}: only one value a channel is converted")
    values = given.astype(np.float64).reshape(-1)
    return values.reshape(shape if flat and features > 1 else (-1, 1, 1))


def check_flatten(node: Node, *, flat: bool) -> None:
    """Refuse a Flatten that does not keep the batch and nothing else."""
    axis = int(node.attributes.get("axis", 1))
    if axis not in ((1, -1) if flat else (1, -3)):
        raise DataError(f"{node.name}: axis = {axis} is not converted: only flattening all but the batch")


def check_reshape(node: Node, size: int) -> None:
    """Refuse a Reshape to anything but (batch, size)."""
    given = node.constants[1] if len(node.constants) > 1 else None
    if given is None:
        raise DataError(f"{node.name}: its shape is computed: export with a fixed shape, or use Flatten")
    wanted = [int(side) for side in given.reshape(-1)]
    zero = 0 if not node.attributes.get("allowzero", 0) else None
    batch_kept = len(wanted) == 2 and wanted[0] in (1, -1, zero)
    if not batch_kept or wanted[1] not in (size, -1) or wanted == [-1, -1]:
        raise DataError(f"{node.name}: to {wanted}: only flattening to (batch, {size}) is converted")

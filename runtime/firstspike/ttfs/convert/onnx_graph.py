"""From the chain of ONNX nodes to the plain ANN: what each operator means here, and which are refused."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from firstspike.errors import DataError
from firstspike.ttfs.convert import fold, onnx_attributes
from firstspike.ttfs.convert.ann import Ann, AnnLayer, Weighted
from firstspike.ttfs.convert.onnx_file import Chain, Node, read
from firstspike.ttfs.limits import MAX_NEURONS, MAX_WEIGHTS
from firstspike.ttfs.network import Flatten, MaxPool, Shape


def load_ann(path: Path) -> Ann:
    """Read an ONNX network as a plain sequence of layers.

    Raises:
        UnavailableError, NoInputError: see `onnx_file.read`.
        DataError: the file is wrong, or an operator cannot be converted; the text names its node.
    """
    chain = read(path)
    try:
        return _Builder(chain).build(chain)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


class _Builder:
    """Takes the nodes one after another.

    `layers` is what is settled. `pending` are linear operations since the last rectifier, which the next weighted layer
    will take in. `open` is the number of a weighted layer that no rectifier has followed yet.
    """

    def __init__(self, chain: Chain) -> None:
        dims = chain.input_dims
        self.flat = len(dims) == 1
        self.shape: Shape = (1, 1, dims[0]) if self.flat else (dims[0], dims[1], dims[2])
        _within("the input", self.shape)
        self.input_shape = self.settled = self.shape
        self.layers: list[AnnLayer] = []
        self.pending: list[fold.Linear] = []
        self.open: int | None = None
        self.ended: str | None = None
        self.notes: list[str] = []

    def build(self, chain: Chain) -> Ann:
        takers: dict[str, Callable[[Node], None]] = {
            "Conv": self.conv, "Gemm": self.gemm, "MatMul": self.matmul, "Add": self.shift, "Relu": self.relu,
            "BatchNormalization": self.normalisation, "MaxPool": self.max_pool, "AveragePool": self.average,
            "GlobalAveragePool": self.global_average, "Flatten": self.flatten, "Reshape": self.reshape,
            "Dropout": self.dropout, "Identity": lambda _: None, "Softmax": self.softmax, "LogSoftmax": self.softmax,
        }  # fmt: skip
        for node in chain.nodes:
            if node.op not in takers:
                raise DataError(f"{node.name}: this operator is not converted; those that are: {', '.join(takers)}")
            if self.ended and node.op not in ("Flatten", "Reshape", "Dropout", "Identity"):
                raise DataError(f"{node.name} comes after {self.ended}, which must end the network")
            if node.position != 0 and node.op != "Add":
                raise DataError(f"{node.name}: the computed tensor is input {node.position}, must be the first")
            takers[node.op](node)
        return self.finish(chain)

    def finish(self, chain: Chain) -> Ann:
        if not any(isinstance(layer, Weighted) for layer in self.layers):
            raise DataError("the network has no weights: nothing to convert")
        for operation in self.pending:
            if not isinstance(operation, fold.Reshape):
                raise DataError(f"{operation.name}: no layer with weights follows into which it could be folded")
        if not isinstance(self.layers[-1], Weighted):
            raise DataError("the network ends with a pooling: a layer with weights must give the answer")
        if prod(self.settled[1:]) != 1 or self.settled[0] < 2:
            raise DataError(
                f"the network's output is {'×'.join(map(str, self.settled))}: must be one value a class, 2 or more"
            )
        if self.open is None:
            self.notes.append("the rectifier after the last layer is left out: answers are read before it")
        if chain.opset > 13:
            self.notes.append(
                f"opset {chain.opset}: the last OpenVINO for the Neural Compute Stick 2 computes wrong numbers above 13"
            )
        return Ann(self.input_shape, tuple(self.layers), tuple(self.notes))

    # Layers with weights

    def conv(self, node: Node) -> None:
        weights = onnx_attributes.parameter(node, 1, 4)
        stride, padding = onnx_attributes.conv_window(node, weights.shape, self.shape)
        if self.flat or weights.shape[1] != self.shape[0]:
            raise DataError(f"{node.name}: weights {weights.shape} do not fit the tensor of shape {self.shape}")
        bias = onnx_attributes.parameter(node, 2, 1) if len(node.constants) > 2 else np.zeros(len(weights))
        self.add(node, fold.Parameters(weights, onnx_attributes.sized(node, bias, len(weights)), stride, padding))

    def gemm(self, node: Node) -> None:
        weights, bias = onnx_attributes.gemm(node)
        self.add(node, fold.Parameters(weights, bias))

    def matmul(self, node: Node) -> None:
        weights = onnx_attributes.parameter(node, 1, 2).T
        self.add(node, fold.Parameters(weights, np.zeros(len(weights))))

    def add(self, node: Node, made: fold.Parameters) -> None:
        if self.open is not None:
            raise DataError(
                f"{node.name} follows {self.opened().name} without a Relu between them: a TTFS neuron rectifies"
            )
        if made.weights.ndim == 2:
            if not self.flat or made.weights.shape[1] != prod(self.shape):
                raise DataError(f"{node.name}: weights {made.weights.shape[::-1]} do not fit the shape {self.shape}")
            if len(made.weights) * prod(self.settled) > MAX_WEIGHTS:
                raise DataError(f"{node.name}: more than {MAX_WEIGHTS} weights with what is folded into it")
            made = fold.before_dense(made, self.pending, self.shape)
            if self.settled[1:] != (1, 1):
                self.layers.append(Flatten())
        else:
            made = fold.before_conv(made, self.pending)
        self.open, self.pending = len(self.layers), []
        self.layers.append(_weighted(node.name, made))
        self.settled = self.shape = _shape_after(node.name, made, self.settled)

    def opened(self) -> Weighted:
        layer = self.layers[self.open or 0]
        assert isinstance(layer, Weighted)  # noqa: S101 (open numbers a weighted layer)
        return layer

    # What can be folded

    def shift(self, node: Node) -> None:
        shift = onnx_attributes.channel_values(node, 1 - node.position, self.shape, flat=self.flat)
        self.affine(fold.Affine(node.name, np.ones(()), shift))

    def normalisation(self, node: Node) -> None:
        scale, shift = onnx_attributes.batch_norm(node, self.shape[2] if self._row() else self.shape[0])
        like = (1, 1, -1) if self._row() else (-1, 1, 1)
        self.affine(fold.Affine(node.name, scale.reshape(like), shift.reshape(like)))

    def _row(self) -> bool:
        """Whether the tensor is a flat input, whose features lie along the width."""
        return self.flat and self.shape[0] == 1 and self.shape[2] > 1

    def affine(self, affine: fold.Affine) -> None:
        if self.open is None:
            self.pending.append(affine)
            return
        layer = self.opened()
        since = self.layers[self.open + 1 :]
        if self._mixed(layer) and affine.scale.size + affine.shift.size > 2:
            raise DataError(f"{affine.name} comes after a flattening and before the Relu: put it before the flattening")
        if since and not (affine.scale > 0).all():
            raise DataError(f"{affine.name} has a scale that is not positive, after MaxPool and before the Relu")
        made = fold.Parameters(layer.weights.astype(float), layer.bias.astype(float), layer.stride, layer.padding)
        self.layers[self.open] = _weighted(layer.name, fold.after(made, affine))

    def _mixed(self, layer: Weighted) -> bool:
        """Whether a flattening has made several features of each channel."""
        return layer.weights.ndim == 4 and any(
            isinstance(one, fold.Reshape) and one.shape[1:] != (1, 1) for one in self.pending
        )

    def average(self, node: Node) -> None:
        kernel, stride = onnx_attributes.pool_window(node, self.shape, flat=self.flat)
        self.pool_average(node, kernel, stride)

    def global_average(self, node: Node) -> None:
        if self.flat:
            raise DataError(f"{node.name}: the tensor is flat: nothing to average")
        self.pool_average(node, self.shape[1:], self.shape[1:])

    def pool_average(self, node: Node, kernel: tuple[int, int], stride: tuple[int, int]) -> None:
        if self.open is not None:
            raise DataError(
                f"{node.name} comes before the Relu of {self.opened().name}: an average can be folded only into the "
                "layer with weights after it: put the Relu before it"
            )
        pool = fold.Average(node.name, self.shape, kernel, stride)
        self.pending.append(pool)
        self.shape = pool.shape_after()

    # The rest

    def relu(self, node: Node) -> None:
        if self.open is not None:
            self.open = None
        elif any(isinstance(operation, fold.Affine) for operation in self.pending):
            raise DataError(f"{node.name}: no layer with weights between this rectifier and the one before")

    def max_pool(self, node: Node) -> None:
        kernel, stride = onnx_attributes.pool_window(node, self.shape, flat=self.flat)
        for operation in self.pending:
            if isinstance(operation, fold.Average):
                raise DataError(f"{operation.name} cannot be folded: {node.name} comes before the next weights")
            if isinstance(operation, fold.Affine) and not (operation.scale > 0).all():
                raise DataError(f"{operation.name} has a scale that is not positive, before {node.name}")
        channels, height, width = self.shape
        self.layers.append(MaxPool(kernel, stride))
        self.shape = self.settled = (
            channels, (height - kernel[0]) // stride[0] + 1, (width - kernel[1]) // stride[1] + 1,
        )  # fmt: skip

    def flatten(self, node: Node) -> None:
        onnx_attributes.check_flatten(node, flat=self.flat)
        if not self.flat:
            self.pending.append(fold.Reshape(self.shape))
            self.shape, self.flat = (prod(self.shape), 1, 1), True

    def reshape(self, node: Node) -> None:
        onnx_attributes.check_reshape(node, prod(self.shape))
        if not self.flat:
            self.pending.append(fold.Reshape(self.shape))
            self.shape, self.flat = (prod(self.shape), 1, 1), True

    def dropout(self, node: Node) -> None:
        training = node.constants[2] if len(node.constants) > 2 else None
        if training is not None and training.any():
            raise DataError(f"{node.name} is in training mode: export the network for inference")

    def softmax(self, node: Node) -> None:
        self.ended = node.name
        self.notes.append(f"{node.name} is left out: it does not change the order of the answers")


def _weighted(name: str, made: fold.Parameters) -> Weighted:
    with np.errstate(over="ignore"):
        weights, bias = made.weights.astype(np.float32), made.bias.astype(np.float32)
    if not (np.isfinite(weights).all() and np.isfinite(bias).all()):
        raise DataError(f"{name}: with what is folded into it, weights are beyond float32: train it again")
    return Weighted(name, weights, bias, made.stride, made.padding)


def _shape_after(name: str, made: fold.Parameters, shape: Shape) -> Shape:
    if made.weights.ndim == 2:
        return (len(made.weights), 1, 1)
    sides: list[Any] = []
    for side, kernel, stride, padding in zip(shape[1:], made.weights.shape[2:], made.stride, made.padding, strict=True):
        if side + 2 * padding < kernel:
            raise DataError(f"{name}: kernel of {kernel} is larger than its input of {side + 2 * padding} pixels")
        sides.append((side + 2 * padding - kernel) // stride + 1)
    return _within(name, (len(made.weights), sides[0], sides[1]))


def _within(name: str, shape: Shape) -> Shape:
    if prod(shape) > MAX_NEURONS:
        raise DataError(f"{name}: shape {shape} has more than {MAX_NEURONS} elements: use a smaller network")
    return shape

"""From trained numbers to the files of a bundle: integer network, ONNX, manifest. NumPy and onnx only, no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from firstspike.ttfs.convert.bundle import DENSE, write_dense
from firstspike.ttfs.convert.bundle import FILES as _FILES
from firstspike.ttfs.convert.bundle import seal as seal
from firstspike.ttfs.file import save
from firstspike.ttfs.network import Conv, Dense, Flatten, Layer, MaxPool, Network, Readout

FILES = {**_FILES, **DENSE}
"""Role to file name of what `write_networks` writes, and the card."""
LIMIT = 1 << 23
"""Potentials stay below this in magnitude: Loihi's state variables have 24 bits, and so float32 sums are exact."""


@dataclass(frozen=True, slots=True)
class Integers:
    """A trained network in whole numbers, as `Net.integers` gives it."""

    weights: list[NDArray[np.int64]]
    """Convolutions (out, in, k, k), last the dense layer (classes, features)."""
    ramps: list[int]
    """S of each layer, the last one's for its first spike only: answers are read from its potential."""
    bias: NDArray[np.int64]
    """Currents of the dense layer."""
    pooled: list[bool]
    """Whether a 2×2 max-pool follows each convolution."""
    side: int
    steps: int
    currents: list[NDArray[np.int64]] | None = None
    """Currents of the convolutions; None: they have none."""


def network(trained: Integers) -> Network:
    """The gated TTFS network.

    Raises:
        ValueError: a number does not fit its type, or a potential could reach `LIMIT`; the text names the layer.
    """
    layers: list[Layer] = []
    for number, (weights, ramp) in enumerate(zip(trained.weights, trained.ramps, strict=True)):
        last = number == len(trained.weights) - 1
        currents = trained.currents or [np.zeros(len(each), np.int64) for each in trained.weights[:-1]]
        bias = trained.bias if last else currents[number]
        _bounded(f"weighted layer {number}", weights, bias, trained.steps)
        readout = Readout(trained.steps, ramp, ramp // 2)
        if last:
            layers += [Flatten(), Dense(weights.astype(np.int8), bias.astype(np.int16), readout)]
        else:
            layers.append(Conv(weights.astype(np.int8), bias.astype(np.int16), (1, 1), (0, 0), readout))
            if trained.pooled[number]:
                layers.append(MaxPool((2, 2), (2, 2)))
    side = trained.side
    made = Network("gated", (trained.weights[0].shape[1], side, side), trained.steps, tuple(layers))
    made.shapes()
    return made


def _bounded(name: str, weights: NDArray[np.int64], bias: NDArray[np.int64], steps: int) -> None:
    if np.abs(weights).max() > 127:
        raise ValueError(f"{name}: a weight of {np.abs(weights).max()} does not fit 8 bits")
    if np.abs(bias).max() > 254:
        raise ValueError(f"{name}: a bias of {np.abs(bias).max()} is beyond ±254, which one Loihi weight can carry")
    bound = int(steps * (np.abs(weights).reshape(len(weights), -1).sum(1) + np.abs(bias)).max())
    if bound >= LIMIT:
        raise ValueError(f"{name}: potentials could reach {bound}, the limit is {LIMIT}")


def onnx_model(
    weights: Sequence[NDArray[np.float32]],
    bias: NDArray[np.float32],
    pooled: Sequence[bool],
    side: int,
    biases: Sequence[NDArray[np.float32]] = (),
) -> onnx.ModelProto:
    """The floating-point twin: `p` (1, channels, side, side) in 0..1 to `logits` (1, classes).

    `bias` is the dense layer's; `biases` are the convolutions', empty where they have none.

    Opset 13 and static shapes, since the last OpenVINO for the Neural Compute Stick 2 computes wrong numbers above
    that opset without an error.
    """
    nodes, initial, name = [], [], "p"
    for number, weight in enumerate(weights[:-1]):
        initial.append(numpy_helper.from_array(np.ascontiguousarray(weight, np.float32), f"w{number}"))
        inputs = [name, f"w{number}"]
        if biases:
            initial.append(numpy_helper.from_array(np.ascontiguousarray(biases[number], np.float32), f"b{number}"))
            inputs.append(f"b{number}")
        nodes.append(helper.make_node("Conv", inputs, [f"c{number}"], kernel_shape=weight.shape[2:]))
        nodes.append(helper.make_node("Relu", [f"c{number}"], [f"r{number}"]))
        name = f"r{number}"
        if pooled[number]:
            nodes.append(helper.make_node("MaxPool", [name], [f"m{number}"], kernel_shape=[2, 2], strides=[2, 2]))
            name = f"m{number}"
    initial.append(numpy_helper.from_array(np.ascontiguousarray(weights[-1], np.float32), "wd"))
    initial.append(numpy_helper.from_array(np.ascontiguousarray(bias, np.float32), "bd"))
    nodes.append(helper.make_node("Flatten", [name], ["f"], axis=1))
    nodes.append(helper.make_node("Gemm", ["f", "wd", "bd"], ["logits"], transB=1))
    channels = weights[0].shape[1]
    given = helper.make_tensor_value_info("p", TensorProto.FLOAT, [1, channels, side, side])
    result = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, len(bias)])
    graph = helper.make_graph(nodes, "twin", [given], [result], initial)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], producer_name="firstspike forge")
    model.ir_version = 7
    onnx.checker.check_model(model, full_check=True)
    return model


def write_networks(folder: Path, spiking: Network, twin: onnx.ModelProto) -> None:
    """Write network.npz, its dense forms and ann.onnx."""
    folder.mkdir(parents=True, exist_ok=True)
    save(spiking, folder / "network.npz")
    write_dense(folder, spiking)
    (folder / "ann.onnx").write_bytes(twin.SerializeToString(deterministic=True))

"""One inference of the emulator, in µs, beside the NumPy closed form and ONNX Runtime on a float net of the same shape.

    .venv-bench/bin/python bench/emulator.py

Batch 1, one thread, minimum over the repeats of each input, mean over the inputs. Inputs are random with the stated
share of pixels that spike before the last step; the weights of the LeNet are random too. The shares of active neurons
are printed, since the emulator's time follows what is not silent, and ONNX Runtime's does not.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from firstspike.bundle import open_bundle
from firstspike.errors import UnavailableError
from firstspike.native import Kernels
from firstspike.ttfs.definition import closed_form
from firstspike.ttfs.emulator import Emulator
from firstspike.ttfs.file import load
from firstspike.ttfs.network import Conv, Dense, Flatten, MaxPool, Network, Readout

INPUTS, REPEATS = 10, 200
BUNDLE = Path(__file__).parents[1] / "models" / "nmnist"


def lenet(steps: int = 16) -> Network:
    """Quartz's LeNet: 26,338 parameters, 225,840 MACs."""
    random = np.random.default_rng(7)

    def made(*shape: int) -> tuple[Any, Any]:
        values = np.clip(np.round(random.normal(0, 30, shape)), -127, 127).astype(np.int8)
        return values, np.zeros(shape[0], np.int16)

    one, none = (1, 1), (0, 0)
    return Network("gated", (1, 28, 28), steps, (
        Conv(*made(6, 1, 5, 5), one, none, Readout(steps, 60, 30)), MaxPool((2, 2), (2, 2)),
        Conv(*made(12, 6, 5, 5), one, none, Readout(steps, 300, 150)), MaxPool((2, 2), (2, 2)),
        Conv(*made(120, 12, 4, 4), one, none, Readout(steps, 400, 200)), Flatten(),
        Dense(*made(10, 120), Readout(steps, 300, 150)),
    ))  # fmt: skip


def onnx_of(network: Network) -> Callable[[np.ndarray], Any]:
    """The same layers in floating point with ReLU."""
    nodes, tensors, name = [], [], "input"
    for number, layer in enumerate(network.layers):
        out, last = f"x{number}", number == len(network.layers) - 1
        match layer:
            case Flatten():
                nodes.append(helper.make_node("Flatten", [name], [out]))
            case MaxPool():
                window = {"kernel_shape": layer.kernel, "strides": layer.stride}
                nodes.append(helper.make_node("MaxPool", [name], [out], **window))
            case Conv() | Dense():
                weights = layer.weights.astype(np.float32) / layer.readout.ramp
                tensors += [
                    numpy_helper.from_array(weights, f"w{number}"),
                    numpy_helper.from_array(layer.bias.astype(np.float32), f"b{number}"),
                ]
                inputs, sums = [name, f"w{number}", f"b{number}"], out if last else f"u{number}"
                if isinstance(layer, Conv):
                    pads = [*layer.padding, *layer.padding]
                    nodes.append(helper.make_node("Conv", inputs, [sums], strides=layer.stride, pads=pads))
                else:
                    nodes.append(helper.make_node("Gemm", inputs, [sums], transB=1))
                if not last:
                    nodes.append(helper.make_node("Relu", [sums], [out]))
        name = out
    shape = [1, *network.input_shape]
    graph = helper.make_graph(
        nodes, "net", [helper.make_tensor_value_info("input", onnx.TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)], tensors,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {"input": x})


def inputs_of(network: Network, density: float) -> list[np.ndarray]:
    random, steps = np.random.default_rng(0), network.input_steps
    drawn = [random.random(network.input_shape) < density for _ in range(INPUTS)]
    return [np.where(seen, random.integers(0, steps, seen.shape), steps).astype(np.uint8) for seen in drawn]


def fastest(task: Callable[[Any], Any], arguments: list[Any], repeats: int = REPEATS) -> float:
    """Mean over the arguments of the minimum over the repeats, µs."""
    best = np.full(len(arguments), np.inf)
    for _ in range(repeats):
        for i, argument in enumerate(arguments):
            started = time.perf_counter()
            task(argument)
            best[i] = min(best[i], time.perf_counter() - started)
    return float(best.mean() * 1e6)


def report(title: str, network: Network, density: float) -> None:
    inputs = inputs_of(network, density)
    rows: dict[str, float] = {}
    for neuron in ("gated", "quartz"):
        for kernels in ("x86-64-v4", "x86-64-v3", "portable"):
            level: Kernels = kernels
            try:
                emulator = Emulator(replace(network, neuron=neuron), level)
            except UnavailableError:
                continue  # not on this machine
            rows[f"emulator, {neuron}, {kernels}"] = fastest(emulator.run, inputs)
    floats = [np.ascontiguousarray((network.input_steps - x)[None], np.float32) / network.input_steps for x in inputs]
    rows["ONNX Runtime FP32, no spikes"] = fastest(onnx_of(network), floats)
    rows["NumPy closed form, gated"] = fastest(lambda x: closed_form(network, x), inputs, 3)
    trace = Emulator(network).trace(inputs[0])
    ends = [frame.last for frame in network.frames()]
    spikes = zip(trace.spike_steps, ends, network.layers, strict=True)
    active = [float(np.mean(s < end)) for s, end, layer in spikes if isinstance(layer, Conv | Dense)]
    shares = ", ".join(f"{share:.0%}" for share in active)
    print(f"| {title}, {density:.0%} of the input active (then {shares}) | µs | ratio to ONNX Runtime |\n|---|---|---|")
    for name, us in rows.items():
        print(f"| {name} | {us:.1f} | {rows['ONNX Runtime FP32, no spikes'] / us:.2f} |")
    print(flush=True)


def main() -> None:
    report("LeNet 28×28, T = 16", lenet(), 0.19)
    if BUNDLE.exists():
        network = load(open_bundle(BUNDLE).path("ttfs"))
        size = "×".join(map(str, network.input_shape))
        report(f"models/nmnist {size}, T = {network.input_steps}", network, 0.10)


if __name__ == "__main__":
    main()

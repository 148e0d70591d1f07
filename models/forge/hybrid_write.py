"""From a trained hybrid to the files of a bundle: front.npz, back.onnx, manifest."""

from __future__ import annotations

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from firstspike.cuba.emulator import Emulator
from firstspike.cuba.file import save
from firstspike.cuba.network import Conv, Dense, Flatten, Layer, Network, Neuron
from firstspike.hybrid.accumulate import accumulate
from firstspike.hybrid.onnx_run import Chain
from models.forge import export, sets
from models.forge import hybrid_store as frames
from models.forge import objects_store as data
from models.forge.hybrid_lif import CURRENT_DECAY, THRESHOLD, VOLTAGE_DECAY, integers
from models.forge.hybrid_net import KERNELS, LAYERS, STRIDE, HybridNet, Split

BUNDLE = sets.ROOT / "models" / "dvs128-hybrid"
FILES = {"front": "front.npz", "back": "back.onnx", "card": "CARD.md"}
LOGIT_SCALE = 2.0**-10
"""Potentials are whole numbers of this many nats."""


def front_of(net: HybridNet) -> Network:
    """The spiking layers, in whole numbers."""
    neuron = Neuron(CURRENT_DECAY, VOLTAGE_DECAY, THRESHOLD)
    layers: list[Layer] = []
    for layer in range(net.split.spiking):
        weights = integers(net.weights[layer].detach()).numpy().astype(np.int16)
        bias = np.zeros(len(weights), np.int16)
        if layer == LAYERS - 1:
            layers += [Flatten(), Dense(weights, bias, np.zeros(len(weights), np.uint8), neuron)]
        else:
            layers.append(Conv(weights, bias, (STRIDE, STRIDE), (KERNELS[layer] // 2,) * 2, neuron))
    return Network((2, frames.SIDE, frames.SIDE), tuple(layers))


def back_of(net: HybridNet, factor: float) -> onnx.ModelProto:
    """The layers that do not spike: `counts` (1, channels, height, width) to `logits` (1, classes), opset 13.

    Args:
        net: a hybrid or an ANN.
        factor: on the logits: the temperature.
    """
    nodes, initial, name = [], [], "counts"

    def constant(name: str, values: NDArray[np.float32]) -> str:
        initial.append(numpy_helper.from_array(np.ascontiguousarray(values, np.float32), name))
        return name

    for layer in range(net.split.spiking, LAYERS - 1):
        weight, bias = (one[layer].detach().numpy() for one in (net.weights, net.biases))
        pad = KERNELS[layer] // 2
        inputs = [name, constant(f"w{layer}", weight), constant(f"b{layer}", bias)]
        nodes.append(
            helper.make_node(
                "Conv", inputs, [f"c{layer}"], kernel_shape=weight.shape[2:], strides=[STRIDE] * 2, pads=[pad] * 4
            )
        )
        nodes.append(helper.make_node("Relu", [f"c{layer}"], [f"r{layer}"]))
        name = f"r{layer}"
    nodes.append(helper.make_node("Flatten", [name], ["f"], axis=1))
    last = [constant("wd", net.weights[-1].detach().numpy() * factor)]
    last.append(constant("bd", net.biases[-1].detach().numpy() * factor))
    nodes.append(helper.make_node("Gemm", ["f", *last], ["logits"], transB=1))
    side = frames.SIDE // STRIDE**net.split.spiking
    channels = net.weights[net.split.spiking].shape[1]
    given = helper.make_tensor_value_info("counts", TensorProto.FLOAT, [1, channels, side, side])
    result = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, len(data.LABELS)])
    graph = helper.make_graph(nodes, "back", [given], [result], initial)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], producer_name="firstspike forge")
    model.ir_version = 7
    onnx.checker.check_model(model, full_check=True)
    return model


def differing(net: HybridNet, shown: NDArray[np.bool_]) -> int:
    """How many counts of these windows the daemon's emulator gives other than torch did; 0 is what is right."""
    emulator = Emulator(front_of(net))
    with torch.no_grad():
        trained = net.front(torch.from_numpy(shown)).numpy()
    ours = np.stack([accumulate(emulator.run(one.view(np.uint8)).spikes, net.split.interval) for one in shown])
    return int((ours != trained.reshape(ours.shape)).sum())  # an SNN's counts have no height and width in torch


def write(net: HybridNet, factor: float, shown: NDArray[np.bool_]) -> None:
    """Write front and back.

    Raises:
        RuntimeError: what is written does not compute what was trained.
    """
    if count := differing(net, shown):
        raise RuntimeError(f"{count} spike counts differ between torch and the emulator")
    BUNDLE.mkdir(parents=True, exist_ok=True)
    save(front_of(net), BUNDLE / FILES["front"])
    written = back_of(net, factor).SerializeToString(deterministic=True)
    (BUNDLE / FILES["back"]).write_bytes(written)
    with torch.no_grad():
        counts = net.front(torch.from_numpy(shown[:20]))
        logits = net.back(counts).numpy() * factor
    chain = Chain(written)
    off = max(float(np.abs(chain.run(one) - two).max()) for one, two in zip(counts.numpy(), logits, strict=True))
    if off > 1e-3:
        raise RuntimeError(f"the back that is written differs by {off:.3g} from the one trained")


def seal(split: Split) -> None:
    """Write bundle.json over the files as they are now."""
    manifest: dict[str, object] = {
        "schema": "firstspike.bundle/1",
        "name": "dvs128-hybrid",
        "version": "1.0.0",
        "labels": list(data.LABELS),
        "input": {
            "channels": 2, "height": frames.SIDE, "width": frames.SIDE, "encoding": "frames", "steps": frames.STEPS,
            "fit": "crop",
        },
        "parts": {"interval": split.interval},
        "window": {"kind": "time", "size": frames.WINDOW_US, "hop": frames.WINDOW_US},
        "decide": {
            "min_events": 200, "decay": 0.8, "min_evidence": 0.9, "min_confidence": 0.5, "logit_scale": LOGIT_SCALE,
        },
        "licence": "Apache-2.0 (trained on recordings whose licence is not stated: see the card)",
        "trained_on": ["the first 60 % of each of eight DVS128 recordings of 2018-10-06 (licence not stated)"],
    }  # fmt: skip
    export.seal(BUNDLE, manifest, FILES)

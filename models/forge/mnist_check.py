"""Measure the mnist-lenet bundles that ship on all 10,000 test images, with the runtime's emulator. Needs no torch.

    PYTHONPATH=. .venv/bin/python -m models.forge.mnist_check [FOLDER …]      # default: every models/mnist-lenet*

An image is a count image: a pixel of 0 to 255 encodes as that many events of 255 (`encode.define`, encoding `count`).
The floating-point twin is ann.onnx, computed here in NumPy. Effective accumulations follow NeuroBench: non-zero
inputs × non-zero weights, without biases and pooling, the first layer included.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from firstspike.bundle import InputSpec, open_bundle
from firstspike.encode import define
from firstspike.ttfs.definition import closed_form, run
from firstspike.ttfs.emulator import Emulator
from firstspike.ttfs.file import load
from firstspike.ttfs.network import Conv, Dense, Network
from firstspike.types import EVENT
from models.forge import sets

TRACED = 1000
"""Images, evenly spaced, whose every spike is counted; `EXACT` of them are compared with the definition."""
EXACT = 20


def times_of(spec: InputSpec, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Spike times (n, 1, 28, 28) of count images (n, 28, 28): s = T·(C − min(c, C)) // C."""
    counts = np.minimum(images.astype(np.int64), spec.count_scale)
    times = spec.steps * (spec.count_scale - counts) // spec.count_scale
    return times[:, None].astype(np.uint8)


def check_encoding(spec: InputSpec, image: NDArray[np.uint8], times: NDArray[np.uint8]) -> None:
    """Fail unless the runtime's encoder gives these times for as many events a pixel as the image says."""
    events = np.zeros(int(image.sum(dtype=np.int64)), EVENT)
    y, x = np.divmod(np.repeat(np.arange(image.size), image.ravel()), image.shape[1])
    events["x"], events["y"] = x, y
    np.testing.assert_array_equal(define(spec, image.shape[1], image.shape[0], events, 0, 1).times, times)


def twin_logits(path: Path, images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Logits (n, 10) of the floating-point twin on pixels in 0..1: convolutions as products with patches."""
    model = onnx.load(path)
    held = {one.name: numpy_helper.to_array(one).astype(np.float64) for one in model.graph.initializer}
    x = images[:, None].astype(np.float64) / 255
    for node in model.graph.node:
        match node.op_type:
            case "Conv":
                weight, bias = held[node.input[1]], held[node.input[2]] if len(node.input) > 2 else np.zeros(1)
                patches = np.lib.stride_tricks.sliding_window_view(x, weight.shape[2:], axis=(2, 3))
                x = np.tensordot(patches, weight, ((1, 4, 5), (1, 2, 3))).transpose(0, 3, 1, 2) + bias[:, None, None]
            case "Relu":
                x = np.maximum(x, 0)
            case "MaxPool":
                x = x.reshape(*x.shape[:2], x.shape[2] // 2, 2, x.shape[3] // 2, 2).max((3, 5))
            case "Flatten":
                x = x.reshape(len(x), -1)
            case "Gemm":
                x = x @ held[node.input[1]].T + held[node.input[2]]
            case kind:
                raise ValueError(f"{path}: unexpected operator {kind}")
    return x


def accumulations(layer: Conv | Dense, a: NDArray[np.int64]) -> int:
    """Effective ACs of one layer for input activations (channels, height, width)."""
    live, active = (layer.weights != 0).astype(np.int64), (a != 0).astype(np.int64)
    if isinstance(layer, Dense):
        return int((live @ active.ravel()).sum())
    # Stride 1 and no padding, as in all these networks: an input meets every weight whose place is inside.
    patches = np.lib.stride_tricks.sliding_window_view(active, live.shape[2:], axis=(1, 2))
    return int(np.einsum("chwyx,ocyx->", patches, live))


def activity(network: Network, emulator: Emulator, times: NDArray[np.uint8]) -> dict[str, object]:
    """Means over the images: spikes that carry a value, and effective accumulations, a weighted layer."""
    chosen = times[:: max(1, len(times) // TRACED)]
    weighted = [layer for layer in network.layers if isinstance(layer, Conv | Dense)]
    counts, spikes = np.zeros(len(weighted)), np.zeros(len(weighted))
    for one in chosen:
        a, place = network.input_steps - one.astype(np.int64), 0
        for layer, frame, steps in zip(
            network.layers, network.frames(), emulator.trace(one).spike_steps, strict=True
        ):  # fmt: skip
            out = np.maximum(frame.last - steps.astype(np.int64), 0)
            if isinstance(layer, Conv | Dense):
                counts[place] += accumulations(layer, a)
                spikes[place] += (out != 0).sum()
                place += 1
            a = out
    counts, spikes = counts / len(chosen), spikes / len(chosen)
    return {
        "images_traced": len(chosen),
        "effective_acs": round(float(counts.sum())),
        "effective_acs_a_layer": [round(float(one)) for one in counts],
        "informative_spikes": round(float(spikes.sum())),
        "informative_spikes_a_layer": [round(float(one)) for one in spikes],
        "inputs_not_silent": round(float((chosen < network.input_steps).sum()) / len(chosen), 1),
    }


def exact(network: Network, emulator: Emulator, times: NDArray[np.uint8]) -> None:
    """Fail unless definition, emulator and, for a gated network, closed form agree in every spike."""
    for one in times[:: len(times) // EXACT]:
        truth = run(network, one)
        others = [emulator.trace(one)] + ([closed_form(network, one)] if network.neuron == "gated" else [])
        for other in others:
            np.testing.assert_array_equal(other.potential, truth.potential)
            for ours, theirs in zip(truth.spike_steps, other.spike_steps, strict=True):
                np.testing.assert_array_equal(ours, theirs)


def measure(folder: Path, images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> dict[str, object]:
    """Figures of one bundle; errors are percentages of the images."""
    bundle = open_bundle(folder)
    network = load(bundle.path("ttfs"))
    times = times_of(bundle.manifest.input, images)
    for number in range(3):
        check_encoding(bundle.manifest.input, images[number], times[number])
    weighted = [layer for layer in network.layers if isinstance(layer, Conv | Dense)]
    figures: dict[str, object] = {
        "images": len(images),
        "steps": [layer.readout.steps for layer in weighted],
        "parameters_not_zero": sum(int(np.count_nonzero(one.weights) + np.count_nonzero(one.bias)) for one in weighted),
    }
    for neuron in ("gated", "quartz"):
        # The same integers with the neuron that may fire early; the bundle holds the gated one.
        made = replace(network, neuron=neuron)
        emulator = Emulator(made)
        exact(made, emulator, times)
        answers = [emulator.run(one) for one in times]
        wrong = np.array([answer.potential.argmax() for answer in answers]) != labels
        first = np.array([answer.first_spike.argmin() for answer in answers]) != labels
        figures[neuron] = {
            "error_by_potential": round(100 * float(wrong.mean()), 3),
            "error_by_first_spike": round(100 * float(first.mean()), 3),
            **activity(made, emulator, times),
        }
    twin = np.concatenate([twin_logits(bundle.path("ann"), part) for part in np.array_split(images, 20)])
    figures["twin_error"] = round(100 * float((twin.argmax(1) != labels).mean()), 3)
    return figures


def main() -> None:
    """Measure and print."""
    given = [Path(name) for name in sys.argv[1:]]
    images, labels = sets.mnist("t10k")
    report = {
        folder.name: measure(folder, images, labels)
        for folder in given or sorted((sets.ROOT / "models").glob("mnist-lenet*"))
    }
    json.dump(report, sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()

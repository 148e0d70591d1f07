"""Random small networks, and inputs for them, as Hypothesis strategies."""

from __future__ import annotations

from math import prod

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from firstspike.errors import BundleError
from firstspike.ttfs.limits import check
from firstspike.ttfs.network import Conv, Dense, Flatten, Layer, MaxPool, Network, Neuron, Readout, Shape

KINDS = ("conv", "conv", "dense", "maxpool", "flatten")


def rng(draw: st.DrawFn) -> np.random.Generator:
    return np.random.default_rng(draw(st.integers(0, 2**32 - 1)))


@st.composite
def readouts(draw: st.DrawFn, inputs: int) -> Readout:
    # A ramp near the size of the sums makes activations spread over 0..T, and early spikes frequent but not universal.
    ramp = draw(st.one_of(st.integers(1, 40), st.integers(1, 40 * max(1, inputs))))
    rounding = draw(st.sampled_from([0, ramp // 2, ramp - 1]))
    return Readout(
        draw(st.one_of(st.integers(1, 9), st.integers(1, 9), st.sampled_from([16, 16, 255]))), ramp, rounding
    )


def weights(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Weights and biases: signs mixed by chance, mostly positive or mostly negative; some weights 0."""
    random = rng(draw)
    size = draw(st.sampled_from([1, 8, 127]))
    shift = draw(st.sampled_from([-0.5, 0.0, 0.5]))
    values = np.clip(np.round(random.uniform(-size, size, shape) + shift * size), -128, 127)
    values[random.random(shape) < draw(st.sampled_from([0.0, 0.5]))] = 0
    bias = random.integers(-size, size + 1, shape[0]) * draw(st.sampled_from([0, 1, 3]))
    return values.astype(np.int8), bias.astype(np.int16)


@st.composite
def layers(draw: st.DrawFn, shape: Shape, kinds: tuple[str, ...]) -> Layer:
    channels, height, width = shape
    kind = draw(st.sampled_from(kinds))
    if kind == "flatten":
        return Flatten()
    if kind == "dense":
        outputs = draw(st.sampled_from([1, 3, 10, 17]))
        return Dense(*weights(draw, (outputs, prod(shape))), draw(readouts(prod(shape))))
    kernel = (draw(st.integers(1, min(height, 4))), draw(st.integers(1, min(width, 4))))
    stride = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    if kind == "maxpool":
        return MaxPool(kernel, stride)
    padding = (draw(st.integers(0, kernel[0] - 1)), draw(st.integers(0, kernel[1] - 1)))
    outputs = draw(st.sampled_from([1, 2, 5, 33]))
    made = weights(draw, (outputs, channels, *kernel))
    return Conv(*made, stride, padding, draw(readouts(channels * prod(kernel))))


@st.composite
def networks(draw: st.DrawFn, neuron: Neuron | None = None, kinds: tuple[str, ...] = KINDS) -> Network:
    shape = draw(st.tuples(st.integers(1, 3), st.integers(1, 7), st.integers(1, 7)))
    network = Network(
        neuron or draw(st.sampled_from(["gated", "quartz"])),
        shape,
        draw(st.sampled_from([1, 2, 3, 5, 8, 16, 16, 255])),
        (),
    )
    depth = draw(st.integers(1, 5))
    for number in range(depth):
        weighted = tuple(kind for kind in kinds if kind in ("conv", "dense"))
        layer = draw(layers(shape, weighted if number == depth - 1 else kinds))
        network = Network(network.neuron, network.input_shape, network.input_steps, (*network.layers, layer))
        shape = network.shapes()[-1]
    try:
        check(network)
    except BundleError as error:
        assert "24 bits" in str(error)  # noqa: PT017  (the one way in which a drawn network may not be allowed)
        assume(False)
    return network


@st.composite
def inputs(draw: st.DrawFn, network: Network) -> np.ndarray:
    """Spike times: all silent, all at once, dense, or sparse."""
    steps, random = network.input_steps, rng(draw)
    match draw(st.sampled_from(["silent", "full", "dense", "dense", "sparse"])):
        case "silent":
            return np.full(network.input_shape, steps, np.uint8)
        case "full":
            return np.zeros(network.input_shape, np.uint8)
        case "dense":
            return random.integers(0, steps + 1, network.input_shape).astype(np.uint8)
    times = random.integers(0, steps + 1, network.input_shape)
    return np.where(random.random(network.input_shape) < 0.8, steps, times).astype(np.uint8)


@st.composite
def cases(draw: st.DrawFn, neuron: Neuron | None = None, kinds: tuple[str, ...] = KINDS) -> tuple[Network, np.ndarray]:
    network = draw(networks(neuron, kinds))
    return network, draw(inputs(network))


def lenet(neuron: Neuron, steps: int = 16) -> Network:
    """A network of LeNet's size on 28×28 (ttfs.md), random weights scaled so that no layer is dead or saturated."""
    random = np.random.default_rng(7)

    def made(*shape: int) -> tuple[np.ndarray, np.ndarray]:
        values = np.clip(np.round(random.normal(2, 30, shape)), -127, 127).astype(np.int8)
        return values, random.integers(-40, 41, shape[0]).astype(np.int16)

    one, none = (1, 1), (0, 0)
    return Network(neuron, (1, 28, 28), steps, (
        Conv(*made(6, 1, 5, 5), one, none, Readout(steps, 127, 63)), MaxPool((2, 2), (2, 2)),
        Conv(*made(12, 6, 5, 5), one, none, Readout(steps, 300, 150)), MaxPool((2, 2), (2, 2)),
        Conv(*made(120, 12, 4, 4), one, none, Readout(steps, 400, 200)), Flatten(),
        Dense(*made(10, 120), Readout(steps, 300, 150)),
    ))  # fmt: skip

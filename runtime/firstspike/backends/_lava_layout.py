"""What is built on Lava: populations of neurons and synapses between them, in Loihi's fixed point. Pure, without Lava.

`_lava_plan`, `_lava_cuba` and `_lava_rate` lay networks out as such; `_lava_run` builds and runs them. Time is Lava's:
steps 0 … `period` − 1 of one window. A synapse takes a step.
"""

from typing import Any, List, NamedTuple, Tuple

import numpy as np

FINE, COARSE = -1, 7
"""Exponents of synapses that hold any integer from −128 to 127 (twice its value), and multiples of 256."""
LIMIT = 1 << 17
"""Currents and potentials hold 24 bits signed, 6 of them below the unit of weights and thresholds."""
MOST_THRESHOLD = (1 << 17) - 1
"""vth holds 17 bits."""
MOST_DECAY = 4095
INPUT, CONTROL = "input", "control"
LIF, SOFT, POOL = "lif", "soft", "pool"
"""Models of a population: Lava's own, and the two of `_lava_models`."""

Shape = Tuple[int, int, int]


class Population(NamedTuple):
    """LIF neurons that share a threshold and decays; they begin each window at rest."""

    name: str
    size: int
    vth: int
    """A neuron spikes if its potential is greater."""
    du: int = -1
    """The current loses (du + 1) / 4096 of itself a step: −1 keeps it for ever, 4095 lets it go at once."""
    dv: int = 0
    """The potential loses dv / 4096 of itself a step."""
    bias: Any = 0
    """What is added to the potential at each step: a whole number, or int64 (size,)."""
    reset: int = 0
    """Step of a window before whose arithmetic the neurons are put to rest."""
    model: str = LIF
    start: int = 0
    """Potential at rest (`SOFT`)."""


class Synapses(NamedTuple):
    """Synapses from one population to another, with one exponent. There may be none: all layers hang together."""

    source: str
    target: str
    rows: Any
    """Target neuron of each synapse."""
    columns: Any
    """Source neuron of each synapse."""
    weights: Any
    """Even, in [−256, 254] where `sign` is `mixed`; 0 to 255 (`excitatory`), or −255 to 0 (`inhibitory`)."""
    exponent: int
    sign: str = "mixed"
    delays: Any = None
    """Steps that each synapse takes beyond its one; None: none."""


class Place(NamedTuple):
    """Where a layer's spikes are seen."""

    population: str
    """Empty: it has no neurons here."""
    shift: int
    """A spike at step τ here is one at step τ − shift in the network's definition."""
    shape: Shape


class Plan(NamedTuple):
    """All that is to be built."""

    period: int
    """Steps of a window."""
    populations: List[Population]
    synapses: List[Synapses]
    control: Any
    """bool (lines, period): when the control lines spike."""
    places: List[Place]
    """One for each layer of the network."""
    input_size: int
    read_at: int = -1
    """Step after which a state of the neurons is read; −1: none is."""
    read: Tuple[str, str] = ("", "")
    """Of which population, `u` or `v`."""


def size_of(shape: Shape) -> int:
    """How many neurons a shape has."""
    return shape[0] * shape[1] * shape[2]


def shape_after(kind: str, shape: Shape, weights: Any, kernel: Any, stride: Any, padding: Any) -> Shape:
    """Shape of a layer's output.

    Args:
        kind: `conv`, `dense`, `flatten`, or a pooling.
        shape: of its input.
        weights: (out, …) of a conv or dense layer.
        kernel: its (height, width); unused for dense and flatten, as are `stride` and `padding`.
        stride: (down, along).
        padding: the same.
    """
    channels, height, width = shape
    if kind == "flatten":
        return channels * height * width, 1, 1
    if kind == "dense":
        return len(weights), 1, 1
    if kind == "conv":
        channels = len(weights)
    height, width = height + 2 * padding[0], width + 2 * padding[1]
    return channels, (height - kernel[0]) // stride[0] + 1, (width - kernel[1]) // stride[1] + 1


def patches_of(shape: Shape, layer: Any) -> Any:
    """For each output position and tap of the kernel, the input's flat index within a channel, or −1 for padding.

    Returns:
        int64 (output height · output width, kernel height · kernel width).
    """
    (py, px), (sy, sx), (kh, kw) = layer.padding, layer.stride, layer.kernel
    _, height, width = shape
    y = (np.arange(layer.shape[1]) * sy - py)[:, None] + np.arange(kh)
    x = (np.arange(layer.shape[2]) * sx - px)[:, None] + np.arange(kw)
    inside = ((y >= 0) & (y < height))[:, None, :, None] & ((x >= 0) & (x < width))[None, :, None, :]
    flat = np.where(inside, y[:, None, :, None] * width + x[None, :, None, :], -1)
    return flat.reshape(layer.shape[1] * layer.shape[2], kh * kw)


def pooling(shape: Shape, layer: Any) -> Tuple[Any, Any, Any]:
    """A pooling's synapses: rows, columns, and the tap of the kernel that each is."""
    patches = patches_of(shape, layer)
    positions, taps = patches.shape
    channel = np.arange(shape[0])[:, None, None]
    columns = (patches[None] + channel * (shape[1] * shape[2])).ravel()
    rows = np.repeat(np.arange(shape[0] * positions), taps)
    return rows, columns, np.tile(np.arange(taps), shape[0] * positions)


def wiring(layer: Any, shape: Shape) -> Tuple[Any, Any, Any]:
    """A weighted layer's synapses, those of weight 0 left out: rows, columns, weights."""
    if layer.kind == "dense":
        rows, columns = np.nonzero(layer.weights)
        return rows, columns, layer.weights[rows, columns]
    out, channels = layer.weights.shape[:2]
    patches = patches_of(shape, layer)
    positions, taps = patches.shape
    weights = np.broadcast_to(layer.weights.reshape(out, 1, channels, taps), (out, positions, channels, taps))
    plane = shape[1] * shape[2]
    columns = np.where(patches[:, None] < 0, -1, patches[:, None] + np.arange(channels)[:, None] * plane)
    columns = np.broadcast_to(columns[None], weights.shape)
    kept = (weights != 0) & (columns >= 0)
    rows = np.broadcast_to(np.arange(out * positions).reshape(out, positions, 1, 1), weights.shape)
    return rows[kept], columns[kept], weights[kept]

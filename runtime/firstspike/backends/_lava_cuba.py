"""A network of CUBA LIF neurons (SLAYER's, `cuba.definition`) as populations of LIF neurons on Lava.

Loihi's neuron is this one, so a layer is one population with its decays, bias and threshold, and each weight is one
synapse; a pooling's are synapses too. A synapse takes a step: what the definition says of a layer at its step t happens
at t + shift, where the shift grows by one from layer to layer.

**Reset.** Each layer is put to rest just before its own step 0 (`LIFReset`). Between its last step and that of the next
window it goes on by itself, and may spike; such spikes reach the next layer between its own windows.

**Delays.** All that comes in to a neuron of a dense layer may be late (`DelaySparse`). Then spikes from between two
windows could arrive within one. So the windows are as far apart as the longest delay, and between them a *gate* is
shut: a population that passes on the spikes of the layer before a step later, unless a control line tells it not to.
"""

from typing import Any, Dict, List, NamedTuple, Tuple

import numpy as np

from firstspike.backends._lava_layout import (
    CONTROL,
    INPUT,
    MOST_DECAY,
    Place,
    Plan,
    Population,
    Shape,
    Synapses,
    pooling,
    shape_after,
    size_of,
    wiring,
)
from firstspike.backends._lava_network import members


class Layer(NamedTuple):
    """One layer; what a kind does not have is None."""

    kind: str
    """`conv`, `dense`, `pool` or `flatten`."""
    shape: Shape
    """Of its output."""
    weights: Any
    """int64 (out, in, kernel height, kernel width), (out, in), or a pool's (kernel height, kernel width)."""
    bias: Any
    """int64 (out,)."""
    delay: Any
    """int64 (out,), steps."""
    current_decay: int
    voltage_decay: int
    threshold: int
    kernel: Tuple[int, int]
    stride: Tuple[int, int]
    padding: Tuple[int, int]


class Network(NamedTuple):
    """The front of a hybrid."""

    input_shape: Shape
    layers: List[Layer]


def read(data: bytes) -> Network:
    """Read the file's bytes; the daemon has checked them (`cuba.file`, `cuba.limits`).

    Raises:
        ValueError: it is no network's file.
    """
    head, arrays = members(data)
    shape: Any = tuple(head["input_shape"])
    layers = []
    for number, entry in enumerate(head["layers"]):
        found = [arrays.get("%s%d" % (letter, number)) for letter in "wbd"]
        layers.append(_layer(entry, shape, *[None if one is None else one.astype(np.int64) for one in found]))
        shape = layers[-1].shape
    return Network(tuple(head["input_shape"]), layers)


def _layer(entry: Dict[str, Any], shape: Shape, weights: Any, bias: Any, delay: Any) -> Layer:
    kind = entry["kind"]
    kernel = weights.shape[-2:] if kind in ("conv", "pool") else (1, 1)
    stride, padding = (tuple(entry.get(key, default)) for key, default in (("stride", (1, 1)), ("padding", (0, 0))))
    current, voltage, threshold = (entry.get(key, 0) for key in ("current_decay", "voltage_decay", "threshold"))
    after = shape_after(kind, shape, weights, kernel, stride, padding)
    return Layer(kind, after, weights, bias, delay, current, voltage, threshold, kernel, stride, padding)


def plan(network: Network, steps: int) -> Plan:
    """Lay the network out for windows of so many frames."""
    populations: List[Population] = []
    synapses: List[Synapses] = []
    places: List[Place] = []
    gates: List[int] = []
    source, shift, shape, longest = INPUT, 0, network.input_shape, 0
    for number, layer in enumerate(network.layers):
        name = "layer %d (%s)" % (number, layer.kind)
        if layer.kind != "flatten":
            late = 0 if layer.delay is None else int(layer.delay.max())
            if late and source != INPUT:
                shift += 1
                gates.append(shift)
                populations.append(Population("gate of " + name, size_of(shape), 1, MOST_DECAY, MOST_DECAY))
                synapses += _gate(source, populations[-1], len(gates) - 1)
                source = populations[-1].name
            shift, longest = shift + 1, max(longest, late)
            populations.append(_population(name, layer, shift))
            synapses += _synapses(source, name, layer, shape)
            source = name
        shape = layer.shape
        places.append(Place(source, shift, shape))
    period = steps + max(shift, longest)
    control = np.zeros((max(1, len(gates)), period), bool)
    for line, at in enumerate(gates):
        # A control line's synapse takes a step too.
        control[line, np.arange(steps + at - 1, period + at - 1) % period] = True
    return Plan(period, populations, synapses, control, places, size_of(network.input_shape))


def _population(name: str, layer: Layer, shift: int) -> Population:
    size = size_of(layer.shape)
    bias = 0 if layer.bias is None else np.repeat(layer.bias, size // len(layer.bias))
    return Population(name, size, layer.threshold, layer.current_decay - 1, layer.voltage_decay, bias, shift)


def _gate(source: str, gate: Population, line: int) -> List[Synapses]:
    """One synapse from each neuron, and one from the control line that outweighs it; the potential is gone at once."""
    each, ones = np.arange(gate.size), np.ones(gate.size, np.int64)
    return [
        Synapses(source, gate.name, each, each, 4 * ones, 0),
        Synapses(CONTROL, gate.name, each, line * ones, -8 * ones, 0),
    ]


def _synapses(source: str, name: str, layer: Layer, shape: Shape) -> List[Synapses]:
    """Even weights go together; odd ones, which only layers of one sign have, need synapses of that sign."""
    if layer.kind == "pool":
        rows, columns, taps = pooling(shape, layer)
        weights = layer.weights.reshape(-1)[taps]
    else:
        rows, columns, weights = wiring(layer, shape)
    delays = None
    if layer.delay is not None and layer.delay.any():
        delays = np.repeat(layer.delay, size_of(layer.shape) // len(layer.delay))[rows]
    found = []
    for odd, sign in ((0, "mixed"), (1, "excitatory" if layer.weights.max() > 0 else "inhibitory")):
        chosen = (weights & 1) == odd
        if chosen.any():
            late = None if delays is None or not delays[chosen].any() else delays[chosen]
            found.append(Synapses(source, name, rows[chosen], columns[chosen], weights[chosen], 0, sign, late))
    nothing = np.zeros(0, np.int64)
    return found or [Synapses(source, name, nothing, nothing, nothing, 0)]

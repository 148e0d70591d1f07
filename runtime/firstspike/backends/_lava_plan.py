"""A TTFS network as populations of LIF neurons and synapses within Loihi's fixed point: pure, without Lava.

Time here is Lava's: steps 0 … `period` − 1 of one inference. A neuron that follows `ttfs.definition` at its step t does
so here at t + shift, where the shift is the number of poolings up to it: a pooling is a population of its own, and its
synapses take a step, where the definition's poolings take none. All else has the definition's very steps: a LIF neuron
adds to its current what was sent a step before, adds that to its potential and compares, so its potential at step t is
u(t), and it spikes if that is above vth = θ − 1.

**Current.** It never leaks, so a spike switches its weight on for good: I(t). Whatever else the definition asks of the
current comes from *control lines*, spikes at fixed steps, whose weights differ by neuron:

* at `start`: + b, the bias; gated: − K, taken back a step later, so that the potential lies K lower;
* at `end` − 1, gated: + K, taken back a step later, so that at `end` the potential is u again;
* at `end`: + S − ΣW − b. All inputs have spiked by then, so this leaves S, the readout;
* at `last` − 1: + R, which takes the lowest possible potential over the threshold: the rectifier.

A neuron's own spike takes H from its current, which is then negative for the rest of the inference: it spikes once.
At step 0 of each inference the neurons are reset (`LIFReset`).

**Pooling.** Its current leaks away at once; the first spike of the patch takes it over its threshold, and then H below.

**Weights.** A Loihi synapse of mixed sign holds an even weight from −256 to 254, times a power of two. So any
integer from −128 to 127 is 2w · 2⁻¹, and any multiple of 256 from −32768 to 32512 is 2h · 2⁷.

**Potentials of the output.** A spike sets a neuron's potential back, so one more population, `membrane`, gets the
output layer's input without gate and readout and cannot spike; its potential at the output's `end` is the answer.
"""

from typing import Any, Dict, List, NamedTuple, Tuple

import numpy as np

from firstspike.backends._lava_layout import (
    COARSE,
    CONTROL,
    FINE,
    INPUT,
    LIMIT,
    MOST_THRESHOLD,
    Place,
    Plan,
    Population,
    Synapses,
    pooling,
    size_of,
    wiring,
)
from firstspike.backends._lava_network import Layer, Network

MEMBRANE = "membrane"
COARSE_UNIT = 256
"""What a step of a coarse weight is worth."""


class _Ranges(NamedTuple):
    """What each neuron of a layer can reach: int64 (neurons,), and the earliest step of a spike."""

    top: Any
    """Potential at `end`, at most."""
    bottom: Any
    gated_top: Any
    """A step earlier, which is when the gate is last needed."""
    gated_bottom: Any
    earliest: int


def plan(network: Network) -> Plan:
    """Lay the network out.

    Raises:
        ValueError: it leaves the ranges of Loihi's fixed point; the text names the layer and what to change.
    """
    populations: List[Population] = []
    synapses: List[Synapses] = []
    places: List[Place] = []
    lines: List[int] = []
    source, shift, shape, earliest = INPUT, 0, network.input_shape, 0
    for number, layer in enumerate(network.layers):
        name = "layer %d (%s)" % (number, layer.kind)
        if layer.kind == "maxpool":
            shift += 1
            populations.append(Population(name, size_of(layer.shape), 1, du=4095))
            synapses += _pool(name, layer, source, shape)
            source = name
        elif layer.kind != "flatten":
            _check_threshold(name, layer)
            rows, columns, weights = wiring(layer, shape)
            sums = _sums(rows, weights, size_of(layer.shape))
            bias = np.repeat(layer.bias, size_of(layer.shape) // len(layer.bias))
            ranges = _ranges(layer, sums, bias, earliest, gated=network.neuron == "gated")
            gate = _gate(layer, network.neuron, ranges)
            rectifier = _coarse(np.maximum(0, -ranges.bottom))
            silence = _coarse(np.maximum(layer.ramp + rectifier, sums[0] + np.maximum(bias, 0)))
            _check_ranges(name, layer, sums, bias, ranges, gate, silence)
            currents = _currents(layer, sums, bias, gate, rectifier)
            populations.append(Population(name, size_of(layer.shape), layer.threshold - 1))
            synapses.append(Synapses(source, name, rows, columns, 2 * weights, FINE))
            synapses += _control(name, currents, shift, lines) + _silence(name, silence)
            if number == len(network.layers) - 1:
                read_at = layer.end + shift
                populations.append(Population(MEMBRANE, size_of(layer.shape), MOST_THRESHOLD))
                synapses.append(Synapses(source, MEMBRANE, rows, columns, 2 * weights, FINE))
                synapses += _control(MEMBRANE, {layer.start: bias}, shift, lines)
            source, earliest = name, ranges.earliest
        shape = layer.shape
        places.append(Place(source, shift, shape))
    period = network.layers[-1].last + shift + 2
    control = np.zeros((max(1, len(lines)), period), bool)
    control[np.arange(len(lines)), lines] = True
    return Plan(
        period, populations, synapses, control, places, size_of(network.input_shape), read_at, (MEMBRANE, "v")
    )  # fmt: skip


def _pool(name: str, layer: Layer, source: str, shape: Tuple[int, int, int]) -> List[Synapses]:
    taps = layer.kernel[0] * layer.kernel[1]
    if 2 * taps >= 32768:
        raise ValueError(
            "%s: a patch of %d neurons is more than one synapse can silence (16383): use a smaller one" % (name, taps)
        )
    rows, columns, _ = pooling(shape, layer)
    ones = np.full(len(rows), 4)  # 2, above the threshold of 1
    each = np.arange(size_of(layer.shape))
    return [
        Synapses(source, name, rows, columns, ones, FINE),
        Synapses(name, name, each, each, np.full(len(each), -256), COARSE),
    ]


def _sums(rows: Any, weights: Any, size: int) -> Tuple[Any, Any]:
    """Each neuron's excitatory and inhibitory weights added up, int64 (size,)."""
    positive = np.bincount(rows, np.maximum(weights, 0), size).astype(np.int64)
    return positive, np.bincount(rows, np.minimum(weights, 0), size).astype(np.int64)


def _ranges(layer: Layer, sums: Tuple[Any, Any], bias: Any, earliest_input: int, *, gated: bool) -> _Ranges:
    """As `ttfs.limits`, by neuron: what the potential can be up to `end`, over all inputs."""

    def charge(t: int, sums: Any, bias: Any) -> Any:
        return sums * max(t - earliest_input, 0) + bias * max(t - layer.start, 0)

    high, low = (sums[0], np.maximum(bias, 0)), (sums[1], np.minimum(bias, 0))
    earliest = layer.end
    if not gated:
        steps = range(earliest_input, layer.end + 1)
        earliest = next((t for t in steps if int(charge(t, *high).max()) >= layer.threshold), layer.end)
    before = layer.end - 1
    return _Ranges(
        charge(layer.end, *high), charge(layer.end, *low), charge(before, *high), charge(before, *low), earliest
    )


def _gate(layer: Layer, neuron: str, ranges: _Ranges) -> Any:
    """K of each neuron; a layer whose input phase is one step needs none, since nothing can spike before its end."""
    if neuron != "gated" or layer.end - layer.start == 1:
        return np.zeros_like(ranges.top)
    return _coarse(np.maximum(0, ranges.gated_top - layer.threshold + 1))


def _currents(layer: Layer, sums: Tuple[Any, Any], bias: Any, gate: Any, rectifier: Any) -> Dict[int, Any]:
    """What control lines add to the current, int64 (neurons,), by the step at which they spike."""
    currents: Dict[int, Any] = {}
    for step, current in (
        (layer.start, bias - gate),
        (layer.start + 1, gate),
        (layer.end - 1, gate),
        (layer.end, layer.ramp - sums[0] - sums[1] - bias - gate),
        (layer.last - 1, rectifier),
    ):
        currents[step] = currents.get(step, 0) + current
    return currents


def _coarse(value: Any) -> Any:
    """Rounded up to what coarse synapses alone can give."""
    return -(-value // COARSE_UNIT) * COARSE_UNIT


def _control(name: str, currents: Dict[int, Any], shift: int, lines: List[int]) -> List[Synapses]:
    """Synapses that add these currents; a line is added to `lines` for each, with the step of its spike."""
    parts: Dict[int, List[Tuple[Any, Any, Any]]] = {FINE: [], COARSE: []}
    for step, current in sorted(currents.items()):
        coarse = (current + 128) // COARSE_UNIT
        fine = current - coarse * COARSE_UNIT
        while np.any(fine) or np.any(coarse):
            now = np.clip(coarse, -128, 127)
            for exponent, part in ((FINE, fine), (COARSE, now)):
                rows = np.nonzero(part)[0]
                if len(rows):
                    parts[exponent].append((rows, np.full(len(rows), len(lines)), 2 * part[rows]))
            lines.append(step + shift)
            coarse, fine = coarse - now, np.zeros_like(fine)
    groups = []
    for exponent, found in parts.items():
        if found:
            rows, columns, weights = (np.concatenate(arrays) for arrays in zip(*found))
            groups.append(Synapses(CONTROL, name, rows, columns, weights, exponent))
    return groups


def _silence(name: str, silence: Any) -> List[Synapses]:
    """Synapses of each neuron to itself that take `silence`, a multiple of 256, from its current."""
    left, found = silence // COARSE_UNIT, []
    while np.any(left):
        now = np.minimum(left, 128)
        rows = np.nonzero(now)[0]
        found.append(Synapses(name, name, rows, rows, -2 * now[rows], COARSE))
        left = left - now
    return found


def _check_threshold(name: str, layer: Layer) -> None:
    if layer.threshold - 1 > MOST_THRESHOLD:
        raise ValueError(
            "%s: its threshold of %d (ramp · steps − rounding) needs more than Loihi's 17 bits (at most %d): use fewer "
            "steps or smaller weights" % (name, layer.threshold, MOST_THRESHOLD + 1)
        )


def _check_ranges(
    name: str, layer: Layer, sums: Tuple[Any, Any], bias: Any, ranges: _Ranges, gate: Any, silence: Any
) -> None:
    """Refuse a layer whose potential or current could leave 24 bits (potentials stop there, currents wrap).

    Raises:
        ValueError: see there.
    """
    lowest = int(np.minimum(ranges.gated_bottom - gate, ranges.bottom).min())
    highest = int(np.maximum(ranges.top, layer.threshold + layer.ramp).max())
    # After an early spike the other inputs may still take away; the gate's pulses come upon all inputs' current.
    least = int((sums[1] + np.minimum(bias, 0) - np.maximum(silence, gate)).min())
    most = int(np.maximum(sums[0] + np.maximum(bias, 0) + gate, silence).max())
    if min(lowest, least) <= -LIMIT or max(highest, most) >= LIMIT:
        raise ValueError(
            "%s: its potential can reach %d to %d and its current %d to %d, and Loihi's 24 bits hold less than "
            "%d: use smaller weights, fewer inputs or fewer steps" % (name, lowest, highest, least, most, LIMIT)
        )

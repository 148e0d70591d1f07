"""A rate-coded network (`ttfs.rate`) on Lava's simulation: integrate-and-fire neurons with soft reset.

Lava's neurons lose what is left above the threshold when they spike, and a pooling needs each input's number of spikes.
So both have models of ours (`_lava_models`), in place of Lava's, for the same process and between Lava's own synapses.

Lava's neurons could do the soft reset alone: with the potential forgotten at each step (dv = 4096) it is the current,
which spikes do not reset; a synapse of each neuron to itself takes the threshold from it a step later, together with
the next input. That is exact. But dv has 12 bits, currents wrap at 17 bits where the definition's potentials stop at
24, and a pooling could still not be had.

**Input.** A pixel is a constant current of a whole number, a = input_steps − s. It comes at step 0, as binary digits:
one spike for each digit that is 1, by synapses of that digit's power of two; the current then never leaks. Layers
before the first weighted one pass values on, which is done with the input.

**Time.** Layer by layer a step later than the definition, poolings included.
"""

from typing import Any, List

import numpy as np

from firstspike.backends._lava_layout import (
    FINE,
    INPUT,
    MOST_DECAY,
    POOL,
    SOFT,
    Place,
    Plan,
    Population,
    Synapses,
    patches_of,
    pooling,
    size_of,
    wiring,
)
from firstspike.backends._lava_network import Network

MOST_TAPS = 30
"""Inputs of a pooling neuron: each is one bit of what comes in to it."""
BITS = 8
"""Of one synapse without sign."""


def plan(network: Network) -> Plan:
    """Lay the network out.

    Raises:
        ValueError: a pooling is too large; the text names it.
    """
    populations: List[Population] = []
    synapses: List[Synapses] = []
    places: List[Place] = []
    source, shape, pixels, digits = "", network.input_shape, 0, network.input_steps.bit_length()
    for number, layer in enumerate(network.layers):
        name, shift = "layer %d (%s)" % (number, layer.kind), len(populations) + 1
        if layer.kind == "maxpool" and source:
            populations.append(Population(name, size_of(layer.shape), 0, reset=shift, model=POOL))
            synapses += _pool(source, name, layer, shape)
            source = name
        elif layer.weights is not None:
            rows, columns, weights = wiring(layer, shape)
            first = not source
            bias = np.repeat(layer.bias, size_of(layer.shape) // len(layer.bias))
            if first:
                bias, pixels = bias * network.input_steps, size_of(shape)
            populations.append(
                Population(name, size_of(layer.shape), layer.ramp - 1, -1 if first else MOST_DECAY, 0, bias, shift,
                           SOFT, layer.rounding)
            )  # fmt: skip
            for digit in range(digits if first else 1):
                synapses.append(
                    Synapses(source or INPUT, name, rows, columns + digit * pixels, 2 * weights, FINE + digit)
                )
            source = name
        shape = layer.shape
        places.append(Place(source, len(populations), shape))
    period = network.duration + len(populations)
    control = np.zeros((1, period), bool)
    return Plan(period, populations, synapses, control, places, digits * pixels, period - 1, (source, "u"))


def _pool(source: str, name: str, layer: Any, shape: Any) -> List[Synapses]:
    rows, columns, taps = pooling(shape, layer)
    if taps.max() >= MOST_TAPS:
        raise ValueError(
            "%s: a patch of %d neurons, at most %d can be told apart here: use a smaller one"
            % (name, taps.max() + 1, MOST_TAPS)
        )
    found = []
    for exponent in range(0, int(taps.max()) + 1, BITS):
        chosen = taps // BITS * BITS == exponent
        weights = 1 << (taps[chosen] - exponent)
        found.append(Synapses(source, name, rows[chosen], columns[chosen], weights, exponent, "excitatory"))
    return found


def inject(network: Network, times: Any) -> Any:
    """The spikes of step 0, float (input_size,), of a window's spike times (channels, height, width)."""
    values, shape = network.input_steps - times.astype(np.int64), network.input_shape
    for layer in network.layers:
        if layer.weights is not None:
            break
        if layer.kind == "maxpool":
            values = values.reshape(shape[0], -1)[:, patches_of(shape, layer)].max(-1)
        shape = layer.shape
        values = values.reshape(shape)
    digits = np.arange(network.input_steps.bit_length())[:, None]
    return ((values.reshape(-1) >> digits) & 1).reshape(-1).astype(float)

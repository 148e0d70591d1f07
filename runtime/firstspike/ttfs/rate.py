"""What a rate-coded network computes: naive NumPy, step by step. The specification of the baseline beside TTFS.

A value is a number of spikes here, not a time: integrate-and-fire neurons with soft reset (reset by subtraction), as
the SNN Toolbox converts them (Rueckauer et al. 2017, Frontiers in Neuroscience 11:682) and Chandarana et al. 2022 use
it, who tune two knobs: the threshold's scale (the percentile of the activations that a spike at every step stands for)
and the duration D. The network is a `Network` with the neuron `rate`, the same layers, and this meaning:

- **Input** is a constant current, not spikes: at each of the D steps an input pixel that the latency code gives the
  time s adds its weight times a = input_steps − s. So its only error is the code's rounding.
- **Layers** work in order within a step, without delay. A weighted layer's current is I = Σ W·x + b·v: in the first one
  x is the pixel's a and v = input_steps, in the others x is 1 where an input spikes at this step, and v = 1.
- **Neuron.** u starts at u₀ (`Readout.rounding`), θ is `Readout.ramp`, `Readout.steps` is 1. At each step
  u ← clip(u + I, ±(2²³ − 1)), Loihi's membrane; if u ≥ θ, it spikes and u ← u − θ. At most one spike a step.
  u₀ = 0 rounds a rate down; u₀ = ⌊θ/2⌋ rounds to nearest.
- **Max-pooling** spikes whenever the greatest number of spikes in its patch rises, so that its own number is that
  greatest number at every step. The SNN Toolbox passes on the spikes of the input that leads; where several lead in
  turn, this rule passes no spike twice. Before the first weighted layer the greatest a of the patch is passed on.
- **Output.** `potential` is what the last layer received in all, Σ_t I(t): its spikes times θ plus what is left,
  without the saturation. `first_spike` is the step of a neuron's first spike, D where it has none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from firstspike.errors import BundleError
from firstspike.ttfs.definition import check_times, weigh
from firstspike.ttfs.limits import POTENTIAL_LIMIT, check
from firstspike.ttfs.network import Conv, Dense, Flatten, Layer, MaxPool, Network

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class RateResult:
    """One inference, with the number of spikes of every neuron."""

    counts: tuple[NDArray[np.int32], ...]
    """For each layer, pooling and flatten included: shape (channels, height, width). 0 before the first weighted layer,
    where values are currents."""
    potential: NDArray[np.int32]
    """Shape (outputs,)."""
    first_spike: NDArray[np.int32]
    """Shape (outputs,): steps."""


def run(network: Network, times: NDArray[np.uint8]) -> RateResult:
    """Simulate one inference.

    Args:
        network: its neuron is `rate`; checked (`limits.check`).
        times: `network.input_shape`, uint8: the step 0..input_steps of each pixel in the latency code.

    Raises:
        BundleError: the network is not allowed.
        DataError: `times` does not fit the network.
    """
    check(network)
    if network.neuron != "rate":
        raise BundleError(f"the network's neuron is {network.neuron!r}, not 'rate': see firstspike.ttfs.definition")
    check_times(network, times)
    shapes = network.shapes()
    counts = [np.zeros(shape, np.int64) for shape in shapes]
    potentials = [
        np.full(shape, layer.readout.rounding if isinstance(layer, Conv | Dense) else 0, np.int64)
        for layer, shape in zip(network.layers, shapes, strict=True)
    ]
    charge = np.zeros(shapes[-1], np.int64)
    first = np.full(shapes[-1], network.duration, np.int64)
    for t in range(network.duration):
        # What flows into a layer: values before the first weighted one, afterwards this step's spikes and all so far.
        x: Ints = network.input_steps - times.astype(np.int64)
        before, analog = x, True
        for number, layer in enumerate(network.layers):
            if isinstance(layer, Conv | Dense):
                full = network.input_steps if analog else 1
                current = weigh(layer, x) + layer.bias.astype(np.int64)[:, None, None] * full
                u = np.clip(potentials[number] + current, 1 - POTENTIAL_LIMIT, POTENTIAL_LIMIT - 1)
                fired = u >= layer.readout.ramp
                potentials[number] = u - layer.readout.ramp * fired
                counts[number] = counts[number] + fired  # not in place: a flatten keeps a view of it
                x, before, analog = fired.astype(np.int64), counts[number], False
            elif analog:
                x = pass_on(layer, x)
            else:
                risen = pass_on(layer, before)
                x, before = risen - counts[number], risen
                counts[number] = risen
        charge += current
        first[(first == network.duration) & fired] = t
    return RateResult(
        tuple(one.astype(np.int32) for one in counts), charge.reshape(-1).astype(np.int32),
        first.reshape(-1).astype(np.int32),
    )  # fmt: skip


def pass_on(layer: Layer, x: Ints) -> Ints:
    """Max-pooling or flattening of values or of numbers of spikes, (channels, height, width) to the layer's output."""
    if isinstance(layer, MaxPool):
        sy, sx = layer.stride
        patches = np.lib.stride_tricks.sliding_window_view(x, layer.kernel, axis=(1, 2))[:, ::sy, ::sx]
        return np.asarray(patches.max(axis=(3, 4)))
    assert isinstance(layer, Flatten)  # noqa: S101  (narrows the type: weighted layers never come here)
    return x.reshape(-1, 1, 1)

"""Whole numbers: for each layer the weights, bias and ramp that come closest to the ANN on calibration data.

With the normalised layer (`normalise`) and k units of potential a unit of weight, W ≈ k·w and b ≈ k·b make the
potential u ≈ k·T_in·z of the pre-activation z, and the ramp S = k·T_in/T makes the activation ⌊(u + r)/S⌋ ≈ T·z. k is
free: many are tried, and the one is taken whose layer, given what the layers before it really answer, is closest to
T·z in the range 0..T that a spike can express (the last layer: to z, since its potential is the answer).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from firstspike.errors import BundleError, DataError
from firstspike.ttfs.convert.ann import Weighted, pool
from firstspike.ttfs.convert.calibration import encode
from firstspike.ttfs.convert.normalise import Normalised
from firstspike.ttfs.convert.refit import Refit, refit
from firstspike.ttfs.convert.targets import Targets
from firstspike.ttfs.emulator import Emulator
from firstspike.ttfs.limits import POTENTIAL_LIMIT, check
from firstspike.ttfs.network import Conv, Dense, Network, Neuron, Readout

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
FIT_WORK = 1 << 24
"""Products that trying one k may take: it bounds the positions that are looked at."""
FACTORS = np.linspace(1.3, 0.5, 17)
"""k, in multiples of the one that just fits the largest weight; above 1 the largest weights are clipped."""
SMALL = np.float64(0.5) ** np.arange(2.0, 12.0)
"""Tried where none of `FACTORS` is allowed: biases or potentials are too large for the best use of the weights."""
BIAS_LIMIT = 32767
"""int16. On Loihi a control line carries up to ±254, and larger biases take several."""
LSB = 2
"""Weights of a layer with both signs are multiples of this: Loihi's 8-bit weights spend a bit on the sign."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How to make the integers."""

    neuron: Neuron
    input_steps: int
    steps: tuple[int, ...]
    """T of each weighted layer."""
    bits: int = 8
    """Of a weight, with its sign."""
    refit: Refit = "none"
    """What may be fitted to the spikes that each layer really gets."""


@dataclass(frozen=True, slots=True)
class Quantised:
    """The integer network."""

    network: Network
    logit: float
    """Normalised logits a unit of the last layer's potential."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a layer sees and should answer at some positions."""

    given: Floats
    """(positions, fan-in): activations of the TTFS network, in steps."""
    wanted: Floats
    """(positions, out): normalised pre-activations of the ANN."""


@dataclass(frozen=True, slots=True)
class _Try:
    error: float
    made: Conv | Dense
    k: float


def quantise(normalised: Normalised, targets: Targets, plan: Plan) -> Quantised:
    """Make the integer network.

    Args:
        normalised: the ANN.
        targets: what the ANN before normalisation answers, and on which samples.
        plan: one entry of `steps` a weighted layer.

    Raises:
        DataError: a layer's scale is too small for its ramp, or its bias too large; the text names the layer.
        BundleError: its potentials would leave 24 bits.
    """
    ann = normalised.ann
    times = encode(targets.x, plan.input_steps)
    given = (plan.input_steps - times.astype(np.int32)).astype(np.float32)
    network = Network(plan.neuron, ann.input_shape, plan.input_steps, ())
    number, steps_in, logit = 0, plan.input_steps, 1.0
    for place, layer in enumerate(ann.layers):
        if isinstance(layer, Weighted):
            last = place == len(ann.layers) - 1
            steps = plan.steps[number]
            seen = _Seen(
                targets.inputs(number, layer, given), targets.wanted[number] / np.float32(normalised.scales[number])
            )
            most = 1.0 if plan.neuron == "gated" else np.inf
            layer = refit(layer, seen.given / np.float32(steps_in), seen.wanted, plan.refit, last=last, most=most)
            found = _fit(layer, seen, network, replace(plan, steps=(steps_in, steps)), last=last)
            network = replace(network, layers=(*network.layers, found.made))
            if not last:
                given = activations(network, times)
            logit = 1 / (found.k * steps_in)
            number, steps_in = number + 1, steps
        else:
            network = replace(network, layers=(*network.layers, layer))
            given = pool(layer, given)
    return Quantised(network, logit)


def activations(network: Network, times: NDArray[np.uint8]) -> Floats:
    """What the last layer answers, T − s of its frame, for (n, channels, height, width) spike times."""
    emulator, last = Emulator(network), network.frames()[-1].last
    return np.stack([last - emulator.trace(one).spike_steps[-1] for one in times]).astype(np.float32)


def _fit(layer: Weighted, seen: _Seen, before: Network, plan: Plan, *, last: bool) -> _Try:
    """The best layer that is allowed after those `before`; `plan.steps` is (T_in, T)."""
    fault: BundleError | None = None
    for factors in (FACTORS, SMALL):
        for one in sorted(_tries(layer, seen, plan, factors, last=last), key=lambda one: one.error):
            try:
                check(replace(before, layers=(*before.layers, one.made)))
            except BundleError as error:
                fault = fault or error
            else:
                return one
    if fault is not None:
        raise BundleError(f"{layer.name}: {fault}")
    raise inexpressible(layer)


def _tries(layer: Weighted, seen: _Seen, plan: Plan, factors: Doubles, *, last: bool) -> Iterator[_Try]:
    steps_in, steps = plan.steps
    every = -(-layer.weights.size * len(seen.given) // FIT_WORK)
    given, wanted = seen.given[::every], seen.wanted[::every]
    for factor in factors:
        k, weights, bias = whole(layer, float(factor), plan.bits)
        ramp = round(k * steps_in / steps) if k * steps_in / steps < POTENTIAL_LIMIT else 0
        if last:
            ramp = max(1, ramp)  # its first spike may be coarse: the potential is the answer
        if ramp < 1:
            continue
        # What is beyond float32 is beyond the limits below too.
        with np.errstate(over="ignore", invalid="ignore"):
            u = given @ weights.reshape(len(weights), -1).T + bias * np.float32(steps_in)
            if last:
                miss = u / np.float32(k * steps_in) - wanted
            else:
                miss = np.clip(u / np.float32(ramp), 0, steps) - np.clip(wanted * np.float32(steps), 0, steps)
            error = float(np.square(miss).mean())
        if np.isfinite(error) and np.abs(bias).max() <= BIAS_LIMIT:
            yield _Try(error, made(layer, weights, bias, Readout(steps, ramp, ramp // 2)), k)


def whole(layer: Weighted, factor: float, bits: int) -> tuple[float, Floats, Floats]:
    """Whole weights and biases of a normalised layer; biases may be beyond `BIAS_LIMIT`.

    Args:
        layer: the layer.
        factor: k in multiples of the one that just fits the largest weight.
        bits: of a weight, with its sign.

    Returns:
        k, the weights (clipped to what the bits hold) and the biases.
    """
    lsb = LSB if layer.weights.min() < 0 < layer.weights.max() else 1
    most = (2 ** (bits - 1) - 1) // lsb * lsb
    largest = float(np.abs(layer.weights).max())
    # A layer without weights is its bias: any k will do.
    k = factor * most / largest if largest else factor * BIAS_LIMIT
    with np.errstate(over="ignore", invalid="ignore"):
        weights = np.clip(lsb * np.rint(np.float32(k / lsb) * layer.weights), -most, most)
        return k, weights, np.rint(np.float32(k) * layer.bias)


def made(layer: Weighted, weights: Floats, bias: Floats, readout: Readout) -> Conv | Dense:
    """The layer of the integer network."""
    values, current = weights.astype(np.int8), bias.astype(np.int16)
    if layer.weights.ndim == 2:
        return Dense(values, current, readout)
    return Conv(values, current, layer.stride, layer.padding, readout)


def inexpressible(layer: Weighted) -> DataError:
    """The error of a layer for which no k is allowed."""
    return DataError(
        f"{layer.name}: no scale gives whole numbers (bias up to {np.abs(layer.bias).max():.3g} times what a spike "
        f"can express, weights up to {np.abs(layer.weights).max():.3g}): use a higher percentile, more bits or "
        "fewer steps"
    )

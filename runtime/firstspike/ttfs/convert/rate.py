"""Rate coding: the same normalised ANN with integrate-and-fire neurons and soft reset (see `firstspike.ttfs.rate`).

With k units of potential a unit of weight, W ≈ k·w, b ≈ k·b and the threshold θ = k, a neuron's spikes a step come to
its normalised activation, 1 being a spike at every step. The first layer takes the input's whole numbers as current, so
there θ = k·input_steps. k is the one of many with which W/k comes closest to w.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from firstspike.errors import BundleError, DataError
from firstspike.ttfs.convert.ann import Ann, Weighted, logits
from firstspike.ttfs.convert.calibration import encode
from firstspike.ttfs.convert.choose import divergence, log_softmax
from firstspike.ttfs.convert.normalise import Normalised, gather, rescaled
from firstspike.ttfs.convert.quantise import BIAS_LIMIT, FACTORS, SMALL, Quantised, inexpressible, made, whole
from firstspike.ttfs.limits import POTENTIAL_LIMIT, check
from firstspike.ttfs.network import Conv, Dense, Network, Readout
from firstspike.ttfs.rate_emulator import RateEmulator

PERCENTILES = (95.0, 98.0, 99.0, 99.5, 99.9, 99.99)
"""Of the positive activations: the thresholds' scales that are tried where none is given."""
JUDGED = 512
"""Samples on which tries are judged, at most: a rate-coded inference takes long."""


@dataclass(frozen=True, slots=True)
class RatePlan:
    """How to make the integers."""

    input_steps: int
    duration: int
    bits: int = 8


@dataclass(frozen=True, slots=True)
class RateTry:
    """One conversion that was tried."""

    percentile: float
    divergence: float
    """KL(ANN ‖ rate), nats, mean over the samples it was judged on."""


@dataclass(frozen=True, slots=True)
class RateChosen:
    """The best conversion."""

    normalised: Normalised
    quantised: Quantised
    best: RateTry
    tries: tuple[RateTry, ...]


def quantise_rate(normalised: Normalised, plan: RatePlan) -> Quantised:
    """Make the integer network.

    Raises:
        DataError: a layer's scale is too small for its threshold, or its bias too large; the text names the layer.
        BundleError: its currents would leave 30 bits.
    """
    ann = normalised.ann
    network = Network("rate", ann.input_shape, plan.input_steps, (), plan.duration)
    full, logit = plan.input_steps, 1.0
    for place, layer in enumerate(ann.layers):
        if isinstance(layer, Weighted):
            # Only the last layer's currents are summed up: a hidden one is checked as if there were one step.
            duration = plan.duration if place == len(ann.layers) - 1 else 1
            k, ready = _fit(layer, replace(network, duration=duration), plan, full)
            network = replace(network, layers=(*network.layers, ready))
            logit, full = 1 / (k * full * plan.duration), 1
        else:
            network = replace(network, layers=(*network.layers, layer))
    return Quantised(network, logit)


def _fit(layer: Weighted, before: Network, plan: RatePlan, full: int) -> tuple[float, Conv | Dense]:
    fault: BundleError | None = None
    for factors in (FACTORS, SMALL):
        for _, k, ready in sorted(_tries(layer, factors, plan, full), key=lambda one: one[0]):
            try:
                check(replace(before, layers=(*before.layers, ready)))
            except BundleError as error:
                fault = fault or error
            else:
                return k, ready
    if fault is not None:
        raise BundleError(f"{layer.name}: {fault}")
    raise inexpressible(layer)


def _tries(
    layer: Weighted, factors: NDArray[np.float64], plan: RatePlan, full: int
) -> Iterator[tuple[float, float, Conv | Dense]]:
    """Mean square error of the weights, k, and the layer."""
    for factor in factors:
        k, weights, bias = whole(layer, float(factor), plan.bits)
        theta = round(k * full) if k * full < POTENTIAL_LIMIT - 1 else 0
        error = float(np.square(weights / k - layer.weights).mean())
        if theta >= 1 and np.isfinite(error) and np.abs(bias).max() <= BIAS_LIMIT:
            yield error, k, made(layer, weights, bias, Readout(1, theta, theta // 2))


def choose_rate(ann: Ann, x: NDArray[np.float32], plan: RatePlan, progress: Callable[[str], None]) -> RateChosen:
    """Try the percentiles, and keep the one that answers most like the ANN: the knob that Chandarana et al. 2022 tune.

    Args:
        ann: the network.
        x: calibration samples (n, channels, height, width).
        plan: what is fixed.
        progress: told what is being tried.

    Raises:
        DataError, BundleError: no try could be made; the text is the first one's.
    """
    judged = x[:: -(-len(x) // JUDGED)]
    seen, times = gather(ann, x), encode(judged, plan.input_steps)
    truth = log_softmax(logits(ann.layers, judged))
    found: list[RateChosen] = []
    faults: list[DataError | BundleError] = []
    for percentile in PERCENTILES:
        progress(f"trying percentile {percentile:g}")
        try:
            scales = [float(np.percentile(values, percentile)) for values in seen.positive]
            normalised = rescaled(ann, scales, f"percentile {percentile:g} of its activations")
            quantised = quantise_rate(normalised, plan)
        except (DataError, BundleError) as fault:
            faults.append(fault)
            continue
        emulator = RateEmulator(quantised.network)
        potential = np.stack([emulator.run(one).potential for one in times])
        one = RateTry(percentile, divergence(truth, potential * (quantised.logit * scales[-1])))
        found.append(RateChosen(normalised, quantised, one, ()))
    if not found:
        raise faults[0]
    return replace(min(found, key=lambda one: one.best.divergence), tries=tuple(one.best for one in found))

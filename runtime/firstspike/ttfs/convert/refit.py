"""A layer's weights and bias again, for the inputs that it really gets.

Spikes say what the layer before answers only to the step, rounded and cut off, and the input's code rounds up (Eq. 1
rounds times down). The layer after can know that: its parameters are fitted by least squares, so that what it makes of
the spikes comes closest to what the ANN's layer makes of the true activations. After Li et al. 2021, "A Free Lunch From
ANN: Towards Efficient, Accurate Spiking Neural Networks Calibration": layer by layer, on calibration data, no labels.

Only errors that survive the rectifier count, and the cut where the neuron cannot say more than T: each step solves the
plain least squares of what is missing after both, and a few steps are enough.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from firstspike.ttfs.convert.ann import Weighted

Refit = Literal["none", "bias", "weights"]
Floats = NDArray[np.float32]
STEPS = 10
RIDGE = 0.3
"""Weight of staying near the ANN's weights, in multiples of the inputs' mean square: few samples are not learned."""
MAX_FAN_IN = 1024
"""Layers with more inputs keep their weights: the normal equations would take too long."""


def refit(layer: Weighted, given: Floats, wanted: Floats, how: Refit, *, last: bool, most: float) -> Weighted:
    """Fit a normalised layer to its real inputs.

    Args:
        layer: weights and bias as `normalise` gives them.
        given: (positions, fan-in): normalised activations that spikes gave.
        wanted: (positions, out): normalised pre-activations of the ANN.
        how: what may change. A weight of 0 stays 0: a pruned network stays pruned.
        last: the network's last layer, which has no rectifier.
        most: the largest activation that a neuron can say; infinite where it can spike early.

    Returns:
        The layer with other weights and bias.
    """
    if how == "none":
        return layer
    weights, most = layer.weights.reshape(len(layer.weights), -1), np.inf if last else most
    if how == "bias" or weights.shape[1] > MAX_FAN_IN:
        found, bias = given @ weights.T + layer.bias, layer.bias.copy()
        for _ in range(1 if last else STEPS):
            step = _off(found, wanted, most=most, last=last).mean(0)
            found, bias = found + step, bias + step
        return replace(layer, bias=bias)
    start = np.concatenate([weights, layer.bias[:, None]], 1).astype(np.float64)
    free = np.concatenate([weights != 0, np.ones((len(weights), 1), bool)], 1)
    inputs = np.concatenate([given, np.ones((len(given), 1), np.float32)], 1)
    gram = (inputs.T @ inputs).astype(np.float64) / len(inputs)
    ridge = RIDGE * float(np.trace(gram)) / len(gram)
    solver = np.linalg.inv(gram + ridge * np.eye(len(gram)))
    now = start.copy()
    for _ in range(1 if last else STEPS):
        off = _off(inputs @ now.T.astype(np.float32), wanted, most=most, last=last)
        now += np.where(free, ((off.T @ inputs) / len(inputs) - ridge * (now - start)) @ solver, 0)
    fitted = now.astype(np.float32)
    return replace(layer, weights=fitted[:, :-1].reshape(layer.weights.shape), bias=fitted[:, -1])


def _off(found: Floats, wanted: Floats, *, most: float, last: bool) -> Floats:
    """How much is missing of what a neuron would say, (positions, out)."""
    if last:
        return np.asarray(wanted - found)
    return np.asarray(np.clip(wanted, 0, most) - np.clip(found, 0, most), np.float32)

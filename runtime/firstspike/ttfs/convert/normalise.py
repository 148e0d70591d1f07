"""Bias-corrected activation normalisation: Quartz (Lenz, Orchard, Sheik 2023), Algorithm 1.

Layer by layer, s is a percentile of what the layer gives, its weights are divided by s and its bias by the product of
all s so far. Written with the scales λ_l of the original network (the product of s up to l): w·λ_(l−1)/λ_l and b/λ_l,
so that all activations are divided by λ_l and 1 is what the readout's T steps can express.

The percentile is taken of the **positive** activations, after the rectifier. The paper does not say; its code takes all
values, before the rectifier, and so the share of neurons that are silent decides how many of the others saturate, and a
sparse layer (99 % zeros) gives a scale of 0. Of the positive ones, 100 − P percent saturate whatever the sparsity. Only
calibration data is used, which must be training data: the paper's code took the test set.

Instead of a percentile, λ can be the scale with which T steps come **closest** to the activations: a smaller one makes
the steps finer and cuts more off. It grows with T by itself, where a percentile has to be chosen for each T.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from firstspike.errors import DataError
from firstspike.ttfs.convert.ann import BATCH, Ann, AnnLayer, Weighted, forward

Floats = NDArray[np.float32]
MAX_VALUES = 1 << 23
"""Activations of a layer that are sorted; of more, every k-th."""
CLOSEST_VALUES = 1 << 16
"""Activations of a layer on which `closest` tries its scales."""
CLOSEST = np.linspace(0.2, 1.0, 81)
"""Scales that are tried, in multiples of nearly the largest activation."""
LOGITS = 99.9
"""Percentile of the last layer where none is given. Its potential is the answer: λ only times its first spike."""


@dataclass(frozen=True, slots=True)
class Normalised:
    """The ANN with activations that are 1 where they were λ."""

    ann: Ann
    scales: tuple[float, ...]
    """λ of each weighted layer, in the units of the original network's activations (logits for the last)."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What each weighted layer of a network gives on calibration data."""

    positive: tuple[Floats, ...]
    """Activations above 0, or some of them; of the last layer the sizes of all logits where none is above 0."""


def normalise(ann: Ann, x: Floats, percentile: float) -> Normalised:
    """Normalise a network by a percentile P in (0, 100] of its activations on samples (n, channels, height, width).

    Raises:
        DataError: a layer is silent for every sample, or the percentile gives a scale of zero; it names the layer.
    """
    scales = [float(np.percentile(values, percentile)) for values in gather(ann, x).positive]
    return rescaled(ann, scales, f"percentile {percentile:g} of its activations")


def gather(ann: Ann, x: Floats) -> Seen:
    """Run the ANN on samples (n, channels, height, width) and keep what its layers give.

    Raises:
        DataError: a layer is silent for every sample, or its activations are not finite; the text names it.
    """
    found: dict[int, list[Floats]] = {}
    for start in range(0, len(x), BATCH):
        for number, out in enumerate(forward(ann.layers, x[start : start + BATCH])):
            if isinstance(ann.layers[number], Weighted):
                stride = 1 + out[0].size * len(x) // MAX_VALUES
                found.setdefault(number, []).append(out[out > 0][::stride])
                if number == len(ann.layers) - 1:
                    found.setdefault(-1, []).append(np.abs(out).ravel())
    positive = []
    for number, layer in enumerate(ann.layers):
        if not isinstance(layer, Weighted):
            continue
        values = np.concatenate(found[number])
        if values.size == 0 and number == len(ann.layers) - 1:
            # Logits may all be negative; their scale decides only when the output spikes, not what is answered.
            values = np.concatenate(found[-1])
        if not values.any():
            raise DataError(
                f"{layer.name}: silent for all {len(x)} calibration samples: a layer without activity cannot be "
                "converted: calibrate with samples like those it was trained on, or train it again"
            )
        if not np.isfinite(values).all():
            raise DataError(f"{layer.name}: its activations are not finite: train the network again")
        positive.append(values)
    return Seen(tuple(positive))


def closest(seen: Seen, steps: Sequence[int]) -> list[float]:
    """The λ of each layer with which rounding to its T steps, and cutting off above, errs least (mean square).

    Args:
        seen: what the layers give.
        steps: T of each weighted layer. The last layer's λ is a percentile (`LOGITS`).
    """
    scales = []
    for values, t in zip(seen.positive[:-1], steps, strict=False):
        some = values[:: -(-len(values) // CLOSEST_VALUES)].astype(np.float64)
        tried = [float(scale) for scale in np.percentile(values, 99.99) * CLOSEST]
        errors = [float(np.square(_rounded(some / scale, t) * scale - some).mean()) if scale else 0 for scale in tried]
        scales.append(tried[int(np.argmin(errors))])
    return [*scales, float(np.percentile(seen.positive[-1], LOGITS))]


def _rounded(values: NDArray[np.float64], steps: int) -> NDArray[np.float64]:
    return np.asarray(np.minimum(np.rint(values * steps), steps) / steps)


def rescaled(ann: Ann, scales: Sequence[float], what: str) -> Normalised:
    """The network with these λ, one a weighted layer.

    Args:
        ann: the network.
        scales: λ.
        what: how λ was found, for the error's text.

    Raises:
        DataError: a scale is as good as zero; it names the layer.
    """
    layers: list[AnnLayer] = []
    before, number = 1.0, 0
    for layer in ann.layers:
        if not isinstance(layer, Weighted):
            layers.append(layer)
            continue
        scale = scales[number]
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            weights = (layer.weights.astype(np.float64) * (np.float64(before) / scale)).astype(np.float32)
            bias = (layer.bias.astype(np.float64) / scale).astype(np.float32)
        if not (np.isfinite(weights).all() and np.isfinite(bias).all()):
            raise DataError(
                f"{layer.name}: {what} is {scale:g}, which is as good as a scale of zero: use a higher percentile"
            )
        layers.append(Weighted(layer.name, weights, bias, layer.stride, layer.padding))
        before, number = scale, number + 1
    return Normalised(Ann(ann.input_shape, tuple(layers), ann.notes), tuple(scales))

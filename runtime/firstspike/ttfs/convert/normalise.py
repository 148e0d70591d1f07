"""Bias-corrected activation normalisation: Quartz (Lenz, Orchard, Sheik 2023), Algorithm 1.

Layer by layer, s is a percentile of what the layer gives, its weights are divided by s and its bias by the product of
all s so far. Written with the scales λ_l of the original network (the product of s up to l): w·λ_(l−1)/λ_l and b/λ_l,
so that all activations are divided by λ_l and 1 is what the readout's T steps can express.

The percentile is taken of the **positive** activations, after the rectifier. The paper does not say; its code takes all
values, before the rectifier, and so the share of neurons that are silent decides how many of the others saturate, and a
sparse layer (99 % zeros) gives a scale of 0. Of the positive ones, 100 − P percent saturate whatever the sparsity. Only
calibration data is used, which must be training data: the paper's code took the test set.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from firstspike.errors import DataError
from firstspike.ttfs.convert.ann import BATCH, Ann, AnnLayer, Weighted, forward

MAX_VALUES = 1 << 23
"""Activations of a layer that are sorted; of more, every k-th."""


@dataclass(frozen=True, slots=True)
class Normalised:
    """The ANN with activations that are 1 where they were λ."""

    ann: Ann
    scales: tuple[float, ...]
    """λ of each weighted layer, in the units of the original network's activations (logits for the last)."""


def normalise(ann: Ann, x: NDArray[np.float32], percentile: float) -> Normalised:
    """Normalise a network.

    Args:
        ann: the network.
        x: calibration samples (n, channels, height, width).
        percentile: P in (0, 100].

    Raises:
        DataError: a layer is silent for every sample, or the percentile gives a scale of zero; it names the layer.
    """
    scales = _scales(ann, x, percentile)
    layers: list[AnnLayer] = []
    before, number = 1.0, 0
    for layer in ann.layers:
        if not isinstance(layer, Weighted):
            layers.append(layer)
            continue
        scale = scales[number]
        with np.errstate(over="ignore"):
            weights = (layer.weights.astype(np.float64) * (before / scale)).astype(np.float32)
            bias = (layer.bias.astype(np.float64) / scale).astype(np.float32)
        if not (np.isfinite(weights).all() and np.isfinite(bias).all()):
            raise DataError(
                f"{layer.name}: percentile {percentile:g} of its activations is {scale:g}, which is as good as a scale "
                "of zero: use a higher percentile"
            )
        layers.append(Weighted(layer.name, weights, bias, layer.stride, layer.padding))
        before, number = scale, number + 1
    return Normalised(Ann(ann.input_shape, tuple(layers), ann.notes), tuple(scales))


def _scales(ann: Ann, x: NDArray[np.float32], percentile: float) -> list[float]:
    found: dict[int, list[NDArray[np.float32]]] = {}
    for start in range(0, len(x), BATCH):
        for number, out in enumerate(forward(ann.layers, x[start : start + BATCH])):
            if isinstance(ann.layers[number], Weighted):
                stride = 1 + out[0].size * len(x) // MAX_VALUES
                found.setdefault(number, []).append(out[out > 0][::stride])
                if number == len(ann.layers) - 1:
                    found.setdefault(-1, []).append(np.abs(out).ravel())
    scales = []
    for number, layer in enumerate(ann.layers):
        if not isinstance(layer, Weighted):
            continue
        values = np.concatenate(found[number])
        if values.size == 0 and number == len(ann.layers) - 1:
            # Logits may all be negative; their scale decides only when the output spikes, not what is answered.
            values = np.concatenate(found[-1])
        scale = float(np.percentile(values, percentile)) if values.size else 0.0
        if not values.size or (scale == 0 and number == len(ann.layers) - 1):
            raise DataError(
                f"{layer.name}: silent for all {len(x)} calibration samples: a layer without activity cannot be "
                "converted: calibrate with samples like those it was trained on, or train it again"
            )
        if not np.isfinite(scale):
            raise DataError(f"{layer.name}: its activations are not finite: train the network again")
        scales.append(scale)
    return scales

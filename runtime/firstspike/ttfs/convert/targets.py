"""What the ANN answers at a few places of every layer: the truth that the integers are fitted to, computed once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from firstspike.ttfs.convert.ann import Ann, Weighted, patches, step

Floats = NDArray[np.float32]
SAMPLES = 1024
"""Samples that are looked at; of more, every k-th."""
POSITIONS = 8192
"""Output positions of a layer that are looked at, over all samples."""
VALUES = 1 << 24
"""Inputs at these positions, over all samples: it bounds the memory of layers with a large fan-in."""


@dataclass(frozen=True, slots=True)
class Targets:
    """Places in every weighted layer, and the ANN's answers there."""

    x: Floats
    """(n, channels, height, width): the samples."""
    places: tuple[NDArray[np.intp], ...]
    """For each weighted layer (n, positions): numbers of output positions, row by row."""
    wanted: tuple[Floats, ...]
    """For each weighted layer (n·positions, out): the ANN's pre-activations, in its own units."""

    def inputs(self, number: int, layer: Weighted, given: Floats) -> Floats:
        """What a layer's neurons see at its places.

        Args:
            number: of the layer among the weighted ones.
            layer: its window; the weights are not used.
            given: (n, channels, height, width): what the layer gets, of any network.

        Returns:
            (n·positions, fan-in), columns in the order of the weights' rows.
        """
        rows = [
            patches(layer, one[None]).reshape(-1, layer.weights[0].size)[place]
            for one, place in zip(given, self.places[number], strict=True)
        ]
        return np.concatenate(rows).astype(np.float32)


def look(ann: Ann, x: Floats) -> Targets:
    """Choose places and compute the ANN's answers there.

    Args:
        ann: the network.
        x: (n, channels, height, width): calibration samples; `SAMPLES` of them, evenly spread, are used.
    """
    x = x[:: -(-len(x) // SAMPLES)]
    rng = np.random.default_rng(0)
    places: list[NDArray[np.intp]] = []
    wanted: list[Floats] = []
    now = x
    for number, layer in enumerate(ann.layers):
        after = np.concatenate([step(layer, one[None], last=True) for one in now])
        if isinstance(layer, Weighted):
            flat = after.reshape(len(x), after.shape[1], -1)
            share = max(1, min(POSITIONS, VALUES // layer.weights[0].size) // len(x))
            count = min(share, flat.shape[2])
            chosen = np.stack([rng.choice(flat.shape[2], count, replace=False) for _ in x])
            places.append(chosen)
            wanted.append(np.concatenate([one[:, place].T for one, place in zip(flat, chosen, strict=True)]))
            if number < len(ann.layers) - 1:
                after = np.maximum(after, 0)
        now = after
    return Targets(x, tuple(places), tuple(wanted))

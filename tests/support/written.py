"""Events to write to recordings, and what is read again."""

from __future__ import annotations

import numpy as np

from firstspike.sources.decoding import DecoderProcess
from firstspike.types import EVENT, join

FORMATS = [("aedat4", ".aedat4"), ("evt3", ".raw")]


def events_of(n, start=0, step=100, seed=0):
    """Events of a sensor of 320×240, `step` µs apart."""
    rng = np.random.default_rng(seed)
    events = np.zeros(n, EVENT)
    events["t"] = start + np.arange(n) * step
    events["x"], events["y"] = rng.integers(0, 320, n), rng.integers(0, 240, n)
    events["p"] = rng.integers(0, 2, n)
    return events


def read(path):
    """What a recording says of itself, and its events."""
    with DecoderProcess() as decoder, decoder.open(path) as recording:
        return recording.info, join(list(recording))

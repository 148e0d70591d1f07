"""A spiking front that decides by itself, without a back: the class whose output neuron spikes most often."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from firstspike.hybrid.part import Front, Part, PartError, ran
from firstspike.types import Condition, Inference, Spikes


class FrontBackend:
    """See `backends.Backend`. A potential is how often the output neuron spiked in the window.

    Args:
        front: who runs it; its last layer has a neuron for each class.
        close: lets go of it.
    """

    def __init__(self, front: Front, close: Callable[[], None]) -> None:
        self.name, self.close = front.name, close
        self._front = front

    @property
    def parts(self) -> tuple[Part, ...]:
        """Who runs it."""
        return (self._front,)

    def infer(self, spikes: Spikes, within_s: float) -> Inference:
        """See `Backend.infer`."""
        if spikes.frames is None:
            return Inference(self.name, None, None, failure=f"{self.name}: the window was not encoded as frames")
        began = time.monotonic()
        try:
            counts = np.add.reduce(self._front.run(spikes.frames, within_s), axis=0, dtype=np.int32).reshape(-1)
        except PartError as error:
            return Inference(self.name, None, None, failure=str(error))
        run = ran("front", self._front, time.monotonic() - began, None, int(counts.sum()))
        return Inference(self.name, counts, None, parts=(run,))

    def condition(self) -> Condition:
        """See `Backend.condition`."""
        return self._front.condition()

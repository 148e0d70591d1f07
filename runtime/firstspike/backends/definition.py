"""`schedule.plans = ["definition"]`: the TTFS network's specification itself, in NumPy, one step after another.

Thousands of times slower than the emulator and equal to it in every spike: it is there to check other back ends
against, and shows a provisional decision that leaves while the network still runs.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from pydantic import BaseModel, ConfigDict

from firstspike import anytime
from firstspike.backends._network import network_of
from firstspike.bundle import Bundle
from firstspike.errors import BundleError
from firstspike.ttfs.definition import Ints, Result, run
from firstspike.types import READY, Condition, Inference, Spikes


class Options(BaseModel):
    """`[backend.definition]`: nothing to set."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DefinitionBackend:
    """Runs a bundle's integer network step by step, in the daemon's own process."""

    def __init__(self, bundle: Bundle, name: str) -> None:
        self.name = name
        self._network = network_of(bundle)
        if self._network.neuron == "rate":
            raise BundleError(f"{bundle.path('ttfs')}: codes values as numbers of spikes: use the plan 'emulator'")
        self._frame = self._network.frames()[-1]

    def infer(self, spikes: Spikes, within_s: float = 0.0) -> Inference:
        """See `Backend.infer`; nothing can fail here once the bundle is loaded."""
        del within_s
        return self._answer(run(self._network, spikes.times))

    def infer_in_steps(self, spikes: Spikes, early: Callable[[Inference], None]) -> Inference:
        """See `SteppingBackend.infer_in_steps`."""
        told = False

        def watch(step: int, fired: Ints, potential: Ints) -> None:
            nonlocal told
            if told:
                return
            so_far = np.minimum(fired, self._frame.last).reshape(-1).astype(np.int32)
            potentials = potential.reshape(-1).astype(np.int32)
            reading = anytime.read(so_far, potentials, self._frame)
            if reading is not None and reading.known <= step:
                told = True
                early(Inference(self.name, potentials, so_far, frame=self._frame))

        return self._answer(run(self._network, spikes.times, watch))

    def _answer(self, result: Result) -> Inference:
        return Inference(self.name, result.potential, result.first_spike, frame=self._frame)

    def condition(self) -> Condition:
        """See `Backend.condition`."""
        return READY

    def close(self) -> None:
        """Nothing is held."""


def create(options: Options, bundle: Bundle, name: str) -> DefinitionBackend:
    """See `backends`."""
    del options
    return DefinitionBackend(bundle, name)

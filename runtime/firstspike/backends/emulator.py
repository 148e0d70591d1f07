"""`[backend] kind = "emulator"`: the built-in TTFS emulator, which needs no accelerator."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from firstspike.backends._network import network_of
from firstspike.bundle import Bundle
from firstspike.ttfs.rate_emulator import emulator
from firstspike.types import Inference, Spikes


class Options(BaseModel):
    """`[backend.emulator]`: nothing to set."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class EmulatorBackend:
    """Runs a bundle's integer network on the CPU, in the daemon's own process."""

    name = "emulator"

    def __init__(self, bundle: Bundle) -> None:
        network = network_of(bundle)
        self._emulator = emulator(network)
        self._frame = network.frames()[-1]

    def infer(self, spikes: Spikes) -> Inference:
        """See `Backend.infer`; nothing can fail here once the bundle is loaded."""
        result = self._emulator.run(spikes.times)
        return Inference(self.name, result.potential, result.first_spike, frame=self._frame)

    def close(self) -> None:
        """Nothing is held."""


def create(options: Options, bundle: Bundle) -> EmulatorBackend:
    """See `backends`."""
    del options
    return EmulatorBackend(bundle)

"""`[backend] kind = "emulator"`: the built-in TTFS emulator, which needs no accelerator."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from firstspike.bundle import Bundle
from firstspike.errors import BundleError
from firstspike.ttfs.file import load
from firstspike.ttfs.rate_emulator import emulator
from firstspike.types import Inference, Spikes


class Options(BaseModel):
    """`[backend.emulator]`: nothing to set."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class EmulatorBackend:
    """Runs a bundle's integer network on the CPU, in the daemon's own process."""

    name = "emulator"

    def __init__(self, bundle: Bundle) -> None:
        network = load(bundle.path("ttfs"))
        spec = bundle.manifest.input
        wanted = ((spec.channels, spec.height, spec.width), spec.steps)
        if (network.input_shape, network.input_steps) != wanted:
            raise BundleError(
                f"{bundle.path('ttfs')}: the network takes {network.input_shape} at {network.input_steps} steps, the "
                f"manifest's input says {wanted[0]} at {wanted[1]}"
            )
        classes, labels = network.shapes()[-1][0], len(bundle.manifest.labels)
        if classes != labels:
            raise BundleError(f"{bundle.path('ttfs')}: {classes} output neurons, but the manifest has {labels} labels")
        self._emulator = emulator(network)

    def infer(self, spikes: Spikes) -> Inference:
        """See `Backend.infer`; nothing can fail here once the bundle is loaded."""
        result = self._emulator.run(spikes.times)
        return Inference(self.name, result.potential, result.first_spike)

    def close(self) -> None:
        """Nothing is held."""


def create(options: Options, bundle: Bundle) -> EmulatorBackend:
    """See `backends`."""
    del options
    return EmulatorBackend(bundle)

"""`schedule.plans = ["emulator"]`: the built-in TTFS emulator, which needs no accelerator."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from firstspike.backends._network import network_of
from firstspike.bundle import Bundle
from firstspike.hybrid.back import NumpyBack
from firstspike.hybrid.front import EmulatorFront
from firstspike.ttfs.rate_emulator import emulator
from firstspike.types import READY, Condition, Inference, Spikes


class Options(BaseModel):
    """`[backend.emulator]`: nothing to set."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class EmulatorBackend:
    """Runs a bundle's integer network on the CPU, in the daemon's own process."""

    def __init__(self, bundle: Bundle, name: str = "emulator") -> None:
        self.name = name
        network = network_of(bundle)
        self._emulator = emulator(network)
        self._frame = network.frames()[-1]

    def infer(self, spikes: Spikes, within_s: float = 0.0) -> Inference:
        """See `Backend.infer`; nothing can fail here once the bundle is loaded."""
        del within_s
        result = self._emulator.run(spikes.times)
        return Inference(self.name, result.potential, result.first_spike, frame=self._frame)

    def condition(self) -> Condition:
        """See `Backend.condition`."""
        return READY

    def close(self) -> None:
        """Nothing is held."""


def front(options: Options, bundle: Bundle, name: str) -> EmulatorFront:
    """The spiking front of a hybrid: see `hybrid.place`."""
    del options
    return EmulatorFront(bundle, name)


def back(options: Options, bundle: Bundle, name: str, shape: tuple[int, int, int]) -> NumpyBack:
    """The ANN back of a hybrid, with NumPy: see `hybrid.place`."""
    del options
    return NumpyBack(bundle, shape, name)


def create(options: Options, bundle: Bundle, name: str) -> EmulatorBackend:
    """See `backends`."""
    del options
    return EmulatorBackend(bundle, name)

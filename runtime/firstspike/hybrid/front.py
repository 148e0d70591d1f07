"""A spiking front in the daemon's own process: the CUBA LIF emulator."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from firstspike.bundle import Bundle
from firstspike.cuba.emulator import Emulator
from firstspike.cuba.file import load
from firstspike.cuba.network import Network
from firstspike.errors import BundleError
from firstspike.types import READY, Condition


def network_of(bundle: Bundle) -> Network:
    """The front's network, seen to take what the manifest describes.

    Raises:
        BundleError: its file is damaged, or its input is not the manifest's.
    """
    path = bundle.path("front")
    network = load(path)
    spec = bundle.manifest.input
    wanted = (spec.channels, spec.height, spec.width)
    if network.input_shape != wanted:
        raise BundleError(f"{path}: the front takes {network.input_shape}, the manifest's input is {wanted}")
    return network


class EmulatorFront:
    """See `part.Front`; nothing can fail here once the bundle is loaded."""

    link_s = None

    def __init__(self, bundle: Bundle, name: str) -> None:
        self.name = name
        network = network_of(bundle)
        self.output_shape = network.shapes()[-1]
        self._emulator = Emulator(network)

    def run(self, frames: NDArray[np.uint8], within_s: float = 0.0) -> NDArray[np.uint8]:
        """See `part.Front.run`."""
        del within_s
        return self._emulator.run(frames).spikes

    def condition(self) -> Condition:
        """See `part.Part.condition`."""
        return READY

    def close(self) -> None:
        """Nothing is held."""

"""What the two parts of a hybrid are to the chain that runs them."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from firstspike.types import Condition


class PartError(Exception):
    """A part has no answer to this window; the text says why."""


class Part(Protocol):
    """One part, on one device."""

    name: str
    """Its back end's, as in `[backend.NAME]`."""

    def condition(self) -> Condition:
        """How it stands now; quick, and from any thread."""

    def close(self) -> None:
        """Let go of what it holds."""


class Front(Part, Protocol):
    """The spiking part."""

    output_shape: tuple[int, int, int]
    """(channels, height, width) of its last layer's neurons."""

    def run(self, frames: NDArray[np.uint8], within_s: float) -> NDArray[np.uint8]:
        """Spikes (steps, channels, height, width) of binary event frames (steps, channels, height, width).

        Raises:
            PartError: there are none.
        """


class Back(Part, Protocol):
    """The ANN."""

    def run(self, counts: NDArray[np.uint8], within_s: float) -> NDArray[np.float32]:
        """Logits (classes,) of counts (channels, height, width).

        Raises:
            PartError: there are none.
        """

"""What the two parts of a hybrid are to the chain that runs them."""

from __future__ import annotations

from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from firstspike.types import Condition, PartRun


class PartError(Exception):
    """A part has no answer to this window; the text says why."""


class Part(Protocol):
    """One part, on one device."""

    name: str
    """Its back end's, as in `[backend.NAME]`."""
    link_s: float | None
    """What of the last run the way to its worker and back took, s; None: it has no worker."""

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


def ran(
    which: Literal["front", "back"], part: Part, seconds: float, link_bytes: int | None, spikes: int | None
) -> PartRun:
    """What a part took for one window; arguments as `PartRun` has them, times in s."""
    link_ns = None if part.link_s is None else round(part.link_s * 1e9)
    return PartRun(which, part.name, round(seconds * 1e9), link_bytes, spikes, link_ns)

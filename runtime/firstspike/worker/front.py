"""A driver as the front of a hybrid: the worker is given the front's network, and frames instead of spike times.

A driver says `FRONT = True`. Its model's `form` is then `front`; `infer` gets binary frames, uint8 (steps, channels,
height, width), and answers with `spikes`, the last layer's: uint8 (steps, channels, height, width), 0 or 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firstspike.bundle import Bundle
from firstspike.hybrid.part import PartError
from firstspike.worker.held import Held
from firstspike.worker.supervisor import Supervisor, WorkerError


def description(bundle: Bundle) -> dict[str, Any]:
    """What LOAD says of the front."""
    manifest, spec = bundle.manifest, bundle.manifest.input
    return {
        "name": manifest.name, "version": manifest.version, "digest": bundle.digest, "classes": len(manifest.labels),
        "channels": spec.channels, "height": spec.height, "width": spec.width, "steps": spec.steps, "form": "front",
        "scale": 1.0,
    }  # fmt: skip


class WorkerFront(Held):
    """See `hybrid.part.Front`."""

    def __init__(
        self, name: str, start: Callable[[], Supervisor], bundle: Bundle, output_shape: tuple[int, int, int]
    ) -> None:
        super().__init__(name, start)
        self.output_shape = output_shape
        self._shape = (bundle.manifest.input.steps, *output_shape)

    def run(self, frames: NDArray[np.uint8], within_s: float) -> NDArray[np.uint8]:
        """See `hybrid.part.Front.run`."""
        try:
            spikes = self.ask(frames, within_s).get("spikes")
        except WorkerError as error:
            raise PartError(str(error)) from None
        if spikes is None or spikes.dtype != np.uint8 or spikes.shape != self._shape or spikes.max() > 1:
            fault = f"its answer is no {self._shape} of 0 and 1 called 'spikes'"
            self.supervisor.distrust(f"the worker is replaced: {fault}")
            raise PartError(f"{self.name}: {fault}")
        return np.asarray(spikes, np.uint8)

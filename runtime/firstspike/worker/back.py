"""A driver as the back of a hybrid: the worker is given the back's ONNX file, and counts instead of spike times."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firstspike.bundle import Bundle
from firstspike.hybrid.accumulate import interval_of
from firstspike.hybrid.part import PartError
from firstspike.worker.held import Held
from firstspike.worker.supervisor import Supervisor, WorkerError


def description(bundle: Bundle, shape: tuple[int, int, int]) -> dict[str, Any]:
    """What LOAD says of the back.

    A driver computes x = (steps − times) · scale. With the interval as `steps`, and interval − count sent as `times`, x
    are the counts: so every driver of an ANN runs a back as it is.
    """
    manifest = bundle.manifest
    channels, height, width = shape
    return {
        "name": manifest.name, "version": manifest.version, "digest": bundle.digest, "classes": len(manifest.labels),
        "channels": channels, "height": height, "width": width, "steps": interval_of(bundle), "form": "ann",
        "scale": 1.0,
    }  # fmt: skip


class WorkerBack(Held):
    """See `hybrid.part.Back`."""

    def __init__(self, name: str, start: Callable[[], Supervisor], bundle: Bundle) -> None:
        super().__init__(name, start)
        self._interval = np.uint8(interval_of(bundle))
        self._shape = (len(bundle.manifest.labels),)

    def run(self, counts: NDArray[np.uint8], within_s: float) -> NDArray[np.float32]:
        """See `hybrid.part.Back.run`."""
        try:
            output = self.ask(self._interval - counts, within_s).get("output")
        except WorkerError as error:
            raise PartError(str(error)) from None
        if output is None or output.dtype.kind != "f" or output.shape != self._shape or not np.isfinite(output).all():
            fault = f"its answer is no row of {self._shape[0]} finite numbers called 'output'"
            self.supervisor.distrust(f"the worker is replaced: {fault}")
            raise PartError(f"{self.name}: {fault}")
        return np.asarray(output, np.float32)

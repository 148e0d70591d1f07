"""A driver as the back of a hybrid: the worker is given the back's ONNX file, and counts instead of spike times."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firstspike.bundle import Bundle
from firstspike.errors import BundleError
from firstspike.hybrid.part import PartError
from firstspike.worker.held import Held
from firstspike.worker.supervisor import Supervisor, WorkerError


def description(bundle: Bundle, shape: tuple[int, int, int]) -> dict[str, Any]:
    """What LOAD says of the back.

    A driver computes x = (steps − times) · scale. With the interval as `steps`, and interval − count sent as `times`, x
    are the counts: so every driver of an ANN runs a back as it is.
    """
    manifest = bundle.manifest
    assert manifest.parts is not None  # noqa: S101 (a hybrid's)
    channels, height, width = shape
    return {
        "name": manifest.name, "version": manifest.version, "digest": bundle.digest, "classes": len(manifest.labels),
        "channels": channels, "height": height, "width": width, "steps": manifest.parts.interval, "form": "ann",
        "scale": 1.0,
    }  # fmt: skip


class WorkerBack(Held):
    """See `hybrid.part.Back`."""

    def __init__(self, name: str, start: Callable[[], Supervisor], bundle: Bundle) -> None:
        super().__init__(name, start)
        if bundle.manifest.parts is None:
            raise BundleError(f"{bundle.folder}: the bundle has no parts")
        self._interval = np.uint8(bundle.manifest.parts.interval)

    def run(self, counts: NDArray[np.uint8], within_s: float) -> NDArray[np.float32]:
        """See `hybrid.part.Back.run`."""
        try:
            answer = self.supervisor.infer(self._interval - counts, time.monotonic() + within_s)
        except WorkerError as error:
            raise PartError(str(error)) from None
        output = answer.arrays.get("output")
        if output is None or output.dtype.kind != "f" or output.ndim != 1 or not np.isfinite(output).all():
            self.supervisor.distrust("the worker is replaced: its answer is no row of finite numbers called 'output'")
            raise PartError(f"{self.name}: its answer is no row of finite numbers called 'output'")
        return np.asarray(output, np.float32)

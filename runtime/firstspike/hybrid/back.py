"""An ANN back in the daemon's own process, with NumPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from firstspike.bundle import Bundle
from firstspike.errors import BundleError
from firstspike.hybrid.onnx_run import Chain
from firstspike.onnx_header import read, refusal
from firstspike.types import READY, Condition

OPSET = 13
"""The newest that every device here computes rightly: see `onnx_header`."""


def bytes_of(bundle: Bundle, shape: tuple[int, int, int]) -> bytes:
    """The back's ONNX file, seen to take what the accumulator gives.

    Args:
        bundle: a hybrid one.
        shape: of the counts: (channels, height, width).

    Raises:
        BundleError: it is damaged, too new, or takes or gives another shape.
    """
    path = bundle.path("back")
    data = path.read_bytes()
    check(path, data, shape, len(bundle.manifest.labels))
    return data


def check(path: Path, data: bytes, shape: tuple[int, int, int], classes: int) -> None:
    """Refuse a back that not every device computes rightly, or that takes or gives another shape (BundleError).

    Args:
        path: as the error calls it.
        data: the ONNX file.
        shape: of the counts: (channels, height, width).
        classes: how many logits there must be.
    """
    try:
        header = read(data)
        reason = refusal(header, OPSET, (1, *shape))
    except ValueError as error:
        raise BundleError(f"{path}: {error}") from None
    if reason:
        raise BundleError(f"{path}: {reason}")
    if [value.shape for value in header.outputs] != [(1, classes)]:
        given = [value.shape for value in header.outputs]
        raise BundleError(f"{path}: the back gives {given}, the manifest's labels need one output of {(1, classes)}")


class NumpyBack:
    """See `part.Back`; nothing can fail here once the bundle is loaded."""

    link_s = None

    def __init__(self, bundle: Bundle, shape: tuple[int, int, int], name: str) -> None:
        self.name = name
        try:
            self._chain = Chain(bytes_of(bundle, shape))
        except ValueError as error:
            raise BundleError(f"{bundle.path('back')}: {error}: name another back end for this part") from None

    def run(self, counts: NDArray[np.uint8], within_s: float = 0.0) -> NDArray[np.float32]:
        """See `part.Back.run`."""
        del within_s
        return self._chain.run(counts.astype(np.float32))

    def condition(self) -> Condition:
        """See `part.Part.condition`."""
        return READY

    def close(self) -> None:
        """Nothing is held."""

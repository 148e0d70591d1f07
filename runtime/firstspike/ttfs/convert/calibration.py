"""Samples for calibration and counting: a NumPy archive with `x`, values in 0..1, and perhaps `labels`."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from firstspike.errors import DataError, NoInputError
from firstspike.ttfs.network import Shape

MAX_BYTES = 4 << 30
_STEP = 1e-4
"""A value this close to the edge of a step lies on it: c/C in float32 is off by up to 2⁻²⁴, times T."""


@dataclass(frozen=True, slots=True)
class Samples:
    """What a network is calibrated or counted on."""

    x: NDArray[np.float32]
    """(n, channels, height, width), 0..1: p of Quartz, Eq. 1."""
    labels: NDArray[np.int64] | None
    """(n,): the true class of each, if known."""

    def first(self, n: int | None) -> Samples:
        """The first n samples, all for None."""
        return Samples(self.x[:n], None if self.labels is None else self.labels[:n])


def read(path: Path, shape: Shape, classes: int) -> Samples:
    """Read samples for a network.

    Args:
        path: an .npz with `x` (n, channels, height, width), or (n, features) for a flat input, floating point; and
            perhaps `labels` (n,), integers.
        shape: the network's input.
        classes: the network's outputs.

    Raises:
        NoInputError: the file is not there.
        DataError: it is not such an archive, or its values do not fit the network; the text names the array.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if (size := sum(info.file_size for info in archive.infolist())) > MAX_BYTES:
                raise DataError(f"{path}: holds {size} bytes, at most {MAX_BYTES} are read: use fewer samples")
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in ("x", "labels") if name in archive}
    except OSError as error:
        raise NoInputError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, NotImplementedError, RuntimeError) as error:
        raise DataError(f"{path}: not a NumPy archive (.npz), or damaged ({error}): save it with numpy.savez") from None
    if "x" not in arrays:
        raise DataError(f"{path}: no array 'x': save the samples with numpy.savez(..., x=samples)")
    x = _values(path, arrays["x"], shape)
    return Samples(x, _labels(path, arrays["labels"], len(x), classes) if "labels" in arrays else None)


def _values(path: Path, x: NDArray[np.generic], shape: Shape) -> NDArray[np.float32]:
    if x.dtype.kind != "f":
        raise DataError(f"{path}: array 'x' is {x.dtype}, must be floating point in 0..1: divide by the largest value")
    flat = shape[:2] == (1, 1) and x.ndim == 2
    if x.size == 0 or x.ndim == 0 or x.shape[1:] != ((prod(shape),) if flat else shape):
        raise DataError(f"{path}: array 'x' has the shape {x.shape}, must be (samples, {', '.join(map(str, shape))})")
    values = np.asarray(x, np.float32).reshape(-1, *shape)
    # The comparison is false for NaN.
    if not (values.min() >= 0 and values.max() <= 1):
        wrong = np.count_nonzero(~((values >= 0) & (values <= 1)))
        raise DataError(
            f"{path}: array 'x' has {wrong} values that are NaN or outside 0..1: scale the samples as the network's "
            "input is, p of the latency code"
        )
    return values


def _labels(path: Path, labels: NDArray[np.generic], n: int, classes: int) -> NDArray[np.int64]:
    if labels.dtype.kind not in "iu" or labels.shape != (n,):
        raise DataError(f"{path}: array 'labels' is {labels.dtype} of shape {labels.shape}, must be {n} integers")
    values = np.asarray(labels, np.int64)
    if values.min() < 0 or values.max() >= classes:
        raise DataError(
            f"{path}: array 'labels' goes from {values.min()} to {values.max()}, the network has {classes} outputs"
        )
    return values


def encode(x: NDArray[np.float32], steps: int) -> NDArray[np.uint8]:
    """Latency code of Quartz, Eq. 1: s = ⌊T(1 − p)⌋, the same as `encode.define` gives for p = c/C in float32.

    Args:
        x: p, any shape, 0..1.
        steps: T, 1..255.

    Returns:
        Spike steps 0..T, the shape of `x`.
    """
    return np.floor(steps * (1.0 - x.astype(np.float64)) + _STEP).astype(np.uint8)

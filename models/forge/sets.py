"""The data sets from their files: MNIST (IDX) and N-MNIST (40-bit events). Read only, never written or committed."""

from __future__ import annotations

import csv
import gzip
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from firstspike.errors import DataError, NoInputError
from models.forge import store

ROOT = Path(__file__).resolve().parents[2]
CHECK = (801, 900)
"""The N-MNIST samples that are never trained or tuned on, first and last; sample k is MNIST training image k."""
REAL = 900
"""N-MNIST samples at hand; their MNIST images are left out of what is simulated for training."""


def folder() -> Path:
    """The data folder: $FIRSTSPIKE_DATA, or shared/data beside the repository.

    Raises:
        NoInputError: it is not there.
    """
    path = Path(os.environ.get("FIRSTSPIKE_DATA", ROOT.parent / "shared" / "data"))
    if not path.is_dir():
        raise NoInputError(f"{path}: no data folder here: set FIRSTSPIKE_DATA to the one with mnist/ and nmnist/")
    return path


def mnist(part: str = "train") -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images (n, 28, 28), 0 background to 255 digit, and labels (n,); `part` is `train` or `t10k`."""
    images = _idx(folder() / "mnist" / f"{part}-images-idx3-ubyte.gz", 16)
    labels = _idx(folder() / "mnist" / f"{part}-labels-idx1-ubyte.gz", 8)
    return images.reshape(-1, 28, 28), labels


def _idx(path: Path, header: int) -> NDArray[np.uint8]:
    with gzip.open(path) as file:
        return np.frombuffer(file.read(), np.uint8, offset=header)


def nmnist() -> store.Store:
    """All N-MNIST samples at hand; recording i is sample number i + 1."""
    base = folder() / "nmnist"
    with (base / "labels.csv").open(newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: int(row["mnist_index_1based"]))
    if [int(row["mnist_index_1based"]) for row in rows] != list(range(1, REAL + 1)):
        raise DataError(f"{base / 'labels.csv'}: expected samples 1 to {REAL}: the split would not be what it says")
    return store.build([_sample(base / row["path"]) for row in rows], [int(row["label"]) for row in rows])


def _sample(path: Path) -> NDArray[np.uint32]:
    """One file: per event x, y, polarity (bit 7) and time in µs (23 bits, big-endian); Orchard et al. 2015."""
    raw = np.fromfile(path, np.uint8)
    if raw.size % 5:
        raise DataError(f"{path}: {raw.size} bytes is not a whole number of 5-byte events: fetch the file again")
    x, y, high, middle, low = raw.reshape(-1, 5).T.astype(np.int64)
    if raw.size and max(x.max(), y.max()) >= store.SIDE:
        raise DataError(f"{path}: an event lies outside {store.SIDE}×{store.SIDE} pixels: not an N-MNIST sample")
    return store.pack(((high & 127) << 16) | (middle << 8) | low, y * store.SIDE + x, high >> 7 == 1)

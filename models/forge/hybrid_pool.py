"""Many varied windows of the DVS128 objects, drawn once and kept on disk: all splits and seeds learn from the same."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.forge import hybrid_store as frames
from models.forge import objects_store as data

CHUNK = 512
"""Windows that are drawn with one generator: so the pool does not depend on how many processes drew it."""
BYTES = frames.STEPS * 2 * frames.SIDE**2 // 8
SEED = 27_182


@dataclass(frozen=True, slots=True)
class Pool:
    """Windows, 1 bit a pixel."""

    bits: NDArray[np.uint8]
    """(n, 16,384): frames (16, 2, 64, 64), the first pixel in the highest bit; stays on disk."""
    labels: NDArray[np.int64]

    def batches(self, size: int, seed: int) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.int64]]]:
        """Batches without end: each window once, in an order drawn by the seed, then all of them in another order."""
        rng = np.random.default_rng(seed)
        while True:
            order = rng.permutation(len(self.labels))
            for begin in range(0, len(order) - size + 1, size):
                chosen = np.sort(order[begin : begin + size])  # sorted: read from the disk in its order
                yield self.bits[chosen], self.labels[chosen]


def make(folder: Path, size: int) -> None:
    """Draw a pool from what is trained on, with as many processes as there are cores.

    Args:
        folder: where it is kept.
        size: windows; a multiple of `CHUNK` is drawn.
    """
    folder.mkdir(parents=True, exist_ok=True)
    chunks = -(-size // CHUNK)
    partial = folder / "bits.partial"
    bits = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=(chunks * CHUNK, BYTES))
    labels = np.empty(chunks * CHUNK, np.int64)
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as workers:
        for number, (drawn, which) in enumerate(workers.map(_chunk, range(chunks), chunksize=4)):
            bits[number * CHUNK : (number + 1) * CHUNK] = drawn
            labels[number * CHUNK : (number + 1) * CHUNK] = which
    bits.flush()
    np.save(folder / "labels.npy", labels)
    partial.rename(folder / "bits.npy")


def load(folder: Path) -> Pool:
    """The pool that was made.

    Raises:
        FileNotFoundError: none was.
    """
    return Pool(np.load(folder / "bits.npy", mmap_mode="r"), np.load(folder / "labels.npy"))


_stores: list[data.Store] = []
"""Of a process that draws: read once."""


def _chunk(number: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    if not _stores:
        _stores.append(data.load())
    (store,) = _stores
    sample = frames.draw(store, frames.training(store), CHUNK, np.random.default_rng([SEED, number]))
    return np.packbits(sample.frames.reshape(CHUNK, -1), axis=1), sample.labels

"""Many short recordings in little memory, cut into batches of windows with augmentation. No torch in here.

An event is one uint32: time in µs (20 bits), polarity, pixel (11 bits, C order), so that sorting the numbers sorts the
events by time. A table of where each bin of `BIN_US` begins makes cutting a window two look-ups.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SIDE = 34
"""Height and width of every recording, pixels."""
AREA = SIDE * SIDE
BIN_US = 5_000
BINS = 64
"""Bins of a recording: 320 ms. Later events are left out."""


@dataclass(frozen=True, slots=True)
class Store:
    """Recordings of one label each."""

    events: NDArray[np.uint32]
    """All events, recording by recording, sorted by time within each."""
    begins: NDArray[np.int64]
    """Shape (n, BINS + 1): where in `events` each bin of each recording begins; the last column is its end."""
    labels: NDArray[np.int64]
    """Shape (n,)."""

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, keep: NDArray[np.bool_]) -> Store:
        """The recordings where `keep` is true; the events are shared."""
        return Store(self.events, self.begins[keep], self.labels[keep])


def pack(t_us: NDArray[np.int64], pixel: NDArray[np.intp], on: NDArray[np.bool_]) -> NDArray[np.uint32]:
    """Pack and sort the events of one recording; those after its last bin are dropped."""
    keep = t_us < BINS * BIN_US
    time, polarity, place = (column[keep].astype(np.uint32) for column in (t_us, on, pixel))
    packed = (time << np.uint32(12)) | (polarity << np.uint32(11)) | place
    packed.sort()
    return packed


def build(recordings: list[NDArray[np.uint32]], labels: list[int]) -> Store:
    """A store of packed recordings."""
    edges = (np.arange(BINS + 1, dtype=np.uint64) * BIN_US) << np.uint64(12)
    begins = np.array([np.searchsorted(one, edges) for one in recordings], np.int64)
    begins += np.cumsum([0] + [len(one) for one in recordings[:-1]])[:, None]
    return Store(np.concatenate(recordings), begins, np.array(labels, np.int64))


def join(stores: list[Store]) -> Store:
    """One store of all the recordings, in order."""
    shifts = np.cumsum([0] + [len(store.events) for store in stores[:-1]])
    return Store(
        np.concatenate([store.events for store in stores]),
        np.concatenate([store.begins + shift for store, shift in zip(stores, shifts, strict=True)]),
        np.concatenate([store.labels for store in stores]),
    )


def counts(
    store: Store, which: NDArray[np.intp], first: NDArray[np.int64], last: NDArray[np.int64]
) -> NDArray[np.int64]:
    """How many events each recording has in bins first (inclusive) to last (exclusive)."""
    return store.begins[which, last] - store.begins[which, first]


def _gather(
    store: Store, which: NDArray[np.intp], first: NDArray[np.int64], last: NDArray[np.int64]
) -> tuple[NDArray[np.intp], NDArray[np.uint32]]:
    """(number in the batch, packed event) of every event of the windows."""
    begin, length = store.begins[which, first], counts(store, which, first, last)
    row = np.repeat(np.arange(len(which)), length)
    offset = np.arange(len(row)) - np.repeat(np.cumsum(length) - length, length)
    return row, store.events[begin[row] + offset]


def _image(rows: int, row: NDArray[np.intp], on: NDArray[np.intp], pixel: NDArray[np.intp]) -> NDArray[np.uint16]:
    flat = np.bincount((row * 2 + on) * AREA + pixel, minlength=rows * 2 * AREA)
    return flat.astype(np.uint16).reshape(rows, 2, SIDE, SIDE)


def images(
    store: Store, which: NDArray[np.intp], first: NDArray[np.int64], last: NDArray[np.int64]
) -> NDArray[np.uint16]:
    """Count images of windows as they are, channel 0 OFF and 1 ON: uint16 of shape (batch, 2, SIDE, SIDE)."""
    row, packed = _gather(store, which, first, last)
    return _image(len(which), row, (packed >> 11) & 1, packed & 2047)


@dataclass(frozen=True, slots=True)
class Augment:
    """How windows are varied for training."""

    shortest: int = 5
    """Bins of the shortest window."""
    usual: int = 16
    """Bins of the longest usual window."""
    long: float = 0.12
    """Share of the windows that are up to the whole recording long."""
    min_events: int = 110
    """Windows with fewer are drawn again, three times; then they stay."""
    warp: float = 0.6
    """Share of the windows that are rotated, scaled and sheared."""
    turn: float = 0.14
    """Standard deviation of the rotation, radians."""
    scale: float = 0.08
    """Standard deviation of the scale of each axis, and of the shear."""
    shift: float = 1.2
    """Standard deviation of the shift, pixels."""
    drop: float = 0.45
    """Up to this share of a window's events is dropped, uniformly drawn, in half of the windows."""
    noise: float = 0.06
    """Up to this many events a pixel are added, uniformly drawn."""


def draw(
    store: Store, size: int, rng: np.random.Generator, augment: Augment
) -> tuple[NDArray[np.uint16], NDArray[np.int64]]:
    """A batch for training, recordings drawn with replacement: count images (size, 2, SIDE, SIDE), labels (size,)."""
    which = rng.integers(0, len(store), size)
    first, last = _spans(size, rng, augment)
    for _ in range(3):
        thin = np.flatnonzero(counts(store, which, first, last) < augment.min_events)
        first[thin], last[thin] = _spans(len(thin), rng, augment)
    row, packed = _gather(store, which, first, last)
    share = np.where(rng.random(size) < 0.5, rng.random(size) * augment.drop, 0.0)
    kept = rng.random(len(row)) >= share[row]
    row, packed = row[kept], packed[kept]
    y, x = np.divmod((packed & 2047).astype(np.int64), SIDE)
    x, y, inside = _warped(x, y, row, size, rng, augment)
    on, pixel = ((packed >> 11) & 1).astype(np.int64)[inside], (y * SIDE + x)[inside]
    extra = rng.poisson(rng.random(size) * augment.noise * AREA)
    row = np.concatenate([row[inside], np.repeat(np.arange(size), extra)])
    total = int(extra.sum())
    on = np.concatenate([on, rng.integers(0, 2, total)])
    pixel = np.concatenate([pixel, rng.integers(0, AREA, total)])
    return _image(size, row, on, pixel), store.labels[which]


def _spans(size: int, rng: np.random.Generator, augment: Augment) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    length = rng.integers(augment.shortest, augment.usual + 1, size)
    long = rng.random(size) < augment.long
    length[long] = rng.integers(augment.usual, BINS + 1, int(long.sum()))
    first = np.floor(rng.random(size) * (BINS - length + 1)).astype(np.int64)
    return first, first + length


def _warped(
    x: NDArray[np.int64], y: NDArray[np.int64], row: NDArray[np.intp], size: int, rng: np.random.Generator,
    augment: Augment,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:  # fmt: skip
    """Coordinates under each window's own affine map, and which of them still lie on the sensor."""
    warped = rng.random(size) < augment.warp
    turn = rng.normal(0, augment.turn, size) * warped
    wide, high, shear = (rng.normal(0, augment.scale, size) * warped for _ in range(3))
    shift_x, shift_y = rng.normal(0, augment.shift, (2, size))
    cos, sin, middle = np.cos(turn), np.sin(turn), (SIDE - 1) / 2
    xx = np.stack([(1 + wide) * cos, shear - sin, shift_x + middle]).astype(np.float32)[:, row]
    yy = np.stack([sin, (1 + high) * cos, shift_y + middle]).astype(np.float32)[:, row]
    dx, dy = (x - middle).astype(np.float32), (y - middle).astype(np.float32)
    # Spread over the pixel's area where the map is not a pure shift: it would leave holes in a grid otherwise.
    jitter = (rng.random((2, len(row)), dtype=np.float32) - 0.5) * warped[row] * 0.5
    x = np.rint(xx[0] * (dx + jitter[0]) + xx[1] * (dy + jitter[1]) + xx[2]).astype(np.int64)
    y = np.rint(yy[0] * (dx + jitter[0]) + yy[1] * (dy + jitter[1]) + yy[2]).astype(np.int64)
    return x, y, (x >= 0) & (x < SIDE) & (y >= 0) & (y < SIDE)

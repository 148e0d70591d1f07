"""Binary event frames of the recordings of models/dvs128-objects, for spiking and hybrid networks. No torch in here.

A sample is 16 bins of 10 ms; a frame holds 1 where a pixel had at least one event of that polarity in that bin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.forge import objects_store as data

SIDE = 64
"""Pixels of a frame: two by two of the sensor's fall into one."""
STEPS = 16
BIN_US = 10_000
WINDOW_US = STEPS * BIN_US
HELD_OUT = ("box_1", "mouse_1", "scissors_1")
"""Recordings that no network here is trained on, of objects that have another one."""
TRAINED = 0.6
"""Share of a recording; the next tenth is for choosing."""
SHORTEST_US, LONGEST_US = 96_000, 256_000
"""Of a window in training: the turntable may turn faster or slower."""


def seen() -> list[str]:
    """Names of the recordings whose first 60 % is trained on."""
    return [name for name in data.NAMES if name not in HELD_OUT]


def training(store: data.Store) -> list[data.Part]:
    """What is trained on: the first 60 % of each."""
    return [store.split(name, TRAINED)[0] for name in seen()]


def choosing(store: data.Store) -> list[data.Part]:
    """What splits and seeds are chosen on: from 60 to 70 % of each. The rest is for the table alone."""
    parts = [(store.split(name, TRAINED)[0], store.split(name)[0]) for name in seen()]
    return [data.Part(name, low.end, high.end) for name, (low, high) in zip(seen(), parts, strict=True)]


@dataclass(frozen=True, slots=True)
class Sample:
    """Windows of one kind."""

    frames: NDArray[np.bool_]
    """(n, 16, 2, 64, 64), OFF then ON."""
    labels: NDArray[np.int64]
    part: NDArray[np.intp]
    """Which part each belongs to; in order of time within it."""


CHOICE, LAST, OTHER, VARIED = "choice", "last 30 %", "other recordings", "other recordings, varied"
"""Names of the sets that networks are judged on."""


def tests(store: data.Store) -> dict[str, Sample]:
    """The windows that networks are judged on, by name.

    `CHOICE` decides which ships; it and `VARIED` are varied as in training, as a model of other sessions. The others
    are as recorded.
    """
    rest = [store.split(name)[1] for name in seen()]
    others = [store.whole(name) for name in HELD_OUT]
    return {
        CHOICE: draw(store, choosing(store), 3_000, np.random.default_rng(76)),
        LAST: windows(store, rest),
        OTHER: windows(store, others),
        VARIED: draw(store, others, 3_000, np.random.default_rng(77)),
    }


def windows(store: data.Store, parts: Sequence[data.Part]) -> Sample:
    """Cut parts into whole windows, one after another."""
    begins = [np.arange(part.begin, part.end - WINDOW_US + 1, WINDOW_US) for part in parts]
    index = np.repeat(np.arange(len(parts)), [len(begin) for begin in begins])
    begin = np.concatenate(begins)
    row, at = data.gather(*store.spans([parts[i] for i in index], begin, begin + WINDOW_US))
    place, late = store.place[at], (store.key[at] & 0xFFFFFFFF) - begin[row]
    frames = binary(len(index), row, late // BIN_US, (place >> 14).astype(np.int64), place & 127, (place >> 7) & 127)
    return Sample(frames, np.array([part.label for part in parts], np.int64)[index], index)


def draw(
    store: data.Store, parts: Sequence[data.Part], size: int, rng: np.random.Generator,
    augment: data.Augment | None = None,
) -> Sample:  # fmt: skip
    """Windows from anywhere in the parts, varied; the objects in equal shares whatever their number of recordings."""
    augment = augment or data.Augment()
    labels = np.array([part.label for part in parts])
    share = 1.0 / np.bincount(labels, minlength=len(data.LABELS))[labels]
    chosen = rng.choice(len(parts), size, p=share / share.sum())
    picked = [parts[i] for i in chosen]
    length = np.exp(rng.uniform(np.log(SHORTEST_US), np.log(LONGEST_US), size)).astype(np.int64)
    low, high = (np.array([getattr(part, name) for part in picked]) for name in ("begin", "end"))
    begin = low + np.floor(rng.random(size) * np.maximum(high - low - length, 0)).astype(np.int64)
    row, at = data.gather(*store.spans(picked, begin, np.minimum(begin + length, high)))
    dropped = np.where(rng.random(size) < 0.5, rng.random(size) * augment.drop, 0.0)
    place = store.place[at]
    step = ((store.key[at] & 0xFFFFFFFF) - begin[row]) * STEPS // length[row]
    less = np.abs(rng.normal(0, augment.mismatch, data.SENSOR**2)).astype(np.float32)
    kept = rng.random(len(row), dtype=np.float32) >= dropped[row] + less[place & (data.SENSOR**2 - 1)]
    row, place, step = row[kept], place[kept], step[kept]
    (row, on, x, y), left = data.moved(row, place, size, rng, augment)
    added = data.additions(size, rng, augment)
    step = np.concatenate([step[left], rng.integers(0, STEPS, len(added[0]))])
    row, on, x, y = (np.concatenate(pair) for pair in zip((row, on, x, y), added, strict=True))
    return Sample(binary(size, row, step, on, x, y), labels[chosen], chosen)


def binary(
    n: int, row: NDArray[np.intp], step: NDArray[np.int64], on: NDArray[np.int64], x: NDArray[np.int64],
    y: NDArray[np.int64],
) -> NDArray[np.bool_]:  # fmt: skip
    """Frames (n, 16, 2, 64, 64) of events given by window, bin, polarity and the sensor's pixels."""
    frames = np.zeros(n * STEPS * 2 * SIDE * SIDE, np.bool_)
    frames[(((row * STEPS + step) * 2 + on) * SIDE + y // 2) * SIDE + x // 2] = True
    return frames.reshape(n, STEPS, 2, SIDE, SIDE)

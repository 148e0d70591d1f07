"""The recordings of models/dvs128-objects: read, split, cut into windows, and varied for training. No torch in here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from firstspike.errors import NoInputError
from firstspike.sources.formats import aedat2
from firstspike.sources.formats._stream import Options, Stats
from firstspike.types import Events, join
from models.forge import sets

LABELS = ("box", "boxcutter", "mech_pencil", "mouse", "mug", "phone", "scissors")
NAMES = (
    "box_0", "box_1", "boxcutter_0", "mech_pencil_0", "mouse_0", "mouse_1", "mouse_2", "mug_0", "phone_0",
    "scissors_0", "scissors_1",
)  # fmt: skip
USABLE_US = {"scissors_1": 18_500_000}
"""After this time the recording no longer shows its object: a hand takes it away."""
SENSOR = 128
"""Pixels of the DVS128 along each side."""
SIDE = 64
"""Of the network's input."""
AREA = SIDE * SIDE
WINDOW_US = 100_000


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of one recording, in µs from its first event."""

    name: str
    begin: int
    end: int

    @property
    def label(self) -> int:
        """Number of its object."""
        return LABELS.index(self.name.rsplit("_", 1)[0])


@dataclass(frozen=True, slots=True)
class Store:
    """All recordings' events in one table, in order of recording and time."""

    key: NDArray[np.int64]
    """Recording · 2³² + µs from its first event."""
    place: NDArray[np.int32]
    """Polarity · 2¹⁴ + y · 128 + x."""
    seconds: dict[str, float]
    """Of each recording, as far as it is usable."""

    def whole(self, name: str) -> Part:
        """All of a recording that shows its object."""
        return Part(name, 0, round(self.seconds[name] * 1e6))

    def split(self, name: str, share: float = 0.7) -> tuple[Part, Part]:
        """The first `share` of a recording, and the rest; the cut lies between two windows."""
        end = self.whole(name).end
        cut = round(end * share) // WINDOW_US * WINDOW_US
        return Part(name, 0, cut), Part(name, cut, end)

    def spans(self, parts: Sequence[Part], begin: NDArray[np.int64], end: NDArray[np.int64]) -> tuple[
        NDArray[np.intp], NDArray[np.intp]
    ]:  # fmt: skip
        """First row and row after the last of the windows [begin, end) µs of each part's recording."""
        base = np.array([NAMES.index(part.name) for part in parts], np.int64) << 32
        return np.searchsorted(self.key, base + begin), np.searchsorted(self.key, base + end)


def read(name: str) -> Events:
    """The events of one recording, as the runtime's reader gives them."""
    path = sets.folder() / "dvs128_objects" / "2018-10-06" / f"{name}.aedat"
    if not path.exists():
        raise NoInputError(f"{path}: no such recording: the forge needs the eleven of dvs128_objects")
    _, events = aedat2.open(path, Options(), Stats())
    return join([part.copy() for part in events])


def load() -> Store:
    """All eleven recordings."""
    keys, places, seconds = [], [], {}
    for number, name in enumerate(NAMES):
        events = read(name)
        t = events["t"] - events["t"].min()
        keys.append((number << 32) + np.sort(t))
        place = (events["p"].astype(np.int32) * SENSOR + events["y"]) * SENSOR + events["x"]
        places.append(place[np.argsort(t, kind="stable")])
        seconds[name] = min(int(t.max()) + 1, USABLE_US.get(name, 1 << 40)) / 1e6
    return Store(np.concatenate(keys), np.concatenate(places), seconds)


def gather(first: NDArray[np.intp], last: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """(number of the window, row of the table) of every event of the windows."""
    length = last - first
    row = np.repeat(np.arange(len(first)), length)
    return row, np.arange(len(row)) - np.repeat(np.cumsum(length) - length, length) + first[row]


def image(n: int, row: NDArray[np.intp], on: NDArray[np.int64], pixel: NDArray[np.int64]) -> NDArray[np.float32]:
    """Count images of events given by window, polarity and pixel of the input: (n, 2, 64, 64), OFF then ON."""
    flat = np.bincount((row * 2 + on) * AREA + pixel, minlength=n * 2 * AREA)
    return flat.astype(np.float32).reshape(n, 2, SIDE, SIDE)


@dataclass(frozen=True, slots=True)
class Windows:
    """Windows of 100 ms, one after another, as the runtime cuts them from the recording's first event."""

    counts: NDArray[np.float32]
    """(n, 2, 64, 64), OFF then ON."""
    labels: NDArray[np.int64]
    part: NDArray[np.intp]
    """Which part each belongs to."""
    events: NDArray[np.intp]
    """How many events each has."""


def windows(store: Store, parts: Sequence[Part], length_us: int = WINDOW_US) -> Windows:
    """Cut parts into whole windows."""
    which, begins = [], []
    for number, part in enumerate(parts):
        begin = np.arange(part.begin, part.end - length_us + 1, length_us)
        which.append(np.full(len(begin), number))
        begins.append(begin)
    index, begin = np.concatenate(which), np.concatenate(begins)
    first, last = store.spans([parts[i] for i in index], begin, begin + length_us)
    row, at = gather(first, last)
    place = store.place[at]
    on, y, x = place >> 14, (place >> 7) & 127, place & 127
    counts = image(len(index), row, on, (y // 2) * SIDE + x // 2)
    labels = np.array([part.label for part in parts], np.int64)[index]
    return Windows(counts, labels, index, last - first)


@dataclass(frozen=True, slots=True)
class Augment:
    """How windows are varied for training; lengths in pixels of the sensor (128 × 128)."""

    shortest_us: int = 35_000
    longest_us: int = 260_000
    drop: float = 0.5
    """Up to this share of the events is dropped, uniformly drawn, in half of the windows."""
    mirror: float = 0.5
    """Share of the windows mirrored left to right: the turntable may turn the other way."""
    flip: float = 0.5
    """Share of the windows with ON and OFF exchanged: the ground may be dark or light."""
    turn: float = 0.26
    """Largest rotation, radians."""
    scale: float = 0.2
    """Standard deviation of the logarithm of the size."""
    axis: float = 0.1
    """Standard deviation of the logarithm of each axis' own scale, and of the shear."""
    tilt: float = 0.1
    """Standard deviation of the perspective: by this share the size changes from the middle to the edge."""
    blur: float = 1.0
    """Largest standard deviation of the focus, pixels."""
    mismatch: float = 0.15
    """Standard deviation of the share of its events that a pixel drops, drawn for each batch."""
    shift: float = 20.0
    """Largest shift along each axis."""
    noise: float = 600.0
    """Up to this many events are added anywhere, uniformly drawn, in half of the windows."""
    hot: int = 3
    """Up to this many pixels fire up to 20 times more."""
    erase: float = 0.4
    """Share of the windows in which a rectangle falls silent."""
    widest: float = 48.0
    """Of that rectangle."""
    chance: float = 1.0
    """Share of the windows whose coordinates are varied."""


def draw(
    store: Store, parts: Sequence[Part], size: int, rng: np.random.Generator, augment: Augment
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """A batch: counts (size, 2, 64, 64) and labels, the objects in equal shares whatever their number of recordings."""
    labels = np.array([part.label for part in parts])
    share = 1.0 / np.bincount(labels, minlength=len(LABELS))[labels]
    chosen = rng.choice(len(parts), size, p=share / share.sum())
    picked = [parts[i] for i in chosen]
    length = np.exp(rng.uniform(np.log(augment.shortest_us), np.log(augment.longest_us), size)).astype(np.int64)
    low, high = (np.array([getattr(part, name) for part in picked]) for name in ("begin", "end"))
    begin = low + np.floor(rng.random(size) * np.maximum(high - low - length, 0)).astype(np.int64)
    row, at = gather(*store.spans(picked, begin, np.minimum(begin + length, high)))
    dropped = np.where(rng.random(size) < 0.5, rng.random(size) * augment.drop, 0.0)
    place = store.place[at]
    less = np.abs(rng.normal(0, augment.mismatch, SENSOR * SENSOR)).astype(np.float32)
    kept = rng.random(len(row), dtype=np.float32) >= dropped[row] + less[place & (SENSOR * SENSOR - 1)]
    row, place = row[kept], place[kept]
    (row, on, x, y), _ = moved(row, place, size, rng, augment)
    added = additions(size, rng, augment)
    row, on, x, y = (np.concatenate(pair) for pair in zip((row, on, x, y), added, strict=True))
    return image(size, row, on, (y // 2) * SIDE + x // 2), labels[chosen]


_Columns = tuple[NDArray[np.intp], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]
"""Window, polarity, x and y of events."""


def moved(
    row: NDArray[np.intp], place: NDArray[np.int32], size: int, rng: np.random.Generator, augment: Augment
) -> tuple[_Columns, NDArray[np.bool_]]:
    """Each window's events under its own affine map, and which of those given are left.

    Those that leave the field or are erased are gone.
    """
    moved = (rng.random(size) < augment.chance).astype(float)
    turn = rng.uniform(-augment.turn, augment.turn, size) * moved
    whole = rng.normal(0, augment.scale, size)
    wide, high = (np.exp((whole + rng.normal(0, augment.axis, size)) * moved) for _ in range(2))
    shear = rng.normal(0, augment.axis, size) * moved
    shift = rng.uniform(-augment.shift, augment.shift, (2, size)) * moved
    mirror = np.where(rng.random(size) < augment.mirror, -1.0, 1.0)
    cos, sin, middle = np.cos(turn), np.sin(turn), (SENSOR - 1) / 2
    to_x = np.stack([wide * mirror * cos, shear - high * sin, shift[0] + middle]).astype(np.float32)[:, row]
    to_y = np.stack([wide * mirror * sin, high * cos, shift[1] + middle]).astype(np.float32)[:, row]
    # An event lies anywhere on its pixel: turned or stretched grids would show gaps otherwise.
    dx, dy = (
        (((place >> bits) & 127) - middle + rng.random(len(row), dtype=np.float32) - 0.5).astype(np.float32)
        for bits in (0, 7)
    )
    if augment.blur:
        sigma = rng.uniform(0, augment.blur, size).astype(np.float32)[row]
        dx, dy = (one + sigma * rng.standard_normal(len(row), dtype=np.float32) for one in (dx, dy))
    if augment.tilt:
        far = (rng.normal(0, augment.tilt, (2, size)) / middle).astype(np.float32)[:, row]
        size_there = np.maximum(1 + far[0] * dx + far[1] * dy, 0.5)
        dx, dy = dx / size_there, dy / size_there
    x = np.rint(to_x[0] * dx + to_x[1] * dy + to_x[2]).astype(np.int64)
    y = np.rint(to_y[0] * dx + to_y[1] * dy + to_y[2]).astype(np.int64)
    on = ((place >> 14) ^ (rng.random(size) < augment.flip)[row]).astype(np.int64)
    kept = (x >= 0) & (x < SENSOR) & (y >= 0) & (y < SENSOR)
    erased = rng.random(size) < augment.erase
    centre = rng.uniform(0, SENSOR, (2, size)).astype(np.float32)
    half = (rng.uniform(0.2, 0.5, (2, size)) * augment.widest * erased).astype(np.float32)
    kept &= (np.abs(x - centre[0][row]) >= half[0][row]) | (np.abs(y - centre[1][row]) >= half[1][row])
    return (row[kept], on[kept], x[kept], y[kept]), kept


def additions(size: int, rng: np.random.Generator, augment: Augment) -> _Columns:
    """Noise: single events, more of one polarity than of the other, and hot pixels."""
    single = rng.poisson(rng.random(size) * augment.noise * (rng.random(size) < 0.5))
    row = np.repeat(np.arange(size), single)
    on = rng.random(len(row)) < rng.uniform(0.2, 0.95, size)[row]
    x, y = rng.integers(0, SENSOR, (2, len(row)))
    hot = np.repeat(np.arange(size), rng.integers(0, augment.hot + 1, size))
    times = rng.integers(1, 21, len(hot))
    columns = (hot, rng.integers(0, 2, len(hot)), *rng.integers(0, SENSOR, (2, len(hot))))
    return tuple(
        np.concatenate([a.astype(np.int64), np.repeat(b, times)]) for a, b in zip((row, on, x, y), columns, strict=True)
    )  # type: ignore[return-value]

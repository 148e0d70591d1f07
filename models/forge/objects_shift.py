"""What another session might look like: held-out recordings seen through another camera. No torch in here.

The recordings are of one day and one set-up, so leaving one out says little about another session: a network trained
without any variation is right on nearly all of them. Here each held-out recording is seen anew in several drawn
sessions: another speed, place, distance, tilt (a homography), focus, contrast and mismatch of the pixels, polarity,
noise and something else in view. Partly these are other changes than training makes (`objects_store.Augment`), and
they are fixed for a recording instead of drawn for each window. A figure on them ranks recipes; it is no accuracy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.forge import objects_store as data

SESSIONS = 6
"""A held-out recording."""
SEED = 777
MIDDLE = (data.SENSOR - 1) / 2


@dataclass(frozen=True)
class Session:
    """One drawn session."""

    speed: float
    """Of the turntable, as a factor."""
    homography: NDArray[np.float64]
    """(3, 3), of coordinates in units of half the field."""
    blur: float
    """Standard deviation, pixels."""
    keep: NDArray[np.float64]
    """(128 · 128,), the share of its events that each pixel reports."""
    flip: bool
    noise: float
    """Events a window, anywhere."""
    on: float
    """Share of ON among the noise."""
    rim: NDArray[np.float64] | None
    """Centre, radii and ends (radians) of an arc in view, such as the turntable's rim, and events a window on it."""


def drawn(rng: np.random.Generator) -> Session:
    """A session."""
    turn, size = rng.uniform(-0.25, 0.25), np.exp(rng.normal(0, 0.2))
    mirror = rng.choice([-1.0, 1.0])
    plane = np.array([[mirror * np.cos(turn), -np.sin(turn), 0], [mirror * np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    tilt = np.array([[size * np.exp(rng.normal(0, 0.1)), rng.normal(0, 0.08), rng.uniform(-0.25, 0.25)],
                     [rng.normal(0, 0.08), size * np.exp(rng.normal(0, 0.15)), rng.uniform(-0.25, 0.25)],
                     [rng.normal(0, 0.08), rng.normal(0, 0.12), 1]])  # fmt: skip
    rim = None
    if rng.random() < 0.4:
        begin = rng.uniform(0, 2 * np.pi)
        rim = np.array([*rng.uniform(-0.3, 0.3, 2), *rng.uniform(0.6, 1.1, 2), begin, begin + rng.uniform(0.3, 2),
                        rng.uniform(50, 300)])  # fmt: skip
    share = rng.uniform(0.45, 1.0)
    keep = np.clip(share + rng.normal(0, 0.2, data.SENSOR**2), 0, 1)
    return Session(
        speed=float(np.exp(rng.uniform(np.log(0.5), np.log(2.0)))), homography=tilt @ plane,
        blur=float(rng.uniform(0, 1.2)), keep=keep, flip=bool(rng.random() < 0.3),
        noise=float(rng.uniform(0, 600)), on=float(rng.uniform(0.3, 0.95)), rim=rim,
    )  # fmt: skip


def windows(store: data.Store, parts: list[data.Part]) -> tuple[data.Windows, list[data.Part]]:
    """Windows of 100 ms of `SESSIONS` sessions of every part, and the part that each session shows."""
    found, shown = [], []
    for part in parts:
        for number in range(SESSIONS):
            rng = np.random.default_rng([SEED, data.NAMES.index(part.name), number])
            counts = watch(store, part, drawn(rng), rng)
            found.append(counts)
            shown.append(data.Part(part.name, part.begin, part.end))
    which = np.repeat(np.arange(len(found)), [len(one) for one in found])
    counts = np.concatenate(found)
    labels = np.array([part.label for part in shown], np.int64)[which]
    return data.Windows(counts, labels, which, counts.sum((1, 2, 3)).astype(np.intp)), shown


def watch(store: data.Store, part: data.Part, session: Session, rng: np.random.Generator) -> NDArray[np.float32]:
    """Count images of the part's windows of 100 ms in that session."""
    length = round(data.WINDOW_US * session.speed)
    begin = np.arange(part.begin, part.end - length + 1, length)
    first, last = store.spans([part] * len(begin), begin, begin + length)
    row, place = np.repeat(np.arange(len(begin)), last - first), store.place[first[0] : last[-1]]
    kept = rng.random(len(row)) < session.keep[place & (data.SENSOR**2 - 1)]
    row, place = row[kept], place[kept]
    x, y = ((((place >> bits) & 127) + rng.random(len(row)) - 0.5 - MIDDLE) / MIDDLE for bits in (0, 7))
    px, py, scale = session.homography @ np.stack([x, y, np.ones_like(x)])
    x, y = (one / scale * MIDDLE + MIDDLE + rng.normal(0, session.blur, len(row)) for one in (px, py))
    on = (place >> 14) ^ session.flip
    columns = [np.stack([row, on, x, y]).astype(np.float64)]
    columns.append(_noise(len(begin), session, rng))
    if session.rim is not None:
        columns.append(_arc(len(begin), session.rim, rng))
    row, on, x, y = np.rint(np.concatenate(columns, 1)).astype(np.int64)
    inside = (x >= 0) & (x < data.SENSOR) & (y >= 0) & (y < data.SENSOR)
    pixel = (y // 2) * data.SIDE + x // 2
    return data.image(len(begin), row[inside], on[inside], pixel[inside])


def _noise(n: int, session: Session, rng: np.random.Generator) -> NDArray[np.float64]:
    row = np.repeat(np.arange(n), rng.poisson(session.noise, n))
    x, y = rng.uniform(0, data.SENSOR - 1, (2, len(row)))
    return np.stack([row, rng.random(len(row)) < session.on, x, y])


def _arc(n: int, rim: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    row = np.repeat(np.arange(n), rng.poisson(rim[6], n))
    angle = rng.uniform(rim[4], rim[5], len(row))
    x = MIDDLE + MIDDLE * (rim[0] + rim[2] * np.cos(angle)) + rng.normal(0, 1, len(row))
    y = MIDDLE + MIDDLE * (rim[1] + rim[3] * np.sin(angle)) + rng.normal(0, 1, len(row))
    return np.stack([row, rng.integers(0, 2, len(row)), x, y])

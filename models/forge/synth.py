"""Simulated recordings for training: MNIST images or drawn digits in front of the runtime's own DVS model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from firstspike.simulate import digits as pen
from firstspike.simulate.dvs import Pixel, PixelArray
from firstspike.simulate.scene import Saccades, Scene
from models.forge import store

BATCH = 64
LENGTH_US = 310_000.0


def drawn(count: int, rng: np.random.Generator) -> tuple[NDArray[np.float32], list[int]]:
    """Draw digits in equal shares: ink (count, 28, 28) in 0..1, and labels."""
    labels = [number % 10 for number in range(count)]
    return np.stack([pen.render(*pen.draw(label, rng), 28) for label in labels]), labels


def simulate(ink: NDArray[np.float32], labels: list[int], rng: np.random.Generator) -> store.Store:
    """Record each image once: sensor, light and motion differ from batch to batch, fixed pattern and noise always.

    Args:
        ink: shape (n, 28, 28), coverage 0 to 1.
        labels: n of them.
        rng: draws all of it.
    """
    recordings: list[NDArray[np.uint32]] = []
    for begin in range(0, len(ink), BATCH):
        recordings.extend(_record(ink[begin : begin + BATCH], varied(rng), rng))
    return store.build(recordings, labels)


def varied(rng: np.random.Generator) -> Scene:
    """A scene around the default one."""
    usual = Scene()
    pixel = Pixel(
        threshold=usual.pixel.threshold * float(np.exp(rng.normal(0, 0.15))),
        mismatch=float(rng.uniform(0.05, 0.25)),
        low_pass_us=usual.pixel.low_pass_us * float(np.exp(rng.normal(0, 0.4))),
        noise_hz=float(rng.uniform(0.2, 1.5)),
        hot_pixels=int(rng.integers(0, 3)),
    )
    size, turn = np.exp(rng.normal(0, 0.12)), rng.normal(0, 0.15)
    cos, sin = size * np.cos(turn), size * np.sin(turn)
    points = tuple(
        (float(cos * x - sin * y + rng.normal(0, 0.25)), float(sin * x + cos * y + rng.normal(0, 0.25)))
        for x, y in usual.saccades.points
    )
    moves = tuple(
        (max(start + float(rng.normal(0, 2e3)), 0.0), end + float(rng.normal(0, 3e3)))
        for start, end in usual.saccades.moves_us
    )
    return replace(usual, saccades=Saccades(points, moves), contrast=float(rng.uniform(0.35, 0.65)), pixel=pixel)


def _record(ink: NDArray[np.float32], scene: Scene, rng: np.random.Generator) -> list[NDArray[np.uint32]]:
    array = PixelArray((len(ink), scene.height, scene.width), scene.pixel, rng)
    steps = list(scene.watch(ink, array, 0.0, LENGTH_US))
    index = np.concatenate([raw.pixel for raw in steps])
    t_us = np.concatenate([raw.t_us for raw in steps]).astype(np.int64)
    on = np.concatenate([raw.on for raw in steps])
    which, pixel = np.divmod(index, scene.height * scene.width)
    order = np.argsort(which, kind="stable")
    ends = np.cumsum(np.bincount(which, minlength=len(ink)))[:-1]
    parts = (np.split(column[order], ends) for column in (t_us, pixel, on))
    return [store.pack(*columns) for columns in zip(*parts, strict=True)]

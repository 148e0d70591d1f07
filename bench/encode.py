"""Events to TTFS tensor, in memory: million events a second (Mev/s) for windows of 10 ms, beside dv-processing's.

    .venv-bench/bin/python bench/encode.py

All encode the same windows, one after another, so that no one finds its events in the cache for free; the figure is
the fastest of the rounds, in which the contestants take turns. dv-processing's EdgeMapAccumulator makes one 8-bit image
of the sensor's size, from an EventStore filled beforehand; the others start from a NumPy array. Synthetic events lie
along moving edges with one noise event in five; the real ones are `formats/evt3` of the shared data, where present.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dv_processing as dv
import faery
import numba
import numpy as np
import tonic

from firstspike.bundle import InputSpec
from firstspike.encode import Encoder
from firstspike.types import EVENT, Events

WINDOW_US, ROUNDS = 10_000, 15
DATA = Path(os.environ.get("FIRSTSPIKE_DATA", Path(__file__).parents[2] / "shared" / "data"))
REAL = "formats/evt3/gen41_1280x720_expelliarmus.raw"
Task = Callable[[], None]


def synthetic(width: int, height: int, per_window: int, windows: int) -> list[Events]:
    """Edges that cross the sensor, each event within a pixel or two of one; a fifth is noise."""
    random, made = np.random.default_rng(0), []
    for window in range(windows):
        events = np.zeros(per_window, EVENT)
        events["t"] = window * WINDOW_US + np.sort(random.integers(0, WINDOW_US, per_window))
        y = random.integers(0, height, per_window)
        edge = random.integers(0, 6, per_window) * (width // 6) + y // 3 + events["t"] // 1000
        noise = random.random(per_window) < 0.2
        events["x"] = np.where(
            noise, random.integers(0, width, per_window), (edge + random.integers(0, 3, per_window)) % width
        )
        events["y"], events["p"] = y, random.integers(0, 2, per_window)
        made.append(events)
    return made


def real() -> list[Events]:
    """Full windows of 10 ms, or of what there is if the recording is shorter."""
    parts = list(faery.events_stream_from_file(DATA / REAL))
    decoded = np.concatenate(parts)
    events = np.zeros(len(decoded), EVENT)
    events["t"], events["x"], events["y"], events["p"] = (decoded[name] for name in ("t", "x", "y", "p"))
    index = (events["t"] - events["t"][0]) // WINDOW_US
    return [events[index == window] for window in range(int(index[-1]) + 1)]


def store_of(events: Events) -> dv.EventStore:
    store = dv.EventStore()
    for t, x, y, p in events.tolist():
        store.push_back(t, x, y, bool(p))
    return store


@numba.njit(cache=False)
def numba_count(t: Any, x: Any, y: Any, p: Any, out: Any) -> None:
    for i in range(len(t)):
        out[p[i], y[i], x[i]] += 1


def contestants(windows: list[Events], width: int, height: int) -> Iterator[tuple[str, Task]]:
    def ours(channels: int, rows: int, columns: int, encoding: str, scale: int = 8) -> Task:
        spec = InputSpec(channels=channels, height=rows, width=columns, encoding=encoding, steps=8, count_scale=scale)
        encoder, bounds = (
            Encoder(spec, width, height),
            [(w, int(w["t"][0]), int(w["t"][0]) + WINDOW_US) for w in windows],
        )

        def task() -> None:
            for events, start, end in bounds:
                encoder.encode(events, start, end)

        return task

    stores = [store_of(events) for events in windows]
    accumulator = dv.EdgeMapAccumulator((width, height))

    def edge_map() -> None:  # its decay of 1 clears the image after each frame
        for store in stores:
            accumulator.accept(store)
            accumulator.generateFrame()

    def bincount() -> None:
        for events in windows:
            pixel = (events["p"].astype(np.int64) * height + events["y"]) * width + events["x"]
            np.bincount(pixel, minlength=2 * width * height)

    def loop() -> None:
        for events in windows:
            numba_count(events["t"], events["x"], events["y"], events["p"], np.zeros((2, height, width), np.uint16))

    to_frame = tonic.transforms.ToFrame((width, height, 2), n_time_bins=1)

    def frame() -> None:
        for events in windows:
            to_frame(events)

    yield "dv-processing EdgeMap, sensor's size", edge_map
    yield f"firstspike count, 1×{height}×{width}", ours(1, height, width, "count")
    yield f"firstspike count, 2×{height}×{width}", ours(2, height, width, "count")
    yield f"firstspike count (C > T), 2×{height}×{width}", ours(2, height, width, "count", 20)
    yield f"firstspike first, 2×{height}×{width}", ours(2, height, width, "first")
    yield "firstspike count, 2×64×64", ours(2, 64, 64, "count")
    yield "firstspike first, 2×64×64", ours(2, 64, 64, "first")
    yield "firstspike count, 2×32×32", ours(2, 32, 32, "count")
    yield "numba loop to uint16 counts, sensor's size", loop
    yield "numpy.bincount, sensor's size", bincount
    yield "tonic ToFrame, sensor's size", frame


def measure(title: str, windows: list[Events], width: int, height: int) -> None:
    tasks = list(contestants(windows, width, height))
    best = dict.fromkeys((name for name, _ in tasks), float("inf"))
    for round_ in range(ROUNDS):
        for name, task in tasks:
            if name.startswith(("tonic", "numpy")) and round_ >= 3:
                continue  # slow enough to be steady
            started = time.perf_counter()
            task()
            best[name] = min(best[name], time.perf_counter() - started)
    events = sum(map(len, windows))
    print(f"| {title} | Mev/s | µs a window | ratio to EdgeMap |\n|---|---|---|---|")
    for name, seconds in best.items():
        rate, window_us = events / seconds / 1e6, seconds / len(windows) * 1e6
        print(f"| {name} | {rate:.1f} | {window_us:.0f} | {best[tasks[0][0]] / seconds:.2f} |")
    print(flush=True)


def main() -> None:
    for width, height, per_window, windows in (
        (1280, 720, 200_000, 10),
        (1280, 720, 20_000, 40),
        (320, 240, 10_000, 80),
    ):
        title = f"{width}×{height}, {per_window * 1e6 / WINDOW_US / 1e6:g} Mev/s, edges"
        measure(title, synthetic(width, height, per_window, windows), width, height)
    if (DATA / REAL).exists():
        measure("1280×720, real (Gen4.1, EVT3), one window", real(), 1280, 720)
    else:
        print(f"(no real events: {DATA / REAL} is absent)")


if __name__ == "__main__":
    main()

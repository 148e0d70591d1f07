"""File to frames: an AEDAT4 recording through each program's whole road to one tensor every 10 ms, in Mev/s.

    .venv-bench/bin/python bench/recording.py [million events]

The recording is made here: events at random places of a 640×480 sensor, 10 Mev/s, LZ4. All read the same file,
cut it into windows of 10 ms and make a frame of each. Ours decodes in its supervised child process, the others in their
own. Minimum over the repeats.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import dv_processing as dv
import faery
import numpy as np

from firstspike.bundle import InputSpec, WindowSpec
from firstspike.encode import Encoder
from firstspike.sources.aedat4_writer import write_aedat4
from firstspike.sources.decoding import DecoderProcess
from firstspike.types import EVENT, Events
from firstspike.window import Windower

WIDTH, HEIGHT, WINDOW_US, RATE = 640, 480, 10_000, 10_000_000
REPEATS = 3
DECODER = DecoderProcess()
"""Started before the clock, as a daemon's is: the others are imported by then, too."""


def blocks(count: int) -> Iterator[Events]:
    rng = np.random.default_rng(0)
    for start in range(0, count, 65_536):
        n = min(65_536, count - start)
        events = np.zeros(n, EVENT)
        events["t"] = 1_000_000 + (start + np.arange(n)) * 1_000_000 // RATE
        events["x"], events["y"] = rng.integers(0, WIDTH, n), rng.integers(0, HEIGHT, n)
        events["p"] = rng.integers(0, 2, n)
        yield events


def firstspike(path: Path, height: int, width: int) -> int:
    spec = InputSpec(channels=2, height=height, width=width, encoding="count", steps=8, count_scale=8)
    windower = Windower(WindowSpec(kind="time", size=WINDOW_US, hop=WINDOW_US))
    total = 0
    with DECODER.open(path) as recording:
        encoder = Encoder(spec, recording.info.width, recording.info.height)
        for events in recording:
            for window in windower.push(events):
                total += encoder.encode(window.events, window.t_start_us, window.t_end_us).n_events
        for window in windower.flush():
            total += encoder.encode(window.events, window.t_start_us, window.t_end_us).n_events
    return total


def dv_processing(path: Path) -> int:
    recording = dv.io.MonoCameraRecording(str(path))
    accumulator = dv.EdgeMapAccumulator(recording.getEventResolution())
    slicer = dv.EventStreamSlicer()
    total = 0

    def frame(events: dv.EventStore) -> None:
        nonlocal total
        total += len(events)
        accumulator.accept(events)
        accumulator.generateFrame()
        accumulator.reset()

    slicer.doEveryTimeInterval(timedelta(microseconds=WINDOW_US), frame)
    while recording.isRunning():
        events = recording.getNextEventBatch()
        if events is not None:
            slicer.accept(events)
    return total


def faery_and_bincount(path: Path) -> int:
    total = 0
    for events in faery.events_stream_from_file(path).regularize(frequency_hz=1e6 / WINDOW_US):
        pixel = (events["on"].astype(np.int64) * HEIGHT + events["y"]) * WIDTH + events["x"]
        np.bincount(pixel, minlength=2 * WIDTH * HEIGHT)
        total += len(events)
    return total


def main() -> None:
    count = round(float(sys.argv[1] if len(sys.argv) > 1 else 8) * 1e6)
    roads: dict[str, Callable[[Path], int]] = {
        "firstspike, 2×34×34": lambda path: firstspike(path, 34, 34),
        "firstspike, 2×480×640": lambda path: firstspike(path, HEIGHT, WIDTH),
        "dv-processing EdgeMap, 480×640": dv_processing,
        "faery + numpy.bincount, 2×480×640": faery_and_bincount,
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "random.aedat4"
        write_aedat4(path, blocks(count), WIDTH, HEIGHT, source="bench (simulated)")
        best = dict.fromkeys(roads, float("inf"))
        firstspike(path, 34, 34)  # starts the decoder
        for _ in range(REPEATS):
            for name, road in roads.items():
                started = time.perf_counter()
                seen = road(path)
                best[name] = min(best[name], time.perf_counter() - started)
                # dv-processing does not hand out the last, unfinished window.
                assert seen >= count - RATE * WINDOW_US // 1_000_000, (name, seen, count)
    DECODER.close()
    reference = best["dv-processing EdgeMap, 480×640"]
    print(f"| file to frames, {count / 1e6:g} M events of 640×480, AEDAT4 (LZ4), windows of 10 ms | Mev/s | ratio |")
    print("|---|---|---|")
    for name, seconds in best.items():
        print(f"| {name} | {count / seconds / 1e6:.1f} | {reference / seconds:.2f} |")


if __name__ == "__main__":
    main()

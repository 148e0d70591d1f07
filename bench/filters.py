"""Filters in memory: million events a second (Mev/s), beside dv-processing's filter of background activity.

    .venv-bench/bin/python bench/filters.py

All filter the same stream in batches of 65,536 events, and take turns; the figure is the fastest of the rounds. Each
starts anew in each round. dv-processing's takes an EventStore filled beforehand and gives one back; ours takes a NumPy
array and gives one. Both drop the same events here but for a few at the start, which is checked. Synthetic events lie
along moving edges with one noise event in five; the real ones are recordings of the shared data, where present.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import timedelta

import dv_processing as dv
import numpy as np

from encode import DATA, store_of, synthetic
from firstspike.filters.definition import Rules
from firstspike.filters.kernel import Kernel
from firstspike.filters.places import Layout
from firstspike.sources.decoding import DecoderProcess
from firstspike.types import Events, join, pick

BATCH, ROUNDS, PERIOD_US = 65_536, 9, 2000
REAL = (
    "formats/evt3/gen41_1280x720_expelliarmus.raw",
    "formats/evt2/*.raw",
    "dvs128_objects/2018-10-06/mug_0.aedat",
    "dvs128_objects/2018-10-06/scissors_1.aedat",
)
Task = Callable[[], int]
"""Filters the whole stream; returns how many events passed."""


def contestants(batches: list[Events], width: int, height: int) -> Iterator[tuple[str, Task]]:
    stores = [store_of(batch) for batch in batches]

    def theirs() -> int:
        made = dv.noise.BackgroundActivityNoiseFilter((width, height), timedelta(microseconds=PERIOD_US))
        kept = 0
        for store in stores:
            made.accept(store)
            kept += len(made.generateEvents())
        return kept

    def ours(rules: Rules, layout: Layout | None = None) -> Task:
        places = layout.places(width, height)[0] if layout else None

        def task() -> int:
            made = Kernel(rules, width, height, places)
            return sum(len(made.apply(batch)) for batch in batches)

        return task

    background = Rules(background_us=PERIOD_US)
    yield "dv-processing BackgroundActivityNoiseFilter", theirs
    yield "firstspike background activity", ours(background)
    yield "firstspike background activity, 2 neighbours", ours(Rules(background_us=PERIOD_US, support=2))
    yield "firstspike refractory 1 ms", ours(Rules(refractory_us=1000))
    yield "firstspike region, turned by 90°", ours(Rules(), Layout(region=(8, 8, width - 16, height - 16), rotate=90))
    everything = Rules(refractory_us=1000, by_polarity=True, background_us=PERIOD_US)
    yield (
        "firstspike, all of these at once",
        ours(everything, Layout(region=(8, 8, width - 16, height - 16), rotate=90)),
    )


def measure(title: str, events: Events, width: int, height: int) -> None:
    batches = [pick(events[i : i + BATCH]) for i in range(0, len(events), BATCH)]
    tasks = list(contestants(batches, width, height))
    best, kept = dict.fromkeys((name for name, _ in tasks), float("inf")), {}
    for _ in range(ROUNDS):
        for name, task in tasks:
            started = time.perf_counter()
            kept[name] = task()
            best[name] = min(best[name], time.perf_counter() - started)
    theirs, ours = (kept[tasks[i][0]] for i in (0, 1))
    print(f"| {title} | Mev/s | ratio to dv-processing | passes |\n|---|---|---|---|")
    for name, seconds in best.items():
        ratio = best[tasks[0][0]] / seconds
        print(f"| {name} | {len(events) / seconds / 1e6:.1f} | {ratio:.2f} | {kept[name] / len(events):.1%} |")
    print(f"\n(of {len(events)} events background activity passes {ours} here, {theirs} there)\n", flush=True)


def recordings() -> Iterator[tuple[str, Events, int, int]]:
    with DecoderProcess() as decoder:
        for pattern in REAL:
            for path in sorted(DATA.glob(pattern))[:1]:
                with decoder.open(path) as recording:
                    info, events = recording.info, join([pick(part) for part in recording][:40])
                order = np.argsort(events["t"], kind="stable")  # dv-processing's stores refuse what goes backward
                yield f"{path.name}, {info.width}×{info.height}, real", pick(events)[order], info.width, info.height


def main() -> None:
    for width, height, per_window, windows in (
        (1280, 720, 200_000, 10),
        (1280, 720, 20_000, 40),
        (320, 240, 10_000, 80),
    ):
        rate = per_window / 10_000
        measure(
            f"{width}×{height}, {rate:g} Mev/s, edges",
            join(synthetic(width, height, per_window, windows)),
            width,
            height,
        )
    found = list(recordings())
    for title, events, width, height in found:
        measure(title, events, width, height)
    if not found:
        print(f"(no real events: {DATA} is absent)")


if __name__ == "__main__":
    main()

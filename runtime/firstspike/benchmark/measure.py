"""Compares a back end's answers with the emulator's, and times it: by its own clock, and as the daemon sees it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firstspike import plugins
from firstspike.backends import Backend
from firstspike.benchmark.windows import Sample
from firstspike.bundle import Bundle
from firstspike.config_plugins import BackendChoice
from firstspike.errors import DataError
from firstspike.evaluation import quantiles
from firstspike.hybrid import place
from firstspike.types import PartRun
from firstspike.worker.backend import WorkerBackend
from firstspike.worker.supervisor import WorkerError

TIMED = 1000
"""Inferences that latencies are taken from, unless they take too long."""
LONGEST_S = 10.0
"""Of taking them."""
PATIENCE_S = 60.0
"""Of one answer."""

Ints = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class PartTimes:
    """What the parts took: medians, µs."""

    front_us: float
    """The accumulator included, without the way to a worker."""
    link_us: float | None
    """All ways to workers and back; None: all of it runs in the daemon."""
    link_bytes: int | None
    """From the front to the back; None: there is no back."""
    back_us: float | None
    """Without the way to a worker."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What one back end did."""

    windows: int
    failed: int
    """Windows without an answer."""
    first_failure: str | None
    same: int
    """Windows with the emulator's class."""
    largest: int | None
    """Largest difference of a potential from the emulator's; None if no window was answered."""
    right: int
    labelled: int
    """Windows with a label, answered or not; `right` of them were named so."""
    alone_us: dict[str, float] | None
    """Latency by the device's own clock; None where there is none or nothing was answered."""
    through_us: dict[str, float] | None
    """Latency as the daemon sees it, the link included."""
    per_second: float | None
    """Windows one after another, as the daemon sees it."""
    parts: PartTimes | None = None
    """Of a model with a spiking front."""


def reference(bundle: Bundle, samples: Sequence[Sample]) -> list[Ints]:
    """The emulator's potentials of each sample.

    Raises:
        BundleError: it cannot run this bundle.
        DataError: it has no answer to one.
    """
    emulator: Any = plugins.load("backends", "emulator")
    backend = place.make(BackendChoice("emulator", "emulator", emulator.Options()), bundle)
    try:
        found = answers(backend, samples)
    finally:
        backend.close()
    for one in found:
        if isinstance(one, str):
            raise DataError(f"{bundle.folder}: nothing to compare with: {one}")
    return [one for one in found if not isinstance(one, str)]


def answers(backend: Backend, samples: Sequence[Sample]) -> list[Ints | str]:
    """For each sample its potentials, or why there are none."""
    found: list[Ints | str] = []
    for sample in samples:
        inference = backend.infer(sample.spikes, PATIENCE_S)
        found.append(
            inference.failure or "no potentials" if inference.potential is None else inference.potential.copy()
        )
    return found


def measure(backend: Backend, samples: Sequence[Sample], truth: Sequence[Ints], labels: Sequence[str]) -> Figures:
    """Run every sample, compare with the emulator's potentials, then take the times.

    Args:
        backend: ready.
        samples: at least one.
        truth: the emulator's potentials of each.
        labels: of the model's outputs.
    """
    found = answers(backend, samples)
    failures = [one for one in found if isinstance(one, str)]
    pairs = [
        (one, true, sample) for one, true, sample in zip(found, truth, samples, strict=True) if not isinstance(one, str)
    ]
    runs: list[tuple[PartRun, ...]] = []
    through = None if failures else _times(samples, lambda sample: _through(backend, sample, runs))
    alone = None
    if isinstance(backend, WorkerBackend) and through:
        alone = _times(samples, lambda sample: _alone(backend, sample))
    return Figures(
        windows=len(samples), failed=len(failures), first_failure=failures[0] if failures else None,
        same=sum(int(one.argmax()) == int(true.argmax()) for one, true, _ in pairs),
        largest=max((int(np.abs(one.astype(np.int64) - true).max()) for one, true, _ in pairs), default=None),
        right=sum(labels[int(one.argmax())] == sample.label for one, _, sample in pairs),
        labelled=sum(sample.label is not None for sample in samples),
        alone_us=quantiles(alone or []), through_us=quantiles(through or []),
        per_second=None if not through else round(1e6 * len(through) / sum(through), 1),
        parts=_medians(runs) if through and runs and runs[0] else None,
    )  # fmt: skip


def _medians(runs: list[tuple[PartRun, ...]]) -> PartTimes:
    """Over windows, each with the runs of its parts."""

    def of(part: str) -> float | None:
        taken = [run.ns - (run.link_ns or 0) for window in runs for run in window if run.part == part]
        return round(statistics.median(taken) / 1e3, 1) if taken else None

    ways = [sum(run.link_ns for run in window if run.link_ns is not None) for window in runs]
    linked = any(run.link_ns is not None for run in runs[0])
    front = of("front")
    assert front is not None  # noqa: S101 (every model with parts has one)
    link_us = round(statistics.median(ways) / 1e3, 1) if linked else None
    return PartTimes(front, link_us, runs[0][0].link_bytes, of("back"))


def _through(backend: Backend, sample: Sample, runs: list[tuple[PartRun, ...]]) -> float | None:
    started = time.perf_counter()
    inference = backend.infer(sample.spikes, PATIENCE_S)
    seconds = time.perf_counter() - started
    runs.append(inference.parts)
    return None if inference.failure is not None else seconds


def _alone(backend: WorkerBackend, sample: Sample) -> float | None:
    try:
        return backend.supervisor.infer(sample.spikes.times, time.monotonic() + PATIENCE_S).device_s
    except WorkerError:
        return None


def _times(samples: Sequence[Sample], run: Callable[[Sample], float | None]) -> list[float] | None:
    """µs of each run; None if one failed."""
    taken: list[float] = []
    end = time.monotonic() + LONGEST_S
    while len(taken) < TIMED and time.monotonic() < end:
        for sample in samples:
            seconds = run(sample)
            if seconds is None:
                return None
            taken.append(seconds * 1e6)
            if time.monotonic() >= end:
                break
    return taken

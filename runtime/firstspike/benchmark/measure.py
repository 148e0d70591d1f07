"""Compares a back end's answers with the emulator's, and times it: by its own clock, and as the daemon sees it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from firstspike.backends import Backend
from firstspike.benchmark.windows import Sample
from firstspike.evaluation import quantiles
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
    through = None if failures else _times(samples, lambda sample: _through(backend, sample))
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
    )  # fmt: skip


def _through(backend: Backend, sample: Sample) -> float | None:
    started = time.perf_counter()
    inference = backend.infer(sample.spikes, PATIENCE_S)
    seconds = time.perf_counter() - started
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

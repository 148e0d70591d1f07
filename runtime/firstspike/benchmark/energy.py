"""`firstspike bench --energy`: what an inference costs on each back end, by the meters there are, or by the model.

A machine at rest is metered first, then the same windows one after another without a pause: static power is what it
drew at rest, dynamic power what it drew more, energy an inference the dynamic energy over the inferences.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from firstspike.backends import Backend
from firstspike.benchmark.measure import PATIENCE_S, Figures
from firstspike.benchmark.papers import CITED, NOTES
from firstspike.benchmark.windows import Sample
from firstspike.bundle import Bundle
from firstspike.cli.common import quantity
from firstspike.config import EnergySection
from firstspike.config_plugins import BackendChoice
from firstspike.energy.baseline import Baseline
from firstspike.energy.interval import LONGEST_DELAY, Figure, Idle, combined, energy, unavailable
from firstspike.energy.meters import find
from firstspike.energy.operations import Model
from firstspike.energy.sampler import Sampler
from firstspike.energy.samples import Track
from firstspike.energy.telemetry import model_of, twins, wire

REST_S = 2.0
"""Before each back end, and half of it at first, for the sensors' rates to be found."""
LONGEST_REST_S = 60.0
"""Of a slow sensor, for its idle power to be known."""
SETTLE_S = 3.0
"""For a sensor's last values to come."""


@dataclass(frozen=True, slots=True)
class EnergyRow:
    """One back end; None where a figure is not known."""

    name: str
    accuracy: float | None
    accuracy_reason: str | None
    latency_s: float | None
    """Mean."""
    static_w: float | None
    dynamic_w: float | None
    dynamic_j: float | None
    """An inference."""
    u95_j: float | None
    total_j: float | None
    """An inference, static power in it."""
    edp_js: float | None
    """`total_j` times the latency; None of a modelled energy, which is that of other hardware."""
    method: str
    meter: str | None
    scope: str | None
    inferences: int
    reason: str | None

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


class EnergyBench:
    """Meters back ends one after another; used as a context.

    Args:
        bundle: what they run.
        section: `[energy]`: which meters.
        base: what its root counts from.
        choices: all back ends.
        seconds: that each runs for.
    """

    def __init__(
        self, bundle: Bundle, section: EnergySection, base: Path, choices: Sequence[BackendChoice], seconds: float
    ) -> None:
        self._seconds = seconds
        found = find(base / section.root)
        self._wiring = wire(section, choices, found)
        meters = [meter for name in self._wiring.names if (meter := found.named(name)) is not None]
        self._close = found.close
        self._meters = {meter.name: meter for meter in meters}
        self._sampler = Sampler(meters, section.sample_hz, 4 * (seconds + REST_S) + LONGEST_REST_S)
        self._model: Model | None = model_of(bundle, at_once=True)
        self._twins = twins(self._model, choices)
        self._stack = ExitStack()

    def __enter__(self) -> EnergyBench:
        self._stack.callback(self._close)
        self._stack.enter_context(self._sampler)
        if self._meters:
            time.sleep(REST_S / 2)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def row(self, name: str, backend: Backend, samples: Sequence[Sample], done: Figures) -> EnergyRow:
        """Meter one back end.

        Args:
            name: the plan.
            backend: ready.
            samples: that it answers.
            done: what it did without being metered.
        """
        labelled = done.labelled > 0
        latency_s = done.through_us["p50"] / 1e6 if done.through_us else None
        whole, answers = self._metered(name, backend, samples)
        if answers:
            latency_s = whole.window_s / answers
        accuracy = done.right / done.labelled if labelled else None
        why = None if labelled else "the windows have no labels of this model"
        if whole.total_j is not None and answers:
            total = whole.total_j / answers
            dynamic = None if whole.dynamic_j is None else whole.dynamic_j / answers
            return EnergyRow(
                name, accuracy, why, latency_s, whole.idle.w if whole.idle else None,
                None if whole.dynamic_j is None else whole.dynamic_j / whole.window_s, dynamic,
                None if whole.u95_j is None else whole.u95_j / answers, total,
                None if latency_s is None else total * latency_s, whole.method, whole.meter, whole.scope, answers,
                whole.reason,
            )  # fmt: skip
        modelled = self._modelled(name, backend, samples)
        method, reason = "unavailable" if modelled is None else "modelled", whole.reason
        return EnergyRow(
            name, accuracy, why, latency_s, None, None, modelled, None, None, None, method, None, None, 0, reason
        )

    def _metered(self, name: str, backend: Backend, samples: Sequence[Sample]) -> tuple[Figure, int]:
        sums = self._wiring.plans[name].sums
        names = list(dict.fromkeys(one for meters in sums for one in meters))
        if not names:
            return unavailable(self._wiring.why or "no meter has it in it", 0, 0), 0
        missing = [one for one in names if one not in self._meters]
        if missing:
            return unavailable(f"there is no meter {', '.join(missing)}: see firstspike meters", 0, 0), 0
        rested_ns = time.monotonic_ns()
        self._rest(names, rested_ns)
        start_ns = time.monotonic_ns()
        until, answers = time.monotonic() + self._seconds, 0
        while time.monotonic() < until:
            for sample in samples:
                answers += backend.infer(sample.spikes, PATIENCE_S).failure is None
                if time.monotonic() >= until:
                    break
        end_ns = time.monotonic_ns()
        return combined([self._figure(one, rested_ns, start_ns, end_ns) for one in names]), answers

    def _rest(self, names: Sequence[str], began_ns: int) -> None:
        """Let the machine rest until its idle power is known."""
        time.sleep(REST_S)
        until = time.monotonic() + LONGEST_REST_S - REST_S
        # A sensor that stands still at rest may move under load: it is not waited for.
        waited = [name for name in names if self._sampler.tracks[name].moves]
        while time.monotonic() < until:
            tracks = [self._sampler.tracks[name] for name in waited]
            if all(one.refusal is not None or self._idle(one, began_ns, one.last_ns())[0] for one in tracks):
                return
            time.sleep(0.1)

    @staticmethod
    def _idle(track: Track, began_ns: int, end_ns: int) -> tuple[Idle | None, str]:
        baseline = Baseline(track.meter)
        baseline.feed(track.since(began_ns), began_ns, end_ns)
        return baseline.idle()

    def _figure(self, name: str, rested_ns: int, start_ns: int, end_ns: int) -> Figure:
        track, meter = self._sampler.tracks[name], self._meters[name]
        until = time.monotonic() + SETTLE_S
        while time.monotonic() < until and track.refusal is None:
            if track.last_ns() >= end_ns + LONGEST_DELAY * (track.period_s() or 0.0) * 1e9:
                break
            time.sleep(0.01)
        idle, why = self._idle(track, rested_ns, start_ns)
        return energy(meter, track.since(rested_ns), start_ns, end_ns, idle, why)

    def _modelled(self, name: str, backend: Backend, samples: Sequence[Sample]) -> float | None:
        if name in self._twins:
            return self._twins[name].dynamic_j
        if self._model is None:
            return None
        found = []
        for sample in samples:
            inference = backend.infer(sample.spikes, PATIENCE_S)
            joules = None if inference.failure else self._model.inference(sample.spikes, inference).dynamic_j
            if joules is not None:
                found.append(joules)
        return statistics.fmean(found) if found else None


HEAD = ("back end", "accuracy", "latency", "static", "dynamic", "energy/inference", "95 %", "total", "EDP", "method")


def lines(rows: Sequence[EnergyRow]) -> list[str]:
    """The table as text: one's own rows, then the papers', marked, then why figures are missing."""
    cells = [HEAD]
    for row in rows:
        method = row.method if row.scope is None else f"{row.method}, {row.scope}"
        cells.append(
            (row.name, _share(row.accuracy), quantity(row.latency_s, "s"), quantity(row.static_w, "W"),
             quantity(row.dynamic_w, "W"), quantity(row.dynamic_j, "J"), quantity(row.u95_j, "J"),
             quantity(row.total_j, "J"), quantity(row.edp_js, "Js"), method)
        )  # fmt: skip
    for number, cited in enumerate(CITED, 1):
        cells.append(
            (f"cited: {cited.name}", _share(cited.accuracy), quantity(cited.latency_s, "s"),
             quantity(cited.static_w, "W"), quantity(cited.dynamic_w, "W"), quantity(cited.dynamic_j, "J"), "–",
             quantity(cited.total_j, "J"), quantity(cited.edp_js, "Js"), f"cited [{number}]")
        )  # fmt: skip
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    found = [
        "  ".join(
            cell.ljust(width) if place in (0, len(HEAD) - 1) else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    ]
    found += [f"[{number}] {cited.source}" for number, cited in enumerate(CITED, 1)]
    found += [f"also: {note}" for note in NOTES]
    found.append(
        "energy/inference is dynamic; EDP is total energy times latency, of a row that is metered: modelled energy is "
        "that of the network's operations on other hardware, and has no latency to go with it."
    )
    reasons: dict[str, list[str]] = {}
    for row in rows:
        for reason in (row.accuracy_reason, row.reason):
            if reason:
                reasons.setdefault(reason, []).append(row.name)
    return found + [f"{', '.join(names)}: {reason}" for reason, names in reasons.items()]


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"

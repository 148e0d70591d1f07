"""What Prometheus is told: every counter, the back ends' states and latencies, connections, energy, the process itself.

Text of the exposition format 0.0.4, written here: a page of counters is no reason for a library in the daemon. Names
end in `_total`, `_seconds`, `_joules_total` or `_bytes`, and a label's values are few: back ends, states, topics, and
methods.
"""

from __future__ import annotations

import math
import os
import resource
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

import firstspike
from firstspike.messages import Decision, Energy, Health
from firstspike.messages_health import BackendHealth, Counters

BUCKETS_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
MAX_SERIES = 64
"""Back ends, methods and the like that are told apart; more are not made."""
STATES = get_args(Health.model_fields["state"].annotation)
BACKEND_STATES = get_args(BackendHealth.model_fields["state"].annotation)
GROUPS = {"decisions_": ("decisions", "status"), "dropped_": ("dropped_windows", "cause")}
"""Counters that are one metric with a label."""
Labels = Mapping[str, str]
Samples = Sequence[tuple[str, Labels, float]]
"""Suffix of the name, labels, value."""
Family = tuple[str, str, str, Samples]
"""Name, kind, help, samples."""


@dataclass(slots=True)
class Histogram:
    """Counts of observations by size; cumulative only when they are told."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_S) + 1))
    total_s: float = 0.0

    def observe(self, seconds: float) -> None:
        """Take one more."""
        self.counts[bisect_left(BUCKETS_S, seconds)] += 1
        self.total_s += seconds


class Metrics:
    """Gathers and tells.

    Args:
        health: makes the Health messages of this moment, one a stream: the same that are published. Where there are
            several, what is a stream's has the label `stream`.
        connections: what `Publisher.connections` says.
        next_seq: the messages published so far, by topic.
    """

    def __init__(
        self, health: Callable[[], Sequence[Health]], connections: Callable[[], Mapping[str, int]],
        next_seq: Callable[[], Mapping[str, int]],
    ) -> None:  # fmt: skip
        self._health = health
        self._connections = connections
        self._next_seq = next_seq
        self._decisions: dict[str | None, Histogram] = {None: Histogram()}
        self._backends: dict[tuple[str | None, str], Histogram] = {}
        self._joules: dict[tuple[str | None, str, str, str], float] = {}
        self._lock = threading.Lock()

    def observe(self, decision: Decision) -> None:
        """Take in a decision's latencies; stamps of a virtual clock are none."""
        stamps = decision.stamps
        if stamps.clock == "virtual":
            return
        with self._lock:
            if decision.stream in self._decisions or len(self._decisions) < MAX_SERIES:
                every = self._decisions.setdefault(decision.stream, Histogram())
                every.observe(max(0, stamps.published_ns - stamps.closed_ns) / 1e9)
            if decision.backend is None or stamps.inferred_ns is None or stamps.encoded_ns is None:
                return
            key = decision.stream, decision.backend
            if key in self._backends or len(self._backends) < MAX_SERIES:
                one = self._backends.setdefault(key, Histogram())
                one.observe(max(0, stamps.inferred_ns - stamps.encoded_ns) / 1e9)

    def account(self, energy: Energy) -> None:
        """Take in what was used since the start: metered and modelled energy apart, as they are no sum."""
        total, stream, name = energy.since_start, energy.stream, energy.name
        found = {(stream, name, "modelled", ""): total.modelled_j} if total.modelled_j else {}
        if total.dynamic_s:
            found[stream, name, "metered", energy.scope or ""] = total.dynamic_j
        with self._lock:
            for key, joules in found.items():
                if key in self._joules or len(self._joules) < MAX_SERIES:
                    self._joules[key] = joules

    def text(self) -> str:
        """All of it, for Prometheus."""
        lines: list[str] = []
        for name, kind, what, samples in self._families():
            told = [f"{name}{suffix}{_labels(labels)} {_number(value)}" for suffix, labels, value in samples]
            if told:
                lines += [f"# HELP {name} {what}", f"# TYPE {name} {kind}", *told]
        return "\n".join(lines) + "\n"

    def _families(self) -> Iterator[Family]:
        health = self._health()
        yield from _together([_of_stream(one) for one in health])
        with self._lock:
            whole = [
                one for stream, found in self._decisions.items() if stream is not None or len(self._decisions) == 1
                for one in _samples(found, _stream(stream))
            ]  # fmt: skip
            each = [
                one for (stream, name), found in self._backends.items()
                for one in _samples(found, {**_stream(stream), "backend": name})
            ]  # fmt: skip
            joules = [
                ("", {**_stream(stream), "backend": backend, "method": method, "scope": scope}, value)
                for (stream, backend, method, scope), value in self._joules.items()
            ]
        yield "firstspike_decision_latency_seconds", "histogram", "From a window's close to its publishing.", whole
        yield "firstspike_inference_latency_seconds", "histogram", "From encoded to inferred, by back end.", each
        # Dynamic energy may be negative, and is told as it is: a total that is no counter.
        yield "firstspike_energy_joules_total", "gauge", "Energy by how it was obtained; it may fall.", joules
        topics = [("", {"topic": topic}, float(count)) for topic, count in self._next_seq().items()]
        yield "firstspike_published_total", "counter", "Messages published, by topic.", topics
        yield from _connections(self._connections())
        yield from _process()


def _stream(name: str | None) -> Labels:
    return {} if name is None else {"stream": name}


def _of_stream(health: Health) -> Iterator[Family]:
    own = _stream(health.stream)
    labels = {"version": firstspike.__version__, "model": health.model}
    families: list[Family] = [
        ("firstspike_build_info", "gauge", "Version and model; always 1.", [("", labels, 1.0)]),
        (
            "firstspike_state", "gauge", "1 for the state that the daemon is in.",
            [("", {"state": state}, float(health.state == state)) for state in STATES],
        ),
        ("firstspike_uptime_seconds", "gauge", "Since the daemon started.", [("", {}, health.uptime_s)]),
        *_counters(health.counters),
        *_backends(health.backends),
    ]  # fmt: skip
    for name, kind, what, samples in families:
        yield name, kind, what, [(suffix, {**own, **told}, value) for suffix, told, value in samples]


def _together(streams: Sequence[Iterator[Family]]) -> Iterator[Family]:
    """A family's samples of all streams: the format wants them in one place."""
    found: dict[str, tuple[str, str, list[tuple[str, Labels, float]]]] = {}
    for families in streams:
        for name, kind, what, samples in families:
            found.setdefault(name, (kind, what, []))[2].extend(samples)
    for name, (kind, what, samples) in found.items():
        yield name, kind, what, samples


def _counters(counters: Counters) -> Iterator[Family]:
    grouped: dict[str, list[tuple[str, Labels, float]]] = {name: [] for name, _ in GROUPS.values()}
    for field_name, value in counters.model_dump().items():
        for prefix, (name, label) in GROUPS.items():
            if field_name.startswith(prefix):
                grouped[name].append(("", {label: field_name.removeprefix(prefix)}, float(value)))
                break
        else:
            what = Counters.model_fields[field_name].description or f"{field_name.replace('_', ' ').capitalize()}."
            yield f"firstspike_{field_name}_total", "counter", what, [("", {}, float(value))]
    for name, samples in grouped.items():
        label = next(label for other, label in GROUPS.values() if other == name)
        yield f"firstspike_{name}_total", "counter", f"{name.replace('_', ' ').capitalize()}, by {label}.", samples


def _backends(backends: list[BackendHealth]) -> Iterator[Family]:
    states = [
        ("", {"backend": one.name, "state": state}, float(one.state == state))
        for one in backends
        for state in BACKEND_STATES
    ]
    yield "firstspike_backend_state", "gauge", "1 for the state that a back end is in.", states
    for name, kind, what, values in (
        ("windows_total", "counter", "Windows that were put to it.", [one.windows for one in backends]),
        ("failures_total", "counter", "Of those: no answer.", [one.failures for one in backends]),
        ("restarts", "gauge", "How often its worker was started again of late.", [one.restarts for one in backends]),
    ):
        samples = [("", {"backend": one.name}, float(value)) for one, value in zip(backends, values, strict=True)]
        yield f"firstspike_backend_{name}", kind, what, samples


def _connections(figures: Mapping[str, int]) -> Iterator[Family]:
    for key, name, kind, what in (
        ("subscribers", "subscribers", "gauge", "Connections of the publish socket."),
        ("accepted", "connections_accepted_total", "counter", "Connections, of both sockets."),
        ("refused", "connections_refused_total", "counter", "Connections closed: too many, or they said too much."),
        ("handshakes_failed", "handshakes_failed_total", "counter", "Connections that did not come to be."),
    ):
        yield f"firstspike_{name}", kind, what, [("", {}, float(figures[key]))]


def _process() -> Iterator[Family]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = used.ru_utime + used.ru_stime
    yield "process_cpu_seconds_total", "counter", "Of the daemon, without its workers.", [("", {}, seconds)]
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    resident = float(pages * os.sysconf("SC_PAGESIZE"))
    yield "process_resident_memory_bytes", "gauge", "The same.", [("", {}, resident)]
    descriptors = float(sum(1 for _ in Path("/proc/self/fd").iterdir()))
    yield "process_open_fds", "gauge", "The same.", [("", {}, descriptors)]
    began = time.time() - (time.monotonic() - _STARTED)
    yield "process_start_time_seconds", "gauge", "Since the epoch.", [("", {}, round(began, 1))]


_STARTED = time.monotonic()


def _samples(histogram: Histogram, labels: Labels) -> list[tuple[str, Labels, float]]:
    told: list[tuple[str, Labels, float]] = []
    cumulative = 0
    for bound, count in zip((*BUCKETS_S, None), histogram.counts, strict=True):
        cumulative += count
        told.append(("_bucket", {**labels, "le": "+Inf" if bound is None else _number(bound)}, cumulative))
    return [*told, ("_sum", labels, histogram.total_s), ("_count", labels, cumulative)]


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) else repr(value)

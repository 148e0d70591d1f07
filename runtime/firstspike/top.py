"""What `firstspike top` shows: figures gathered from messages, and the lines of one frame."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from firstspike.client import Message
from firstspike.messages import Decision, Health

KEPT = 4096
"""Decisions that latencies are taken from."""
LOSSES = ("late", "overflow", "backward", "resets", "out_of_bounds", "cropped", "truncated_bytes", "sources_failed")
BAR = 12
SILENT_S = 5.0
"""A daemon that says nothing for so long is worth a word: what is shown is its last."""


@dataclass(slots=True)
class Seen:
    """What one stream's decisions were since the last frame."""

    statuses: Counter[str] = field(default_factory=Counter)
    events: int = 0
    latencies_ms: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT))
    last: Decision | None = None


@dataclass(slots=True)
class Top:
    """Gathers messages between frames."""

    healths: dict[str, Health] = field(default_factory=dict)
    """The latest of each stream."""
    epoch: str | None = None
    streams: dict[str, Seen] = field(default_factory=dict)

    def take(self, message: Message) -> None:
        """Take a message in; those of another run of the daemon begin anew."""
        if message.epoch != self.epoch:
            self.epoch = message.epoch
            self.healths.clear()
            self.streams.clear()
        if isinstance(message, Health):
            self.healths[message.stream or ""] = message
        if not isinstance(message, Decision):
            return
        # Streams have names of their own where there are several; else the source is what it reads.
        seen = self.streams.setdefault(message.stream or "", Seen())
        seen.statuses[message.status] += 1
        seen.events += message.window.events
        seen.last = message
        if message.stamps.clock == "monotonic":
            seen.latencies_ms.append((message.stamps.published_ns - message.stamps.closed_ns) / 1e6)

    def frame(self, elapsed_s: float, lost: int, where: str, silent_s: float = 0.0) -> list[str]:
        """The lines of a frame, and begin the next one.

        Args:
            elapsed_s: since the last one.
            lost: messages lost on the way here.
            where: the endpoint.
            silent_s: for how long nothing has come.
        """
        lines = [*self._head(where, silent_s), "", *self._streams(elapsed_s), "", *self._backends()]
        lines += ["", *self._losses(lost)]
        energy = [line for name, seen in self.streams.items() if seen.last for line in _energy(name, seen.last)]
        lines += ["", *energy] if energy else []
        for seen in self.streams.values():
            seen.statuses.clear()
            seen.latencies_ms.clear()
            seen.events = 0
        return [_printable(line) for line in lines]

    def _head(self, where: str, silent_s: float) -> list[str]:
        if not self.healths:
            return [f"firstspike at {where}: no health message yet"]
        first = next(iter(self.healths.values()))
        begin = f"firstspike {first.version} at {where}:"
        silent = f"; nothing came for {_duration(silent_s)}: is it still there?" if silent_s >= SILENT_S else ""
        lines = []
        for name, health in sorted(self.healths.items()):
            of = f"  {name}: " if len(self.healths) > 1 else f"{begin} "
            lines.append(f"{of}{health.state}, up {_duration(health.uptime_s)}, model {health.model}")
            lines += [f"{'  ' if len(self.healths) > 1 else ''}  {reason}" for reason in health.reasons[:5]]
        if len(self.healths) > 1:
            return [f"{begin} {len(self.healths)} streams{silent}", *lines]
        return [lines[0] + silent, *lines[1:]]

    def _streams(self, elapsed_s: float) -> list[str]:
        lines = [
            f"{'stream':<24} {'dec/s':>8} {'ok':>6} {'late':>6} {'drop':>6} {'degr':>6} {'kev/s':>8} "
            f"{'p50 ms':>8} {'p99 ms':>8}  answer"
        ]
        for name, seen in sorted(self.streams.items()):
            total = sum(seen.statuses.values())
            statuses = " ".join(f"{seen.statuses[one]:>6}" for one in ("ok", "late", "dropped", "degraded"))
            times = sorted(seen.latencies_ms)
            called = _short(name or (seen.last.source if seen.last else ""), 24)
            lines.append(
                f"{called:<24} {total / elapsed_s:>8.1f} {statuses} "
                f"{seen.events / elapsed_s / 1e3:>8.1f} {_quantile(times, 0.5):>8} {_quantile(times, 0.99):>8}  "
                f"{_answer(seen.last)}"
            )
        return lines if self.streams else [*lines, "no decisions yet"]

    def _backends(self) -> list[str]:
        lines = [f"{'back end':<24} {'state':<12} {'windows':>10} {'failed':>8} {'p50 ms':>8} {'p99 ms':>8} {'pid':>8}"]
        for stream, one in [(name, one) for name, health in sorted(self.healths.items()) for one in health.backends]:
            p50, p99 = ("–" if value is None else f"{value:.2f}" for value in (one.latency_p50_ms, one.latency_p99_ms))
            pid = "–" if one.pid is None else str(one.pid)
            why = f"  {one.reason}" if one.reason else ""
            called = f"{stream}:{one.name}" if stream else one.name
            lines.append(
                f"{_short(called, 24):<24} {one.state:<12} {one.windows:>10} {one.failures:>8} {p50:>8} {p99:>8} "
                f"{pid:>8}{why}"
            )
        return lines

    def _losses(self, lost: int) -> list[str]:
        if not self.healths:
            return [f"lost here: {lost}"]
        counters: Counter[str] = Counter()
        for health in self.healths.values():
            counters.update(health.counters.model_dump())
        known = {name: counters[name] for name in LOSSES}
        dropped = {name: value for name, value in counters.items() if name.startswith("dropped_")}
        told = [f"{value} {name.replace('_', ' ')}" for name, value in (known | dropped).items() if value]
        return [f"losses since its start: {', '.join(told) or 'none'}; messages lost on the way here: {lost}"]


def _energy(name: str, decision: Decision) -> list[str]:
    """What a decision says that it cost, and how that was obtained; none where nobody accounts for it."""
    record = getattr(decision, "energy", None)
    if record is None:
        return []
    fields = record.model_dump() if hasattr(record, "model_dump") else {}
    joules = fields.get("dynamic_j")
    amount = "no figure" if joules is None else f"{joules * 1e6:.2f} µJ a classification"
    how = ", ".join(str(fields[key]) for key in ("method", "scope", "reason") if fields.get(key))
    return [f"energy {name}".rstrip() + f": {amount}, {how}"]


def _answer(decision: Decision | None) -> str:
    if decision is None or decision.label is None:
        return "–"
    confidence = decision.confidence or 0.0
    return f"{_short(decision.label, 16)} {confidence:.2f} {'█' * round(confidence * BAR)}"


def _quantile(ordered: Sequence[float], q: float) -> str:
    return f"{ordered[max(1, math.ceil(q * len(ordered))) - 1]:.2f}" if ordered else "–"


def _duration(seconds: float) -> str:
    minutes, hours, days = int(seconds) // 60, int(seconds) // 3600, int(seconds) // 86400
    if days:
        return f"{days} d {hours % 24} h"
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min {int(seconds) % 60} s"


def _short(text: str, most: int) -> str:
    """The end of a long text: of a path that is what differs."""
    return text if len(text) <= most else "…" + text[-most + 1 :]


def _printable(line: str) -> str:
    """A line that says nothing to the terminal: names come from files and other hosts."""
    return "".join(one if one.isprintable() else "?" for one in line)

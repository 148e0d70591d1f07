"""The comparison as a table for a person, and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from firstspike.benchmark.contestants import PARTS, Absent
from firstspike.benchmark.measure import Figures

HEAD = (
    "back end",
    "runs",
    "device",
    "same class",
    "differs by",
    "right",
    "alone µs",
    "p99",
    "linked µs",
    "p99",
    "windows/s",
)


PARTS_HEAD = (*HEAD[:6], "front µs", "link µs", "link bytes", "back µs", *HEAD[8:])
"""Where the model has a spiking front: what its parts took, in place of the device's own clock."""


@dataclass(frozen=True, slots=True)
class Row:
    """One back end, and what it did or why it did nothing."""

    name: str
    kind: str
    form: str
    """`ttfs`, `dense` or `ann`: which of the bundle's networks it ran; `parts`: a spiking front, and its back."""
    device: str
    outcome: Figures | Absent

    @property
    def ran(self) -> bool:
        """Whether it answered every window."""
        return isinstance(self.outcome, Figures) and not self.outcome.failed

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.name, "kind": self.kind, "form": self.form, "device": self.device, "ran": self.ran,
            **asdict(self.outcome),
        }  # fmt: skip


def lines(rows: Sequence[Row]) -> Iterator[str]:
    """The table of those that ran, then the others, each with its reason and the fix."""
    parts = any(row.form == PARTS for row in rows)
    head = PARTS_HEAD if parts else HEAD
    cells = [head, *(_cells(row, row.outcome) for row in rows if isinstance(row.outcome, Figures))]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        texts = [cell.ljust(width) if place < 3 else cell.rjust(width)
                 for place, (cell, width) in enumerate(zip(line, widths, strict=True))]  # fmt: skip
        yield "  ".join(texts).rstrip()
    for row in rows:
        if isinstance(row.outcome, Absent):
            yield f"{row.name} did not run: {row.outcome.state}: {row.outcome.reason}"
            if row.outcome.fix:
                yield f"    fix: {row.outcome.fix}"
        elif row.outcome.failed:
            failed = f"{row.outcome.failed} of {row.outcome.windows} windows"
            yield f"{row.name} failed on {failed}: {row.outcome.first_failure}"


def _cells(row: Row, done: Figures) -> tuple[str, ...]:
    answered = done.windows - done.failed
    return (
        row.name, row.form, row.device, f"{done.same} of {answered}", _text(done.largest),
        f"{done.right / done.labelled:.1%}" if done.labelled else "–",
        *(_parts(done) if row.form == PARTS else _latency(done.alone_us)), *_latency(done.through_us),
        _text(done.per_second, ".0f"),
    )  # fmt: skip


def _parts(done: Figures) -> tuple[str, ...]:
    taken = done.parts
    if taken is None:
        return ("–",) * 4
    return (
        _text(taken.front_us, ".1f"),
        _text(taken.link_us, ".1f"),
        _text(taken.link_bytes),
        _text(taken.back_us, ".1f"),
    )


def _latency(found: dict[str, float] | None) -> tuple[str, str]:
    return ("–", "–") if found is None else (f"{found['p50']:.1f}", f"{found['p99']:.1f}")


def _text(value: float | None, form: str = "d") -> str:
    return "–" if value is None else format(value, form)

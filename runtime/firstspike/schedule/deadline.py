"""When a window is still worth inferring, and what its result is called. No I/O: times come in, verdicts go out."""

from __future__ import annotations

from dataclasses import dataclass

from firstspike.messages import Status
from firstspike.schedule.queue import Cause

_CAUSES: dict[Cause, str] = {
    "stale": "not inferred",
    "hopeless": "not inferred, no back end would have been in time",
    "replaced": "not inferred, a newer window took its place",
}


@dataclass(frozen=True, slots=True)
class Schedule:
    """What a result is called; which windows are inferred at all, the queue decides.

    Args:
        deadline_ns: longest time from window close to publishing.
    """

    deadline_ns: int

    def admits(self, closed_ns: int, now_ns: int) -> bool:
        """Whether a window that closed at `closed_ns` is within its deadline."""
        return now_ns - closed_ns <= self.deadline_ns

    def status(
        self, *, closed_ns: int, now_ns: int, faults: list[str], dropped: Cause | None = None
    ) -> tuple[Status, list[str]]:
        """The status of a result about to be published, and the reasons if it is not ok.

        Args:
            closed_ns: when the window closed.
            now_ns: now, of the same clock.
            faults: why the answer is missing, incomplete, or not of the plan that should have given it
                (`Choice.faults`).
            dropped: why the queue dropped it; None: it was put to the plans.
        """
        age_ms, deadline_ms = (now_ns - closed_ns) / 1e6, self.deadline_ns / 1e6
        behind = f"{age_ms:.1f} ms after the window closed, the deadline is {deadline_ms:g} ms"
        if dropped is not None:
            return "dropped", [f"{_CAUSES[dropped]}: {behind}"]
        if faults:
            return "degraded", faults
        if not self.admits(closed_ns, now_ns):
            return "late", [behind]
        return "ok", []

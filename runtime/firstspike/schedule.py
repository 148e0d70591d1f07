"""When a window is still worth inferring, and what its result is called. No I/O: times come in, verdicts go out."""

from __future__ import annotations

from dataclasses import dataclass

from firstspike.messages import Status


@dataclass(frozen=True, slots=True)
class Schedule:
    """The freshest window wins: one that is older than the deadline before its turn comes is dropped, not queued.

    Args:
        deadline_ns: longest time from window close to publishing.
    """

    deadline_ns: int

    def admits(self, closed_ns: int, now_ns: int) -> bool:
        """Whether to infer a window that closed at `closed_ns`."""
        return now_ns - closed_ns <= self.deadline_ns

    def status(self, *, closed_ns: int, now_ns: int, admitted: bool, faults: list[str]) -> tuple[Status, list[str]]:
        """The status of a result about to be published, and the reasons if it is not ok.

        Args:
            closed_ns: when the window closed.
            now_ns: now, of the same clock.
            admitted: what `admits` said.
            faults: why the answer is missing or incomplete.
        """
        age_ms, deadline_ms = (now_ns - closed_ns) / 1e6, self.deadline_ns / 1e6
        behind = f"{age_ms:.1f} ms after the window closed, the deadline is {deadline_ms:g} ms"
        if not admitted:
            return "dropped", [f"not inferred: {behind}"]
        if faults:
            return "degraded", faults
        if not self.admits(closed_ns, now_ns):
            return "late", [behind]
        return "ok", []

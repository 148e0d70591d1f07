"""What the scheduler decides for one window, and what its result is to say of that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Choice:
    """The plans that are to try one window."""

    plans: tuple[str, ...]
    """In this order, each until one answers; empty: none can, see `reason`."""
    sound: int
    """So many of them, from the front, are reckoned with. Those after have failed lately and are a last resort."""
    wanted: str | None
    """The plan that would be first if all were well."""
    missing: str | None
    """Why `wanted` is not to be first, if it is out; None: it is well."""
    probe: bool = False
    """The first plan is tried to learn how it does now. It is given no time that the next one needs."""
    reason: str | None = None
    """Why there is no plan, or a remark on the order."""

    def faults(self, failed: Sequence[str], answered_by: str | None) -> list[str]:
        """What makes the result `degraded`, if anything does.

        An answer degrades if it is not of the plan that should have given it: because that failed, with this window or
        before. A probe that failed, while the wanted plan did answer, costs nobody anything; a plan passed over for
        want of time did not fail.

        Args:
            failed: why each attempt failed, in order; each text names its plan.
            answered_by: the plan that answered; None: none did.
        """
        if answered_by is None:
            return list(failed) or [self.missing or self.reason or "no plan could have answered in the time left"]
        if answered_by == self.wanted:
            return []
        causes = [self.missing, *failed] if self.missing else failed
        return [f"{'; '.join(causes)}; answered by {answered_by}"] if causes else []

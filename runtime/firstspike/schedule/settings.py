"""How the scheduler goes about it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from firstspike.schedule.policy import POLICIES, Policy


@dataclass(frozen=True, slots=True)
class Settings:
    """The scheduler's settings.

    Raises:
        ValueError: one is out of range, or there is no deadline and the policy is not `order`.
    """

    deadline_ns: int | None
    """Longest time from window close to publishing. None: the clock is virtual. Nothing is late then, nothing is
    dropped, no attempt is cut short, and every window goes to the first plan in order that is ready."""
    policy: Policy = "order"
    better: float = 0.1
    """Fraction of its cost by which another plan must be better than the favourite …"""
    hold: int = 20
    """… for this many windows on end, before it becomes the favourite."""
    probe_every: int = 50
    """One window in so many goes to a plan that is not the favourite, to renew its figures; 0: none does. Under the
    policy `order` figures decide nothing, and none does either."""
    unknown_ns: int | None = None
    """Expected latency of a plan without figures; None: a quarter of the deadline."""
    margin: float = 1.25
    """A fall-back's time is its p99 times this …"""
    slack_ns: int = 2_000_000
    """… and this much for giving up the attempt before it; at most a tenth of the deadline."""
    failures: int = 3
    """Failures in a row after which a plan rests."""
    rest_ns: int = 1_000_000_000
    """The first rest; each that follows is twice as long."""
    rest_max_ns: int = 30_000_000_000
    """The longest."""
    queue: int = 2
    """Most windows that wait: a window waits for at most as many inferences."""

    def __post_init__(self) -> None:
        for fault, wrong in {
            "deadline_ns must be above 0": self.deadline_ns is not None and self.deadline_ns <= 0,
            f"policy must be one of {', '.join(POLICIES)}": self.policy not in POLICIES,
            "without a deadline the policy must be order": self.deadline_ns is None and self.policy != "order",
            "better must be from 0 to below 1": not 0 <= self.better < 1,
            "hold must be 1 or more": self.hold < 1,
            "probe_every must be 0 (no probes), or 2 or more": self.probe_every < 0 or self.probe_every == 1,
            "unknown_ns must be above 0": self.unknown_ns is not None and self.unknown_ns <= 0,
            "margin must be 1 or more": not self.margin >= 1,
            "slack_ns must be 0 or more": self.slack_ns < 0,
            "failures must be 1 or more": self.failures < 1,
            "rest_ns must be above 0, and rest_max_ns no less": not 0 < self.rest_ns <= self.rest_max_ns,
            "queue must be 1 or more": self.queue < 1,
        }.items():
            if wrong:
                raise ValueError(f"{fault}: {self}")

    def for_replay(self) -> Settings:
        """These settings under the virtual clock: plain order, nothing late."""
        return replace(self, deadline_ns=None, policy="order")

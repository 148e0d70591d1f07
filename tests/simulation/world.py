"""A world with a clock of its own: windows close, plans answer, fail and hang, and every window's fate is written down.

One server takes windows from the queue, as the daemon does; the time that an attempt takes passes on the world's clock
alone, so that minutes pass in a blink. A plan is a function from the time (ns) to what it would do with a window then.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from firstspike.schedule import Outcome, Plan, Queue, Schedule, Scheduler, Settings

MS = 1_000_000
S = 1_000 * MS


@dataclass(frozen=True)
class Act:
    """What a plan does with a window."""

    kind: Literal["answer", "fail", "hang", "gone"]
    ns: int = 0
    energy_j: float | None = None
    measured: bool = False


Behaviour = Callable[[int], Act]
GONE = Act("gone")
"""Not ready; if it is asked nevertheless, because it went while another plan was, it fails at once."""
HANGS = Act("hang")


def answers(ms: float, energy_j: float | None = None, *, measured: bool = False) -> Act:
    return Act("answer", round(ms * MS), energy_j, measured)


def fails(ms: float = 0.1) -> Act:
    return Act("fail", round(ms * MS))


def phases(*steps: tuple[float, Act] | Act) -> Behaviour:
    """One act after another: the first from the start, each further one from its second on."""
    times = [(0.0, step) if isinstance(step, Act) else step for step in steps]

    def behave(now_ns: int) -> Act:
        return next(act for start, act in reversed(times) if now_ns >= start * S)

    return behave


def noisy(behaviour: Behaviour, spread: float, seed: int = 0) -> Behaviour:
    """Each latency times 1 ± spread, evenly."""
    chance = random.Random(seed)  # noqa: S311 (the same noise in every run is what is wanted)

    def behave(now_ns: int) -> Act:
        act = behaviour(now_ns)
        return Act(act.kind, round(act.ns * chance.uniform(1 - spread, 1 + spread)), act.energy_j, act.measured)

    return behave


@dataclass(frozen=True)
class Fate:
    """What became of a window."""

    window: int
    closed_ns: int
    done_ns: int
    status: str
    reasons: list[str]
    by: str | None
    first: str | None
    """The plan that was asked first."""
    asked: tuple[str, ...]

    @property
    def age_ms(self) -> float:
        return (self.done_ns - self.closed_ns) / MS


@dataclass
class World:
    """Run it with `run`; then read `fates`, in the order in which they were sealed."""

    plans: dict[str, Behaviour]
    settings: Settings
    chain: dict[str, tuple[str, ...]] = field(default_factory=dict)
    fates: list[Fate] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.scheduler = Scheduler([Plan(name, self.chain.get(name, (name,))) for name in self.plans], self.settings)
        self.queue: Queue[int] = Queue(self.settings.queue, self.settings.deadline_ns)
        self.schedule = Schedule(self.settings.deadline_ns or 10**18)
        self.arrivals = 0
        self.now_ns = 0

    def run(self, seconds: float, period_ms: float) -> World:
        """Windows close every `period_ms` until `seconds` have passed."""
        return self.feed([round(n * period_ms * MS) for n in range(1, int(seconds * 1000 / period_ms) + 1)])

    def feed(self, closings: Sequence[int]) -> World:
        """Windows close at these times."""
        coming = list(closings)
        self.arrivals = len(coming)
        numbers = itertools.count()
        while coming or len(self.queue):
            if not len(self.queue):
                self.now_ns = max(self.now_ns, coming[0])
            while coming and coming[0] <= self.now_ns and not (self.settings.deadline_ns is None and self.queue.full):
                if (lost := self.queue.put(next(numbers), closed := coming.pop(0))) is not None:
                    self._drop(lost.item, lost.closed_ns, max(closed, lost.closed_ns), lost.cause)
                assert len(self.queue) <= self.settings.queue
            ready = [name for name, plan in self.plans.items() if plan(self.now_ns).kind != "gone"]
            taken = self.queue.take(self.now_ns, self.scheduler.least_ns(self.now_ns, ready))
            for lost in taken.dropped:
                self._drop(lost.item, lost.closed_ns, self.now_ns, lost.cause)
            if taken.next is not None:
                self._infer(taken.next.item, taken.next.closed_ns, ready)
        return self

    def _drop(self, window: int, closed_ns: int, now_ns: int, cause) -> None:
        status, reasons = self.schedule.status(closed_ns=closed_ns, now_ns=now_ns, faults=[], dropped=cause)
        self.fates.append(Fate(window, closed_ns, now_ns, status, [cause, *reasons], None, None, ()))

    def _infer(self, window: int, closed_ns: int, ready: list[str]) -> None:
        choice = self.scheduler.choose(self.now_ns, closed_ns, ready)
        assert set(choice.plans) <= set(ready)
        asked, failed, by = [], [], None
        for position, name in enumerate(choice.plans):
            budget = self.scheduler.budget(choice, position, self.now_ns, closed_ns)
            if budget is not None:
                assert 0 <= budget <= self.settings.deadline_ns - (self.now_ns - closed_ns)
            if budget == 0:
                continue
            asked.append(name)
            outcome = self._attempt(name, budget)
            self.scheduler.learn(name, outcome, self.now_ns)
            if outcome.ok:
                by = name
                break
            failed.append(f"{name}: {'no answer in time' if outcome.timed_out else 'failed'}")
        status, reasons = self.schedule.status(
            closed_ns=closed_ns, now_ns=self.now_ns, faults=choice.faults(failed, by)
        )
        first = choice.plans[0] if choice.plans else None
        self.fates.append(Fate(window, closed_ns, self.now_ns, status, reasons, by, first, tuple(asked)))

    def _attempt(self, name: str, budget: int | None) -> Outcome:
        act = self.plans[name](self.now_ns)
        if act.kind == "hang" and budget is None:
            budget = 2 * S  # the supervisor's limit
        if act.kind == "hang" or (budget is not None and act.ns > budget):
            self.now_ns += budget
            return Outcome(ok=False, latency_ns=budget, timed_out=True)
        self.now_ns += act.ns
        return Outcome(act.kind == "answer", act.ns, act.energy_j, act.measured)

    def between(self, start_s: float, end_s: float) -> list[Fate]:
        """Fates of the windows that closed in this time."""
        return [fate for fate in self.fates if start_s * S <= fate.closed_ns < end_s * S]

    def by(self, start_s: float = 0, end_s: float = 1e9) -> Counter[str | None]:
        """Who answered the windows that closed in this time."""
        return Counter(fate.by for fate in self.between(start_s, end_s))

    def statuses(self, start_s: float = 0, end_s: float = 1e9) -> Counter[str]:
        """Of the windows that closed in this time."""
        return Counter(fate.status for fate in self.between(start_s, end_s))

    def favourites(self) -> int:
        """Stretches of at least five windows that the same plan answered, another one's stretch lying between."""
        answered = [
            (name, len(list(run))) for name, run in itertools.groupby(fate.by for fate in self.fates if fate.by)
        ]
        return len(list(itertools.groupby(name for name, length in answered if length >= 5)))

    def switches(self) -> int:
        """How often another plan answered than the one before."""
        answered = [fate.by for fate in self.fates if fate.by]
        return sum(one != other for one, other in itertools.pairwise(answered))

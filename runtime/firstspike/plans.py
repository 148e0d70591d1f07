"""Puts a window to the plans: the scheduler says in which order, this module asks the back ends and measures.

What one plan cannot answer is the next one's turn, within the same window's deadline.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from firstspike.backends import Backend, SteppingBackend
from firstspike.clock import Clock
from firstspike.energy.stream import StreamAccount
from firstspike.messages_energy import DecisionEnergy
from firstspike.messages_health import BackendHealth
from firstspike.schedule import Outcome, Plan, Scheduler, Settings
from firstspike.schedule.figures import TRUSTED
from firstspike.types import Inference, Spikes

Early = Callable[[Inference], None]
PATIENCE_S = 3600.0
"""Of an attempt where there is no deadline; a worker that hangs is killed long before."""


@dataclass(frozen=True, slots=True)
class Ran:
    """What the plans made of one window."""

    inference: Inference
    """The first answer, or the last failure."""
    plan: str | None
    """Who answered; None if nobody did."""
    faults: list[str]
    """Why the result is degraded; empty if it is not."""
    failures: int
    """How many plans were asked and failed."""
    energy: DecisionEnergy | None = None
    """What the answer cost; None: nobody answered, or no account is kept."""

    @property
    def fell_back(self) -> bool:
        """Whether another plan answered than the one that should have."""
        return self.plan is not None and bool(self.faults)


class Runner:
    """Asks the back ends of the plans.

    Args:
        backends: one a plan, in the order of preference.
        settings: the scheduler's.
        clock: where `closed_ns` of `infer` comes from.
        account: of energy; None: none is kept.
    """

    def __init__(
        self, backends: Sequence[Backend], settings: Settings, clock: Clock, account: StreamAccount | None = None
    ) -> None:
        self._account = account
        self._policy = settings.policy
        self.backends = tuple(backends)
        self._by_name = {backend.name: backend for backend in backends}
        # Under the virtual clock there is no deadline, and the scheduler only needs times that never decrease.
        self._now_ns = time.monotonic_ns if clock.kind == "virtual" else clock.now_ns
        self.last_ns = 0
        """How long the last window took, from asking the first plan to the end; 0: there was none."""
        self._unlearnt: tuple[str, Outcome, int] | None = None
        """The last answer's, of which the scheduler has not been told yet."""
        self._scheduler = Scheduler([Plan.of(backend.name) for backend in backends], settings)

    def infer(self, spikes: Spikes, closed_ns: int, early: Early | None = None) -> Ran:
        """Ask for an answer until there is one, or no plan or no time is left; `settle` follows.

        Args:
            spikes: the window.
            closed_ns: when it closed.
            early: told of the first output spike by a back end that runs in steps.
        """
        self.settle()
        began = self._now_ns()
        if self._account is not None:
            self._account.begin()
        try:
            return self._infer(spikes, closed_ns, early, began)
        finally:
            if self._account is not None:
                self._account.end()
            self.last_ns = max(1, self._now_ns() - began)

    def _infer(self, spikes: Spikes, closed_ns: int, early: Early | None, now_ns: int) -> Ran:
        ready, why = self._ready()
        choice = self._scheduler.choose(now_ns, closed_ns, ready, why)
        failed: list[str] = []
        inference: Inference | None = None
        for position, name in enumerate(choice.plans):
            started = self._now_ns()
            budget = self._scheduler.budget(choice, position, started, closed_ns)
            if budget == 0:
                continue
            within_s = PATIENCE_S if budget is None else budget / 1e9
            inference = self._ask(self._by_name[name], spikes, within_s, early)
            ended = self._now_ns()
            ok = inference.failure is None
            # A wait may end a little before its time.
            timed_out = not ok and budget is not None and ended - started >= 0.95 * budget
            if ok:
                energy = self._take(name, spikes, inference, ended - started, ended)
                return Ran(inference, name, choice.faults(failed, name), len(failed), energy)
            self._scheduler.learn(name, Outcome(ok=False, latency_ns=ended - started, timed_out=timed_out), ended)
            failed.append(inference.failure or "")
        faults = choice.faults(failed, None)
        nobody = inference or Inference("", None, None, failure="; ".join(faults))
        return Ran(nobody, None, faults, len(failed))

    def _take(
        self, name: str, spikes: Spikes, inference: Inference, latency_ns: int, now_ns: int
    ) -> DecisionEnergy | None:
        """Tell the account of an answer, and keep in mind what the scheduler is to learn of it."""
        if self._account is None:
            self._unlearnt = name, Outcome(ok=True, latency_ns=latency_ns), now_ns
            return None
        spent = self._account.answered(name, spikes, inference, latency_ns)
        outcome = Outcome(
            ok=True, latency_ns=latency_ns, energy_j=spent.energy_j, energy_u95_j=spent.u95_j, measured=spent.measured
        )
        self._unlearnt = name, outcome, now_ns
        return spent.record

    def settle(self) -> None:
        """Do what can wait until the answer is published: learn from it."""
        if self._unlearnt is not None:
            unlearnt, self._unlearnt = self._unlearnt, None
            self._scheduler.learn(*unlearnt)
        if self._account is not None:
            self._account.learn()

    @staticmethod
    def _ask(backend: Backend, spikes: Spikes, within_s: float, early: Early | None) -> Inference:
        if early is not None and isinstance(backend, SteppingBackend):
            return backend.infer_in_steps(spikes, early)
        return backend.infer(spikes, within_s)

    def _ready(self) -> tuple[list[str], dict[str, str]]:
        """The back ends that take a window now, and why the others do not."""
        ready, why = [], {}
        for backend in self.backends:
            condition = backend.condition()
            # One that is busy for no reason told gives a sign of life or answers another's window: it is waited for.
            if condition.state == "ready" or (condition.state == "busy" and condition.reason is None):
                ready.append(backend.name)
            else:
                reason = f": {condition.reason}" if condition.reason else ""
                why[backend.name] = f"{backend.name}: {condition.state}{reason}"
        return ready, why

    def least_ns(self) -> int:
        """What the quickest plan that could answer now is expected to take, in ns."""
        return self._scheduler.least_ns(self._now_ns(), self._ready()[0])

    def wait_ready(self, *, first: bool, stopping: Callable[[], bool], within_s: float) -> None:
        """Wait until a plan can answer, or all are known not to.

        Args:
            first: wait for the first plan, not just for any.
            stopping: True ends the wait.
            within_s: the longest wait, in seconds.
        """
        deadline = time.monotonic() + within_s
        awaited = self.backends[:1] if first else self.backends
        while time.monotonic() < deadline and not stopping():
            states = [backend.condition().state for backend in awaited]
            if any(state == "ready" for state in states) or not any(state == "starting" for state in states):
                return
            time.sleep(0.01)

    def first_is_ready(self) -> bool:
        """Whether the first plan can answer, or will when it has answered another window."""
        return self.backends[0].condition().state in ("ready", "busy")

    def can_answer(self) -> bool:
        """Whether any plan takes a window now."""
        return bool(self._ready()[0])

    def out(self) -> list[str]:
        """Why the daemon is not as it should be: the first plan cannot answer, or none can."""
        ready, why = self._ready()
        if not ready:
            return [*why.values()]
        return [] if self.first_is_ready() else [why[self.backends[0].name]]

    def blind(self) -> str | None:
        """Why the policy has nothing to go by; None: it has, or has just begun."""
        figures = self._scheduler.figures(self._now_ns())
        if self._policy not in ("energy", "edp") or not any(one.windows - one.failures >= TRUSTED for one in figures):
            return None
        if any(one.energy_j is not None for one in figures):
            return None
        return (
            f"schedule.policy is {self._policy}, but no plan has an energy, metered or modelled: they go by their order"
        )

    def health(self) -> list[BackendHealth]:
        """How each back end stands, and what is known of it."""
        figures = {one.plan: one for one in self._scheduler.figures(self._now_ns())}
        return [
            BackendHealth(
                name=backend.name, state=condition.state, reason=condition.reason, fix=condition.fix,
                restarts=condition.restarts, pid=condition.pid, windows=known.windows, failures=known.failures,
                latency_p50_ms=_ms(known.p50_ns), latency_p99_ms=_ms(known.p99_ns), energy_j=known.energy_j,
                energy_measured=known.measured,
            )
            for backend in self.backends
            for condition, known in [(backend.condition(), figures[backend.name])]
        ]  # fmt: skip


def _ms(ns: int | None) -> float | None:
    return None if ns is None else round(ns / 1e6, 3)

"""What the plans of one stream tell the account of energy."""

from __future__ import annotations

from collections.abc import Mapping

from firstspike.clock import Clock
from firstspike.energy.account import Accounts, PlanMeters, Spent
from firstspike.energy.operations import Model, Modelled
from firstspike.types import Inference, Spikes


class StreamAccount:
    """Used by the thread that answers.

    Args:
        accounts: the daemon's.
        stream: whose plans these are; None: there is but one.
        plans: their meters, by name.
        model: of operations; None: there is none.
        clock: the stream's.
        fixed: what the model says of plans that do not run the network itself but its twin: the same for all windows.
        network: names the stream's network where there are several streams.
    """

    def __init__(
        self, accounts: Accounts, stream: str | None, plans: Mapping[str, PlanMeters], model: Model | None,
        clock: Clock, fixed: Mapping[str, Modelled] | None = None, network: str = "",
    ) -> None:  # fmt: skip
        accounts.open(stream, plans, network)
        self._accounts, self._stream, self._model, self._fixed = accounts, stream, model, fixed or {}
        self._virtual = clock.kind == "virtual"
        self._unlearnt: Spikes | None = None

    def begin(self) -> None:
        """See `Accounts.begin`."""
        self._accounts.begin()

    def end(self) -> None:
        """See `Accounts.end`."""
        self._accounts.end()

    def answered(self, plan: str, spikes: Spikes, inference: Inference, latency_ns: int) -> Spent:
        """Take a plan's answer into the account, and say what it cost."""
        found = self._fixed.get(plan)
        if found is None and self._model is not None:
            found = self._model.inference(spikes, inference)
            # A deterministic run has all the time: its model counts at once.
            self._unlearnt = None if self._virtual else spikes
        return self._accounts.answered((self._stream, plan), found, latency_ns)

    def learn(self) -> None:
        """Let the model learn from the last answer, when nobody waits any more."""
        spikes, self._unlearnt = self._unlearnt, None
        if self._model is not None and spikes is not None:
            self._model.learn(spikes)

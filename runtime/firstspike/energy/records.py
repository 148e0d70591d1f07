"""What is said of energy: of one answer, and of one window of a plan or of the machine. Values in, messages out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from firstspike.energy.interval import Figure
from firstspike.energy.operations import Modelled
from firstspike.energy.share import Share
from firstspike.messages_energy import ClassificationEnergy, DecisionEnergy


@dataclass(slots=True)
class Work:
    """Of a plan within an energy window."""

    answers: int = 0
    latency_ns: int = 0
    modelled: int = 0
    """Answers that the model knows."""
    modelled_j: float = 0.0
    fronts_j: float | None = None
    backs_j: float | None = None
    what: str | None = None

    def add(self, latency_ns: int, modelled: Modelled | None) -> None:
        """Take one answer."""
        self.answers += 1
        self.latency_ns += latency_ns
        if modelled is None or modelled.dynamic_j is None:
            return
        self.modelled += 1
        self.modelled_j += modelled.dynamic_j
        self.what = modelled.what
        if modelled.front_j is not None:
            self.fronts_j = (self.fronts_j or 0.0) + modelled.front_j
        if modelled.back_j is not None:
            self.backs_j = (self.backs_j or 0.0) + modelled.back_j

    @property
    def latency_s(self) -> float | None:
        """Mean; None: there were no answers, or their times are not known."""
        return self.latency_ns / self.answers / 1e9 if self.answers and self.latency_ns else None

    @property
    def each_j(self) -> float | None:
        """Modelled energy of one."""
        return self.modelled_j / self.modelled if self.modelled else None

    def parts(self) -> dict[str, Any]:
        """Modelled energy of one front and one back."""
        if self.fronts_j is None and self.backs_j is None:
            return {}
        front, back = (None if sum_j is None else sum_j / self.modelled for sum_j in (self.fronts_j, self.backs_j))
        return {"front_j": front, "back_j": back, "parts_method": "modelled"}


@dataclass(frozen=True, slots=True)
class Latest:
    """A plan's latest metered figure."""

    each: ClassificationEnergy
    figure: Figure
    seq: int
    """Of the energy message with it."""
    record: DecisionEnergy
    """What each decision says while this is the latest, where the model does not know its parts."""


def latest(each: ClassificationEnergy, figure: Figure, seq: int) -> Latest:
    """A metered figure, with what decisions say of it: they are many, and it is the same for all."""
    record = DecisionEnergy(
        method=figure.method, scope=figure.scope, meter=figure.meter, dynamic_j=each.dynamic_j, u95_j=each.u95_j,
        total_j=each.total_j, energy_seq=seq, reason=figure.reason,
    )  # fmt: skip
    if each.parts_method not in (None, "modelled"):
        parts = {"front_j": each.front_j, "back_j": each.back_j, "parts_method": each.parts_method}
        record = record.model_copy(update=parts)
    return Latest(each, figure, seq, record)


def metered(work: Work, whole: Figure, shares: Sequence[Share], *, alone: bool) -> ClassificationEnergy:
    """A classification by meters.

    Args:
        work: the plan's in the window.
        whole: of all meters that have the plan in them.
        shares: the plan's of each sum of meters: the front's first.
        alone: no other plan answered.
    """
    total = whole.total_j / work.answers if alone and whole.total_j is not None else None
    parts = work.parts()
    if len(shares) == 2:
        parts = {"front_j": shares[0].dynamic_j, "back_j": shares[1].dynamic_j, "parts_method": whole.method}
    return ClassificationEnergy(
        **_product(sum(one.dynamic_j for one in shares), total, work.latency_s), **parts,
        u95_j=sum(one.u95_j for one in shares), windows=max(one.windows for one in shares),
        total_u95_j=None if total is None or whole.total_u95_j is None else whole.total_u95_j / work.answers,
    )  # fmt: skip


def modelled(work: Work) -> ClassificationEnergy | None:
    """A classification by the operation model; None: it does not know the network.

    Its energy is that of other hardware: times this one's latency it would mean nothing.
    """
    each = work.each_j
    return None if each is None else ClassificationEnergy(
        **_product(each, None, None), u95_j=None, **work.parts()
    )  # fmt: skip


def _product(dynamic_j: float, total_j: float | None, latency_s: float | None) -> dict[str, Any]:
    return {
        "dynamic_j": dynamic_j, "total_j": total_j,
        "edp_js": None if latency_s is None else dynamic_j * latency_s,
        "total_edp_js": None if latency_s is None or total_j is None else total_j * latency_s,
    }  # fmt: skip


def of_window(figure: Figure) -> dict[str, Any]:
    """A meter's window as fields of `messages.Energy`."""
    idle = figure.idle
    return {
        "method": figure.method, "scope": figure.scope, "meter": figure.meter, "start_ns": figure.start_ns,
        "end_ns": figure.end_ns, "window_s": figure.window_s, "n_samples": figure.n_samples,
        "effective_hz": figure.effective_hz, "baseline_w": idle.w if idle else None,
        "baseline_u95_w": idle.u95_w if idle else None, "total_j": figure.total_j, "total_u95_j": figure.total_u95_j,
        "dynamic_j": figure.dynamic_j, "u95_j": figure.u95_j, "reason": figure.reason,
    }  # fmt: skip


def of_work(work: Work) -> dict[str, Any]:
    """A plan's work as fields of `messages.Energy`."""
    latency = work.latency_s
    return {
        "inferences": work.answers, "modelled_j": work.each_j, "what": work.what,
        "latency_ms": None if latency is None else round(latency * 1e3, 6),
    }  # fmt: skip


def of_decision(modelled: Modelled | None, latest: Latest | None, why: str | None) -> DecisionEnergy:
    """What a decision says.

    Args:
        modelled: of this very inference; None: there is no model.
        latest: the plan's metered figure, if it has one that is fresh.
        why: it has none.
    """
    parts: dict[str, Any] = {}
    if modelled is not None and (modelled.front_j is not None or modelled.back_j is not None):
        parts = {"front_j": modelled.front_j, "back_j": modelled.back_j, "parts_method": "modelled"}
    if latest is not None:
        if not parts or latest.record.parts_method is not None:
            return latest.record
        return latest.record.model_copy(update=parts)
    why = why or "no energy window is closed yet"
    if modelled is None or modelled.dynamic_j is None:
        return DecisionEnergy(method="unavailable", reason=f"{why}; there is no model of this network's operations")
    return DecisionEnergy(method="modelled", dynamic_j=modelled.dynamic_j, reason=why, **parts)

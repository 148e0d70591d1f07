"""The account of energy: what each plan did in an energy window, what the window took, and what one inference costs.

Plans tell of each answer (`answered`) and get what it cost, by the latest window of theirs that had a figure, or by the
operation model. Whoever reads the meters closes windows (`close`), and each gives an energy message for the machine and
for every plan. An inference belongs to the window in which it ended.

Where a daemon has several streams, its meters are still read once: there is one `Accounts`, with lines for the plans of
each stream, which tell through `stream.StreamAccount`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from firstspike.clock import Clock
from firstspike.energy.interval import Figure, combined, unavailable
from firstspike.energy.operations import Modelled
from firstspike.energy.records import Latest, Work, latest, metered, modelled, of_decision, of_window, of_work
from firstspike.energy.share import Share, Shares
from firstspike.energy.totals import Totals
from firstspike.messages import Energy
from firstspike.messages_energy import DecisionEnergy

Names = tuple[str, ...]
"""Of meters that are added up."""
Key = tuple[str | None, str]
"""Of a plan's lines: its stream (None: the daemon has but one) and its name."""
FRESH_NS = 60_000_000_000
"""A window's figure stands for the decisions after it for so long, unless a newer one takes its place."""
STALE = "the plan's last metered energy window is more than a minute old"


@dataclass(frozen=True, slots=True)
class PlanMeters:
    """Which meters have a plan in them."""

    front: Names
    """Of a plan that is no chain: its own."""
    back: Names | None = None
    """Of a chain's back; None: the plan is no chain."""

    @property
    def sums(self) -> tuple[Names, ...]:
        """Each once."""
        return tuple(dict.fromkeys([self.front] if self.back is None else [self.front, self.back]))


@dataclass(frozen=True, slots=True)
class Spent:
    """What one answer cost, for the scheduler and for the decision."""

    energy_j: float | None
    u95_j: float
    measured: bool
    record: DecisionEnergy


@dataclass(slots=True)
class _Plan:
    meters: PlanMeters
    group: str
    """Plans of one group cost the same: one back end with one model, whichever stream asked it."""
    why: str | None
    """There is no metered figure."""
    totals: Totals = field(default_factory=Totals)
    latest: Latest | None = None


class Accounts:
    """Keeps the account; its methods may be called from any thread.

    Args:
        host: the meters that are the machine's total; none: there is none.
        clock: the daemon's.
        epoch: this run's name.
        window_ns: length of an energy window.
        sink: takes the messages; None: nobody wants them.
        why: the machine has no meter to read.
        stream: whose the messages about the machine are; None: nobody's, the meters are all streams'.
    """

    def __init__(
        self, *, host: Names, clock: Clock, epoch: str, window_ns: int, sink: Callable[[Energy], None] | None,
        why: str | None, stream: str | None = None,
    ) -> None:  # fmt: skip
        self._plans: dict[Key, _Plan] = {}
        self._host, self._host_totals, self._host_stream = host, Totals(), stream
        self._clock, self._epoch, self._sink, self._why = clock, epoch, sink, why
        self.window_ns = window_ns
        self.began_ns = clock.now_ns()
        """When the first window began."""
        self._lock = threading.Lock()
        self._work: dict[int, dict[Key, Work]] = {}
        """By the window's number."""
        self._shares: dict[Names, Shares] = {}
        self._seq: dict[str | None, int] = {}
        """The next message's number, by stream."""
        self._busy = 0
        """Windows that are with the plans, and streams whose plans start."""
        self._ended_ns = self._closed_ns = self.began_ns

    def open(self, stream: str | None, plans: Mapping[str, PlanMeters], network: str = "") -> None:
        """Open the lines of a stream's plans; until the first `end` of it these are starting.

        Args:
            stream: its name; None: it is the only one.
            plans: their meters, by name.
            network: names the stream's network where there are several streams.
        """
        with self._lock:
            self._busy += 1
            for name, meters in plans.items():
                group = f"{name} ({network})" if network else name
                self._plans[stream, name] = _Plan(meters, group, self._why)

    def follow(self, before: Accounts) -> None:
        """Go on where another of this run, which has ended, left off."""
        with self._lock:
            # Of the windows that were open only what was done in them is known.
            left = [(key, work) for window in before._work.values() for key, work in window.items()]
            for key, work in left:
                before._plans[key].totals.work(work.answers, work.modelled_j)
                before._host_totals.work(work.answers, work.modelled_j)
            if before._clock.kind != "virtual":
                before._host_totals.pass_over(max(0, before._clock.now_ns() - before._closed_ns) / 1e9)
            self._seq, self._host_totals = before._seq, before._host_totals.on(same=self._host == before._host)
            for key, plan in self._plans.items():
                if (former := before._plans.get(key)) is not None:
                    plan.totals = former.totals.on(same=plan.meters == former.meters)

    def start(self) -> None:
        """Let the first window begin now: the meters are being read."""
        with self._lock:
            self.began_ns = self._closed_ns = self._clock.now_ns()
            self._work.clear()

    @property
    def sums(self) -> list[Names]:
        """The sums of meters that are asked for."""
        found = [self._host, *(names for plan in self._plans.values() for names in plan.meters.sums)]
        return [names for names in dict.fromkeys(found) if names]

    def begin(self) -> None:
        """Tell that a window is put to the plans."""
        with self._lock:
            self._busy += 1

    def end(self) -> None:
        """Tell that the plans are done with it; the first time, that they are ready."""
        with self._lock:
            self._busy -= 1
            self._ended_ns = self._clock.now_ns()

    def idle_since_ns(self) -> int | None:
        """Since when nothing has been inferred; None: something is."""
        with self._lock:
            return None if self._busy else self._ended_ns

    def answered(self, key: Key, found: Modelled | None, latency_ns: int) -> Spent:
        """Take a plan's answer into the account, and say what it cost.

        Args:
            key: the plan's lines.
            found: by the operation model; None: there is none.
            latency_ns: from asking to the answer.
        """
        now_ns = self._clock.now_ns()
        virtual = self._clock.kind == "virtual"
        number = (now_ns - self.began_ns) // self.window_ns
        closed: list[Energy] = []
        with self._lock:
            if virtual:
                closed = self._close_before(number)
            window = self._work.get(number)
            if window is None:
                window = self._work[number] = {}
            work = window.get(key)
            if work is None:
                work = window[key] = Work()
            work.add(0 if virtual else latency_ns, found)
            plan = self._plans[key]
            newest, why = plan.latest, plan.why
        self._send(closed)
        if newest is not None and now_ns - newest.figure.end_ns > FRESH_NS:
            newest, why = None, STALE
        record = of_decision(found, newest, why)
        return Spent(record.dynamic_j, record.u95_j or 0.0, newest is not None, record)

    def close(self, number: int, figures: Mapping[str, Figure]) -> None:
        """Close an energy window, and send its messages.

        Args:
            number: 0, 1, 2 … since the start.
            figures: of each meter by name.
        """
        with self._lock:
            for old in [one for one in self._work if one < number]:
                del self._work[old]
            closed = self._close(number, self._work.pop(number, {}), figures)
        self._send(closed)

    def finish(self) -> None:
        """Under the virtual clock close what is open: there nobody else does."""
        if self._clock.kind == "virtual":
            with self._lock:
                closed = self._close_before(1 << 62)
            self._send(closed)

    def _send(self, messages: list[Energy]) -> None:
        if self._sink is not None:
            for message in messages:
                self._sink(message)

    def _close_before(self, number: int) -> list[Energy]:
        """Under the virtual clock windows without an inference are passed over: no meter is read in them."""
        due = sorted(one for one in self._work if one < number)
        return [message for one in due for message in self._close(one, self._work.pop(one), {})]

    def _close(self, number: int, work: Mapping[Key, Work], figures: Mapping[str, Figure]) -> list[Energy]:
        start_ns = self.began_ns + number * self.window_ns
        end_ns = start_ns + self.window_ns
        self._closed_ns = end_ns
        whole: dict[Names, Figure] = {(): unavailable(self._why or "no meter has it in it", start_ns, end_ns)}
        shares: dict[Names, dict[str, Share | str]] = {}
        for names in self.sums:
            gone = {name: unavailable(f"there is no meter {name}", start_ns, end_ns) for name in names}
            whole[names] = combined([figures.get(name, gone[name]) for name in names])
            counts: dict[str, int] = {}
            for key, one in work.items():
                # Whoever has a meter of its own takes of the machine's too.
                if names == self._host or names in self._plans[key].meters.sums:
                    plan = self._plans[key]
                    counts[plan.group] = counts.get(plan.group, 0) + one.answers
            shares[names] = self._shares.setdefault(names, Shares()).add(counts, whole[names])
        answers = sum(one.answers for one in work.values())
        host = whole[self._host]
        self._host_totals.work(answers, sum(one.modelled_j for one in work.values()))
        self._host_totals.add(host)
        whose = self._host_stream, "host"
        messages = [self._message("host", whose, self._host_totals, {**of_window(host), "inferences": answers})]
        for key, plan in self._plans.items():
            sums = plan.meters.sums
            figure = combined([whole[names] for names in sums])
            none = whole[()].reason or ""
            each = [shares[names].get(plan.group, "no inference in this window") if names else none for names in sums]
            alone = key in work and len(work) == 1
            messages.append(self._close_plan(key, plan, work.get(key, Work()), figure, each, alone=alone))
        return messages

    def _close_plan(
        self, key: Key, plan: _Plan, work: Work, figure: Figure, each: list[Share | str], *, alone: bool
    ) -> Energy:
        plan.totals.work(work.answers, work.modelled_j)
        if alone:
            plan.totals.add(figure)
        fields = of_window(figure) | of_work(work)
        shares = [one for one in each if isinstance(one, Share)]
        lack = next((one for one in each if isinstance(one, str)), None) or figure.reason
        if work.answers and shares and len(shares) == len(each):
            fields["classification"] = metered(work, figure, shares, alone=alone)
            plan.latest, plan.why = latest(fields["classification"], figure, self._seq.get(key[0], 0)), None
        elif work.answers:
            fields["reason"] = plan.why = lack
            if figure.total_j is None and work.modelled:
                fields |= {
                    "method": "modelled", "dynamic_j": work.modelled_j, "classification": modelled(work),
                    "scope": None, "meter": None,
                }  # fmt: skip
        else:
            fields["reason"] = figure.reason or "no inference in this window"
        return self._message("backend", key, plan.totals, fields)

    def _message(self, subject: str, key: Key, totals: Totals, fields: dict[str, object]) -> Energy:
        stream, name = key
        seq = self._seq.get(stream, 0)
        self._seq[stream] = seq + 1
        return Energy.model_validate(
            {
                "epoch": self._epoch, "seq": seq, "stream": stream, "subject": subject, "name": name,
                "clock": self._clock.kind, "since_start": totals.message(), **fields,
            }
        )  # fmt: skip

"""Which plan answers a window, which ones stand by, and how long each may take. No I/O, no threads, no clock.

For each window, `choose` gives the order of plans; for each of them in turn, `budget` says how long it may take, and
`learn` is told what came of it. Not thread-safe: whoever has several threads puts a lock around it.

The favourite is the plan that the policy wants. While it is out, the best of the others stands in for it. A plan is out
if one of its back ends is not ready, or if it failed again and again (`breaker`): it then rests, and is tried again
with a single window, as a probe is. Nothing here is drawn by chance, so the same calls give the same answers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from firstspike.schedule.breaker import Breaker
from firstspike.schedule.choice import Choice
from firstspike.schedule.figures import Figures, Record
from firstspike.schedule.plan import Outcome, Plan
from firstspike.schedule.policy import UNKNOWN, Hold, rate
from firstspike.schedule.settings import Settings


class Scheduler:
    """Chooses among plans.

    Args:
        plans: in order of preference.
        settings: see `Settings`.

    Raises:
        ValueError: there is no plan, or two have the same name.
    """

    def __init__(self, plans: Sequence[Plan], settings: Settings) -> None:
        self._plans = {plan.name: plan for plan in plans}
        if not plans or len(self._plans) != len(plans):
            raise ValueError(f"plans must be given, each once: {[plan.name for plan in plans]}")
        self._settings = settings
        self._records = {
            name: Record(Breaker(settings.failures, settings.rest_ns, settings.rest_max_ns)) for name in self._plans
        }
        self._favourite = Hold(settings.better, settings.hold)
        self._stand_in = Hold(settings.better, settings.hold)
        self._choices = 0
        self._probed_at = 0
        deadline = settings.deadline_ns or 0
        self._unknown_ns = settings.unknown_ns or max(1, deadline // 4)
        self._slack_ns = min(settings.slack_ns, deadline // 10)

    def choose(
        self, now_ns: int, closed_ns: int, ready: Collection[str], why: Mapping[str, str] | None = None
    ) -> Choice:
        """Which plans are to try a window. Call it once a window.

        Args:
            now_ns: now; never decreases.
            closed_ns: when the window closed, of the same clock.
            ready: names of the back ends that take a window; one that is busy does, and is waited for.
            why: for back ends that do not, why, for the reasons; each text names its back end.
        """
        self._choices += 1
        out = self._out(now_ns, ready, why or {})
        able = [name for name, plan in self._plans.items() if plan.waits_for(ready) is None]
        if self._settings.deadline_ns is None:
            first = next(iter(self._plans))
            return Choice(tuple(able), len(able), first, out.get(first), reason=None if able else _none(out))
        left_ns = self._settings.deadline_ns - (now_ns - closed_ns)
        wanted = self._prefer()
        sound, rest = self._order(able, out, wanted)
        wanted = wanted or next(iter(sound + rest), None)
        missing = out.get(wanted) if wanted else None
        if left_ns <= 0 or not able:
            return Choice((), 0, wanted, missing, reason="no time is left" if able else _none(out))
        trial = self._trial(now_ns, left_ns, sound, rest, wanted)
        if trial is not None:
            self._records[trial].breaker.begin_trial(now_ns)
            order = [trial, *sound, *(name for name in rest if name != trial)]
            safe = self._has_room(trial, sound, left_ns)
            return Choice(tuple(order), 1 + len(sound), wanted, None if trial == wanted else missing, probe=safe)
        probe = self._probe(left_ns, sound)
        if probe is not None:
            self._probed_at = self._choices
            sound = [probe, *(name for name in sound if name != probe)]
            return Choice((*sound, *rest), len(sound), wanted, missing, probe=True)
        sound, reason = self._in_time(sound, left_ns)
        return Choice((*sound, *rest), len(sound), wanted, missing, reason=reason or self._remark(sound))

    def budget(self, choice: Choice, position: int, now_ns: int, closed_ns: int) -> int | None:
        """How long the plan at `position` of the choice may take, in ns; 0: pass over it. None: there is no deadline.

        It never exceeds what is left of the deadline. Time for the plans after it (their p99 with a margin) is kept
        back as far as this one can still be expected to answer: the quickest one's time if its median, with the margin,
        fits beside that, each further one's if its p99 fits too. So a plan that takes most of the deadline is not cut
        short for a fall-back that would be late anyway.
        """
        if self._settings.deadline_ns is None:
            return None
        left = self._settings.deadline_ns - (now_ns - closed_ns)
        if left <= 0:
            return 0
        if choice.probe and position == 0:
            return max(0, left - self._need(choice.plans[1]))
        end = choice.sound if position < choice.sound else len(choice.plans)
        after = [name for name in choice.plans[position + 1 : end] if self._expected(name) <= left]
        if not after:
            return left
        after.sort(key=self._need)
        return left - self._kept_back(choice.plans[position], after, left, first=position == 0)

    def _kept_back(self, name: str, after: Sequence[str], left: int, *, first: bool) -> int:
        """Time of `left` that is not for this plan, but for those after it, the quickest first."""
        own, half = self._expected(name), (self._settings.deadline_ns or 0) // 2
        likely = round(own * self._settings.margin)
        # A p99 may be one outlier's: if it does not fit, the median may.
        needs = (self._need(after[0]), self._with_margin(self._expected(after[0])))
        if own >= left:
            if left < half:
                return min(needs[0], left)
            # It was slow, and how it does now only a window can tell: the time must be worth trying.
            return next((kept for kept in needs if left - kept >= half), 0)
        kept = next((kept for kept in needs if likely + kept <= left), 0)
        if kept == 0 and not first and self._expected(after[0]) < own:
            return min(needs[0], left)  # one failed already: now the surest
        if kept == needs[0]:
            for other in after[1:]:
                if self._need(name) + kept + self._need(other) > left:
                    break
                kept += self._need(other)
        return kept

    def learn(self, plan: str, outcome: Outcome, now_ns: int) -> None:
        """Take note of what came of an attempt.

        Raises:
            KeyError: there is no such plan.
        """
        record = self._records[plan]
        record.tried_at = self._choices
        record.add(outcome, now_ns, self._settings.deadline_ns)

    def least_ns(self, now_ns: int, ready: Collection[str]) -> int:
        """What the quickest plan that could answer now is expected to take; 0 if one of them has no figures."""
        able = [name for name, plan in self._plans.items() if plan.waits_for(ready) is None]
        closed = [name for name in able if self._records[name].breaker.state(now_ns) == "closed"]
        return min((self._records[name].expected_ns or 0 for name in closed or able), default=0)

    def figures(self, now_ns: int) -> list[Figures]:
        """What is known of each plan, in the order given."""
        return [record.figures(name, now_ns) for name, record in self._records.items()]

    def _out(self, now_ns: int, ready: Collection[str], why: Mapping[str, str]) -> dict[str, str]:
        """The plans that are out, with the reason."""
        out = {}
        for name, plan in self._plans.items():
            part = plan.waits_for(ready)
            breaker = self._records[name].breaker
            if part is not None:
                out[name] = why.get(part) or (f"{name}: not ready" if part == name else f"{name}: {part} is not ready")
            elif self._settings.deadline_ns is not None and breaker.state(now_ns) != "closed":
                out[name] = f"{name}: failed {breaker.in_a_row} times in a row, and rests"
        return out

    def _prefer(self) -> str | None:
        """The favourite, be it out or not; None: nothing is known yet."""
        if self._settings.policy == "order":
            return next(iter(self._plans))
        ratings = rate(self._settings.policy, list(self._plans), self._records)
        return self._favourite.update([rating for rating in ratings if rating.group != UNKNOWN])

    def _order(self, able: list[str], out: Mapping[str, str], wanted: str | None) -> tuple[list[str], list[str]]:
        """The plans that are well, and then those that are able but rest; each best first."""
        ratings = rate(self._settings.policy, able, self._records)
        sound = [rating.plan for rating in ratings if rating.plan not in out]
        rest = [rating.plan for rating in ratings if rating.plan in out]
        if wanted in sound:
            first: str | None = wanted
        elif self._settings.policy == "order":
            first = None
        else:
            first = self._stand_in.update([rating for rating in ratings if rating.plan not in out])
        if first is not None:
            sound.sort(key=lambda name: name != first)
        return sound, rest

    def _trial(self, now_ns: int, left_ns: int, sound: list[str], rest: list[str], wanted: str | None) -> str | None:
        """A plan that has rested and may be tried; if none is well, they are all tried anyway."""
        if not sound:
            return None
        names = list(self._plans)
        for name in rest:
            breaker = self._records[name].breaker
            if breaker.state(now_ns) != "half-open":
                continue
            if self._settings.policy == "order" and names.index(name) > names.index(sound[0]):
                continue  # it would not be asked if it were well
            if name != wanted and self._settings.probe_every == 0:
                continue
            if self._has_room(name, sound, left_ns) or (name == wanted and breaker.waited(now_ns)):
                return name
        return None

    def _probe(self, left_ns: int, sound: list[str]) -> str | None:
        """The plan whose figures are the oldest, if it is time for a probe and there is room for one."""
        every = self._settings.probe_every
        if self._settings.policy == "order" or every == 0 or self._choices - self._probed_at < every:
            return None
        others = [name for name in sound[1:] if self._has_room(name, sound, left_ns)]
        return min(others, key=lambda name: self._records[name].tried_at, default=None)

    def _has_room(self, name: str, sound: list[str], left_ns: int) -> bool:
        """Whether the first of the others can still answer in time if this one does not.

        A plan that is expected to take long is let in for half a deadline: it may have become quick meanwhile.
        """
        room = left_ns - self._need(sound[0])
        return room >= min(self._expected(name), (self._settings.deadline_ns or 0) // 2)

    def _in_time(self, sound: list[str], left_ns: int) -> tuple[list[str], str | None]:
        """Plans that will not be in time go behind those that will.

        A window younger than half the deadline is given to a slow plan all the same: otherwise one that once was slow
        would never be asked again.
        """
        if left_ns >= (self._settings.deadline_ns or 0) // 2 or not sound or self._expected(sound[0]) <= left_ns:
            return sound, None
        first = sound[0]
        order = sorted(sound, key=lambda name: self._expected(name) > left_ns)
        if order[0] == first:
            return order, None
        expected_ms, left_ms = self._expected(first) / 1e6, left_ns / 1e6
        return order, f"{first}: takes {expected_ms:.1f} ms, {left_ms:.1f} ms are left"

    def _remark(self, sound: list[str]) -> str | None:
        """Energies that were not compared."""
        if self._settings.policy not in ("energy", "edp"):
            return None
        known = {name: self._records[name].measured for name in sound}
        if len(set(known.values())) < 2:
            return None
        names = {True: "measured", False: "modelled", None: "unknown"}
        kinds = ", ".join(f"{name}'s is {names[measured]}" for name, measured in known.items())
        return f"energies that are not compared: {kinds}"

    def _expected(self, name: str) -> int:
        """Latency to reckon with; ns."""
        expected = self._records[name].expected_ns
        return self._unknown_ns if expected is None else expected

    def _need(self, name: str) -> int:
        """Time to keep back for a plan; ns."""
        p99 = self._records[name].p99_ns
        return self._with_margin(self._unknown_ns if p99 is None else p99)

    def _with_margin(self, latency_ns: int) -> int:
        return round(latency_ns * self._settings.margin) + self._slack_ns


def _none(out: Mapping[str, str]) -> str:
    return f"no plan is ready: {'; '.join(dict.fromkeys(out.values()))}"

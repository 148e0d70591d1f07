"""One window at a time: the order of plans, the time each may take, and what the result says."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from firstspike.schedule import Choice, Outcome, Plan, Scheduler, Settings

MS = 1_000_000
S = 1_000 * MS
BARE = {"margin": 1.0, "slack_ns": 0}
"""So that the time kept back for a plan is its p99."""


def scheduler(*names, deadline_ms=50, **more):
    return Scheduler([Plan.of(name) for name in names], Settings(deadline_ms * MS, **more))


def knows(it, **latencies_ms):
    """Each plan answered a few times in so many milliseconds; a tuple: one after another."""
    for name, latency in latencies_ms.items():
        for each in latency if isinstance(latency, tuple) else (latency,) * 3:
            it.learn(name, Outcome(ok=True, latency_ns=round(each * MS)), 0)
    return it


def budgets(it, choice, now_ms=0.0):
    return [
        None if budget is None else budget / MS
        for budget in (it.budget(choice, place, round(now_ms * MS), 0) for place in range(len(choice.plans)))
    ]


def test_plans_are_given_each_once():
    with pytest.raises(ValueError, match="each once"):
        scheduler("a", "a")
    with pytest.raises(ValueError, match="plans must be given"):
        scheduler()


def test_the_order_given_leaves_out_what_is_not_ready():
    it = scheduler("a", "b", "c")
    assert it.choose(0, 0, "abc").plans == ("a", "b", "c")
    choice = it.choose(0, 0, {"b", "c"})
    assert (choice.plans, choice.wanted, choice.missing) == (("b", "c"), "a", "a: not ready")
    choice = it.choose(0, 0, (), {"a": "a: absent: no stick", "c": "c: starting"})
    assert choice.plans == ()
    assert choice.reason == "no plan is ready: a: absent: no stick; b: not ready; c: starting"
    assert choice.faults([], None) == ["a: absent: no stick"]


def test_a_window_whose_time_is_over_gets_no_plan():
    choice = scheduler("a").choose(50 * MS, 0, "a")
    assert (choice.plans, choice.reason) == ((), "no time is left")
    assert scheduler("a").choose(50 * MS - 1, 0, "a").plans == ("a",)


def test_a_plan_that_fails_again_and_again_is_a_last_resort():
    it = scheduler("a", "b", **BARE)
    for _ in range(3):
        it.learn("a", Outcome(ok=False, latency_ns=MS), 0)
    choice = it.choose(0, 0, "ab")
    assert (choice.plans, choice.sound) == (("b", "a"), 1)
    assert choice.missing == "a: failed 3 times in a row, and rests"
    assert budgets(it, choice)[0] == 50, "nothing is kept back for a last resort"


def test_after_its_rest_it_is_tried_once_and_the_next_one_keeps_its_time():
    it = knows(scheduler("a", "b", **BARE), b=10)
    for _ in range(3):
        it.learn("a", Outcome(ok=False, latency_ns=MS), 0)
    assert it.choose(S - 1, S - 1, "ab").plans == ("b", "a")
    choice = it.choose(S, S, "ab")
    assert (choice.plans, choice.sound, choice.probe, choice.missing) == (("a", "b"), 2, True, None)
    assert it.budget(choice, 0, S, S) == 40 * MS
    assert it.choose(S + 1, S + 1, "ab").plans == ("b", "a"), "one trial at a time"
    it.learn("a", Outcome(ok=True, latency_ns=MS), S + 2)
    assert it.choose(S + 3, S + 3, "ab").plans == ("a", "b")


def test_under_order_a_lower_plan_that_rests_is_not_put_first():
    it = scheduler("a", "b")
    for _ in range(3):
        it.learn("b", Outcome(ok=False, latency_ns=MS), 0)
    assert it.choose(100 * S, 100 * S, "ab").plans == ("a", "b")


def test_without_probes_only_the_wanted_plan_is_tried_after_its_rest():
    for name, expected in (("a", "a"), ("b", "a")):
        it = knows(scheduler("a", "b", policy="latency", probe_every=0), a=5, b=10)
        it.choose(0, 0, "ab")
        for _ in range(3):
            it.learn(name, Outcome(ok=False, latency_ns=MS), 0)
        choice = it.choose(2 * S, 2 * S, "ab")
        assert (choice.plans[0], choice.probe) == (expected, name == "a")


@pytest.mark.parametrize(
    ("figures", "now_ms", "expected"),
    [
        ({"a": 5, "b": 10}, 0, [40, 50]),
        ({"a": 5, "b": 10}, 20, [20, 30]),  # what is left
        ({"a": 5, "b": 10, "c": 8}, 0, [32, 42, 50]),  # all of them get theirs
        ({"a": 30, "b": 25}, 0, [50, 50]),  # both do not fit: the first is not cut short
        ({"a": 45, "b": 5}, 0, [45, 50]),
        ({"a": 5, "b": 11, "c": 40}, 0, [39, 50, 50]),  # the quickest one's, not the slow one's
        ({"a": (5,) * 8 + (45,), "b": 10, "c": 20}, 0, [40, 30, 50]),  # its median fits, its p99 not: one is enough
        ({"a": 5, "b": (5,) * 8 + (48,)}, 0, [45, 50]),  # an outlier of the fall-back's does not leave it unprotected
        ({"a": 60, "b": 10}, 0, [40, 50]),  # slower than the deadline: it is tried, the other answers
        ({"a": 60, "b": 48}, 0, [50, 50]),  # … unless that would leave it nothing: then it may fail and rest
        ({"a": 40, "b": 10}, 30, [10, 20]),  # too late for it: the other one's time is kept
        ({"a": 40, "b": 10}, 40, [0, 10]),  # … even if nothing remains
        ({"a": 40, "b": 30}, 30, [20, 20]),  # too late for both
    ],
)
def test_the_budget_keeps_back_what_the_others_need(figures, now_ms, expected):
    it = knows(scheduler(*figures, **BARE), **figures)
    assert budgets(it, it.choose(0, 0, list(figures)), now_ms) == expected


def test_after_a_failure_the_surest_comes_before_the_slower():
    it = knows(scheduler("a", "b", "c", **BARE), a=5, b=18, c=5)
    choice = it.choose(0, 0, "abc")
    assert budgets(it, choice, 30) == [15, 15, 20], "b no longer fits beside c: c is sure"


def test_the_margin_and_the_slack_are_kept_back_too():
    it = knows(scheduler("a", "b", margin=1.5, slack_ns=2 * MS), a=5, b=10)
    assert budgets(it, it.choose(0, 0, "ab"))[0] == 50 - 15 - 2
    it = knows(scheduler("a", "b", deadline_ms=10, margin=1.5, slack_ns=2 * MS), a=1, b=2)
    assert budgets(it, it.choose(0, 0, "ab"))[0] == 10 - 3 - 1, "the slack is at most a tenth of the deadline"


def test_a_plan_that_just_fits_is_not_cut_at_its_median():
    it = knows(scheduler("a", "b", margin=1.25, slack_ns=0), a=(30, 40, 40, 40, 50), b=8)
    assert budgets(it, it.choose(0, 0, "ab"))[0] == 50
    it = knows(scheduler("a", "b", margin=1.25, slack_ns=0), a=(30, 32, 32, 32, 50), b=8)
    assert budgets(it, it.choose(0, 0, "ab"))[0] == 40


def test_a_plan_without_figures_is_given_a_quarter_of_the_deadline_or_what_is_set():
    it = scheduler("a", "b", deadline_ms=48, **BARE)
    assert budgets(it, it.choose(0, 0, "ab"))[0] == 36
    it = scheduler("a", "b", unknown_ns=20 * MS, **BARE)
    assert budgets(it, it.choose(0, 0, "ab"))[0] == 30


def test_nothing_is_left_after_the_deadline():
    it = scheduler("a", "b")
    choice = it.choose(0, 0, "ab")
    assert budgets(it, choice, 50) == [0, 0]
    assert budgets(it, choice, 70) == [0, 0]
    assert choice.faults([], None) == ["no plan could have answered in the time left"]


def test_an_old_window_goes_to_a_plan_that_is_in_time():
    it = knows(scheduler("a", "b"), a=20, b=5)
    choice = it.choose(35 * MS, 0, "ab")
    assert (choice.plans, choice.wanted, choice.missing) == (("b", "a"), "a", None)
    assert choice.reason == "a: takes 20.0 ms, 15.0 ms are left"
    assert choice.faults([], "b") == [], "it did not fail"
    assert it.choose(25 * MS, 0, "ab").plans == ("a", "b")


def test_the_least_latency_is_of_the_plans_that_are_well():
    it = scheduler("a", "b")
    assert it.least_ns(0, "ab") == 0
    knows(it, a=5)
    assert it.least_ns(0, "ab") == 0, "b may be quicker"
    knows(it, b=9)
    assert it.least_ns(0, "ab") == 5 * MS
    assert it.least_ns(0, "b") == 9 * MS
    assert it.least_ns(0, "") == 0
    for _ in range(3):
        it.learn("a", Outcome(ok=False, latency_ns=MS), 0)
    assert it.least_ns(0, "ab") == 9 * MS
    assert it.least_ns(0, "a") == 5 * MS


def test_without_a_deadline_there_is_no_budget_and_the_order_stays():
    it = Scheduler([Plan.of("a"), Plan.of("b")], Settings(50 * MS, policy="edp").for_replay())
    for _ in range(30):
        it.learn("a", Outcome(ok=False, latency_ns=S, timed_out=True), 0)
    choice = it.choose(10 * S, 0, "ab")
    assert (choice.plans, choice.missing, budgets(it, choice)) == (("a", "b"), None, [None, None])
    assert it.choose(0, 0, "b").faults([], "b") == ["a: not ready; answered by b"]
    assert it.choose(0, 0, "").reason == "no plan is ready: a: not ready; b: not ready"


def test_the_probe_goes_to_the_plan_whose_figures_are_oldest():
    it = knows(scheduler("a", "b", "c", policy="latency", probe_every=2), c=9, b=8, a=2)
    asked = []
    for n in range(12):
        choice = it.choose(n * S, n * S, "abc")
        asked.append(choice.plans[0])
        assert choice.probe == (choice.plans[0] != "a")
        if choice.probe:
            assert choice.plans[1] == "a"
            assert it.budget(choice, 0, n * S, n * S) == 50 * MS - 4.5 * MS
        it.learn(choice.plans[0], Outcome(ok=True, latency_ns={"a": 2, "b": 8, "c": 9}[asked[-1]] * MS), n * S)
    assert asked == ["a", "b", "a", "c"] * 3


def test_a_probe_that_has_no_room_is_made_as_soon_as_it_has():
    it = knows(scheduler("a", "b", policy="latency", probe_every=5), a=10, b=20)
    first = [it.choose(n * S + 25 * MS, n * S, "ab").plans[0] for n in range(7)]
    assert first == ["a"] * 7
    assert it.choose(8 * S, 8 * S, "ab").plans[0] == "b"
    assert [it.choose(n * S, n * S, "ab").plans[0] for n in range(9, 14)] == ["a"] * 4 + ["b"]


@pytest.mark.parametrize(
    ("choice", "failed", "by", "expected"),
    [
        (Choice(("a", "b"), 2, "a", None), [], "a", []),
        (Choice(("a", "b"), 2, "a", None), ["a: died"], "b", ["a: died; answered by b"]),
        (Choice(("a", "b"), 2, "a", None), ["a: died", "b: late"], None, ["a: died", "b: late"]),
        (Choice(("b",), 1, "a", "a: absent"), [], "b", ["a: absent; answered by b"]),
        (Choice(("b", "c"), 2, "a", "a: absent"), ["b: died"], "c", ["a: absent; b: died; answered by c"]),
        (Choice(("b", "a"), 2, "a", None, probe=True), [], "b", []),
        (Choice(("b", "a"), 2, "a", None, probe=True), ["b: died"], "a", []),
        (Choice(("b", "a", "c"), 3, "a", None, probe=True), ["b: died", "a: late"], "c",
         ["b: died; a: late; answered by c"]),
        (Choice((), 0, None, None, reason="no plan is ready: a: off"), [], None, ["no plan is ready: a: off"]),
    ],
)  # fmt: skip
def test_an_answer_degrades_if_the_wanted_plan_did_not_give_it_for_a_fault(choice, failed, by, expected):
    assert choice.faults(failed, by) == expected


def test_an_unknown_plan_is_nobodys():
    with pytest.raises(KeyError):
        scheduler("a").learn("b", Outcome(ok=True, latency_ns=1), 0)


class SchedulerMachine(RuleBasedStateMachine):
    """Any readiness, ages and outcomes: the promises of `choose` and `budget` hold."""

    @initialize(
        names=st.integers(1, 4), policy=st.sampled_from(["order", "latency", "energy", "edp"]),
        deadline=st.integers(1, 60), probe_every=st.sampled_from([0, 2, 5]), hold=st.integers(1, 4),
    )  # fmt: skip
    def begin(self, names, policy, deadline, probe_every, hold):
        self.names, self.policy, self.deadline, self.now = "abcd"[:names], policy, deadline * MS, 0
        more = {"policy": policy, "probe_every": probe_every, "hold": hold}
        self.it = scheduler(*self.names, deadline_ms=deadline, **more)
        self.attempts = dict.fromkeys(self.names, 0)

    @rule(passed=st.integers(0, 5 * S), age=st.integers(0, 70 * MS), missing=st.sets(st.sampled_from("abcd")),
          ends=st.lists(st.tuples(st.booleans(), st.integers(0, 30 * MS), st.booleans()), max_size=4),
          energy=st.none() | st.floats(-1, 1))  # fmt: skip
    def window(self, passed, age, missing, ends, energy):
        self.now += passed
        closed = self.now - age
        ready = [name for name in self.names if name not in missing]
        choice = self.it.choose(self.now, closed, ready)
        assert sorted(choice.plans) == (ready if age < self.deadline else [])
        assert bool(choice.plans) or choice.reason
        assert 0 <= choice.sound <= len(choice.plans)
        assert not choice.probe or choice.sound >= 2
        states = {figures.plan: figures.state for figures in self.it.figures(self.now)}
        assert all(states[name] == "closed" for name in choice.plans[choice.probe : choice.sound])
        least = self.it.least_ns(self.now, ready)
        assert least >= 0
        for place, (name, (ok, took, measured)) in enumerate(zip(choice.plans, ends, strict=False)):
            left = self.deadline - (self.now - closed)
            budget = self.it.budget(choice, place, self.now, closed)
            assert 0 <= budget <= max(0, left)
            timed_out = took > budget
            self.now += min(took, budget)
            outcome = Outcome(ok and not timed_out, min(took, budget), energy, measured, timed_out)
            self.it.learn(name, outcome, self.now)
            self.attempts[name] += 1
            if outcome.ok:
                assert choice.faults([], name) == [] or choice.missing
                break
        assert {figures.plan: figures.windows for figures in self.it.figures(self.now)} == self.attempts


TestSchedulerMachine = SchedulerMachine.TestCase
TestSchedulerMachine.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)

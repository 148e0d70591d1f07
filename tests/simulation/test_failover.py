"""Plans that die, hang, come back: who answers, in time or not, and what the result says."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from tests.simulation.world import GONE, HANGS, MS, S, World, answers, fails, noisy, phases

from firstspike.schedule import Plan, Scheduler, Settings

DEADLINE = 50 * MS
ORDER = Settings(DEADLINE)


def late(world):
    return [fate for fate in world.fates if fate.by and fate.done_ns - fate.closed_ns > DEADLINE]


def test_a_worker_that_dies_and_comes_back_costs_no_window():
    # Its death fails the window in flight; then it is not ready for a second.
    dying = phases(answers(3), (2, fails()), (2.05, GONE), (3, answers(3)))
    world = World({"a": dying, "b": phases(answers(8))}, ORDER).run(5, period_ms=50)
    assert world.statuses(0, 2) == {"ok": 39}
    assert world.statuses(2, 3) == {"degraded": 20}
    assert world.by(2, 3) == {"b": 20}
    assert world.between(2, 2.05)[0].reasons == ["a: failed; answered by b"]
    assert world.between(2.5, 3)[0].reasons == ["a: not ready; answered by b"]
    assert world.by(3) == {"a": world.statuses(3)["ok"]}
    assert not late(world)


def test_a_plan_that_hangs_never_makes_a_window_late():
    world = World({"a": phases(answers(3), (2, HANGS), (6, answers(3))), "b": phases(answers(8))}, ORDER)
    world.run(20, period_ms=50)
    assert not late(world)
    assert set(world.statuses()) == {"ok", "degraded"}
    asked = [fate for fate in world.between(2, 6) if "a" in fate.asked]
    assert len(asked) == 3 + 2, "three failures open the breaker; it tries again after 1 s and, 2 s later, once more"
    assert all(fate.by == "b" for fate in world.between(2, 6))
    assert world.by(12) == {"a": world.statuses(12)["ok"]}


def test_the_results_say_who_failed_and_who_rests():
    world = World({"a": phases(fails()), "b": phases(answers(1))}, ORDER).run(0.5, period_ms=50)
    reasons = [fate.reasons[0] for fate in world.fates]
    assert reasons[:3] == ["a: failed; answered by b"] * 3
    assert set(reasons[3:]) == {"a: failed 3 times in a row, and rests; answered by b"}


def test_a_crash_loop_is_tried_ever_less_often():
    world = World({"a": phases(fails()), "b": phases(answers(8))}, ORDER).run(600, period_ms=50)
    tries = [fate.closed_ns / S for fate in world.fates if "a" in fate.asked]
    gaps = [round(after - before) for before, after in itertools.pairwise(tries[2:])]
    assert gaps[:6] == [1, 2, 4, 8, 16, 30]
    assert set(gaps[6:]) == {30}
    assert world.by() == {"b": 12000}


def test_a_plan_that_fails_again_after_each_return_is_rested_at_once():
    # It answers every second of its windows: without probation, three windows would suffer after each rest.
    calls = []

    def moody(now_ns):
        return answers(3) if len(calls) > 2 and len(calls) % 2 else fails()

    world = World({"a": moody, "b": phases(answers(8))}, ORDER)
    real = world._attempt

    def attempt(name, budget):
        outcome = real(name, budget)
        if name == "a":
            calls.append(world.now_ns)
        return outcome

    world._attempt = attempt
    world.run(120, period_ms=50)
    # Three failures, then after rests of 1, 2, 4, 8, 16, 30 and 30 s one answer and one failure each.
    assert len(calls) == 3 + 2 * 7
    assert world.by() == Counter(a=7, b=len(world.fates) - 7)


def test_both_die_and_come_back():
    plans = {"a": phases(answers(3), (1, GONE), (3, answers(3))), "b": phases(answers(8), (1, GONE), (2, answers(8)))}
    world = World(plans, ORDER).run(4, period_ms=50)
    assert world.by(1, 2) == {None: 20}
    assert world.statuses(1, 2) == {"degraded": 20}
    assert world.between(1, 2)[0].reasons == ["a: not ready"]
    assert world.by(2, 3) == {"b": 20}
    assert world.by(3) == {"a": 21}
    assert world.statuses(3) == {"ok": 21}


def test_the_only_plan_is_asked_however_often_it_fails():
    world = World({"a": phases(fails(), (30, answers(3)))}, ORDER).run(60, period_ms=50)
    assert all(fate.asked == ("a",) for fate in world.fates)
    assert world.statuses(0, 30) == {"degraded": 599}
    assert world.statuses(30) == {"ok": 601}


@pytest.mark.parametrize("seed", range(10))
def test_a_fall_back_is_in_time_whenever_its_p99_allows(seed):
    # Either plan's time is spread by half; the first hangs half of the time, in stretches shorter than any rest.
    stretches = [(2 + 0.5 * n, HANGS if n % 2 else answers(12)) for n in range(100)]
    first, second = noisy(phases(answers(12), *stretches), 0.5, seed), noisy(phases(answers(10)), 0.5, seed + 99)
    settings = Settings(DEADLINE, policy="latency", probe_every=5)
    world = World({"a": first, "b": second}, settings).run(52, period_ms=50)
    assert not late(world)
    unanswered = [fate for fate in world.between(3, 60) if fate.by is None]
    assert not unanswered
    assert world.by()["a"]
    assert world.by()["b"]


def test_a_first_plan_that_leaves_no_room_for_the_second_is_not_cut_short_for_it():
    world = World({"a": phases(answers(30)), "b": phases(answers(25))}, ORDER).run(10, period_ms=60)
    assert world.statuses() == {"ok": 166}
    assert world.by() == {"a": 166}


def test_and_it_comes_back_though_no_trial_of_it_leaves_room():
    a = phases(answers(30), (5, fails()), (5.3, answers(30)))
    world = World({"a": a, "b": phases(answers(25))}, ORDER)
    world.run(45, period_ms=60)
    assert world.by(5.5, 35) == Counter(b=len(world.between(5.5, 35)))
    assert world.by(36) == Counter(a=len(world.between(36, 60)))


def test_a_plan_that_has_become_too_slow_gives_way_and_returns_when_it_is_quick():
    a = phases(answers(10), (2, answers(70)), (10, answers(10)))
    world = World({"a": a, "b": phases(answers(1))}, ORDER).run(60, period_ms=60)
    assert not late(world)
    assert None not in world.by()
    assert world.by(2, 10)["a"] == 0
    assert world.by(45) == Counter(a=len(world.between(45, 61)))


def test_with_three_plans_the_time_of_all_is_kept_back():
    hangs = phases(HANGS)
    world = World({"a": hangs, "b": hangs, "c": phases(answers(5))}, ORDER).run(30, period_ms=60)
    assert world.by(0.1) == Counter(c=len(world.between(0.1, 31))), "of the first window nothing was known"
    assert not late(world)


def test_a_chain_is_out_as_soon_as_one_of_its_parts_is():
    scheduler = Scheduler([Plan("hybrid", ("loihi", "trt")), Plan.of("trt")], ORDER)
    assert scheduler.choose(0, 0, {"loihi", "trt"}).plans == ("hybrid", "trt")
    choice = scheduler.choose(0, 0, {"trt"})
    assert choice.plans == ("trt",)
    assert choice.faults([], "trt") == ["hybrid: loihi is not ready; answered by trt"]
    choice = scheduler.choose(0, 0, {"trt"}, {"loihi": "loihi: absent: no board"})
    assert choice.faults([], "trt") == ["loihi: absent: no board; answered by trt"]

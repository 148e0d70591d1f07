"""The favourite: who it becomes, how it holds, and how a plan that recovered is noticed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.simulation.world import GONE, MS, World, answers, fails, noisy, phases

from firstspike.schedule import Settings

LATENCY = Settings(50 * MS, policy="latency", probe_every=20, hold=10)


def first_of(world, name, after_s):
    """Windows after this time until the plan answers and goes on doing so, save one probe of another."""
    fates = world.between(after_s, 1e9)
    stays = (n for n in range(len(fates)) if sum(fate.by == name for fate in fates[n : n + 15]) >= 14)
    return next(n for n in stays if fates[n].by == name)


def test_the_quicker_plan_becomes_the_favourite():
    world = World({"a": phases(answers(20)), "b": phases(answers(5))}, LATENCY).run(30, period_ms=50)
    assert world.by(20)["b"] >= 0.94 * len(world.between(20, 30))
    assert world.statuses() == {"ok": 600}


def test_a_slow_down_makes_another_the_favourite_and_its_end_brings_it_back():
    a = phases(answers(10), (20, answers(20)), (60, answers(10)))
    world = World({"a": a, "b": phases(answers(14))}, LATENCY).run(120, period_ms=50)
    assert first_of(world, "a", 10) < 2
    # 7 of the last 9 latencies have to tell, then it has to hold for 10 windows; back, they come from probes.
    assert first_of(world, "b", 20) <= 7 + LATENCY.hold + 2
    assert first_of(world, "a", 60) <= 7 * LATENCY.probe_every + LATENCY.hold + 2
    assert world.statuses() == {"ok": 2400}


@pytest.mark.parametrize("seed", range(5))
def test_plans_that_are_nearly_equal_do_not_alternate(seed):
    a, b = noisy(phases(answers(10)), 0.3, seed), noisy(phases(answers(10)), 0.3, seed + 50)
    settings = Settings(50 * MS, policy="latency")
    world = World({"a": a, "b": b}, settings).run(600, period_ms=50)
    # 12000 windows, of which 240 are probes of the other one: there and back.
    probes = len(world.fates) // settings.probe_every
    assert world.switches() <= 2 * probes + 2
    assert world.favourites() <= 2


def test_a_tenth_better_is_enough_and_less_is_not():
    for b_ms, winner in ((9.1, "a"), (8.9, "b")):
        world = World({"a": phases(answers(10)), "b": phases(answers(b_ms))}, LATENCY).run(60, period_ms=50)
        assert world.by(50).most_common(1)[0][0] == winner


def test_the_trickle_finds_a_plan_that_recovered():
    b = phases(answers(5), (10, answers(25)), (30, answers(5)))
    world = World({"a": phases(answers(15)), "b": b}, LATENCY).run(60, period_ms=50)
    assert world.by(20, 30)["b"] <= 10, "probes alone"
    assert first_of(world, "b", 30) <= 7 * LATENCY.probe_every + LATENCY.hold
    assert None not in world.by()


def test_a_plan_too_slow_for_a_probe_rests_like_one_that_fails_and_is_found_after_its_rest():
    b = phases(answers(5), (10, answers(45)), (30, answers(5)))
    world = World({"a": phases(answers(15)), "b": b}, LATENCY).run(80, period_ms=50)
    assert world.by(10.5, 30)["b"] == 0
    rest = LATENCY.rest_max_ns // (50 * MS)
    assert first_of(world, "b", 30) <= rest + 7 * LATENCY.probe_every + LATENCY.hold
    assert None not in world.by()


def test_a_plan_that_is_ready_late_is_found_and_is_not_missed_before():
    b = phases(GONE, (10, answers(5)))
    world = World({"b": b, "a": phases(answers(15))}, LATENCY).run(40, period_ms=50)
    assert world.statuses(0, 10) == {"ok": 199}, "nothing is known of it: nobody can say that it should have answered"
    assert world.by(25)["b"] >= 0.9 * len(world.between(25, 40))


def test_a_favourite_that_is_out_is_missed():
    b = phases(answers(5), (10, GONE), (20, answers(5)))
    world = World({"a": phases(answers(15)), "b": b}, LATENCY).run(30, period_ms=50)
    assert world.statuses(10, 20) == {"degraded": 200}
    assert world.between(10, 20)[0].reasons == ["b: not ready; answered by a"]
    assert world.fates[-1].status == "ok"
    assert first_of(world, "b", 20) <= 1


def test_stand_ins_that_are_nearly_equal_do_not_alternate_either():
    plans = {
        "a": phases(answers(3), (30, GONE)),
        "b": noisy(phases(answers(10)), 0.3, 1), "c": noisy(phases(answers(10)), 0.3, 2),
    }  # fmt: skip
    world = World(plans, Settings(50 * MS, policy="latency")).run(330, period_ms=50)
    assert world.favourites() <= 3, "a, its stand-in, and at most one more"


def test_a_failing_probe_costs_no_window_and_is_no_fault():
    world = World({"a": phases(answers(5)), "b": phases(fails())}, LATENCY).run(100, period_ms=50)
    assert world.statuses() == {"ok": 2000}
    assert world.by() == {"a": 2000}
    asked = sum("b" in fate.asked for fate in world.fates)
    assert 5 <= asked <= 15, "every 20th window until it rests, then after each rest"


def test_no_probe_is_made_where_the_favourite_could_not_answer_after_it():
    world = World({"a": phases(answers(35)), "b": phases(answers(34))}, LATENCY).run(30, period_ms=60)
    assert world.by(0.1) == {"a": 499}


@pytest.mark.parametrize("policy", ["latency", "energy", "edp"])
def test_without_probes_no_window_is_used_for_figures(policy):
    settings = replace(LATENCY, policy=policy, probe_every=0)
    world = World({"a": phases(answers(35)), "b": phases(answers(2))}, settings).run(30, period_ms=50)
    assert world.by(0.1) == {"a": 599}


def test_the_order_given_asks_no_plan_for_its_figures():
    world = World({"a": phases(answers(35)), "b": phases(answers(2))}, Settings(50 * MS)).run(30, period_ms=50)
    assert world.by(0.1) == {"a": 599}


@pytest.mark.parametrize(("policy", "winner"), [("latency", "fast"), ("energy", "frugal"), ("edp", "both")])
def test_each_policy_wants_another_plan(policy, winner):
    plans = {
        "first": phases(answers(30, 5.0)), "fast": phases(answers(2, 4.0)), "frugal": phases(answers(30, 0.5)),
        "both": phases(answers(3, 1.0)),
    }  # fmt: skip
    world = World(plans, replace(LATENCY, policy=policy, deadline_ns=200 * MS)).run(120, period_ms=100)
    assert world.by(100).most_common(1)[0][0] == winner


def test_measured_and_modelled_energies_are_not_compared():
    plans = {"modelled": phases(answers(5, 1e-6)), "metered": phases(answers(5, 0.1, measured=True))}
    world = World(plans, replace(LATENCY, policy="energy")).run(60, period_ms=50)
    assert world.by(40).most_common(1)[0][0] == "metered"
    choice = world.scheduler.choose(world.now_ns, world.now_ns, ["modelled", "metered"])
    assert choice.reason == "energies that are not compared: metered's is measured, modelled's is modelled"
    figures = {figure.plan: figure for figure in world.scheduler.figures(world.now_ns)}
    assert (figures["modelled"].measured, figures["metered"].measured) == (False, True)
    assert figures["metered"].energy_j == pytest.approx(0.1)

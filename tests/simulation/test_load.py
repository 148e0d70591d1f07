"""More windows than can be answered: which are dropped, why, and that nothing else is lost."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from tests.simulation.world import GONE, HANGS, MS, World, answers, fails, noisy, phases

from firstspike.schedule import Settings

DEADLINE = 50 * MS


def causes(world):
    return Counter(fate.reasons[0] for fate in world.fates if fate.status == "dropped")


@pytest.mark.parametrize("queue", [1, 2, 4, 16])
@pytest.mark.parametrize("times", [2, 10])
def test_under_overload_the_answers_are_in_time_and_the_drops_are_the_rest(queue, times):
    world = World({"a": phases(answers(10))}, Settings(DEADLINE, queue=queue)).run(20, period_ms=10 / times)
    answered = [fate for fate in world.fates if fate.by]
    assert max(fate.age_ms for fate in answered) <= 50
    assert len(answered) == pytest.approx(2000, abs=5), "it is never idle"
    assert sum(world.queue.counts.values()) == world.arrivals - len(answered)
    assert causes(world) == +Counter(world.queue.counts)
    assert world.statuses() == {"ok": len(answered), "dropped": world.arrivals - len(answered)}


def test_a_short_queue_keeps_answers_young_under_overload():
    world = World({"a": phases(answers(10))}, Settings(DEADLINE, queue=1)).run(20, period_ms=5)
    assert max(fate.age_ms for fate in world.fates if fate.by) <= 20


def test_windows_are_answered_in_the_order_in_which_they_closed():
    world = World({"a": noisy(phases(answers(10)), 0.9)}, Settings(DEADLINE, queue=4)).run(20, period_ms=7)
    answered = [fate.closed_ns for fate in world.fates if fate.by]
    assert answered == sorted(answered)
    assert len(answered) > 1000


def test_a_plan_slower_than_the_deadline_is_still_asked_and_found_when_it_is_quick():
    world = World({"a": phases(answers(80), (10, answers(5)))}, Settings(DEADLINE)).run(20, period_ms=50)
    assert world.by(0, 10) == {None: 199}
    assert world.by(10.2, 20) == {"a": len(world.between(10.2, 20))}
    assert world.statuses(11)["ok"] == len(world.between(11, 21))


def test_a_halt_of_the_machine_is_not_caught_up_with():
    # The one plan takes 30 s for a window: what closed meanwhile is gone, what comes after is answered.
    world = World({"a": phases(answers(5))}, Settings(DEADLINE))
    real, halts = world._attempt, iter([30_000 * MS])

    def attempt(name, budget):
        if world.now_ns > 5000 * MS:
            world.now_ns += next(halts, 0)
        return real(name, budget)

    world._attempt = attempt
    world.run(60, period_ms=50)
    after = world.between(35.2, 61)
    assert world.by(35.2, 61) == {"a": len(after)}
    assert world.statuses()["late"] == 1
    assert causes(world)["replaced"] + causes(world)["stale"] == world.statuses()["dropped"] > 590


def test_replays_drop_nothing_and_take_the_order_given():
    a = phases(answers(500), (10, GONE), (20, answers(500)), (30, fails()), (60, HANGS), (62, answers(1)))
    settings = Settings(DEADLINE, policy="energy", queue=1).for_replay()
    world = World({"a": a, "b": phases(answers(700))}, settings).run(10, period_ms=50)
    assert [fate.window for fate in world.fates] == list(range(200))
    assert set(world.statuses()) <= {"ok", "degraded"}
    assert all(fate.first == "a" or fate.reasons == ["a: not ready; answered by b"] for fate in world.fates)


def test_the_same_world_gives_the_same_fates():
    def fates():
        plans = {
            "a": noisy(phases(answers(10), (3, HANGS), (9, answers(10))), 0.9),
            "b": noisy(phases(answers(10)), 0.9, 7), "c": phases(answers(11)),
        }  # fmt: skip
        return World(plans, Settings(DEADLINE, policy="latency", probe_every=7)).run(30, period_ms=20).fates

    assert fates() == fates()


ACTS = st.one_of(
    st.just(GONE), st.just(HANGS), st.floats(0.01, 120).map(answers), st.floats(0.01, 60).map(fails),
    st.tuples(st.floats(0.01, 60), st.floats(-1, 1), st.booleans()).map(lambda t: answers(t[0], t[1], measured=t[2])),
)  # fmt: skip
BEHAVIOURS = st.lists(st.tuples(st.floats(0, 3), ACTS), max_size=4).flatmap(
    lambda steps: ACTS.map(lambda first: phases(first, *sorted(steps, key=lambda step: step[0])))
)


@hypothesis_settings(max_examples=150, deadline=None)
@given(
    plans=st.lists(BEHAVIOURS, min_size=1, max_size=4), policy=st.sampled_from(["order", "latency", "energy", "edp"]),
    queue=st.integers(1, 5), probe_every=st.sampled_from([0, 2, 9]), deadline_ms=st.integers(1, 100),
    gaps=st.lists(st.integers(0, 150), min_size=1, max_size=150),
)  # fmt: skip
def test_every_window_has_one_fate_whatever_happens(plans, policy, queue, probe_every, deadline_ms, gaps):
    settings = Settings(deadline_ms * MS, policy=policy, queue=queue, probe_every=probe_every)
    world = World(dict(zip("abcd", plans, strict=False)), settings)
    closings = [sum(gaps[: n + 1]) * MS for n in range(len(gaps))]
    world.feed(closings)
    assert sorted(fate.window for fate in world.fates) == list(range(len(gaps)))
    answered = [fate for fate in world.fates if fate.by]
    assert all(fate.done_ns - fate.closed_ns <= deadline_ms * MS for fate in answered)
    assert all(bool(fate.reasons) == (fate.status != "ok") for fate in world.fates)
    assert all(fate.by or fate.status in ("dropped", "degraded") for fate in world.fates)
    assert sum(world.queue.counts.values()) == world.statuses()["dropped"]
    attempts = Counter(name for fate in world.fates for name in fate.asked)
    assert all(figure.windows == attempts[figure.plan] for figure in world.scheduler.figures(world.now_ns))

"""The scheduler's smaller parts: plans, quantiles, figures, the breaker, ratings and the hold, settings."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firstspike.schedule import Outcome, Plan, Settings
from firstspike.schedule.breaker import HEALED, Breaker
from firstspike.schedule.figures import KEPT, RECENT, Record
from firstspike.schedule.policy import MEASURED, MODELLED, UNKNOWN, Hold, Rating, rate
from firstspike.schedule.quantiles import Quantiles

MS = 1_000_000
S = 1_000 * MS


def breaker():
    return Breaker(failures=3, rest_ns=S, rest_max_ns=30 * S)


def record(*latencies_ms, energies=(), measured=False):
    made = Record(breaker())
    for n, latency in enumerate(latencies_ms):
        energy = energies[n] if n < len(energies) else None
        made.add(Outcome(ok=True, latency_ns=latency * MS, energy_j=energy, measured=measured), 0, 50 * MS)
    return made


def test_a_plan_waits_for_its_first_part_that_is_not_ready():
    plan = Plan("hybrid", ("loihi", "trt"))
    assert plan.waits_for({"loihi", "trt"}) is None
    assert plan.waits_for({"trt"}) == "loihi"
    assert plan.waits_for(["loihi"]) == "trt"
    assert Plan.of("trt") == Plan("trt", ("trt",))


@pytest.mark.parametrize("wrong", [("", ("a",)), ("a", ()), ("a", ("b", ""))])
def test_a_plan_without_a_name_or_parts_is_refused(wrong):
    with pytest.raises(ValueError, match="needs a name and the back end"):
        Plan(*wrong)


@pytest.mark.parametrize("wrong", [{"latency_ns": -1}, {"energy_j": math.nan}, {"energy_j": math.inf}])
def test_an_outcome_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match=r"took -1 ns|energy of (nan|inf) J"):
        Outcome(**({"ok": True, "latency_ns": 1} | wrong))


@given(st.lists(st.integers(0, 50), max_size=60), st.integers(1, 20), st.integers(1, 100))
def test_a_quantile_is_the_nearest_rank_of_the_last_values(values, length, percent):
    quantiles = Quantiles(length)
    for value in values:
        quantiles.add(value)
    last = sorted(values[-length:])
    assert len(quantiles) == len(last)
    # In whole numbers: ⌈n · percent / 100⌉.
    expected = last[(len(last) * percent + 99) // 100 - 1] if last else None
    assert quantiles.at(percent / 100) == expected


def test_the_rank_is_not_moved_by_rounding():
    quantiles = Quantiles(100)
    for value in range(1, 101):
        quantiles.add(value)
    assert [quantiles.at(percent / 100) for percent in range(1, 101)] == list(range(1, 101))


def test_quantiles_of_nothing_are_refused():
    with pytest.raises(ValueError, match="at least 1"):
        Quantiles(0)


def test_the_breaker_opens_after_failures_in_a_row_and_rests_twice_as_long_each_time():
    it = breaker()
    for _ in range(2):
        it.fail(0)
        it.fail(0)
        assert it.state(0) == "closed"
        it.succeed()
    it.fail(0)
    it.fail(0)
    it.fail(0)
    now = 0
    for rest in (1, 2, 4, 8, 16, 30, 30, 30):
        assert it.state(now + rest * S - 1) == "open"
        now += rest * S
        assert it.state(now) == "half-open"
        it.begin_trial(now)
        it.fail(now)
    it.succeed()
    assert it.state(now) == "closed"


def test_a_trial_that_is_never_heard_of_counts_as_a_rest():
    it = breaker()
    for _ in range(3):
        it.fail(0)
    it.begin_trial(S)
    assert it.state(S) == "open"
    assert it.state(4 * S) == "half-open"


def test_a_plan_on_probation_opens_at_its_first_failure_until_it_has_healed():
    it = breaker()
    for _ in range(3):
        it.fail(0)
    it.succeed()
    it.fail(S)
    assert it.state(S) == "open"
    for _ in range(HEALED - 1):
        it.succeed()
    it.fail(S)
    for _ in range(HEALED - 1):
        it.succeed()
    it.fail(2 * S)
    assert it.state(2 * S) == "open", "answers in a row"
    for _ in range(HEALED):
        it.succeed()
    it.fail(2 * S)
    it.fail(2 * S)
    assert it.state(2 * S) == "closed"
    it.fail(2 * S)
    assert (it.state(3 * S - 1), it.state(3 * S)) == ("open", "half-open")


def test_failures_while_it_rests_do_not_lengthen_the_rest():
    it = breaker()
    for _ in range(1000):
        it.fail(S // 2)
    assert it.state(S * 3 // 2) == "half-open"


def test_figures_are_of_what_came_in():
    it = record(4, 2, 9)
    it.add(Outcome(ok=False, latency_ns=MS), 0, 50 * MS)
    figures = it.figures("a", 0)
    assert (figures.plan, figures.state, figures.windows, figures.failures) == ("a", "closed", 4, 1)
    assert (figures.failures_in_a_row, figures.p50_ns, figures.p99_ns) == (1, 4 * MS, 9 * MS)
    assert (figures.energy_j, figures.measured) == (None, None)
    empty = Record(breaker()).figures("b", 0)
    assert (empty.windows, empty.p50_ns, empty.p99_ns, empty.expected_ns) == (0, None, None, None)


def test_an_attempt_that_ran_out_of_its_budget_counts_as_a_whole_deadline():
    it = Record(breaker())
    it.add(Outcome(ok=False, latency_ns=20 * MS, timed_out=True), 0, 50 * MS)
    it.add(Outcome(ok=False, latency_ns=80 * MS, timed_out=True), 0, 50 * MS)
    assert (it.figures("a", 0).p50_ns, it.figures("a", 0).p99_ns) == (50 * MS, 80 * MS)
    assert not it.trusted


def test_what_is_expected_follows_the_last_few_and_p99_remembers_more():
    it = record(*[40] * KEPT, *[5] * (RECENT // 2 + 1))
    assert it.expected_ns == 5 * MS
    assert it.figures("a", 0).p50_ns == it.p99_ns == 40 * MS
    for _ in range(KEPT):
        it.add(Outcome(ok=True, latency_ns=MS), 0, None)
    assert it.p99_ns == MS


def test_a_mean_energy_is_never_of_both_kinds():
    it = record(1, 1, 1, energies=(1.0, 3.0, 2.0))
    assert (it.energy_j, it.measured) == (2.0, False)
    it.add(Outcome(ok=True, latency_ns=1, energy_j=-0.5, measured=True), 0, None)
    assert (it.energy_j, it.measured) == (-0.5, True)
    it.add(Outcome(ok=True, latency_ns=1), 0, None)
    assert (it.energy_j, it.measured) == (-0.5, True)


def test_plans_are_rated_by_the_policy_and_those_without_figures_come_last_as_given():
    records = {
        "new": Record(breaker()), "slow": record(9, 9, 9, energies=[1.0] * 3), "quick": record(2, 2, 2),
        "young": record(1, 1), "metered": record(20, 20, 20, energies=[7.0] * 3, measured=True),
    }  # fmt: skip
    names = list(records)

    def order(policy):
        return [(rating.plan, rating.group) for rating in rate(policy, names, records)]

    assert [plan for plan, _ in order("order")] == names
    assert order("latency") == [
        ("quick", MEASURED), ("slow", MEASURED), ("metered", MEASURED), ("new", UNKNOWN), ("young", UNKNOWN),
    ]  # fmt: skip
    assert order("energy") == [
        ("metered", MEASURED), ("slow", MODELLED), ("new", UNKNOWN), ("quick", UNKNOWN), ("young", UNKNOWN),
    ]  # fmt: skip
    assert order("edp") == order("energy")
    assert rate("edp", ["slow"], records)[0].cost == pytest.approx(1.0 * 0.009)


def test_an_uncertain_energy_is_not_better_before_it_is_so_surely():
    def metered(joules, u95):
        made = record(1, 1, 1)
        for _ in range(3):
            made.add(Outcome(True, MS, joules, measured=True, energy_u95_j=u95), 0, 50 * MS)
        return made

    for policy in ("energy", "edp"):
        for u95, taken in ((0.1, "b"), (0.3, "a")):
            ratings = rate(policy, ["a", "b"], {"a": metered(2.0, u95), "b": metered(1.5, u95)})
            hold = Hold(0.1, 1)
            hold.update([rating for rating in ratings if rating.plan == "a"])
            assert hold.update(ratings) == taken
    assert metered(2.0, 0.3).figures("a", 0).energy_u95_j == pytest.approx(0.3)


@pytest.mark.parametrize("energy", [2.0, -2.0])
def test_an_energy_delay_product_lies_between_its_bounds(energy):
    records = {"a": record(1, 1, 2, 2, 2, 2, 3, 3, 3, energies=[energy] * 9)}
    (rating,) = rate("edp", ["a"], records)
    assert rating.least <= rating.cost <= rating.most
    assert rating.most - rating.least == pytest.approx(2.0 * 0.001)


def ratings(**costs):
    return sorted(
        (Rating(plan, MEASURED, cost, cost - 0.1, cost + 0.1) for plan, cost in costs.items()), key=lambda r: r.cost
    )


def test_the_hold_waits_for_a_run_of_better_windows():
    hold = Hold(0.1, 3)
    assert hold.update([]) is None
    assert hold.update(ratings(a=10, b=20)) == "a"
    for _ in range(2):
        assert hold.update(ratings(a=10, b=8)) == "a"
    assert hold.update(ratings(a=10, b=9.5)) == "a", "not a tenth better: the run is broken"
    for _ in range(2):
        assert hold.update(ratings(a=10, b=8)) == "a"
    assert hold.update(ratings(a=10, b=8)) == "b"


def test_the_run_must_be_of_one_challenger():
    hold = Hold(0.1, 2)
    hold.update(ratings(a=10))
    for n in range(10):
        assert hold.update(ratings(a=10, b=5 - n % 2, c=4.5)) == "a"


def test_a_choice_that_is_gone_is_replaced_at_once():
    hold = Hold(0.1, 1000)
    assert hold.update(ratings(a=1, b=2)) == "a"
    assert hold.update(ratings(b=2, c=3)) == "b"
    assert hold.update([]) is None


def test_plans_without_figures_do_not_challenge_one_another():
    a, b = (Rating(plan, UNKNOWN, 0.0, 0.0, 0.0) for plan in "ab")
    hold = Hold(0.1, 1)
    assert hold.update([b]) == "b"
    assert hold.update([a, b]) == "b"


def test_noise_that_overlaps_changes_nothing_and_what_is_negative_compares():
    hold = Hold(0.1, 1)
    assert hold.update([Rating("a", MEASURED, 10, 7, 13)]) == "a"
    assert hold.update([Rating("b", MEASURED, 5, 4, 6.5), Rating("a", MEASURED, 10, 7, 13)]) == "a"
    assert hold.update([Rating("b", MEASURED, 5, 4, 6.2), Rating("a", MEASURED, 10, 7, 13)]) == "b"
    hold = Hold(0.1, 1)
    assert hold.update(ratings(a=-10)) == "a"
    assert hold.update(ratings(a=-10, b=-10.5)) == "a"
    assert hold.update(ratings(a=-10, b=-12)) == "b"


def test_another_group_counts_by_its_rank_alone():
    hold = Hold(0.1, 1)
    assert hold.update([Rating("a", MODELLED, 1e-9, 1e-9, 1e-9)]) == "a"
    both = [Rating("b", MEASURED, 5, 5, 5), Rating("a", MODELLED, 1e-9, 1e-9, 1e-9)]
    assert hold.update(both) == "b"
    assert hold.update(both[::-1]) == "b"


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"deadline_ns": 0}, "deadline_ns"), ({"policy": "best"}, "order, latency, energy, edp"),
        ({"deadline_ns": None, "policy": "latency"}, "without a deadline"), ({"better": 1.0}, "better"),
        ({"better": -0.1}, "better"), ({"better": math.nan}, "better"), ({"hold": 0}, "hold"),
        ({"probe_every": 1}, "probe_every"), ({"probe_every": -2}, "probe_every"), ({"unknown_ns": 0}, "unknown_ns"),
        ({"margin": 0.9}, "margin"), ({"margin": math.nan}, "margin"), ({"slack_ns": -1}, "slack_ns"),
        ({"failures": 0}, "failures"), ({"rest_ns": 0}, "rest_ns"), ({"rest_max_ns": 1}, "rest_max_ns"),
        ({"queue": 0}, "queue"),
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused_by_name(wrong, text):
    with pytest.raises(ValueError, match=text):
        Settings(**({"deadline_ns": 50 * MS} | wrong))

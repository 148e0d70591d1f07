"""The account: windows, plans, shares, what decisions and the scheduler are told. No meter, no thread, no time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from firstspike.energy.account import FRESH_NS, Accounts, PlanMeters
from firstspike.energy.interval import Figure, Idle, combined, unavailable
from firstspike.energy.operations import Modelled
from firstspike.energy.share import Share, Shares
from firstspike.energy.stream import StreamAccount
from firstspike.energy.totals import Totals
from firstspike.messages import Energy, encode
from firstspike.types import Inference, Spikes

S = 1_000_000_000
SPIKES = Spikes(4, np.zeros((1, 2, 2), np.uint8), 3)
ANSWER = Inference("a", np.zeros(2, np.int32), None)


class Clock:
    def __init__(self, kind="monotonic"):
        self.kind, self.now = kind, 0

    def now_ns(self):
        return self.now

    def reach(self, sensor_us):
        raise AssertionError


class FakeModel:
    def __init__(self, *, parts=False, knows=True):
        self.parts, self.knows, self.learnt = parts, knows, 0

    def inference(self, spikes, inference):
        if not self.knows:
            return Modelled(None, None, None, "not known", exact=False, u95_fraction=None)
        return Modelled(3e-6, *((1e-6, 2e-6) if self.parts else (None, None)), "counted", exact=True, u95_fraction=0.0)

    def learn(self, spikes):
        self.learnt += 1


def figure(number=0, total=5.0, dynamic=1.0, meter="m", **changes):
    idle = Idle(4.0, 0.1, 0.05, 10.0)
    made = Figure("integrated", number * S, (number + 1) * S, meter, "board", 100, 20.0, idle, total, dynamic, 0.01,
                  0.02, 0.1, 0.3)  # fmt: skip
    return replace(made, **changes)


def accounts(clock=None, plans=("a", "b"), host=("m",), model=None, why=None, **meters):
    out = []
    clock = clock or Clock()
    made = Accounts(host=host, clock=clock, epoch="e", window_ns=S, sink=out.append, why=why)
    wanted = {name: meters.get(name, PlanMeters(host)) for name in plans}
    return Both(made, StreamAccount(made, None, wanted, model or FakeModel(), clock)), out


class Both:
    """The account, and what the only stream tells it."""

    def __init__(self, whole, stream):
        self.whole, self.stream = whole, stream

    def __getattr__(self, name):
        return getattr(self.stream if hasattr(self.stream, name) else self.whole, name)


def test_a_windows_energy_over_its_inferences_is_what_a_classification_costs():
    book, out = accounts()
    for _ in range(4):
        first = book.answered("a", SPIKES, ANSWER, 2_000_000)
    book.close(0, {"m": figure()})
    host, a, b = out
    assert [(m.subject, m.name, m.seq) for m in out] == [("host", "host", 0), ("backend", "a", 1), ("backend", "b", 2)]
    assert (host.total_j, host.dynamic_j, host.inferences, host.classification) == (5.0, 1.0, 4, None)
    assert a.classification.dynamic_j == pytest.approx(0.25)
    assert a.classification.total_j == pytest.approx(1.25)
    assert a.classification.u95_j == pytest.approx(a.u95_j / 4)
    assert a.latency_ms == pytest.approx(2.0)
    assert a.classification.edp_js == pytest.approx(0.25 * 0.002)
    assert a.classification.total_edp_js == pytest.approx(1.25 * 0.002)
    assert a.modelled_j == pytest.approx(3e-6)
    assert (b.classification, b.reason) == (None, "no inference in this window")
    # Before the first window was closed the model has the word, afterwards the meter.
    assert (first.measured, first.record.method, first.record.reason) == (
        False, "modelled", "no energy window is closed yet",
    )  # fmt: skip
    later = book.answered("a", SPIKES, ANSWER, 2_000_000)
    assert (later.measured, later.energy_j) == (True, 0.25)
    assert (later.record.method, later.record.meter, later.record.energy_seq) == ("integrated", "m", 1)
    assert later.u95_j == a.classification.u95_j


def test_an_inference_belongs_to_the_window_in_which_it_ended():
    clock = Clock()
    book, out = accounts(clock)
    book.answered("a", SPIKES, ANSWER, 1)
    clock.now = S
    book.answered("a", SPIKES, ANSWER, 1)
    book.close(0, {"m": figure(0)})
    book.close(1, {"m": figure(1)})
    assert [m.inferences for m in out if m.name == "a"] == [1, 1]


def test_a_figure_that_is_old_gives_way_to_the_model():
    clock = Clock()
    book, _ = accounts(clock)
    book.answered("a", SPIKES, ANSWER, 1)
    book.close(0, {"m": figure()})
    clock.now = S + FRESH_NS
    assert book.answered("a", SPIKES, ANSWER, 1).measured
    clock.now += 1
    spent = book.answered("a", SPIKES, ANSWER, 1)
    assert (spent.measured, spent.record.method) == (False, "modelled")
    assert spent.record.reason == "the plan's last metered energy window is more than a minute old"


def test_a_window_without_a_figure_says_why_and_is_counted():
    book, out = accounts()
    book.answered("a", SPIKES, ANSWER, 1)
    book.close(0, {"m": unavailable("Input/output error", 0, S)})
    host, a, _ = out
    assert (host.method, host.reason, host.since_start.unmetered_s) == ("unavailable", "Input/output error", 1.0)
    assert (a.method, a.classification.dynamic_j, a.classification.u95_j) == ("modelled", pytest.approx(3e-6), None)
    assert a.reason == "Input/output error"
    assert book.answered("a", SPIKES, ANSWER, 1).record.reason == "Input/output error"


def test_without_meter_and_model_every_figure_is_unavailable_with_the_reason():
    book, out = accounts(host=(), why="no meter was found", model=FakeModel(knows=False))
    spent = book.answered("a", SPIKES, ANSWER, 1)
    assert (spent.energy_j, spent.record.method) == (None, "unavailable")
    assert spent.record.reason == "no meter was found; there is no model of this network's operations"
    book.close(0, {})
    assert {(m.method, m.reason) for m in out} == {("unavailable", "no meter was found")}


def test_negative_dynamic_energy_goes_through_as_it_is():
    book, out = accounts()
    book.answered("a", SPIKES, ANSWER, 1)
    book.close(0, {"m": figure(dynamic=-0.5)})
    assert out[1].classification.dynamic_j == -0.5
    assert out[0].since_start.dynamic_j == -0.5
    assert book.answered("a", SPIKES, ANSWER, 1).energy_j == -0.5


def test_plans_that_share_windows_are_told_apart_by_least_squares():
    rng, shares, true = np.random.default_rng(1), Shares(), {"a": 0.010, "b": 0.040}
    for number in range(40):
        counts = {"a": int(rng.integers(5, 30)), "b": int(rng.integers(0, 10))}
        energy = sum(counts[name] * true[name] for name in counts) + rng.normal(0, 0.01)
        found = shares.add(counts, figure(number, 5.0, energy, gain=0.0, bias_j=0.0, base_j=0.0, random_j=0.02))
    for name, one in true.items():
        assert isinstance(found[name], Share)
        assert found[name].windows > 20
        assert abs(found[name].dynamic_j - one) <= 1.5 * found[name].u95_j
        assert found[name].u95_j < one / 3


def test_plans_that_always_share_in_one_proportion_cannot_be_told_apart():
    shares = Shares()
    for number in range(5):
        found = shares.add({"a": 4, "b": 2}, figure(number))
    assert found["a"] == "a and b answered within the same windows, in the same proportions"


def test_a_plan_with_a_meter_of_its_own_has_its_energy():
    book, out = accounts(b=PlanMeters(("stick",)))
    book.answered("a", SPIKES, ANSWER, 1)
    book.answered("b", SPIKES, ANSWER, 1)
    book.close(0, {"m": figure(), "stick": figure(total=2.0, dynamic=0.5, meter="stick")})
    _, a, b = out
    assert b.classification.dynamic_j == 0.5
    assert b.meter == "stick"
    # What the machine took for a stick's answers is not the other plan's.
    assert a.classification is None
    assert a.reason == "a and b answered within the same windows, in the same proportions"


def test_a_hybrids_parts_are_metered_where_they_have_meters_and_else_modelled():
    chain = PlanMeters(("m",), ("stick",))
    book, out = accounts(model=FakeModel(parts=True), plans=("a",), a=chain)
    book.answered("a", SPIKES, ANSWER, 1)
    book.close(0, {"m": figure(), "stick": figure(total=2.0, dynamic=0.5, meter="stick")})
    each = out[1].classification
    assert (each.front_j, each.back_j, each.dynamic_j, each.parts_method) == (1.0, 0.5, 1.5, "integrated")
    record = book.answered("a", SPIKES, ANSWER, 1).record
    assert (record.front_j, record.link_j, record.back_j, record.parts_method) == (1.0, None, 0.5, "integrated")
    book, out = accounts(model=FakeModel(parts=True), plans=("a",), a=PlanMeters(("m",), ("m",)))
    book.answered("a", SPIKES, ANSWER, 1)
    book.close(0, {"m": figure()})
    each = out[1].classification
    assert (each.dynamic_j, each.front_j, each.back_j, each.parts_method) == (1.0, 1e-6, 2e-6, "modelled")


def test_a_hybrid_with_one_part_metered_has_no_metered_energy():
    book, out = accounts(host=(), why="no meter", model=FakeModel(parts=True), plans=("a",), a=PlanMeters((), ("s",)))
    book.answered("a", SPIKES, ANSWER, 1)
    book.close(0, {"s": figure(meter="s")})
    assert (out[1].method, out[1].total_j, out[1].reason) == ("modelled", None, "no meter")
    spent = book.answered("a", SPIKES, ANSWER, 1)
    assert (spent.measured, spent.energy_j, spent.record.method) == (False, 3e-6, "modelled")


def test_what_was_done_in_an_open_window_is_not_lost_by_a_reload():
    clock = Clock()
    before, _ = accounts(clock)
    before.answered("a", SPIKES, ANSWER, 1)
    before.close(0, {"m": figure()})
    clock.now = S + S // 4
    before.answered("a", SPIKES, ANSWER, 1)
    clock.now = S + S // 2
    after, out = accounts(clock)
    after.follow(before.whole)
    after.close(0, {"m": figure()})
    host, a, _ = (message.since_start for message in out)
    assert (host.inferences, host.total_j, host.metered_s, host.unmetered_s) == (2, 10.0, 2.0, 0.5)
    assert (a.inferences, a.total_j, a.modelled_j) == (2, 5.0, pytest.approx(6e-6))


def test_joules_of_different_meters_are_not_added_up_over_a_reload():
    before, _ = accounts()
    before.answered("a", SPIKES, ANSWER, 1)
    before.close(0, {"m": figure()})
    after, out = accounts(host=("n",))
    after.follow(before.whole)
    after.close(0, {"n": figure(total=7.0, meter="n")})
    assert (out[0].since_start.inferences, out[0].since_start.total_j) == (1, 7.0)
    assert (out[1].since_start.inferences, out[1].since_start.total_j) == (1, 0.0)


def test_meters_that_have_nothing_in_common_are_added_up():
    both = combined([figure(meter="p0"), figure(total=7.0, dynamic=2.0, meter="p1")])
    assert (both.total_j, both.dynamic_j, both.meter, both.scope) == (12.0, 3.0, "p0 + p1", "board")
    assert both.idle.w == 8.0
    assert both.base_j == pytest.approx(0.2)
    broken = combined([figure(meter="p0"), unavailable("gone", 0, S)])
    assert (broken.total_j, broken.method) == (None, "unavailable")
    assert "gone" in broken.reason
    assert both.reason == "if p0 feeds what the others measure, that is in the sum twice"
    assert combined([figure(meter="p0", scope="package"), figure(meter="p1", scope="rail")]).reason is None
    nobody = combined([unavailable("no meter has it in it", 0, S), figure(meter="stick")])
    assert (nobody.meter, nobody.reason) == ("stick", "no meter has it in it")


def test_totals_add_what_is_always_wrong_and_square_what_is_drawn_anew():
    totals = Totals()
    for number in range(100):
        totals.add(figure(number))
    found = totals.message()
    assert (found.total_j, found.dynamic_j, found.metered_s) == (pytest.approx(500), pytest.approx(100), 100.0)
    assert found.u95_j == pytest.approx(np.hypot(np.hypot(1.0, 2.0), np.hypot(10.0, 3.0)))


def test_under_the_virtual_clock_the_account_is_modelled_and_the_same_to_the_byte():
    def run():
        clock = Clock("virtual")
        book, out = accounts(clock, host=(), why="the clock is virtual: no meter is read")
        for window in (0, 0, 3, 7):
            clock.now = window * S + 5
            spent = book.answered("a", SPIKES, ANSWER, 12345)
            assert (spent.measured, spent.record.method) == (False, "modelled")
        book.finish()
        return out

    out = run()
    assert [(m.start_ns // S, m.inferences) for m in out if m.name == "a"] == [(0, 2), (3, 1), (7, 1)]
    assert {m.latency_ms for m in out} == {None}
    assert {m.method for m in out} == {"modelled", "unavailable"}
    assert [encode(m) for m in out] == [encode(m) for m in run()]


def test_the_model_learns_after_the_answer_and_only_there():
    model = FakeModel()
    book, _ = accounts(model=model)
    book.answered("a", SPIKES, ANSWER, 1)
    assert model.learnt == 0
    book.learn()
    book.learn()
    assert model.learnt == 1


def test_the_daemon_is_idle_when_its_plans_are_ready_and_nothing_is_asked_of_them():
    clock = Clock()
    book, _ = accounts(clock)
    assert book.idle_since_ns() is None
    clock.now = 5
    book.end()
    assert book.idle_since_ns() == 5
    book.begin()
    assert book.idle_since_ns() is None
    clock.now = 9
    book.end()
    assert book.idle_since_ns() == 9


def test_every_message_is_valid_on_the_wire():
    book, out = accounts()
    book.answered("a", SPIKES, ANSWER, 1)
    book.close(0, {"m": figure()})
    for message in out:
        assert Energy.model_validate(message.model_dump(by_alias=True)) == message


# Several streams


def streams(*, networks=("n", "n"), plans=("a",)):
    """Two streams on one meter."""
    out, clock = [], Clock()
    made = Accounts(host=("m",), clock=clock, epoch="e", window_ns=S, sink=out.append, why=None)
    meters = {name: PlanMeters(("m",)) for name in plans}
    left, right = (
        StreamAccount(made, name, meters, FakeModel(), clock, None, network)
        for name, network in zip(("left", "right"), networks, strict=True)
    )
    return made, left, right, out


def test_streams_have_lines_of_their_own_and_the_machine_is_told_once():
    made, left, right, out = streams()
    for account in (left, right, right, right):
        account.answered("a", SPIKES, ANSWER, 2_000_000)
    made.close(0, {"m": figure()})
    made.close(1, {"m": figure(1)})
    assert [(m.stream, m.subject, m.name, m.seq) for m in out] == [
        (None, "host", "host", 0), ("left", "backend", "a", 0), ("right", "backend", "a", 0),
        (None, "host", "host", 1), ("left", "backend", "a", 1), ("right", "backend", "a", 1),
    ]  # fmt: skip
    assert [m.inferences for m in out[:3]] == [4, 1, 3]


def test_one_model_on_one_back_end_costs_the_same_whichever_stream_asks():
    made, left, right, out = streams()
    for account in (left, right, right, right):
        account.answered("a", SPIKES, ANSWER, 2_000_000)
    made.close(0, {"m": figure()})
    assert [m.classification.dynamic_j for m in out[1:]] == pytest.approx([0.25, 0.25])
    spent = left.answered("a", SPIKES, ANSWER, 2_000_000)
    assert (spent.measured, spent.energy_j, spent.record.energy_seq) == (True, 0.25, 0)
    # Whose share of the waiting it is, no meter knows.
    assert [(m.classification.total_j, m.since_start.metered_s) for m in out[1:]] == [(None, 0.0), (None, 0.0)]


def test_different_models_that_always_answer_alike_are_not_told_apart():
    made, left, right, _ = streams(networks=("n", "o"))
    for number in range(3):
        for account in (left, right):
            account.answered("a", SPIKES, ANSWER, 2_000_000)
        made._clock.now = (number + 1) * S
        made.close(number, {"m": figure(number)})
    record = left.answered("a", SPIKES, ANSWER, 2_000_000).record
    assert record.method == "modelled"
    assert "a (n) and a (o) answered within the same windows" in record.reason


def test_a_stream_that_was_silent_has_no_share_of_anothers_window():
    made, left, _, out = streams()
    left.answered("a", SPIKES, ANSWER, 2_000_000)
    made.close(0, {"m": figure()})
    assert [m.classification is None for m in out[1:]] == [False, True]
    assert out[2].reason == "no inference in this window"
    assert out[1].since_start.metered_s == 1.0


def test_the_machine_is_idle_when_the_plans_of_all_streams_are_ready_and_nobody_infers():
    made, left, right, _ = streams()
    left.end()
    assert made.idle_since_ns() is None
    right.end()
    assert made.idle_since_ns() is not None
    left.begin()
    assert made.idle_since_ns() is None

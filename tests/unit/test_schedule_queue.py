"""The bounded queue: who is dropped, why, and that nobody is lost."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from firstspike.schedule import Dropped, Queue, Schedule, Waiting

MS = 1_000_000


def test_windows_wait_in_the_order_in_which_they_closed_whoever_came_first():
    queue = Queue(4, 50)
    for item, closed in (("b", 2), ("c", 3), ("a", 1), ("b2", 2)):
        assert queue.put(item, closed) is None
    assert [queue.take(10).next for _ in range(5)] == [
        Waiting("a", 1), Waiting("b", 2), Waiting("b2", 2), Waiting("c", 3), None,
    ]  # fmt: skip


def test_a_full_queue_gives_up_its_oldest():
    queue = Queue(2, 50)
    queue.put("a", 1)
    assert not queue.full
    queue.put("c", 3)
    assert queue.full
    assert queue.put("d", 4) == Dropped("a", 1, "replaced")
    assert queue.put("b", 2) == Dropped("b", 2, "replaced"), "the new one may be the oldest, of another source"
    assert queue.counts == {"stale": 0, "hopeless": 0, "replaced": 2}
    assert len(queue) == 2


def test_the_deadline_makes_stale_and_what_the_plans_take_makes_hopeless():
    queue = Queue(9, 50)
    for closed in (0, 9, 10, 19, 20, 21):
        queue.put(f"at {closed}", closed)
    taken = queue.take(60, least_ns=10)
    assert [(drop.closed_ns, drop.cause) for drop in taken.dropped] == [
        (0, "stale"), (9, "stale"), (10, "hopeless"), (19, "hopeless"),
    ]  # fmt: skip
    assert taken.next == Waiting("at 20", 20)
    assert queue.counts == {"stale": 2, "hopeless": 2, "replaced": 0}
    assert len(queue) == 1


def test_a_young_window_is_never_hopeless():
    queue = Queue(9, 50)
    queue.put("a", 0)
    assert queue.take(25, least_ns=1000).next == Waiting("a", 0)
    queue.put("b", 0)
    assert queue.take(26, least_ns=1000).dropped == (Dropped("b", 0, "hopeless"),)


def test_without_a_deadline_nothing_is_dropped():
    queue = Queue(1, None)
    queue.put("a", 0)
    with pytest.raises(RuntimeError, match="take one first"):
        queue.put("b", 1)
    assert queue.take(10**18, least_ns=10**18).next == Waiting("a", 0)


def test_a_queue_without_room_is_refused():
    with pytest.raises(ValueError, match="1 or more"):
        Queue(0, 50)


@pytest.mark.parametrize(
    ("cause", "text"), [("stale", "not inferred: 7.0 ms"), ("hopeless", "in time"), ("replaced", "a newer window")]
)
def test_a_dropped_window_says_why(cause, text):
    status, reasons = Schedule(5 * MS).status(closed_ns=0, now_ns=7 * MS, faults=[], dropped=cause)
    assert status == "dropped"
    assert text in reasons[0]
    assert "7.0 ms after the window closed, the deadline is 5 ms" in reasons[0]


class QueueMachine(RuleBasedStateMachine):
    """Any calls: each window leaves once, none stays beyond the bound, and the freshest are kept."""

    @initialize(length=st.integers(1, 4), deadline=st.integers(1, 40))
    def begin(self, length, deadline):
        self.queue, self.length, self.deadline = Queue(length, deadline), length, deadline
        self.now, self.put, self.left, self.taken = 0, [], [], 0

    @rule(age=st.integers(0, 60), passed=st.integers(0, 30))
    def arrive(self, age, passed):
        self.now += passed
        item = (self.now - age, len(self.put))
        self.put.append(item)
        lost = self.queue.put(item, item[0])
        if lost is not None:
            assert lost.cause == "replaced"
            assert lost.item == min(self.put_but_left())
            self.left.append(lost.item)

    def put_but_left(self):
        return set(self.put) - set(self.left)

    @rule(passed=st.integers(0, 30), least=st.integers(0, 60))
    def take(self, passed, least):
        self.now += passed
        waiting = sorted(self.put_but_left())
        taken = self.queue.take(self.now, least)
        gone = [drop.item for drop in taken.dropped] + ([taken.next.item] if taken.next else [])
        assert gone == waiting[: len(gone)]
        assert all(drop.cause == "stale" for drop in taken.dropped if self.now - drop.closed_ns > self.deadline)
        assert all(self.now - drop.closed_ns > self.deadline // 2 for drop in taken.dropped)
        assert taken.next is not None or not len(self.queue)
        assert taken.next is None or self.now - taken.next.closed_ns <= self.deadline
        self.left += gone
        self.taken += taken.next is not None

    @invariant()
    def nothing_is_lost(self):
        assert len(self.queue) <= self.length
        assert len(self.left) == len(set(self.left))
        assert len(self.put) == self.taken + sum(self.queue.counts.values()) + len(self.queue)


TestQueueMachine = QueueMachine.TestCase
TestQueueMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)

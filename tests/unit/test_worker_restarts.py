"""When a worker that failed is started again."""

from __future__ import annotations

from firstspike.worker.restarts import Restarts


def due_after(restarts, times):
    """Rests after failures at these times."""
    return [round(restarts.failed(at) - at, 9) for at in times]


def test_the_first_restarts_come_at_once_and_then_the_worker_rests():
    restarts = Restarts(5, 60, 30)
    assert due_after(restarts, [0, 1, 2, 3, 4]) == [0.05, 0.1, 0.2, 0.4, 0.8]
    assert not restarts.resting
    assert due_after(restarts, [5, 36, 67, 98, 10_000]) == [30, 30, 30, 30, 0.05]


def test_a_worker_that_fails_for_ever_is_started_twice_a_minute_at_most():
    restarts, now, starts = Restarts(5, 60, 30), 0.0, 0
    while now < 3600:
        now = restarts.failed(now)
        starts += 1
    assert starts <= 5 + 3600 / 30


def test_no_more_than_five_restarts_at_once_fall_into_any_minute():
    restarts, now, starts = Restarts(5, 60, 30), 0.0, []
    while now < 600:
        due = restarts.failed(now)
        if due - now < 30:
            starts.append(due)
        now = due + 7  # it stands for a while each time
    assert starts
    assert all(sum(at <= other < at + 60 for other in starts) <= 5 for at in starts)


def test_a_failure_now_and_then_is_always_followed_by_a_quick_restart():
    restarts = Restarts(5, 60, 30)
    assert set(due_after(restarts, [100 * n for n in range(50)])) == {0.05}


def test_a_worker_that_stood_for_a_period_after_its_rest_is_trusted_again():
    restarts = Restarts(1, 10, 5)
    assert due_after(restarts, [0, 1]) == [0.05, 5]
    assert due_after(restarts, [12]) == [5]  # stood for 6 s after its rest
    assert due_after(restarts, [27]) == [0.05]  # 10 s


def test_no_rest_is_longer_than_asked_for():
    assert due_after(Restarts(5, 60, 0.01), [0, 0, 0, 0, 0, 0, 0]) == [0.01] * 7


def test_no_restart_at_once_where_none_is_allowed():
    assert due_after(Restarts(0, 60, 30), [0, 30, 60]) == [30, 30, 30]

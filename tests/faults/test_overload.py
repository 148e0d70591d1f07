"""More windows than can be answered: the freshest win, the others are dropped and say so, and memory stays."""

from __future__ import annotations

import time

import pytest
from tests.support.daemons import footprint, running
from tests.support.figures import figure

DEADLINE_MS = 100


@pytest.mark.parametrize("seconds", [6, pytest.param(600, marks=pytest.mark.soak)])
def test_twice_the_load_that_can_be_answered(tmp_path, seconds):
    """Windows of 10 ms, and a back end that takes 20 ms for each."""
    settings = {
        "schedule__plans": '["null"]', "backend__null__latency_ms": "20", "backend__null__hang_s": "5",
        "schedule__deadline_ms": str(DEADLINE_MS), "publish__health_period_s": "1",
    }  # fmt: skip
    with running(tmp_path, **settings) as (child, watch):
        watch.until_answered_by("null", 2)
        began, answered, dropped, oldest, count = time.monotonic(), [], 0, 0.0, 0
        before = None
        while time.monotonic() - began < seconds:
            watch.until(lambda watch: len(watch.decisions) >= 50)
            for decision in watch.decisions:
                age = (decision.stamps.published_ns - decision.stamps.closed_ns) / 1e6
                count += 1
                if decision.status == "dropped":
                    dropped += 1
                else:
                    oldest = max(oldest, age)
                    answered.append(decision.status)
                    # Nothing after the deadline passes for an answer in time.
                    assert age <= DEADLINE_MS or decision.status != "ok", decision
            before = before or footprint(child.pid)
            watch.decisions.clear()
            del watch.health[:-1]
        after = footprint(child.pid)
        totals = watch.health[-1].counters
        late, lost = len(answered) - answered.count("ok"), watch.subscriber.lost["decision"]
        figure(
            f"overload: twice the load, {seconds} s",
            f"{count} windows: {len(answered)} answered, {late} of them late or degraded, {dropped} dropped, each "
            f"published as that; oldest answered {oldest:.0f} ms (deadline {DEADLINE_MS}); memory {before[3]:.1f} → "
            f"{after[3]:.1f} MiB; {lost} decisions lost",
        )
    assert dropped > 0
    assert len(answered) > count // 10
    assert late <= len(answered) // 20  # a busy machine may hold up one or two
    assert lost == 0
    assert totals.decisions_dropped == totals.dropped_stale + totals.dropped_hopeless + totals.dropped_replaced
    assert after[:3] <= (before[0] + 2, before[1] + 1, before[2] + 1)
    assert after[3] <= before[3] + 8

"""The wall clock steps by ten days, either way: durations are monotonic, so nothing is lost, late or repeated."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import time
from itertools import pairwise

import pytest
from tests.support.daemons import running
from tests.support.figures import figure
from tests.support.program import ROOT

DAY_S = 86_400
SOURCE = ROOT / "tests" / "support" / "fake_clock.cpp"


@pytest.fixture
def clock(tmp_path):
    """The environment of a process with a wall clock of its own, and what sets it, in days."""
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        pytest.skip(f"no C++ compiler {compiler!r} to make a wall clock with")
    made, file = tmp_path / "clock.so", tmp_path / "clock"
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", str(made), str(SOURCE)], check=True)

    def step(days):
        with file.open("r+b" if file.exists() else "wb") as stream:  # in place: it is mapped
            stream.write(struct.pack("=q", days * DAY_S))

    step(0)
    return {"LD_PRELOAD": str(made), "FAKE_CLOCK": str(file)}, step


def shown(environment):
    """What such a process's wall clock says."""
    code = "import time; print(time.time())"
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def test_a_step_of_ten_days_forward_and_back_loses_nothing(tmp_path, clock):
    environment, step = clock
    # The daemon's worker and decoder are under the same clock: it is inherited.
    with running(tmp_path, environment=environment, schedule__deadline_ms="1000") as (child, watch):
        watch.until_answered_by("null")
        steps = []
        for days in (10, -10, 0):
            step(days)
            steps.append(round((shown(environment) - time.time()) / DAY_S))
            before, healths = len(watch.decisions), len(watch.health)
            watch.until(
                lambda watch, n=before, m=healths: len(watch.decisions) >= n + 40 and len(watch.health) >= m + 5
            )
        assert steps == [10, -10, 0], "the clock did not step: the test proves nothing"
        assert child.poll() is None
    decisions, health = watch.decisions, watch.health
    ages = [(d.stamps.published_ns - d.stamps.closed_ns) / 1e6 for d in decisions]
    uptimes = [h.uptime_s for h in health]
    gaps = [b - a for a, b in pairwise(uptimes)]
    statuses = {d.status for d in decisions}
    figure(
        "wall clock stepped by +10, −20, +10 days",
        f"{len(decisions)} decisions, {watch.subscriber.lost['decision']} lost, status {', '.join(sorted(statuses))}; "
        f"oldest {max(ages):.0f} ms; {len(health)} healths, {max(gaps):.2f} s apart at most; "
        f"{health[-1].backends[0].restarts} restarts of the worker",
    )
    assert [d.seq for d in decisions] == list(range(decisions[0].seq, decisions[0].seq + len(decisions)))
    assert watch.subscriber.lost["decision"] == 0
    assert min(ages) >= 0
    assert max(ages) < 60_000
    assert min(gaps) >= 0
    assert max(gaps) < 60
    assert health[-1].backends[0].restarts == 0
    assert statuses <= {"ok", "dropped"}

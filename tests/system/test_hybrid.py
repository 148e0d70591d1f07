"""models/dvs128-hybrid as the daemon runs it: without any accelerator, with OpenVINO for the back, and when that dies.

OpenVINO's environment is made in build/ once; where that is not possible its tests are skipped by name.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from tests.support.sdk import python_of

from firstspike.bundle import open_bundle
from firstspike.clock import SystemClock
from firstspike.config_layers import Layers
from firstspike.config_plugins import backend_choices
from firstspike.cuba.definition import run
from firstspike.cuba.file import load
from firstspike.hybrid import place
from firstspike.hybrid.accumulate import accumulate
from firstspike.hybrid.front import EmulatorFront
from firstspike.plans import Runner
from firstspike.schedule import Settings
from firstspike.types import Spikes

HYBRID = Path(__file__).parents[2] / "models" / "dvs128-hybrid"


def window(seed):
    """Frames with edges that move, so that neurons do spike."""
    rng = np.random.default_rng(seed)
    frames = (rng.random((16, 2, 64, 64)) < 0.004).astype(np.uint8)
    for step in range(16):
        at = int(rng.integers(5, 50))
        frames[step, step % 2, 10:50, at : at + 2] = 1
    return Spikes(16, np.empty((0, 0, 0), np.uint8), 900, frames=frames)


def made(plan, **sections):
    faults = []
    (choice,) = backend_choices(sections, [plan], Layers(), faults)
    assert not faults
    return place.make(choice, open_bundle(HYBRID))


def ready(backend, within_s=60):
    deadline = time.monotonic() + within_s
    while backend.condition().state != "ready" and time.monotonic() < deadline:
        time.sleep(0.01)
    assert backend.condition().state == "ready", backend.condition()
    return backend


@pytest.fixture(scope="module")
def section():
    return {"kind": "openvino", "command": [str(python_of("openvino"))]}


def test_the_front_that_ships_equals_the_definition_in_every_count():
    bundle = open_bundle(HYBRID)
    front, network = EmulatorFront(bundle, "emulator"), load(bundle.path("front"))
    interval, total = bundle.manifest.parts.interval, 0
    for seed in range(8):
        frames = window(seed).frames
        ours = accumulate(front.run(frames), interval)
        np.testing.assert_array_equal(ours, accumulate(run(network, frames).spikes[-1], interval))
        total += int(ours.sum())
    assert total > 1_000  # they did spike


def test_openvino_runs_the_back_to_within_a_hundredth_of_a_logit(section):
    bundle = open_bundle(HYBRID)
    ours, theirs = made("emulator"), ready(made("emulator+ov", ov=section))
    try:
        for seed in range(8):
            expected, found = ours.infer(window(seed), 5.0), theirs.infer(window(seed), 5.0)
            assert found.failure is None
            assert [part.backend for part in found.parts] == ["emulator", "ov"]
            assert found.parts[0].link_bytes == expected.parts[0].link_bytes
            off = np.abs(expected.potential - found.potential).max() * bundle.manifest.decide.logit_scale
            assert off <= 0.01
    finally:
        theirs.close()


def test_when_the_backs_worker_is_killed_the_next_plan_answers_the_same_windows(section):
    first, second = ready(made("emulator+ov", ov=section)), made("emulator")
    runner = Runner([first, second], Settings(deadline_ns=10**9), SystemClock())
    try:
        assert runner.infer(window(0), time.monotonic_ns()).plan == "emulator+ov"
        os.kill(first.condition().pid, signal.SIGKILL)
        plans = [runner.infer(window(seed), time.monotonic_ns()) for seed in range(4)]
        assert all(ran.inference.failure is None for ran in plans)
        assert plans[0].plan == "emulator"
        assert plans[0].fell_back
        ready(first)
    finally:
        first.close()
        second.close()


def test_when_the_backs_worker_is_killed_within_a_window_the_next_plan_answers_that_window(section):
    first, second = ready(made("emulator+ov", ov=section)), made("emulator")
    runner = Runner([first, second], Settings(deadline_ns=20 * 10**9), SystemClock())
    expected = second.infer(window(3), 1.0)
    try:
        pid = first.condition().pid
        os.kill(pid, signal.SIGSTOP)  # so that it is surely within the window
        killer = threading.Timer(0.2, os.kill, (pid, signal.SIGKILL))
        killer.start()
        ran = runner.infer(window(3), time.monotonic_ns())
        killer.join()
        assert ran.plan == "emulator"
        assert ran.failures == 1
        assert any(fault.startswith("ov: ") for fault in ran.faults), ran.faults
        np.testing.assert_array_equal(ran.inference.potential, expected.potential)
        assert [part.backend for part in ran.inference.parts] == ["emulator", "emulator"]
        assert ran.inference.parts[0].link_bytes == expected.parts[0].link_bytes
        ready(first)
        again = runner.infer(window(3), time.monotonic_ns())
        assert [part.backend for part in again.inference.parts] == ["emulator", "ov"]
        assert again.inference.parts[0].link_bytes == expected.parts[0].link_bytes
        assert again.inference.parts[1].link_ns < again.inference.parts[1].ns
    finally:
        first.close()
        second.close()


def test_plans_with_one_section_for_the_back_have_one_worker(section):
    parts, faults = place.Parts(), []
    sections = {"ov": section, "one": {"kind": "emulator"}}
    choices = backend_choices(sections, ["emulator+ov", "one+ov"], Layers(), faults)
    assert not faults
    plans = [place.make(choice, open_bundle(HYBRID), parts) for choice in choices]
    try:
        first, second = (ready(plan).condition().pid for plan in plans)
        assert first == second is not None
        answers = [plan.infer(window(1), 5.0).potential for plan in plans]
        np.testing.assert_array_equal(*answers)
        plans[0].close()  # its parts are not its own
        assert plans[1].infer(window(1), 5.0).failure is None
    finally:
        parts.close()
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firstspike.bundle import DecideSpec
from firstspike.decide import Decider, log_softmax

LABELS = ["a", "b", "c"]


def spec(**changes):
    return DecideSpec(min_events=10, logit_scale=0.1, decay=0.5, min_evidence=0.3).model_copy(update=changes)


def potentials(*values):
    return np.array(values, np.int32)


@given(st.lists(st.integers(-(2**23), 2**23), min_size=2, max_size=20))
def test_log_softmax_is_normalised_and_keeps_the_order(values):
    logs = log_softmax(values)
    assert math.fsum(math.exp(value) for value in logs) == pytest.approx(1)
    assert max(range(len(values)), key=values.__getitem__) == max(range(len(logs)), key=logs.__getitem__)


def test_evidence_is_the_decayed_sum_of_log_probabilities():
    decider = Decider(spec(), LABELS)
    first, _ = decider.judge(0, 50, potentials(30, 0, 0))
    second, total = decider.judge(1, 50, potentials(0, 20, 0))
    logs = [0.5 * a + b for a, b in zip(log_softmax([3, 0, 0]), log_softmax([0, 2, 0]), strict=True)]
    assert (first.label, second.label, total.label) == ("a", "b", "b")
    assert total.confidence == pytest.approx(max(math.exp(value) for value in log_softmax(logs)), abs=1e-6)
    assert (total.weight, total.windows) == (1.5, 2)


def test_a_window_below_the_gate_says_nothing_but_time_passes():
    decider = Decider(spec(), LABELS)
    decider.judge(0, 50, potentials(30, 0, 0))
    answer, total = decider.judge(1, 9, potentials(0, 0, 99))
    assert answer.label is None
    assert answer.log_probabilities is None
    assert (total.label, total.weight, total.windows) == ("a", 0.5, 1)


def test_silent_windows_decay_the_evidence_until_the_decider_abstains():
    decider = Decider(spec(), LABELS)
    decider.judge(0, 50, potentials(30, 0, 0))
    _, total = decider.judge(5, 0, None)
    assert (total.label, total.confidence, total.weight) == (None, None, 0.5**5)


def test_abstains_below_the_wanted_confidence():
    _, total = Decider(spec(min_confidence=0.9), LABELS).judge(0, 50, potentials(1, 0, 0))
    assert total.label is None


def test_a_gap_as_long_as_time_itself_is_no_problem():
    decider = Decider(spec(decay=0.999999), LABELS)
    decider.judge(0, 50, potentials(1, 2, 3))
    _, total = decider.judge(1 << 61, 50, potentials(9, 2, 3))
    assert total.label == "a"


def test_reset_forgets():
    decider = Decider(spec(), LABELS)
    decider.judge(0, 50, potentials(90, 0, 0))
    decider.reset()
    _, total = decider.judge(0, 50, potentials(0, 10, 0))
    assert (total.label, total.windows) == ("b", 1)

"""Filters: the native ones equal the definition in every event, however the stream is cut; both do what they say."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.recordings import events_of

from firstspike.errors import DataError
from firstspike.filters.definition import (
    DROPPED,
    MAX_BACK_US,
    MAX_PERIOD_US,
    MAX_PIXELS,
    MAX_TIME_US,
    REASONS,
    Definition,
    Rules,
)
from firstspike.filters.kernel import Kernel
from firstspike.types import EVENT, join

BOTH = pytest.mark.parametrize("kind", [Definition, Kernel])


def plain(events):
    return [tuple(int(event[name]) for name in "txyp") for event in events]


def through(filters, events, cuts=()):
    """What passes of a stream that comes in pieces."""
    edges = [0, *sorted(cuts), len(events)]
    pieces = [filters.apply(events[a:b]).copy() for a, b in pairwise(edges)]
    return plain(join(pieces))


def passed(kind, rows, rules, *, width=8, height=8, places=None):
    """Times of what passes, and the counts that are not 0 by name."""
    filters = kind(rules, width, height, places)
    kept = through(filters, events_of(rows))
    return [row[0] for row in kept], {name: n for name, n in zip(REASONS, filters.counts, strict=True) if n}


periods = st.sampled_from([0, 1, 10, 100, 5000, MAX_PERIOD_US])
all_rules = st.builds(
    Rules, refractory_us=periods, by_polarity=st.booleans(), background_us=periods, support=st.integers(1, 8),
    back_us=st.sampled_from([0, 1, 50, 10_000, 1_000_000, MAX_BACK_US]),
)  # fmt: skip


@st.composite
def streams(draw):
    """Sensor, table of places or none, events: in order, shuffled, with resets, long silences and lying timestamps."""
    width, height = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = draw(st.sampled_from([0, 1, 7, 80, 300]))
    match draw(st.sampled_from(["ordered", "shuffled", "steps", "lies"])):
        case "ordered":
            t = np.cumsum(random.integers(0, 20, n)) + draw(st.integers(-(2**51), 2**51))
        case "shuffled":
            t = random.integers(0, 500, n)
        case "steps":
            t = np.cumsum(random.choice([0, 1, 5, 90, -20, 4_000, -9_000, -(2**21), 2**29, 2**33], n))
        case _:
            t = random.integers(-MAX_TIME_US, MAX_TIME_US + 1, n)
    events = np.zeros(n, EVENT)
    events["t"], events["p"] = t, random.integers(0, 3, n)
    events["x"], events["y"] = random.integers(0, width + 1, n), random.integers(0, height + 1, n)
    places = None
    if draw(st.booleans()):
        places = random.integers(0, DROPPED, (height, width)).astype(np.uint32)
        dropped = random.random((height, width)) < 0.2
        places[dropped] = DROPPED + random.integers(0, len(REASONS), dropped.sum())
    return width, height, places, events


@settings(max_examples=250)
@given(all_rules, streams(), st.lists(st.integers(0, 300), max_size=4))
def test_native_equals_definition_however_the_stream_is_cut(rules, stream, cuts):
    width, height, places, events = stream
    before = plain(events)
    definition, kernel = Definition(rules, width, height, places), Kernel(rules, width, height, places)
    expected = through(definition, events)
    assert through(kernel, events, [min(cut, len(events)) for cut in cuts]) == expected
    assert kernel.counts == definition.counts
    assert len(expected) + sum(kernel.counts) == len(events)
    assert plain(events) == before  # who has the same array elsewhere must not see it change


def test_memory_starts_anew_before_its_32_bits_end():
    """Events at times far apart, and each pair within a period, over many hours."""
    rules = Rules(background_us=MAX_PERIOD_US, refractory_us=3, back_us=MAX_BACK_US)
    random = np.random.default_rng(1)
    t = np.cumsum(random.choice([1, 2, 40, 2**25, 2**26, 2**27 + 3, 2**30], 3000))
    events = np.zeros(len(t), EVENT)
    events["t"], events["x"], events["y"] = t, random.integers(0, 3, len(t)), random.integers(0, 3, len(t))
    definition, kernel = Definition(rules, 3, 3), Kernel(rules, 3, 3)
    assert through(kernel, events, [1000]) == through(definition, events)
    assert kernel.counts == definition.counts
    assert min(kernel.counts[4:]) > 0


@BOTH
def test_refractory_lets_one_event_a_period_pass(kind):
    rows = [(t, 1, 1, 1) for t in (0, 9, 10, 19, 20, 25, 40)]
    assert passed(kind, rows, Rules(refractory_us=10)) == ([0, 10, 20, 40], {"refractory": 3})


@BOTH
def test_refractory_of_both_polarities_or_of_each(kind):
    rows = [(0, 1, 1, 1), (5, 1, 1, 0), (8, 1, 1, 0), (9, 2, 1, 1)]
    assert passed(kind, rows, Rules(refractory_us=10))[0] == [0, 9]
    assert passed(kind, rows, Rules(refractory_us=10, by_polarity=True))[0] == [0, 5, 9]


@BOTH
@pytest.mark.parametrize("p", [1, 2, 255])
def test_every_polarity_but_0_is_on(kind, p):
    rows = [(0, 1, 1, 1), (5, 1, 1, p), (6, 1, 1, 0)]
    assert passed(kind, rows, Rules(refractory_us=10, by_polarity=True))[0] == [0, 6]


@BOTH
def test_background_needs_a_neighbour_and_not_the_pixel_itself(kind):
    rows = [(0, 3, 3, 1), (5, 3, 3, 1), (8, 4, 4, 0), (20, 5, 3, 1), (30, 5, 5, 1), (31, 7, 3, 1)]
    # (4, 4) has (3, 3) 3 µs ago; (5, 3) has (4, 4) 12 µs ago, too long; (5, 5) the same; (7, 3) has none.
    assert passed(kind, rows, Rules(background_us=10)) == ([8], {"background": 5})


@BOTH
def test_background_of_several_neighbours(kind):
    rows = [(0, 2, 2, 1), (1, 4, 2, 1), (2, 3, 2, 1), (3, 3, 1, 1), (4, 7, 7, 1)]
    # Supported by: none, none, two, three, none.
    assert passed(kind, rows, Rules(background_us=10, support=2))[0] == [2, 3]
    assert passed(kind, rows, Rules(background_us=10, support=3))[0] == [3]
    assert passed(kind, rows, Rules(background_us=10, support=4))[0] == []


@BOTH
@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 5), (5, 1), (4, 4)])
def test_background_at_every_edge_and_corner(kind, width, height):
    """Each pixel is supported by each of its neighbours on the sensor, and by nothing across an edge."""
    for x in range(width):
        for y in range(height):
            for i in range(width):
                for j in range(height):
                    rows = [(0, i, j, 1), (1, x, y, 1)]
                    near = max(abs(x - i), abs(y - j)) == 1
                    found, _ = passed(kind, rows, Rules(background_us=10), width=width, height=height)
                    assert found == ([1] if near else [])


@BOTH
def test_the_first_event_of_a_sensor_has_no_support_whatever_its_time(kind):
    for t in (0, 1, -5, MAX_TIME_US, -MAX_TIME_US):
        assert passed(kind, [(t, 1, 1, 1)], Rules(background_us=2000))[0] == []
        assert passed(kind, [(t, 1, 1, 1)], Rules(refractory_us=2000))[0] == [t]


@BOTH
def test_filters_work_on_what_the_ones_before_let_through(kind):
    """An event that refractory dropped supports nobody, and one of a dropped place neither."""
    rows = [(0, 1, 1, 1), (100, 1, 1, 1), (105, 1, 1, 1), (112, 2, 1, 1)]
    assert passed(kind, rows, Rules(refractory_us=10, background_us=10))[0] == []
    assert passed(kind, rows, Rules(background_us=10))[0] == [112]
    places = np.arange(8, dtype=np.uint32)[None, :] | np.arange(8, dtype=np.uint32)[:, None] << 16
    places[1, 1] = DROPPED + REASONS.index("hot_pixel")
    assert passed(kind, rows, Rules(background_us=10), places=places) == ([], {"hot_pixel": 3, "background": 1})


@BOTH
def test_events_outside_the_sensor_are_dropped_and_counted(kind):
    rows = [(0, 8, 0, 1), (1, 0, 8, 1), (2, 65535, 65535, 1), (3, 7, 7, 1)]
    assert passed(kind, rows, Rules()) == ([3], {"out_of_bounds": 3})


@BOTH
def test_late_events_are_judged_by_their_distance_in_time(kind):
    rules = Rules(refractory_us=10, back_us=1000)
    assert passed(kind, [(500, 1, 1, 1), (495, 1, 1, 1), (480, 1, 1, 1), (490, 1, 1, 1)], rules)[0] == [500, 480, 490]
    rows = [(500, 1, 1, 1), (495, 2, 1, 1), (480, 1, 2, 1)]
    assert passed(kind, rows, Rules(background_us=10, back_us=1000))[0] == [495]


@BOTH
def test_a_reset_of_the_clock_forgets_everything(kind):
    """Nothing from before may seem recent when time comes there again."""
    before = [(10_000, 1, 1, 1), (10_001, 2, 1, 1)]
    after = [(0, 5, 5, 1), (10_002, 1, 1, 1)]
    assert passed(kind, before + after, Rules(background_us=10, back_us=1000)) == ([10_001], {"background": 3})
    assert passed(kind, before + after, Rules(refractory_us=10, back_us=1000))[0] == [10_000, 10_001, 0, 10_002]
    # A step back of just `back_us` is no reset.
    late = [(9_000, 5, 5, 1), (10_002, 1, 1, 1)]
    assert passed(kind, [before[0], (10_000, 2, 1, 1), *late], Rules(refractory_us=10, back_us=1000))[0] == [
        10_000, 10_000, 9_000,
    ]  # fmt: skip


@BOTH
@pytest.mark.parametrize("t", [MAX_TIME_US + 1, -MAX_TIME_US - 1, 2**63 - 1, -(2**63)])
def test_what_cannot_be_a_time_is_refused(kind, t):
    for first in ([], [(0, 1, 1, 1)], [(-MAX_TIME_US, 1, 1, 1)], [(MAX_TIME_US, 1, 1, 1)]):
        if first and abs(t - first[0][0]) == 1:
            continue  # the kernel looks at leaps only; the windower refuses it next
        with pytest.raises(DataError, match="beyond"):
            passed(kind, [*first, (t, 1, 1, 1)], Rules(background_us=10))


@BOTH
@pytest.mark.parametrize(("width", "height"), [(0, 5), (5, 0), (65536, 1), (MAX_PIXELS // 4, 5)])
def test_a_sensor_beyond_all_bounds_is_refused(kind, width, height):
    with pytest.raises(DataError, match="filters take up to"):
        kind(Rules(), width, height)


@BOTH
def test_a_table_of_another_sensor_is_refused(kind):
    with pytest.raises(DataError, match=r"must be uint32 \(3, 4\)"):
        kind(Rules(), 4, 3, np.zeros((4, 3), np.uint32))


def test_the_native_filters_refuse_what_is_no_reason_and_no_event():
    with pytest.raises(DataError, match="neither places nor reasons"):
        Kernel(Rules(), 1, 1, np.full((1, 1), DROPPED + len(REASONS), np.uint32))
    with pytest.raises(DataError, match="EVENT"):
        Kernel(Rules(), 1, 1).apply(np.zeros(3, "<i8"))


@pytest.mark.parametrize(
    "wrong", [{"refractory_us": -1}, {"background_us": MAX_PERIOD_US + 1}, {"support": 0}, {"back_us": MAX_BACK_US + 1}]
)
def test_rules_out_of_range_are_refused(wrong):
    with pytest.raises(DataError, match=next(iter(wrong))):
        Rules(**wrong)


def test_a_stream_of_nothing_but_resets_and_leaps_costs_no_more_than_its_events():
    """What is forgotten is not cleared pixel by pixel: that would be 900,000 for each of these events."""
    n = 1 << 18
    events = np.zeros(n, EVENT)
    events["t"] = np.where(np.arange(n) % 2, 0, MAX_TIME_US)
    kernel = Kernel(Rules(background_us=2000, refractory_us=100), 1280, 720)
    assert len(kernel.apply(events)) == 0
    assert kernel.counts[REASONS.index("background")] == n

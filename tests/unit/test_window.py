"""Windows: against a definition that looks at every event by itself."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firstspike.bundle import WindowSpec
from firstspike.errors import ConfigError, DataError
from firstspike.types import EVENT
from firstspike.window import Windower


def make_events(times):
    events = np.zeros(len(times), EVENT)
    events["t"] = times
    events["x"] = np.arange(len(times)) % 65536  # tells the events apart
    return events


def cut(events, spec, *, chunks=(), max_events=1000, reset_us=1000):
    windower = Windower(spec, max_events=max_events, reset_us=reset_us)
    windows = []
    for part in np.split(events, sorted(min(c, len(events)) for c in chunks)):
        windows += list(windower.push(part))
    windows += list(windower.flush())
    return windows, windower.leftover()


def define(times, size, hop, reset_us):
    """Time windows, one event at a time: what Windower's docstring says, as plainly as can be."""
    out, base, bases = [], 0, []
    largest = None
    for number, t in enumerate(times):
        if largest is None or largest - t > reset_us:
            bases.append([])
            largest = t
        bases[-1].append((number, t))
        largest = max(largest, t)
    late = 0
    for members in bases:
        origin = members[0][1]
        top = max(t for _, t in members)
        windows = {}
        seen = origin
        for number, t in members:
            seen = max(seen, t)
            mine = [k for k in range((t - origin) // hop + 1) if origin + k * hop <= t < origin + k * hop + size]
            still_open = [k for k in mine if origin + k * hop + size > seen]
            # Late means that no window is left; one that is in time for a single window still counts.
            oldest_open = max(0, (seen - origin - size) // hop + 1)
            if t < origin + oldest_open * hop:
                late += 1
                continue
            for k in still_open:
                windows.setdefault(k, []).append(number)
        out += [(base + k, origin + k * hop, sorted(windows[k])) for k in sorted(windows)]
        base += (top - origin) // hop + 1
    return out, late


any_times = st.lists(st.integers(-3000, 3000), min_size=1, max_size=60)
# In order, which takes another road, or in order but for a few events.
times_strategy = st.one_of(
    any_times, any_times.map(sorted), st.tuples(any_times.map(sorted), any_times).map(lambda parts: parts[0] + parts[1])
)


@settings(max_examples=300, deadline=None)
@given(times=times_strategy, size=st.integers(1, 400), hop_share=st.integers(1, 5), cuts=st.lists(st.integers(0, 60)),
       reset_us=st.integers(1, 4000))  # fmt: skip
def test_time_windows_equal_the_definition_however_the_stream_is_cut(times, size, hop_share, cuts, reset_us):
    hop = max(1, size // hop_share)
    spec = WindowSpec(kind="time", size=size, hop=hop)
    windows, rest = cut(make_events(times), spec, chunks=cuts, reset_us=reset_us)
    expected, late = define(times, size, hop, reset_us)
    assert [(w.index, w.t_start_us, sorted(w.events["x"].tolist())) for w in windows] == expected
    assert sum(w.late for w in windows) + rest["late"] == late
    assert all(w.t_end_us == w.t_start_us + size for w in windows)


def test_a_window_is_handed_out_with_the_first_event_at_its_end():
    for times in ([0, 3, 10], [3, 0, 13]):  # in order, and not
        windower = Windower(WindowSpec(kind="time", size=10, hop=10))
        (window,) = windower.push(make_events(times))
        assert len(window.events) == 3 - window.late - 1


@settings(max_examples=200, deadline=None)
@given(times=times_strategy, cuts=st.lists(st.integers(0, 60)), size=st.integers(1, 30), hop=st.integers(1, 30),
       kind=st.sampled_from(["time", "count"]))  # fmt: skip
def test_no_event_is_lost_uncounted_and_chunks_do_not_matter(times, cuts, size, hop, kind):
    spec = WindowSpec(kind=kind, size=size, hop=min(hop, size))
    events = make_events(times)
    whole, rest = cut(events, spec)
    parts, parts_rest = cut(events, spec, chunks=cuts)
    assert [(w.index, w.events.tolist(), w.backward, w.late, w.resets, w.partial) for w in whole] == [
        (w.index, w.events.tolist(), w.backward, w.late, w.resets, w.partial) for w in parts
    ]
    assert rest == parts_rest
    seen = set().union(*(w.events["x"].tolist() for w in whole)) if whole else set()
    assert len(seen) + sum(w.late for w in whole) + rest["late"] == len(times)


def test_count_windows_take_every_hop_the_last_size_events():
    windows, _ = cut(make_events(range(10)), WindowSpec(kind="count", size=4, hop=2))
    assert [w.events["x"].tolist() for w in windows] == [[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 6, 7], [6, 7, 8, 9]]
    assert (windows[0].t_start_us, windows[0].t_end_us) == (0, 4)
    windows, _ = cut(make_events(range(5)), WindowSpec(kind="count", size=4, hop=4))
    assert [(w.events["x"].tolist(), w.partial) for w in windows] == [([0, 1, 2, 3], False), ([4], True)]


def test_an_overfull_window_drops_the_newest_and_counts_them():
    windows, rest = cut(make_events([0] * 20 + [100]), WindowSpec(kind="time", size=10, hop=10), max_events=8)
    assert [len(w.events) for w in windows] == [8, 1]
    assert sum(w.overflow for w in windows) + rest["overflow"] == 12


def test_silence_of_any_length_is_stepped_over():
    windows, _ = cut(make_events([0, 1 << 50]), WindowSpec(kind="time", size=10, hop=10))
    assert [w.index for w in windows] == [0, (1 << 50) // 10]


def test_a_timestamp_that_is_no_time_is_refused():
    windower = Windower(WindowSpec(kind="time", size=10, hop=10))
    with pytest.raises(DataError, match="corrupt"):
        list(windower.push(make_events([1 << 53])))


def test_a_count_window_that_could_never_fill_is_refused():
    with pytest.raises(ConfigError, match="max_events"):
        Windower(WindowSpec(kind="count", size=100, hop=100), max_events=99)


def test_the_callers_buffer_may_be_reused():
    windower = Windower(WindowSpec(kind="time", size=10, hop=10))
    buffer = make_events([1, 2, 3])
    assert list(windower.push(buffer)) == []
    buffer["t"] = 99
    (window,) = windower.flush()
    assert window.events["t"].tolist() == [1, 2, 3]


def test_windows_over_many_arrays_keep_the_event_dtype():
    windower = Windower(WindowSpec(kind="time", size=10, hop=5))
    windows = [window for t in range(40) for window in windower.push(make_events([t]))]
    assert {window.events.dtype for window in windows} == {EVENT}
    assert len(windows) > 3

"""Frames for CUBA LIF networks: which events light which pixel of which frame, and how all of them are counted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firstspike.cuba.frames import FrameEncoder
from firstspike.encode import coordinates
from firstspike.errors import DataError
from firstspike.types import EVENT


def events(*rows):
    """From (t, x, y, p)."""
    found = np.zeros(len(rows), EVENT)
    for name, column in zip("txyp", zip(*rows, strict=True), strict=True):
        found[name] = column
    return found


def lit(frames):
    return [tuple(map(int, place)) for place in np.argwhere(frames.frames)]


def test_an_event_lights_its_pixel_in_the_frame_of_its_bin():
    encoder = FrameEncoder((2, 4, 4), 16, 8, 8)
    found = encoder.encode(
        events((1000, 0, 0, 1), (10_999, 2, 6, 0), (11_000, 7, 1, 0), (160_999, 3, 3, 1)), 1000, 161_000
    )
    assert lit(found) == [(0, 0, 3, 1), (0, 1, 0, 0), (1, 0, 0, 3), (15, 1, 1, 1)]
    assert (found.n_events, found.out_of_bounds, found.cropped) == (4, 0, 0)


def test_two_events_on_a_pixel_in_one_bin_are_one_and_both_are_counted():
    found = FrameEncoder((1, 2, 2), 4, 2, 2).encode(events((0, 1, 1, 1), (5, 1, 1, 0)), 0, 100)
    assert lit(found) == [(0, 0, 1, 1)]
    assert found.n_events == 2


def test_times_outside_the_window_count_as_the_nearest_within():
    found = FrameEncoder((1, 1, 2), 4, 2, 1).encode(events((-50, 0, 0, 1), (900, 1, 0, 1)), 0, 100)
    assert lit(found) == [(0, 0, 0, 0), (3, 0, 0, 1)]


def test_events_beyond_the_sensor_and_outside_the_field_are_counted_apart():
    found = FrameEncoder((1, 4, 4), 2, 8, 4, "centre").encode(
        events((0, 0, 0, 1), (0, 2, 0, 1), (0, 8, 0, 1), (0, 0, 4, 1), (0, 65_535, 65_535, 0)), 0, 10
    )
    assert lit(found) == [(0, 0, 0, 0)]
    assert (found.n_events, found.out_of_bounds, found.cropped) == (1, 3, 1)


def test_no_events_are_dark_frames():
    found = FrameEncoder((2, 3, 3), 5, 3, 3).encode(np.zeros(0, EVENT), 0, 10)
    assert found.frames.shape == (5, 2, 3, 3)
    assert not found.frames.any()


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32), st.sampled_from(["stretch", "crop", "centre"]), st.integers(1, 2), st.integers(1, 40))
def test_it_is_what_a_loop_over_events_finds(seed, fit, channels, steps):
    rng = np.random.default_rng(seed)
    (height, width), (sensor_height, sensor_width) = rng.integers(1, 12, 2).tolist(), rng.integers(1, 20, 2).tolist()
    some = np.zeros(50, EVENT)
    some["t"], some["p"] = rng.integers(-20, 300, 50), rng.integers(0, 2, 50)
    some["x"], some["y"] = rng.integers(0, 24, 50), rng.integers(0, 24, 50)
    found = FrameEncoder((channels, height, width), steps, sensor_width, sensor_height, fit).encode(some, 7, 250)
    columns = coordinates(fit, sensor_width, width, (sensor_height, height))
    rows = coordinates(fit, sensor_height, height, (sensor_width, width))
    wanted, counts = np.zeros((steps, channels, height, width), np.uint8), [0, 0, 0]
    for event in some:
        t, x, y, p = (int(event[name]) for name in "txyp")
        if x >= sensor_width or y >= sensor_height:
            counts[1] += 1
        elif columns[x] < 0 or rows[y] < 0:
            counts[2] += 1
        else:
            counts[0] += 1
            wanted[steps * (min(max(t, 7), 249) - 7) // 243, p if channels == 2 else 0, rows[y], columns[x]] = 1
    np.testing.assert_array_equal(found.frames, wanted)
    assert [found.n_events, found.out_of_bounds, found.cropped] == counts


def test_what_is_impossible_is_refused():
    for shape, steps, sensor in [((3, 4, 4), 2, 4), ((1, 4, 4), 0, 4), ((1, 0, 4), 2, 4), ((1, 4, 4), 2, 70_000)]:
        with pytest.raises(DataError, match="must be"):
            FrameEncoder(shape, steps, sensor, 4)
    encoder = FrameEncoder((1, 4, 4), 2, 4, 4)
    with pytest.raises(DataError, match="must last"):
        encoder.encode(np.zeros(0, EVENT), 5, 5)
    with pytest.raises(DataError, match="EVENT"):
        encoder.encode(np.zeros(3), 0, 5)

"""Binary event frames, each pixel against a naive reading of the events."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firstspike.bundle import InputSpec
from firstspike.encode import Encoder, coordinates
from firstspike.encode_frames import FrameEncoder, encoder_for
from firstspike.errors import DataError
from firstspike.types import EVENT


def spec_of(**changes):
    return InputSpec(**{"channels": 2, "height": 6, "width": 5, "encoding": "frames", "steps": 4, **changes})


def events_of(rng, n, *, low=0, high=1000):
    events = np.zeros(n, EVENT)
    events["t"] = rng.integers(low, high, n)
    events["x"], events["y"], events["p"] = rng.integers(0, 16, n), rng.integers(0, 14, n), rng.integers(0, 2, n)
    return events


@given(
    st.integers(0, 2**32),
    st.sampled_from([1, 2]),
    st.sampled_from(["stretch", "crop", "centre"]),
    st.integers(1, 17),
)
@settings(max_examples=60, deadline=None)
def test_a_frame_is_1_where_the_pixel_had_an_event_in_that_step(seed, channels, fit, steps):
    spec = spec_of(channels=channels, fit=fit, steps=steps)
    events = events_of(np.random.default_rng(seed), 200, low=90, high=1110)
    spikes = FrameEncoder(spec, 14, 12).encode(events, 100, 1100)
    columns, rows = coordinates(fit, 14, 5, (12, 6)), coordinates(fit, 12, 6, (14, 5))
    expected, seen, outside, cropped = np.zeros((steps, channels, 6, 5), np.uint8), 0, 0, 0
    for event in events:
        x, y = int(event["x"]), int(event["y"])
        if x >= 14 or y >= 12:
            outside += 1
        elif columns[x] < 0 or rows[y] < 0:
            cropped += 1
        else:
            seen += 1
            step = steps * (min(max(int(event["t"]), 100), 1099) - 100) // 1000
            expected[step, int(event["p"]) if channels == 2 else 0, rows[y], columns[x]] = 1
    np.testing.assert_array_equal(spikes.frames, expected)
    assert (spikes.n_events, spikes.out_of_bounds, spikes.cropped) == (seen, outside, cropped)
    assert (spikes.steps, spikes.times.size, spikes.active) == (steps, 0, expected.sum())


def test_a_window_without_events_is_frames_without_spikes():
    assert not FrameEncoder(spec_of(), 5, 6).encode(np.empty(0, EVENT), 0, 10).frames.any()


def test_the_input_says_which_encoder_it_needs():
    assert isinstance(encoder_for(spec_of(), 5, 6), FrameEncoder)
    assert isinstance(encoder_for(spec_of(encoding="count"), 5, 6), Encoder)


def test_wrong_events_and_windows_without_duration_are_refused():
    encoder = FrameEncoder(spec_of(), 5, 6)
    with pytest.raises(DataError, match="must last"):
        encoder.encode(np.empty(0, EVENT), 5, 5)
    with pytest.raises(DataError, match=r"types\.EVENT"):
        encoder.encode(np.empty(0, np.int64), 0, 5)

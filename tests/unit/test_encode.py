"""Encoding: the native encoder equals its NumPy definition in every value, and both do what Eq. 1 says."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from firstspike.bundle import InputSpec
from firstspike.encode import MAX_SPAN_US, Encoder, define
from firstspike.types import EVENT

FITS = ("stretch", "crop", "centre")


def make_events(t, x, y, p):
    events = np.zeros(len(np.atleast_1d(x)), EVENT)
    events["t"], events["x"], events["y"], events["p"] = t, x, y, p
    return events


def spec_of(**changes):
    values = dict(channels=2, height=4, width=5, encoding="count", steps=8, count_scale=4, fit="stretch")
    return InputSpec(**(values | changes))


def assert_equal(spec, width, height, events, start, end):
    expected = define(spec, width, height, events, start, end)
    encoder = Encoder(spec, width, height)
    for _ in range(2):  # the second time on buffers that a window has used
        actual = encoder.encode(events, start, end)
        np.testing.assert_array_equal(actual.times, expected.times)
        assert (actual.steps, actual.n_events, actual.out_of_bounds, actual.cropped) == (
            expected.steps, expected.n_events, expected.out_of_bounds, expected.cropped,
        )  # fmt: skip
        assert actual.n_events + actual.out_of_bounds + actual.cropped == len(events)
    return expected


specs = st.builds(
    InputSpec,
    channels=st.sampled_from([1, 2]), height=st.integers(1, 12), width=st.integers(1, 12),
    encoding=st.sampled_from(["count", "first"]), steps=st.sampled_from([1, 2, 7, 8, 16, 255]),
    count_scale=st.sampled_from([1, 2, 3, 8, 9, 255, 256, 300, 65535]), fit=st.sampled_from(FITS),
)  # fmt: skip


@st.composite
def windows(draw):
    """Sensor, events and window: coordinates partly beyond the sensor, timestamps in any order, partly beyond the window."""
    width, height = draw(st.integers(1, 20)), draw(st.integers(1, 20))
    start = draw(st.one_of(st.integers(-(2**62), 2**62), st.integers(0, 1000)))
    span = draw(st.one_of(st.integers(1, 300), st.integers(1, MAX_SPAN_US)))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, beyond = draw(st.sampled_from([0, 1, 5, 60, 900])), draw(st.sampled_from([0, 3, 70_000]))
    clip = lambda values: np.minimum(values, 65535)  # noqa: E731
    x, y = clip(random.integers(0, width + beyond, n)), clip(random.integers(0, height + beyond, n))
    low, high = (start - span // 2, start + 2 * span) if draw(st.booleans()) else (start, start + span)
    t = random.integers(low, high, n)
    if draw(st.booleans()):
        t.sort()
    events = make_events(t, x, y, random.integers(0, draw(st.sampled_from([2, 256])), n))
    return width, height, events, start, start + span


@settings(deadline=None, max_examples=400)
@given(specs, windows())
def test_native_equals_definition(spec, window):
    assert_equal(spec, *window)

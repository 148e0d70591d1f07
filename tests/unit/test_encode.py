"""Encoding: the native encoder equals its NumPy definition in every value, and both do what Eq. 1 says."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firstspike import native
from firstspike.bundle import InputSpec
from firstspike.encode import MAX_SPAN_US, Encoder, coordinates, define
from firstspike.errors import DataError, UnavailableError
from firstspike.types import EVENT

FITS = ("stretch", "crop", "centre")


def make_events(t, x, y, p):
    events = np.zeros(len(np.atleast_1d(x)), EVENT)
    events["t"], events["x"], events["y"], events["p"] = t, x, y, p
    return events


def spec_of(**changes):
    values = {"channels": 2, "height": 4, "width": 5, "encoding": "count", "steps": 8, "count_scale": 4}
    return InputSpec(**(values | changes))


def assert_equal(spec, width, height, events, start, end, kernels="best"):
    expected = define(spec, width, height, events, start, end)
    encoder = Encoder(spec, width, height, kernels)
    for _ in range(2):  # the second time on buffers that a window has used
        actual = encoder.encode(events, start, end)
        np.testing.assert_array_equal(actual.times, expected.times)
        assert (actual.steps, actual.n_events, actual.out_of_bounds, actual.cropped, actual.active) == (
            expected.steps, expected.n_events, expected.out_of_bounds, expected.cropped, expected.active,
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
    """Sensor, events, window: coordinates partly beyond the sensor, timestamps in any order, partly outside."""
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


@pytest.mark.parametrize("kernels", ["portable", "x86-64-v3", "x86-64-v4"])
def test_all_kernels_equal_the_definition(kernels):
    try:
        Encoder(spec_of(), 5, 4, kernels)
    except UnavailableError as error:
        pytest.skip(str(error))

    @settings(deadline=None, max_examples=100)
    @given(specs, windows())
    def check(spec, window):
        assert_equal(spec, *window, kernels)

    check()


def test_kernels_that_are_not_here_are_refused(monkeypatch):
    monkeypatch.setitem(native.KERNELS, "portable", 99)
    with pytest.raises(UnavailableError, match="kernels"):
        Encoder(spec_of(), 5, 4, "portable")


def test_every_count_of_every_scale():
    """A column for each count up to beyond C; where T is below C, counts become times at the end."""
    for scale in range(2, 256):
        counts = [0, *sorted({1, 2, scale // 3, scale // 2, scale - 2, scale - 1, scale, scale + 1} - {0})]
        x = np.repeat(np.arange(len(counts)), counts)
        for steps in {1, 7, 8, 16, scale - 1, scale, 255}:
            spec = spec_of(channels=1, height=1, width=len(counts), steps=steps, count_scale=scale)
            assert_equal(spec, len(counts), 1, make_events(0, x, 0, 0), 0, 1)


@pytest.mark.parametrize(("sensor", "model"), [(65536, 65535), (65535, 46341), (60000, 59999)])
def test_sides_too_large_for_arithmetic_in_32_bits(sensor, model):
    """Larger than any bundle may ask for: there the tables are used, and give the same places."""
    values = spec_of(channels=1, height=1).model_dump() | {"width": model}
    x = np.random.default_rng(0).integers(0, 65536, 1000)
    assert_equal(InputSpec.model_construct(**values), sensor, 1, make_events(0, x, 0, 1), 0, 1)


def test_eq_1_over_counts():
    """p = min(c / 4, 1), T = 8: 0 to 5 events spike at 8, 6, 4, 2, 0, 0."""
    x = np.repeat(np.arange(6), np.arange(6))
    events = make_events(np.arange(len(x)), x, 0, 1)
    spikes = assert_equal(spec_of(height=1, width=6), 6, 1, events, 0, 100)
    assert spikes.times[1, 0].tolist() == [8, 6, 4, 2, 0, 0]
    assert spikes.times[0, 0].tolist() == [8] * 6


@pytest.mark.parametrize(("scale", "steps"), [(3, 8), (8, 3), (3, 16), (7, 7), (300, 255), (65535, 255), (1, 1)])
def test_eq_1_rounds_down_exactly(scale, steps):
    """⌊T(1 - c/C)⌋ as an exact fraction, for counts at, below and beyond C."""
    counts = [0, 1, 2, scale // 3, scale // 2, scale - 1, scale, scale + 1]
    x = np.repeat(np.arange(8), counts)
    spikes = assert_equal(
        spec_of(height=1, width=8, steps=steps, count_scale=scale), 8, 1, make_events(0, x, 0, 0), 0, 1
    )
    for column, count in enumerate(counts):
        assert spikes.times[0, 0, column] == (steps * max(scale - count, 0)) // scale


def test_first_event_latency_takes_the_earliest_whatever_the_order():
    events = make_events([90, 10, 50, 99, 0, 100, -7], [0, 0, 0, 1, 2, 3, 4], 0, 0)
    spikes = assert_equal(spec_of(height=1, encoding="first"), 5, 1, events, 0, 100)
    assert spikes.times[0, 0].tolist() == [0, 7, 0, 7, 0]  # outside the window: the nearest time within
    assert spikes.times[1, 0].tolist() == [8] * 5


def test_polarities_apart_and_merged():
    events = make_events(0, [0, 0, 1], 0, [0, 1, 255])
    apart = assert_equal(spec_of(height=1, width=2, count_scale=2), 2, 1, events, 0, 1)
    assert apart.times.tolist() == [[[4, 8]], [[4, 4]]]
    merged = assert_equal(spec_of(height=1, width=2, count_scale=2, channels=1), 2, 1, events, 0, 1)
    assert merged.times.tolist() == [[[0, 4]]]


@pytest.mark.parametrize(
    ("fit", "sensor", "model", "other", "expected"),
    [
        ("stretch", 6, 3, (6, 3), [0, 0, 1, 1, 2, 2]),
        ("stretch", 5, 3, (5, 3), [0, 0, 1, 1, 2]),
        ("stretch", 3, 6, (3, 6), [0, 2, 4]),
        ("crop", 8, 2, (4, 2), [-1, -1, 0, 0, 1, 1, -1, -1]),
        ("crop", 4, 2, (8, 2), [0, 0, 1, 1]),
        ("crop", 7, 2, (4, 2), [-1, 0, 0, 1, 1, -1, -1]),
        ("crop", 3, 1, (1, 1000), [-1, 0, -1]),
        ("centre", 6, 2, (9, 9), [-1, -1, 0, 1, -1, -1]),
        ("centre", 2, 6, (9, 9), [2, 3]),
        ("centre", 5, 2, (9, 9), [-1, 0, 1, -1, -1]),
        ("centre", 2, 5, (9, 9), [2, 3]),
    ],
)
def test_geometry(fit, sensor, model, other, expected):
    assert coordinates(fit, sensor, model, other).tolist() == expected


@given(st.sampled_from(FITS), *[st.integers(1, 300)] * 4)
def test_geometry_is_monotone_and_central(fit, sensor, model, other_sensor, other_model):
    place = coordinates(fit, sensor, model, (other_sensor, other_model))
    kept = np.flatnonzero(place >= 0)
    assert len(kept) >= 1
    assert np.array_equal(kept, np.arange(kept[0], kept[-1] + 1))
    assert abs(int(kept[0]) - (sensor - 1 - int(kept[-1]))) <= 1
    assert (np.diff(place[kept]) >= 0).all()
    assert place.max() < model


def test_crop_keeps_the_models_aspect_ratio_on_both_axes():
    """640×480 for a square model: the central 480×480; a wide model: the central 640×320."""
    columns, rows = coordinates("crop", 640, 32, (480, 32)), coordinates("crop", 480, 32, (640, 32))
    assert ((columns >= 0).sum(), (rows >= 0).sum()) == (480, 480)
    columns, rows = coordinates("crop", 640, 64, (480, 32)), coordinates("crop", 480, 32, (640, 64))
    assert ((columns >= 0).sum(), (rows >= 0).sum()) == (640, 320)


def test_losses_are_counted_apart():
    x, y = [0, 5, 9, 10, 65535, 3], [0, 0, 0, 0, 0, 65535]
    spikes = assert_equal(spec_of(height=2, width=2, fit="centre"), 10, 2, make_events(0, x, y, 1), 0, 1)
    assert (spikes.n_events, spikes.cropped, spikes.out_of_bounds) == (1, 2, 3)


@pytest.mark.parametrize("encoding", ["count", "first"])
def test_an_empty_window_is_silent(encoding):
    spikes = assert_equal(spec_of(encoding=encoding), 5, 4, make_events([], [], [], []), 0, 1)
    assert (spikes.times == 8).all()
    assert spikes.times.shape == (2, 4, 5)
    assert spikes.n_events == 0


def test_windows_of_a_thousand_years_at_the_ends_of_the_clock():
    start = -(2**63)
    events = make_events([start, start + MAX_SPAN_US // 2, 2**63 - 1], [0, 1, 2], 0, 0)
    spikes = assert_equal(spec_of(height=1, encoding="first", steps=255), 5, 1, events, start, start + MAX_SPAN_US)
    assert spikes.times[0, 0].tolist() == [0, 127, 254, 255, 255]


def test_full_size_and_upsampled_on_many_events():
    random = np.random.default_rng(0)
    n = 200_000
    events = make_events(
        np.sort(random.integers(0, 10_000, n)),
        random.integers(0, 330, n),
        random.integers(0, 250, n),
        random.integers(0, 2, n),
    )
    for encoding, scale in (("count", 8), ("count", 200), ("first", 1)):
        for height, width in ((240, 320), (32, 32), (480, 640)):
            spec = spec_of(height=height, width=width, encoding=encoding, steps=16, count_scale=scale)
            assert_equal(spec, 320, 240, events, 0, 10_000)


def test_strided_events_and_the_callers_ownership():
    events = make_events(np.arange(10), np.arange(10) % 5, 0, 1)
    encoder = Encoder(spec_of(), 5, 4)
    before = encoder.encode(events[::2], 0, 10)
    np.testing.assert_array_equal(before.times, define(spec_of(), 5, 4, events[::2], 0, 10).times)
    kept = before.times.copy()
    encoder.encode(events, 0, 10)
    np.testing.assert_array_equal(before.times, kept)


@pytest.mark.parametrize(
    "encode", [lambda *a: define(spec_of(), 5, 4, *a), lambda *a: Encoder(spec_of(), 5, 4).encode(*a)]
)
def test_refusals(encode):
    events = make_events(0, [0, 1], 0, 0)
    for start, end in ((0, 0), (5, 4), (0, MAX_SPAN_US + 1)):
        with pytest.raises(DataError, match="window from"):
            encode(events, start, end)
    with pytest.raises(DataError, match=r"types\.EVENT"):
        encode(np.zeros(3, np.int64), 0, 1)
    with pytest.raises(DataError, match=r"types\.EVENT"):
        encode(events.reshape(1, 2), 0, 1)


@pytest.mark.parametrize(("width", "height"), [(0, 4), (5, -1), (65537, 4)])
def test_sensors_that_cannot_be(width, height):
    with pytest.raises(DataError, match="sensor geometry"):
        Encoder(spec_of(), width, height)

"""The simulated sensor: its pixels against the definition of an event, its scene, its digits."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from firstspike.errors import UsageError
from firstspike.simulate import digits as pen
from firstspike.simulate.dvs import Pixel, PixelArray, to_events
from firstspike.simulate.scene import Saccades, Scene, digit_sequence
from firstspike.types import EVENT, join

IDEAL = Pixel(threshold=0.1, mismatch=0.0, low_pass_us=0.0, noise_hz=0.0, hot_pixels=0)


def ideal_array(start: float = 1.0, pixel: Pixel = IDEAL) -> PixelArray:
    array = PixelArray((1, 1), pixel, np.random.default_rng(0))
    array.reset(np.full((1, 1), start, np.float32), 0.0)
    array._level[:] = math.log(start)  # at the middle of its thresholds: the oracle below starts there
    return array


def oracle(values: list[float], theta: float) -> tuple[list[int], float]:
    """Events of one ideal pixel, one by one: +1 or −1 whenever the logarithm is a threshold from the last event's.

    Also gives how near any frame comes to a threshold: there float32 may decide otherwise.
    """
    level, signs, margin = math.log(values[0]), [], math.inf
    for value in values[1:]:
        away = math.log(value) - level
        rest = abs(away) % theta
        margin = min(margin, rest, theta - rest)
        while abs(away) >= theta:
            sign = 1 if away > 0 else -1
            level += sign * theta
            away -= sign * theta
            signs.append(sign)
    return signs, margin


@given(st.lists(st.floats(0.05, 20.0), min_size=2, max_size=12))
def test_an_ideal_pixel_follows_the_definition(values):
    truth, margin = oracle(values, IDEAL.threshold)
    assume(margin > 1e-4)
    array, got = ideal_array(values[0]), []
    for number, value in enumerate(values[1:], 1):
        raw = array.expose(np.full((1, 1), value, np.float32), 1000.0 * number)
        assert ((raw.t_us >= 1000.0 * (number - 1)) & (raw.t_us <= 1000.0 * number)).all()
        got += [1 if on else -1 for on in raw.on]
    assert got == truth


def test_the_events_of_a_ramp_lie_where_the_straight_line_crosses():
    raw = ideal_array().expose(np.full((1, 1), math.exp(0.45), np.float32), 9000.0)
    assert raw.on.all()
    np.testing.assert_allclose(raw.t_us, [2000, 4000, 6000, 8000], rtol=1e-4)


def test_the_photoreceptor_is_a_first_order_low_pass():
    array = ideal_array(pixel=Pixel(0.01, 0.0, 5000.0, 0.0, 0))
    count = 0
    for t_us in range(100, 5001, 100):
        count += len(array.expose(np.full((1, 1), math.e, np.float32), float(t_us)).on)
    assert count == pytest.approx(100 * (1 - math.exp(-1)), abs=2)


def test_noise_and_hot_pixels_have_their_rates_and_do_not_move_the_level():
    array = PixelArray((40, 50), Pixel(noise_hz=2.0, hot_pixels=2, hot_hz=100.0), np.random.default_rng(1))
    light = np.ones((40, 50), np.float32)
    array.reset(light, 0.0)
    level = array._level.copy()
    raw = array.expose(light, 5e6)
    np.testing.assert_array_equal(array._level, level)
    count = np.bincount(raw.pixel, minlength=2000)
    hot = np.sort(count)[-2:]
    assert hot == pytest.approx([500, 500], rel=0.2)
    assert count.sum() - hot.sum() == pytest.approx(2 * 5 * 2000, rel=0.03)
    assert raw.on.mean() == pytest.approx(0.5, abs=0.02)


def test_the_refractory_time_keeps_events_apart_and_drops_no_others():
    free, held = (ideal_array(pixel=Pixel(0.05, 0.0, 0.0, 0.0, 0, refractory_us=us)) for us in (0.0, 700.0))
    kept, last = [], -math.inf
    for number in range(1, 8):
        light = np.full((1, 1), math.exp(0.3 * (number % 3)), np.float32)
        for t_us in np.sort(free.expose(light, 1000.0 * number).t_us):
            if t_us - last >= 700.0:
                kept.append(t_us)
                last = t_us
        np.testing.assert_array_equal(
            np.sort(held.expose(light, 1000.0 * number).t_us), [t for t in kept if t > 1000.0 * (number - 1)]
        )
    assert len(kept) > 3


def test_sensors_of_a_batch_are_independent():
    ink = np.stack([pen.render(*pen.draw(digit, np.random.default_rng(digit)), 28) for digit in (1, 8)])
    quiet = Scene(pixel=Pixel(noise_hz=0.0, hot_pixels=0, mismatch=0.0))
    array = PixelArray((2, 34, 34), quiet.pixel, np.random.default_rng(0))
    index = np.concatenate([raw.pixel for raw in quiet.watch(ink, array, 0.0, 1e5)])
    assert index.max() < 2 * 34 * 34
    first, second = np.bincount(index // (34 * 34), minlength=2)
    assert 0 < first < second


@pytest.mark.parametrize(
    "values",
    [{"threshold": 0}, {"threshold": math.nan}, {"mismatch": -1}, {"noise_hz": math.inf}, {"refractory_us": -0.1}],
)
def test_a_pixel_outside_its_range_is_named(values):
    with pytest.raises(UsageError, match=next(iter(values))):
        Pixel(**values)


@pytest.mark.parametrize("values", [{"contrast": 1.0}, {"contrast": 0.0}, {"step_us": 0.0}, {"height": 4}])
def test_a_scene_outside_its_range_is_refused(values):
    with pytest.raises(UsageError, match="scene"):
        Scene(**values)


def test_saccades_start_and_end_where_they_say():
    saccades = Saccades()
    assert saccades.at(0) == pytest.approx(saccades.points[0])
    for (_, end), point in zip(saccades.moves_us, saccades.points[1:], strict=True):
        assert saccades.at(end) == pytest.approx(point)
    assert saccades.at(1e9) == pytest.approx(saccades.points[-1])


def test_the_view_moves_by_whole_pixels_without_loss():
    ink = np.zeros((28, 28), np.float32)
    ink[10, 12] = 1.0
    scene = Scene(saccades=Saccades(((2.0, -3.0), (0.0, 0.0)), ((1e3, 2e3),)))
    (_, before), *_, (_, after) = scene.frames(ink, 3e3)
    assert np.argwhere(before < 1).tolist() == [[3 + 10 - 3, 3 + 12 + 2]]
    assert np.argwhere(after < 1).tolist() == [[13, 15]]
    assert before.min() == after.min() == np.float32(0.5)


def test_an_image_larger_than_the_paper_is_refused():
    with pytest.raises(UsageError, match="larger than the paper"):
        next(iter(Scene().frames(np.zeros((60, 60), np.float32), 1e3)))


def test_dark_ink_that_arrives_gives_off_events():
    ink = np.ones((20, 20), np.float32)
    scene = Scene(saccades=Saccades(((-2.0, 0.0), (2.0, 0.0)), ((0.0, 2e4),)), pixel=IDEAL)
    array = PixelArray((34, 34), IDEAL, np.random.default_rng(0))
    events = join([to_events(raw, 34, 34) for raw in scene.watch(ink, array, 0.0, 2e4)])
    right, left = events[events["x"] > 17], events[events["x"] < 17]
    assert len(right) > 0
    assert (right["p"] == 0).all()
    assert len(left) > 0
    assert (left["p"] == 1).all()


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.integers(0, 9), min_size=1, max_size=3))
def test_a_sequence_is_sorted_inside_the_sensor_and_the_same_for_the_same_seed(seed, digits):
    shown = list(digit_sequence(digits, seed))
    assert [digit for digit, _ in shown] == digits
    events = join([events for _, events in shown])
    assert events.dtype == EVENT
    assert (np.diff(events["t"]) >= 0).all()
    assert events["x"].max() < 34
    assert events["y"].max() < 34
    assert set(np.unique(events["p"])) <= {0, 1}
    again = join([events for _, events in digit_sequence(digits, seed)])
    assert again.tobytes() == events.tobytes()
    other = join([events for _, events in digit_sequence(digits, seed + 1)])
    assert other.tobytes() != events.tobytes()


def test_an_endless_sequence_is_made_as_it_is_asked_for_with_pauses():
    shown = itertools.islice(digit_sequence(itertools.cycle([3]), 0, pause_us=70_000), 3)
    ranges = [(events["t"][0], events["t"][-1]) for _, events in shown]
    period = Saccades().duration_us + 15_000 + 70_000
    for number, (first, last) in enumerate(ranges):
        assert number * period <= first < last <= number * period + period - 70_000


def test_a_larger_sensor_sees_the_same_digit_larger():
    events = next(iter(digit_sequence([8], 0, Scene(height=100, width=136))))[1]
    assert events["x"].max() > 34
    middle = events[(abs(events["x"] - 68.0) < 45) & (abs(events["y"] - 50.0) < 45)]
    assert len(middle) > 0.8 * len(events)


@pytest.mark.parametrize(("digits", "pause"), [([10], 0), ([-1], 0), ([1], -1)])
def test_what_cannot_be_shown_is_refused(digits, pause):
    with pytest.raises(UsageError):
        list(digit_sequence(digits, 0, pause_us=pause))


@given(st.integers(0, 9), st.integers(0, 2**32), st.integers(12, 60))
@settings(max_examples=20, deadline=None)
def test_a_drawn_digit_lies_on_its_paper(digit, seed, side):
    strokes, width = pen.draw(digit, np.random.default_rng(seed))
    ink = pen.render(strokes, width, side)
    assert ink.shape == (side, side)
    assert ink.dtype == np.float32
    assert ink.min() >= 0
    assert ink.max() <= 1
    assert 0.01 < ink.mean() < 0.35
    # The pen's length times its width is the ink, but for crossings and round ends.
    length = sum(float(np.hypot(*np.diff(stroke, axis=0).T).sum()) for stroke in strokes)
    assert ink.mean() == pytest.approx(length * width, rel=0.4, abs=0.02)


def test_rendering_equals_the_distance_to_the_nearest_stroke():
    strokes, side, width = [np.array([[0.25, 0.25], [0.75, 0.25], [0.75, 0.8]])], 20, 0.15
    ink = pen.render(strokes, width, side)
    dense = np.concatenate([np.linspace(a, b, 1000) for a, b in itertools.pairwise(strokes[0])])
    for row, column in itertools.product(range(side), repeat=2):
        at = (np.array([column, row]) + 0.5) / side
        distance = np.hypot(*(dense - at).T).min()
        assert ink[row, column] == pytest.approx(min(max((width / 2 - distance) * side + 0.5, 0), 1), abs=1e-2)


def test_each_digit_is_written_in_its_own_way():
    rng = np.random.default_rng(0)
    mean = {digit: np.mean([pen.render(*pen.draw(digit, rng), 16) for _ in range(30)], axis=0) for digit in range(10)}
    for one, other in itertools.combinations(range(10), 2):
        assert np.abs(mean[one] - mean[other]).sum() > 5

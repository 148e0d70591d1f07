"""Hot pixels: told from a moving scene, however the stream is cut; and the file that lists them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firstspike.errors import ConfigError, DataError, OutputError
from firstspike.filters.hot_pixels import (
    HotPixels,
    Learner,
    Thresholds,
    read_hot_pixels,
    surroundings,
    write_hot_pixels,
)
from firstspike.types import EVENT, join

WIDTH, HEIGHT = 40, 30
HOT = ((3, 4), (3, 5), (39, 29), (20, 15))


def at(times, x, y):
    events = np.zeros(len(times), EVENT)
    events["t"], events["x"], events["y"] = times, x, y
    return events


def ordered(*parts):
    events = join(parts)
    return events[np.argsort(events["t"], kind="stable")]


def scene(seconds=2.0, seed=0, hz=200, edges=40_000):
    """An edge that crosses the sensor again and again, noise of 2 events a second and pixel, and the hot pixels."""
    random = np.random.default_rng(seed)
    end = round(seconds * 1e6)
    t = random.integers(0, end, round(edges * seconds))
    edge = at(t, t // 5000 % WIDTH, random.integers(0, HEIGHT, len(t)))
    n = round(2 * WIDTH * HEIGHT * seconds)
    noise = at(random.integers(0, end, n), random.integers(0, WIDTH, n), random.integers(0, HEIGHT, n))
    hot = [at(random.integers(0, end, round(hz * k * seconds)), *pixel) for k, pixel in enumerate(HOT, 2)]
    return ordered(edge, noise, *hot)


def learn(events, cuts=(), **thresholds):
    learner = Learner(WIDTH, HEIGHT)
    edges = [0, *sorted(cuts), len(events)]
    for a, b in pairwise(edges):
        assert learner.add(events[a:b]) == b - a
    return learner.found(Thresholds(**thresholds))


def test_hot_pixels_are_told_from_an_edge_and_from_noise():
    found = learn(scene())
    assert set(found.pixels) == set(HOT)
    assert (found.width, found.height) == (WIDTH, HEIGHT)
    assert found.learned_s == pytest.approx(2, abs=0.01)
    assert list(found.hz) == sorted(found.hz, reverse=True)
    rates = dict(zip(found.pixels, found.hz, strict=True))
    assert rates[HOT[0]] == pytest.approx(400 + 33 + 2, rel=0.15)


def test_without_hot_pixels_none_are_found():
    assert learn(scene(hz=0)).pixels == ()


def test_a_burst_is_not_hot_for_it_rests():
    """A thousand events in one tenth of two seconds."""
    burst = at(np.linspace(500_000, 590_000, 1000).astype(int), 30, 20)
    events = ordered(scene(edges=0), burst)
    assert set(learn(events).pixels) == set(HOT)
    assert (30, 20) in learn(events, share=0.0).pixels


def test_thresholds_decide():
    assert learn(scene(), min_hz=1e6).pixels == ()
    assert learn(scene(), ratio=1e6).pixels == ()
    assert set(learn(scene(), ratio=1).pixels) > set(HOT)


@settings(max_examples=40)
@given(st.lists(st.integers(0, 6000), max_size=5), st.integers(0, 5), st.sampled_from([0, 300, 3_000_000]))
def test_what_is_learned_does_not_depend_on_how_the_stream_is_cut(cuts, seed, late):
    events = scene(0.15, seed)
    events["t"][::50] -= late  # late events, or resets of the clock
    whole = learn(events, min_hz=50)
    assert learn(events, [min(cut, len(events)) for cut in cuts], min_hz=50) == whole


@pytest.mark.parametrize("pieces", [1, 7, 300])
def test_learning_stops_at_a_time_however_the_stream_is_cut(pieces):
    events = scene(1.0)
    learner, taken = Learner(WIDTH, HEIGHT), 0
    for piece in np.array_split(events, pieces):
        n = learner.add(piece, until_us=600_000)
        taken += n
        if n < len(piece):
            break
    assert taken == np.searchsorted(events["t"], events["t"][0] + 600_000)
    assert learner.found(Thresholds()) == learn(events[:taken])


def test_recordings_add_up_and_the_time_between_them_does_not():
    learner = Learner(WIDTH, HEIGHT)
    for seed in range(3):
        learner.add(scene(1.0, seed))
        learner.end()
    found = learner.found(Thresholds())
    assert set(found.pixels) == set(HOT)
    assert found.learned_s == pytest.approx(3, abs=0.01)


@pytest.mark.parametrize("t", [2**63 - 1, -(2**63), 2**52 + 1])
def test_what_cannot_be_a_time_is_refused_and_not_thought_about_for_ever(t):
    events = np.zeros(1, EVENT)
    events["t"] = t
    with pytest.raises(DataError, match="beyond"):
        Learner(4, 4).add(events)


def test_nothing_and_one_moment_teach_nothing():
    assert learn(np.empty(0, EVENT)).pixels == ()
    assert learn(at([5, 5, 5], 1, 1)) == HotPixels(WIDTH, HEIGHT, 0.0, ())


def test_events_outside_the_sensor_count_as_time_alone():
    found = learn(ordered(scene(), at(np.arange(0, 4_000_000, 1000), 65535, 2)))
    assert found.learned_s == pytest.approx(4, abs=0.01)


def test_a_stream_of_nothing_but_resets_costs_no_square():
    events = at(np.arange(20_000)[::-1] * 2_000_000, 1, 1)
    assert learn(events).learned_s == 0


def test_the_surroundings_of_corners_and_of_a_single_pixel():
    count = np.arange(16).reshape(4, 4)
    rows, columns = np.array([0, 3]), np.array([0, 3])
    first = sorted(count[:3, :3].ravel().tolist())[1:]
    assert surroundings(count, rows, columns).tolist() == [
        np.median(first),
        np.median(np.sort(count[1:, 1:].ravel())[:-1]),
    ]
    assert surroundings(np.array([[9]]), np.array([0]), np.array([0])).tolist() == [0]
    empty = np.array([], int)
    assert surroundings(count, empty, empty).tolist() == []


def test_the_list_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "hot.toml"
    for hot in (learn(scene()), HotPixels(5, 5, 0.0, ())):
        write_hot_pixels(path, hot)
        assert read_hot_pixels(path) == hot
    assert [file.name for file in tmp_path.iterdir()] == ["hot.toml"]


def test_a_list_by_hand(tmp_path):
    path = tmp_path / "hot.toml"
    path.write_text("width = 4\nheight = 3\npixels = [[3, 2]]\n", encoding="utf-8")
    assert read_hot_pixels(path).pixels == ((3, 2),)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("width = 4\nheight = 3\n", "pixels"),
        ("width = 4\nheight = 3\npixels = [[4, 2]]", r"\[4, 2\] is outside of 4×3"),
        ("width = 4\nheight = 3\npixels = [[1, -2]]", "outside"),
        ("width = 4\nheight = 3\npixels = [[1.5, 2]]", r"no \[x, y\]"),
        ("width = 4\nheight = 3\npixels = [7]", r"no \[x, y\]"),
        ("width = 4\nheight = 0\npixels = []", "its keys are"),
        ("width = true\nheight = 3\npixels = []", "its keys are"),
        ("width = 4\nheight = 3\npixels = []\nfoo = 1", "its keys are"),
        ('width = 4\nheight = 3\npixels = []\nlearned_s = "x"', "no list"),
        ("pixels = [", "no list"),
    ],
)
def test_what_is_wrong_with_a_list_is_named(tmp_path, text, says):
    path = tmp_path / "hot.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=says) as error:
        read_hot_pixels(path)
    assert str(path) in str(error.value)


def test_a_list_that_is_not_there_and_one_that_cannot_be_written(tmp_path):
    with pytest.raises(ConfigError, match="firstspike filters learn"):
        read_hot_pixels(tmp_path / "none.toml")
    with pytest.raises(OutputError, match="cannot be written"):
        write_hot_pixels(tmp_path / "none" / "hot.toml", HotPixels(1, 1, 1.0, ()))

"""The objects' store, its variations, the drawn sessions and the scores, each against a naive definition."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firstspike.bundle import InputSpec, open_bundle
from firstspike.encode import define
from firstspike.errors import NoInputError
from firstspike.ttfs.file import load
from firstspike.ttfs.limits import check
from firstspike.types import EVENT
from models.forge import objects_check, objects_score, objects_shift, sets
from models.forge import objects_store as data

PLAIN = data.Augment(
    shortest_us=100_000,
    longest_us=100_001,
    drop=0,
    mirror=0,
    flip=0,
    noise=0,
    hot=0,
    erase=0,
    chance=0,
    tilt=0,
    blur=0,
    mismatch=0,
)
NAMES = ("box_0", "box_1", "mug_0")


def made(seed: int, rate: int = 3_000, seconds: int = 2) -> tuple[data.Store, dict[str, np.ndarray]]:
    """A store with random events in three of its recordings, and these events."""
    rng = np.random.default_rng(seed)
    keys, places, events = [], [], {}
    for number, name in enumerate(data.NAMES):
        n = rate * seconds if name in NAMES else 0
        one = np.zeros(n, EVENT)
        one["t"] = np.sort(rng.integers(0, seconds * 1_000_000, n))
        one["x"], one["y"], one["p"] = rng.integers(0, 128, n), rng.integers(0, 128, n), rng.integers(0, 2, n)
        keys.append((number << 32) + one["t"])
        places.append((one["p"].astype(np.int32) * 128 + one["y"]) * 128 + one["x"])
        events[name] = one
    return data.Store(np.concatenate(keys), np.concatenate(places), dict.fromkeys(NAMES, float(seconds))), events


@given(st.integers(0, 2**32), st.sampled_from(NAMES), st.integers(0, 5))
@settings(max_examples=20, deadline=None)
def test_a_window_is_what_the_runtime_encodes(seed, name, hundred_ms):
    store, events = made(seed)
    part = data.Part(name, hundred_ms * 100_000, 2_000_000)
    cut = data.windows(store, [part])
    spec = InputSpec(channels=2, height=64, width=64, encoding="count", steps=8, count_scale=4, fit="crop")
    for number, counts in enumerate(cut.counts[:3]):
        begin = part.begin + number * 100_000
        own = events[name][(events[name]["t"] >= begin) & (events[name]["t"] < begin + 100_000)]
        truth = define(spec, 128, 128, own, begin, begin + 100_000)
        np.testing.assert_array_equal(8 * (4 - np.minimum(counts, 4).astype(int)) // 4, truth.times)
        assert cut.events[number] == len(own) == counts.sum()
    assert set(cut.labels) == {part.label}


@pytest.mark.parametrize("share", [0.5, 0.7, 0.777])
def test_a_split_leaves_no_window_and_no_event_on_both_sides(share):
    store, _ = made(1)
    first, rest = store.split("mug_0", share)
    assert first.begin == 0
    assert first.end == rest.begin
    assert first.end % data.WINDOW_US == 0
    assert rest.end == 2_000_000
    assert abs(first.end / rest.end - share) <= 0.05


def test_without_variation_a_batch_shows_windows_of_its_parts_alone():
    store, events = made(2)
    part = data.Part("box_0", 300_000, 400_001)
    counts, labels = data.draw(store, [part], 5, np.random.default_rng(0), PLAIN)
    own = events["box_0"][(events["box_0"]["t"] >= 300_000) & (events["box_0"]["t"] < 400_000)]
    truth = np.zeros((2, 64, 64))
    np.add.at(truth, (own["p"], own["y"] // 2, own["x"] // 2), 1)
    for one in counts:
        np.testing.assert_array_equal(one, truth)
    assert set(labels) == {data.LABELS.index("box")}


def test_mirror_and_flip_exchange_left_and_right_off_and_on():
    store, _ = made(3)
    part = data.Part("box_0", 300_000, 400_001)
    plain, _ = data.draw(store, [part], 1, np.random.default_rng(0), PLAIN)
    mirrored, _ = data.draw(store, [part], 1, np.random.default_rng(0), replace(PLAIN, mirror=1.0))
    flipped, _ = data.draw(store, [part], 1, np.random.default_rng(0), replace(PLAIN, flip=1.0))
    np.testing.assert_array_equal(mirrored, plain[..., ::-1])
    np.testing.assert_array_equal(flipped, plain[:, ::-1])


def test_objects_come_in_equal_shares_whatever_their_recordings():
    store, _ = made(4, rate=50)
    parts = [store.whole(name) for name in NAMES]
    _, labels = data.draw(store, parts, 4_000, np.random.default_rng(0), PLAIN)
    share = float((labels == data.LABELS.index("box")).mean())
    assert 0.45 < share < 0.55


@given(st.integers(0, 2**32))
@settings(max_examples=10, deadline=None)
def test_variation_keeps_the_shape_and_only_noise_adds_events(seed):
    store, _ = made(5)
    parts = [store.whole(name) for name in NAMES]
    quiet = data.Augment(noise=0, hot=0)
    counts, labels = data.draw(store, parts, 16, np.random.default_rng(seed), quiet)
    again, _ = data.draw(store, parts, 16, np.random.default_rng(seed), quiet)
    np.testing.assert_array_equal(counts, again)
    assert counts.shape == (16, 2, 64, 64)
    assert labels.shape == (16,)
    assert counts.sum((1, 2, 3)).max() <= 3_000 * 0.22 * 1.3
    noisy, _ = data.draw(store, parts, 16, np.random.default_rng(seed), data.Augment(noise=5_000))
    assert noisy.sum() > counts.sum()


def test_a_session_of_nothing_new_shows_the_windows_as_they_are():
    store, _ = made(6)
    part = store.whole("mug_0")
    same = objects_shift.Session(1.0, np.eye(3), 0.0, np.ones(128 * 128), flip=False, noise=0.0, on=0.5, rim=None)
    np.testing.assert_array_equal(
        objects_shift.watch(store, part, same, np.random.default_rng(0)), data.windows(store, [part]).counts
    )


def test_sessions_are_the_same_each_time_and_differ_among_each_other():
    store, _ = made(7)
    parts = [store.whole("mug_0"), store.whole("box_1")]
    first, shown = objects_shift.windows(store, parts)
    again, _ = objects_shift.windows(store, parts)
    np.testing.assert_array_equal(first.counts, again.counts)
    assert [part.name for part in shown] == ["mug_0"] * objects_shift.SESSIONS + ["box_1"] * objects_shift.SESSIONS
    assert len({float(first.counts[first.part == number].mean()) for number in range(len(shown))}) == len(shown)
    assert all(part.label == label for part, label in zip(
        (shown[i] for i in first.part), first.labels, strict=True
    ))  # fmt: skip


def test_judged_as_counted_by_hand():
    parts = [data.Part("box_0", 0, 1), data.Part("mug_0", 0, 1)]
    which = np.repeat([0, 1], 12)
    answers = np.array([0] * 12 + [4] * 6 + [5, 5, 5, 6, 5, 5])
    cut = data.Windows(np.zeros(0, np.float32), np.repeat([0, 4], 12), which, np.zeros(24, int))
    first, second = objects_score.judge(np.eye(7)[answers] * 3.0, cut, parts)
    assert (first.windows, first.windows_right, first.sums, first.sums_right, first.whole_right) == (12, 12, 3, 3, True)
    # Fours against fives: 6 to 3 in windows 0–9, 5 to 4 in 1–10, 4 to 5 in 2–11.
    assert (second.windows, second.windows_right, second.sums, second.sums_right) == (12, 6, 3, 2)
    text = objects_score.summary([first, second])
    assert "windows 75.00 %" in text
    assert "mug_0 50.0/66.7" in text


def test_a_missing_recording_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("FIRSTSPIKE_DATA", str(tmp_path))
    with pytest.raises(NoInputError, match=r"box_0\.aedat: no such recording"):
        data.read("box_0")


def test_the_bundle_that_ships_holds_a_network_within_the_limits_and_the_forges_labels():
    bundle = open_bundle(objects_check.BUNDLE)
    network = load(bundle.path("ttfs"))
    check(network)
    assert bundle.manifest.labels == list(data.LABELS)
    assert network.input_shape == (2, data.SIDE, data.SIDE)
    assert network.neuron == "gated"
    convolutions = [layer for layer in network.layers if hasattr(layer, "stride") and hasattr(layer, "bias")]
    assert len(convolutions) >= 3
    assert not any(layer.bias.any() for layer in convolutions)
    assert bundle.manifest.window.size == data.WINDOW_US


def test_the_shipped_networks_figures_on_the_last_seconds_hold():
    if not (sets.ROOT.parent / "shared" / "data" / "dvs128_objects").exists():
        pytest.skip("the recordings of dvs128_objects are not there")
    store = data.load()
    seen = [objects_check.watch(store, open_bundle(objects_check.BUNDLE), store.split(n)[1]) for n in data.NAMES]
    figures = objects_check.answer(open_bundle(objects_check.BUNDLE), seen)
    assert json.dumps(objects_check.total(figures))
    assert sum(one["right"] for one in figures) >= 0.98 * sum(one["windows"] for one in figures)
    assert all(one["last_right"] for one in figures)

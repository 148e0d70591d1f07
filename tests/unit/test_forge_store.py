"""The forge's store of recordings, its scores and its simulated data, each against a naive definition."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firstspike.bundle import DecideSpec
from firstspike.decide import Decider
from firstspike.errors import DataError, NoInputError
from models.forge import score, sets, store, synth

PLAIN = store.Augment(warp=0.0, shift=0.0, drop=0.0, noise=0.0, min_events=0)


def random_recordings(seed: int, n: int = 5) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(t, pixel, on) of recordings in any order, some events beyond the last bin."""
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(n):
        count = int(rng.integers(0, 400))
        out.append((rng.integers(0, 330_000, count), rng.integers(0, store.AREA, count), rng.random(count) < 0.5))
    return out


def naive_image(recording: tuple[np.ndarray, np.ndarray, np.ndarray], begin_us: int, end_us: int) -> np.ndarray:
    image = np.zeros((2, store.SIDE, store.SIDE), int)
    for t, pixel, on in zip(*recording, strict=True):
        if begin_us <= t < end_us:
            image[int(on), pixel // store.SIDE, pixel % store.SIDE] += 1
    return image


@given(st.integers(0, 2**32), st.data())
@settings(max_examples=30, deadline=None)
def test_images_equal_the_events_counted_one_by_one(seed, data):
    recordings = random_recordings(seed)
    built = store.build([store.pack(*one) for one in recordings], [0, 1, 2, 3, 4])
    which = data.draw(st.integers(0, 4))
    first = data.draw(st.integers(0, store.BINS))
    last = data.draw(st.integers(first, store.BINS))
    spans = (np.array([which]), np.array([first]), np.array([last]))
    truth = naive_image(recordings[which], first * store.BIN_US, last * store.BIN_US)
    np.testing.assert_array_equal(store.images(built, *spans)[0], truth)
    assert store.counts(built, *spans)[0] == truth.sum()


def test_joined_and_selected_stores_hold_the_same_recordings():
    packed = [store.pack(*one) for one in random_recordings(1, 6)]
    whole = store.build(packed, list(range(6)))
    halves = store.join([store.build(packed[:2], [0, 1]), store.build(packed[2:], [2, 3, 4, 5])])
    every = (np.arange(6), np.zeros(6, np.int64), np.full(6, store.BINS))
    np.testing.assert_array_equal(store.images(halves, *every), store.images(whole, *every))
    np.testing.assert_array_equal(halves.labels, whole.labels)
    odd = halves.select(np.arange(6) % 2 == 1)
    np.testing.assert_array_equal(
        store.images(odd, np.arange(3), every[1][:3], every[2][:3]), store.images(whole, *every)[1::2]
    )
    assert odd.labels.tolist() == [1, 3, 5]


def test_a_batch_without_augmentation_holds_windows_as_they_are():
    recordings = random_recordings(2)
    built = store.build([store.pack(*one) for one in recordings], [0, 1, 2, 3, 4])
    images, labels = store.draw(built, 40, np.random.default_rng(0), PLAIN)
    for image, label in zip(images, labels, strict=True):
        whole = naive_image(recordings[label], 0, store.BINS * store.BIN_US)
        assert (image <= whole).all()
    assert images.sum() > 0


def test_augmentation_does_what_it_says():
    events = (np.arange(2000) * 150, np.full(2000, 17 * store.SIDE + 17), np.ones(2000, bool))
    one = store.build([store.pack(*events)], [7])
    rng = np.random.default_rng(0)
    dropped, _ = store.draw(one, 400, rng, store.Augment(1, 64, 0, 0, 0, 0, 0, 0, drop=0.9, noise=0))
    plain, _ = store.draw(one, 400, rng, store.Augment(1, 64, 0, 0, 0, 0, 0, 0, drop=0, noise=0))
    assert dropped.sum() < 0.9 * plain.sum()
    assert (plain.sum((1, 3))[:, :17] == 0).all()
    moved, _ = store.draw(one, 400, rng, store.Augment(64, 64, 0, 0, 0, 0, 0, shift=2.0, drop=0, noise=0))
    at = np.array([divmod(int(image[1].argmax()), store.SIDE) for image in moved])
    assert at.std(0) == pytest.approx([2.0, 2.0], rel=0.2)
    noisy, _ = store.draw(one, 400, rng, store.Augment(64, 64, 0, 0, 0, 0, 0, 0, drop=0, noise=0.5))
    assert (noisy.sum((1, 2, 3)) - 2000).mean() == pytest.approx(0.25 * store.AREA, rel=0.15)
    warped, labels = store.draw(one, 50, rng, store.Augment())
    assert warped.shape == (50, 2, store.SIDE, store.SIDE)
    assert (labels == 7).all()


@given(st.integers(0, 2**32), st.sampled_from([1.0, 0.7, 0.3]))
@settings(max_examples=30, deadline=None)
def test_recordings_are_scored_as_the_runtime_decides(seed, decay):
    rng = np.random.default_rng(seed)
    labels, recording, number, values = rng.integers(0, 4, 6), [], [], []
    right = windows_right = 0
    for which, label in enumerate(labels):
        decider = Decider(DecideSpec(min_events=0, logit_scale=0.001, decay=decay, min_evidence=0.0), list("abcd"))
        answer = None
        for index in range(7):
            if rng.random() < 0.5:
                continue
            # The last digit differs from class to class, also in sums: no ties, which rounding would decide.
            potential = (rng.integers(-300, 300, 4) * 10 + np.arange(4)).astype(np.int32)
            one, total = decider.judge(index, 1, potential)
            answer = total.label
            windows_right += one.label == "abcd"[label]
            recording.append(which)
            number.append(index)
            values.append(potential)
        right += answer == "abcd"[label]
    cut = score.Windows(np.zeros(0, np.uint16), np.array(recording, int), np.array(number, int), labels)
    if not values:
        return
    result = score.judge(cut, np.array(values, float), 0.001, decay)
    assert result.recordings == pytest.approx(right / 6)
    assert result.windows == pytest.approx(windows_right / len(values))
    assert result.silent == 6 - len(set(recording))


def test_windows_with_few_events_are_left_out():
    full = (np.arange(300) * 160, np.zeros(300, int), np.ones(300, bool))
    thin = (np.arange(100) * 160 + 200_000, np.zeros(100, int), np.ones(100, bool))
    cut = score.windows(store.build([store.pack(*full), store.pack(*thin)], [1, 2]))
    assert cut.recording.tolist() == [0]
    assert cut.number.tolist() == [0]
    assert cut.counts.sum() == 300
    assert score.judge(cut, np.eye(10)[[1]]).silent == 1


def test_the_fitted_scale_recovers_the_temperature_of_sampled_labels():
    rng = np.random.default_rng(0)
    values = rng.normal(0, 300, (4000, 5))
    chance = np.exp(score.log_softmax(values * 0.01))
    labels = (rng.random((4000, 1)) > chance.cumsum(1)).sum(1).clip(0, 4)
    cut = score.Windows(np.zeros(0, np.uint16), np.arange(4000), np.zeros(4000, int), labels)
    assert score.fit_scale(cut, values) == pytest.approx(0.01, rel=0.1)


def test_simulated_training_data_comes_from_its_seed():
    ink, labels = synth.drawn(12, np.random.default_rng(3))
    assert labels == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    one, same, other = (synth.simulate(ink, labels, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert one.events.tobytes() == same.events.tobytes() != other.events.tobytes()
    assert (np.diff(one.begins[:, [0, -1]], axis=1) > 500).all()


def test_reading_the_data_sets(tmp_path, monkeypatch):
    monkeypatch.setenv("FIRSTSPIKE_DATA", str(tmp_path / "none"))
    with pytest.raises(NoInputError, match="FIRSTSPIKE_DATA"):
        sets.mnist()
    monkeypatch.setenv("FIRSTSPIKE_DATA", str(tmp_path))
    (tmp_path / "mnist").mkdir()
    images, labels = np.arange(2 * 784, dtype=np.uint8).reshape(2, 28, 28), np.array([4, 9], np.uint8)
    for name, header, array in (("images-idx3", 16, images), ("labels-idx1", 8, labels)):
        (tmp_path / "mnist" / f"train-{name}-ubyte.gz").write_bytes(gzip.compress(bytes(header) + array.tobytes()))
    got = sets.mnist()
    np.testing.assert_array_equal(got[0], images)
    np.testing.assert_array_equal(got[1], labels)
    (tmp_path / "nmnist" / "a").mkdir(parents=True)
    rows = ["path,split,mnist_index_1based,label"]
    for number in range(1, sets.REAL + 1):
        # x 3, y 5, ON, t = 0x012345 µs; Orchard et al. 2015's layout
        (tmp_path / "nmnist" / "a" / f"{number}.bin").write_bytes(bytes([3, 5, 0x80 | 0x01, 0x23, 0x45]))
        rows.append(f"a/{number}.bin,Train,{number},{number % 10}")
    (tmp_path / "nmnist" / "labels.csv").write_text("\n".join(rows))
    read = sets.nmnist()
    assert len(read) == sets.REAL
    assert read.labels[:11].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    assert read.events[0] == (0x012345 << 12) | (1 << 11) | (5 * 34 + 3)
    for broken in (bytes(4), bytes([34, 0, 0, 0, 0])):
        (tmp_path / "nmnist" / "a" / "1.bin").write_bytes(broken)
        with pytest.raises(DataError, match=r"1\.bin"):
            sets.nmnist()
    (tmp_path / "nmnist" / "labels.csv").write_text("\n".join(rows[:-1]))
    with pytest.raises(DataError, match="samples 1 to 900"):
        sets.nmnist()

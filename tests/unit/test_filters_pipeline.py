"""`[filter]` on the road: what is configured is done before windows are cut, counted, and the same in every run."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from tests.support.pipelines import pipeline_of
from tests.support.program import complained, firstspike
from tests.unit.test_config import GOOD, fault
from tests.unit.test_pipeline import MANIFEST, FakeBackend, FakeSource, FakeStream

from firstspike.cli import main
from firstspike.config import load
from firstspike.config_layers import read_layers
from firstspike.errors import ConfigError
from firstspike.filters.definition import Rules
from firstspike.filters.hot_pixels import HotPixels, Thresholds, read_hot_pixels, write_hot_pixels
from firstspike.filters.places import Layout
from firstspike.filters.segment import Filters
from firstspike.types import EVENT, RecordingInfo


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(GOOD)
    return path


def section(file, *settings):
    return load(read_layers(file, [f"filter.{setting}" for setting in settings], {})).config.filter


def drive(filters, *streams):
    out = []
    pipeline = pipeline_of(MANIFEST, FakeSource(*streams), [FakeBackend()], out.append, filters=filters)
    pipeline.run()
    return pipeline, out


def stream_of(rows, pieces=1, size=(4, 4)):
    events = np.zeros(len(rows), EVENT)
    for i, row in enumerate(rows):
        events[i] = row
    stream = FakeStream(np.array_split(events, pieces))
    stream.info = dataclasses.replace(RecordingInfo("npz", 4, 4, "given"), width=size[0], height=size[1])
    return stream


def dropped(pipeline):
    return {name: n for name, n in pipeline.totals.counts.items() if name.startswith("filtered") and n}


def test_nothing_is_filtered_unless_it_is_asked_for(file):
    assert section(file).filters(file.parent, 1000, keep=True) is None


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("background_us=-1", ["filter.background_us", "-1", "greater than"]),
        ("background_su=1", ["filter.background_su", "unknown key"]),
        ("background_support=9", ["filter.background_support", "9"]),
        ("refractory_us=1e99", ["filter.refractory_us"]),
        ("rotate=45", ["filter.rotate", "45", "0, 90, 180 or 270"]),
        ("region=[1,2,3]", ["filter.region", "[x, y, width, height]"]),
        ("region=[1,2,3,0]", ["filter.region", "above 0"]),
        ("region=[-1,2,3,4]", ["filter.region", "-1"]),
        ("learn_s=-1", ["filter.learn_s", "-1"]),
    ],
)
def test_a_fault_names_key_value_and_origin(file, setting, named):
    text = fault(file, f"filter.{setting}")
    for part in (*named, "--set"):
        assert part in text


def test_files_are_relative_to_the_configuration(file):
    write_hot_pixels(file.parent / "hot.toml", HotPixels(4, 4, 1.0, ((1, 1),)))
    filters = section(file, "hot_pixels=hot.toml").filters(file.parent, 1000, keep=True)
    assert filters.hot.pixels == ((1, 1),)
    with pytest.raises(ConfigError, match=r"gone.toml: cannot be read"):
        section(file, "hot_pixels=gone.toml").filters(file.parent, 1000, keep=True)
    with pytest.raises(ConfigError, match=r"gone.toml: cannot be read"):
        section(file, "undistort=gone.toml").filters(file.parent, 1000, keep=True)


def test_each_reason_is_counted_and_every_event_is_accounted_for():
    hot = HotPixels(8, 4, 1.0, ((0, 0),))
    filters = Filters(
        Rules(refractory_us=10, background_us=50, back_us=1000), Layout(region=(0, 0, 4, 4), rotate=90), hot
    )
    rows = [
        (0, 0, 0, 1), (1, 7, 1, 1), (2, 9, 9, 1), (3, 1, 1, 1), (5, 1, 1, 0), (7, 2, 1, 1), (9, 2, 2, 0),
        (120, 0, 3, 1),
    ]  # fmt: skip
    pipeline, out = drive(filters, stream_of(rows, size=(8, 4)))
    assert dropped(pipeline) == {
        "filtered_hot_pixel": 1, "filtered_region": 1, "filtered_out_of_bounds": 1, "filtered_refractory": 1,
        "filtered_background": 2,
    }  # fmt: skip
    assert [d.window.events for d in out] == [2]
    assert pipeline.totals.counts["events"] == len(rows) == 2 + sum(dropped(pipeline).values())


@pytest.mark.parametrize("pieces", [1, 3, 40])
def test_decisions_do_not_depend_on_how_events_arrive(pieces):
    random = np.random.default_rng(0)
    rows = [
        (int(t), *map(int, random.integers(0, 4, 2)), int(random.integers(2)))
        for t in np.sort(random.integers(0, 5000, 400))
    ]
    rows[200:200] = [(-9000 + i, 1, 1, 1) for i in range(5)]  # the clock was reset

    def filters():
        return Filters(
            Rules(refractory_us=9, background_us=30, back_us=1000), Layout(flip_x=True), learn_us=2000,
            thresholds=Thresholds(min_hz=1, ratio=1.2),
        )  # fmt: skip

    whole, expected = drive(filters(), stream_of(rows))
    pipeline, out = drive(filters(), stream_of(rows, pieces))
    assert out == expected
    assert dropped(pipeline) == dropped(whole)
    assert dropped(whole)["filtered_hot_pixel"] > 0


def noisy(start, n=300, hot=(2, 1)):
    """A hot pixel at 1 kHz, and noise."""
    rows = [(start + 1000 * i, *hot, 1) for i in range(n)]
    return [*rows, *((start + 7000 * i, i % 4, i % 3, 0) for i in range(n // 7))]


def test_hot_pixels_are_learned_over_a_while_applied_from_then_on_and_kept(tmp_path, caplog):
    path = tmp_path / "hot.toml"
    filters = Filters(Rules(), Layout(), learn_us=400_000, learn_to=path)
    rows = sorted(noisy(0))
    with caplog.at_level("INFO"):
        pipeline, _ = drive(filters, stream_of(rows), stream_of(rows))  # 300 ms each: it learns across the two
    assert read_hot_pixels(path).pixels == ((2, 1),)
    assert any("learned 1 hot pixels" in record.message and "(2, 1)" in record.message for record in caplog.records)
    late = [row for row in rows if row[0] >= 100_000]  # the second's, once 400 ms were seen
    n = sum(row[1:3] == (2, 1) for row in late)
    assert dropped(pipeline) == {"filtered_hot_pixel": pytest.approx(n, abs=8)}


class Store:
    def __init__(self):
        self.kept = {}

    def hot_pixels(self, sensor):
        return self.kept.get(sensor, [])

    def learned(self, sensor, pixels):
        self.kept[sensor] = pixels


def test_what_was_learned_is_kept_by_sensor_and_not_learned_again():
    store, rows = Store(), sorted(noisy(0))
    streams = [stream_of(rows), stream_of(rows, size=(5, 4)), stream_of(rows)]
    pipeline, _ = drive(Filters(Rules(), Layout(), learn_us=100_000, store=store), *streams)
    assert store.kept == {"sensor 4×4": [(2, 1)], "sensor 5×4": [(2, 1)]}
    assert not pipeline.failures
    n = sum(row[1:3] == (2, 1) for row in rows)
    assert n < dropped(pipeline)["filtered_hot_pixel"] < 3 * n  # the third from its first event on
    again, _ = drive(Filters(Rules(), Layout(), learn_us=100_000, store=store), stream_of(rows))
    assert dropped(again) == {"filtered_hot_pixel": n}
    store.kept["sensor 4×4"] = [(99, 99), (2, 1)]  # of another sensor that was called the same: no harm
    again, _ = drive(Filters(Rules(), Layout(), learn_us=100_000, store=store), stream_of(rows))
    assert dropped(again) == {"filtered_hot_pixel": n}


def test_a_list_that_cannot_be_kept_is_a_warning(tmp_path, caplog):
    filters = Filters(Rules(), Layout(), learn_us=100_000, learn_to=tmp_path / "none" / "hot.toml")
    pipeline, _ = drive(filters, stream_of(sorted(noisy(0))))
    assert dropped(pipeline)["filtered_hot_pixel"] > 100
    assert any("will be learned again" in record.message for record in caplog.records)


def test_what_was_learned_is_read_at_the_next_start_and_a_replay_keeps_nothing(file):
    learning = section(file, "hot_pixels=hot.toml", "learn_s=10")
    assert learning.filters(file.parent, 1000, keep=True).learn_to == file.parent / "hot.toml"
    replay = learning.filters(file.parent, 1000, keep=False)
    assert (replay.learn_to, replay.learn_us) == (None, 10_000_000)
    write_hot_pixels(file.parent / "hot.toml", HotPixels(4, 4, 1.0, ((1, 1),)))
    again = learning.filters(file.parent, 1000, keep=True)
    assert (again.learn_us, again.hot.pixels) == (0, ((1, 1),))


def test_what_does_not_fit_a_segment_ends_that_segment_alone():
    filters = Filters(Rules(), Layout(region=(0, 0, 4, 4)))
    pipeline, out = drive(filters, stream_of([(0, 1, 1, 1)], size=(3, 3)), stream_of([(0, 1, 1, 1)]))
    assert [(d.source, d.window.events) for d in out] == [("s1", 1)]
    assert "filter.region" in str(pipeline.failures[0][1])


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    path = tmp_path_factory.mktemp("recording") / "digits.aedat4"
    assert firstspike("simulate", path, "--digits", "31", "--seed", "7").returncode == 0
    return path


def test_a_replay_is_the_same_bytes_with_filters_and_tells_what_they_dropped(recording, tmp_path):
    arguments = [recording, "--speed", "max", "--set", "filter.background_us=3000", "--set", "filter.refractory_us=500"]
    runs = [firstspike("replay", *arguments, "--json").stdout for _ in range(2)]
    assert runs[0] == runs[1]
    assert runs[0].count('"status":"ok"') == runs[0].count("\n") > 0
    assert "filtered background" in firstspike("replay", *arguments).stderr
    (tmp_path / "3").mkdir()
    (tmp_path / "3" / "a.aedat4").write_bytes(recording.read_bytes())
    report = json.loads(firstspike("evaluate", tmp_path, "--json", *arguments[3:]).stdout)
    assert 0 < report["filtered"]["background"] < report["events"]


def learn(capsys, *arguments):
    """`filters learn`, in this process: starting programs takes longer than all else here."""
    code = main(["filters", "learn", *map(str, arguments)])
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def test_filters_learn_writes_what_the_configuration_reads(tmp_path, capsys):
    random = np.random.default_rng(0)
    n = 20_000
    t = np.sort(random.integers(0, 3_000_000, n))
    x, y = random.integers(0, 34, n), random.integers(0, 34, n)
    hot = random.random(n) < 0.1
    arrays = {"t": t, "x": np.where(hot, 5, x), "y": np.where(hot, 9, y), "p": random.integers(0, 2, n)}
    np.savez(tmp_path / "a.npz", width=34, height=34, **arrays)
    code, out, _ = learn(capsys, tmp_path / "a.npz", "--out", tmp_path / "hot.toml")
    assert code == 0
    assert "(5, 9)" in out
    assert read_hot_pixels(tmp_path / "hot.toml").pixels == ((5, 9),)
    replay = ["replay", tmp_path / "a.npz", "--speed", "max", "--set", f"filter.hot_pixels={tmp_path}/hot.toml"]
    assert "filtered hot pixel" in firstspike(*replay).stderr
    np.savez(tmp_path / "b.npz", width=35, height=34, **arrays)
    code, _, err = learn(capsys, tmp_path / "a.npz", tmp_path / "b.npz")
    assert (code, "b.npz" in err, "each sensor" in err) == (65, True, True)
    np.savez(tmp_path / "c.npz", width=34, height=34, **{name: values[:1] for name, values in arrays.items()})
    code, _, err = learn(capsys, tmp_path / "c.npz")
    assert (code, "nothing was learned" in err) == (65, True)
    code, _, err = learn(capsys, tmp_path / "none.npz")
    assert (code, "none.npz" in err) == (66, True)


def test_check_reads_the_filters_files(tmp_path):
    done = firstspike("check", "--set", "model.path=nmnist", "--set", "source.kind=simulated",
                      "--set", "filter.undistort=/none.toml")  # fmt: skip
    complained(done, 78, "/none.toml", "filter.undistort")

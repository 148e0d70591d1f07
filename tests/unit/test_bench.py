"""`firstspike bench`: the windows, the comparison, the table, and back ends that cannot run or fail."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from firstspike.backends.emulator import EmulatorBackend
from firstspike.benchmark import contestants, windows
from firstspike.benchmark.measure import measure
from firstspike.benchmark.table import Row, lines
from firstspike.bundle import open_bundle
from firstspike.cli import main
from firstspike.config_layers import read_layers
from firstspike.errors import ConfigError, NoInputError
from firstspike.simulate.scene import SIDE, digit_sequence
from firstspike.sources.aedat4_writer import write_aedat4
from firstspike.types import READY, Inference

MODELS = Path(__file__).parents[2] / "models"
HERE = f'backend.null.command=["{sys.executable}"]'


@pytest.fixture(scope="module")
def bundle():
    return open_bundle(MODELS / "nmnist")


@pytest.fixture(scope="module")
def samples(bundle):
    return windows.simulated(bundle, 12).samples


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Recordings of three digits, in a folder each."""
    place = tmp_path_factory.mktemp("digits")
    for digit, events in digit_sequence([3, 1, 4], seed=7):
        (place / str(digit)).mkdir()
        write_aedat4(place / str(digit) / "one.aedat4", iter([events]), SIDE, SIDE, source="a test (simulated)")
    return place


def test_simulated_windows_are_the_same_each_time_and_labelled(bundle, samples):
    again = windows.simulated(bundle, 12)
    assert len(again.samples) == 12
    assert "simulated" in again.origin
    for one, other in zip(samples, again.samples, strict=True):
        np.testing.assert_array_equal(one.spikes.times, other.spikes.times)
        assert one.label == other.label
    assert {one.label for one in samples} <= set(bundle.manifest.labels)


def test_no_labels_where_the_model_has_no_digits():
    taken = windows.simulated(open_bundle(MODELS / "dvs128-objects"), 2)
    assert [one.label for one in taken.samples] == [None, None]
    assert taken.samples[0].spikes.times.shape == (2, 64, 64)


def test_a_model_that_no_simulated_window_suits(bundle):
    manifest = bundle.manifest.model_copy(
        update={"decide": bundle.manifest.decide.model_copy(update={"min_events": 10**9})}
    )
    with pytest.raises(NoInputError, match="--recordings DIR"):
        windows.simulated(replace(bundle, manifest=manifest), 5)


def test_recorded_windows_come_from_every_recording_with_its_label(bundle, digits):
    taken = windows.recorded(bundle, digits, 6)
    assert sorted(one.label for one in taken.samples) == ["1", "1", "3", "3", "4", "4"]
    assert taken.skipped == {}
    single = windows.recorded(bundle, digits / "3" / "one.aedat4", 100)
    assert {one.label for one in single.samples} == {None}


def test_recordings_that_cannot_be_read_are_left_out_and_named(bundle, digits, tmp_path):
    (tmp_path / "good.aedat4").write_bytes((digits / "3" / "one.aedat4").read_bytes())
    (tmp_path / "bad.aedat4").write_bytes(b"#!AER-DAT4.0\r\nnothing")
    taken = windows.recorded(bundle, tmp_path, 4)
    assert list(taken.skipped) == [str(tmp_path / "bad.aedat4")]
    (tmp_path / "good.aedat4").unlink()
    with pytest.raises(NoInputError, match="no window of these recordings can be used"):
        windows.recorded(bundle, tmp_path, 4)


@pytest.mark.parametrize("place", ["nowhere", "empty"])
def test_no_recordings(bundle, tmp_path, place):
    (tmp_path / "empty").mkdir()
    with pytest.raises(NoInputError):
        windows.recorded(bundle, tmp_path / place, 4)


class Skewed(EmulatorBackend):
    """The emulator, with potentials that are off; it fails at chosen windows."""

    def __init__(self, bundle, add, fails=()):
        super().__init__(bundle, "skewed")
        self.add, self.fails, self.asked = np.array(add), fails, 0

    def infer(self, spikes, within_s=0.0):
        self.asked += 1
        if self.asked - 1 in self.fails:
            return Inference(self.name, None, None, failure=f"window {self.asked - 1} was too much")
        found = super().infer(spikes)
        return replace(found, potential=found.potential + self.add.astype(np.int32))

    def condition(self):
        return READY


def figures(bundle, samples, backend):
    reference = EmulatorBackend(bundle)
    truth = [reference.infer(sample.spikes).potential for sample in samples]
    return measure(backend, samples, truth, bundle.manifest.labels)


def test_the_emulator_equals_itself(bundle, samples):
    found = figures(bundle, samples, EmulatorBackend(bundle))
    assert (found.windows, found.failed, found.same, found.largest) == (12, 0, 12, 0)
    assert found.labelled == 12
    assert found.right >= 10
    assert found.alone_us is None
    assert found.through_us["p99"] >= found.through_us["p50"] > 0
    assert found.per_second > 0


def test_differences_are_counted(bundle, samples):
    assert figures(bundle, samples, Skewed(bundle, [7] * 10)).largest == 7
    shifted = figures(bundle, samples, Skewed(bundle, [10**6, *[0] * 9]))
    assert shifted.largest == 10**6
    assert shifted.same == sum(sample.label == "0" for sample in samples)


def test_a_failure_is_a_row_with_its_reason_and_not_a_zero(bundle, samples):
    found = figures(bundle, samples, Skewed(bundle, [0] * 10, fails=(2, 5)))
    assert (found.failed, found.same, found.first_failure) == (2, 10, "window 2 was too much")
    assert found.through_us is None
    assert found.per_second is None
    row = Row("skewed", "skewed", "dense", "here", found)
    assert not row.ran
    text = list(lines([row]))
    assert "10 of 10" in text[1]
    assert "–" in text[1]
    assert text[2] == "skewed failed on 2 of 12 windows: window 2 was too much"


def test_one_that_answers_nothing(bundle, samples):
    found = figures(bundle, samples, Skewed(bundle, [0] * 10, fails=range(1000)))
    assert (found.failed, found.same, found.largest) == (12, 0, None)
    assert "0 of 0" in list(lines([Row("s", "s", "dense", "", found)]))[1]


def bench(capsys, *arguments):
    code = main(["bench", "--windows", "8", *arguments])
    return code, *capsys.readouterr()


def test_a_worker_beside_the_emulator(capsys):
    code, out, _ = bench(capsys, "--plans", "emulator,null", "--set", HERE, "--json")
    assert code == 0
    report = json.loads(out)
    assert report["model"] == "nmnist"
    assert report["windows"] == 8
    emulator, null = report["rows"]
    assert (emulator["name"], emulator["largest"], emulator["alone_us"]) == ("emulator", 0, None)
    assert null["ran"]
    assert null["largest"] > 0  # it adds up activations, which is no network
    assert null["alone_us"]["p50"] < null["through_us"]["p50"]


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        (
            ["backend.null.fault=absent"],
            ["null did not run: absent: it was told to be absent", "fix: set backend.null"],
        ),
        (["backend.null.fault=raise"], ["null failed on 8 of 8 windows: null: RuntimeError: it was told to fail"]),
        (['backend.null.command=["/nowhere/python"]'], ["null did not run: ", "/nowhere/python: No such file"]),
    ],
)
def test_what_cannot_run_is_listed_with_the_reason(capsys, settings, parts):
    given = [part for setting in [HERE, *settings] for part in ("--set", setting)]
    code, out, _ = bench(capsys, "--plans", "emulator,null", *given)
    assert code == 69
    assert "8 of 8" in out
    for part in parts:
        assert part in out


def test_a_bundle_without_a_dense_form_still_runs_elsewhere(capsys, tmp_path):
    from firstspike.ttfs.convert.bundle import seal

    folder = tmp_path / "old"
    folder.mkdir()
    manifest = json.loads((MODELS / "nmnist" / "bundle.json").read_text())
    files = {role: manifest["files"][role]["path"] for role in ("ttfs", "ann", "card")}
    for name in files.values():
        (folder / name).write_bytes((MODELS / "nmnist" / name).read_bytes())
    del manifest["files"]
    seal(folder, manifest, files)
    code, out, _ = bench(capsys, "--model", str(folder), "--plans", "emulator,openvino")
    assert code == 69
    assert "openvino did not run: refused" in out
    assert f"fix: firstspike dense {folder}" in out
    assert "emulator" in out


def test_unknown_names(capsys):
    code, _, err = bench(capsys, "--plans", "emulator,foo")
    assert code == 78
    assert "'foo'" in err
    code, _, err = bench(capsys, "--plans", "null-ann")  # null has no twin
    assert code == 78
    assert "'null-ann'" in err


@pytest.mark.parametrize("arguments", [["--plans", "a,a"], ["--plans", "a,,b"], ["--windows", "0"], ["--windows", "x"]])
def test_wrong_usage(capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        main(["bench", *arguments])
    assert caught.value.code == 64


def complete(layers):
    """With what every configuration must have."""
    layers.put(("model", "path"), "nmnist", "test")
    layers.put(("source", "kind"), "recording", "test")
    return layers


def test_all_back_ends_and_their_twins_take_part_unless_named(bundle):
    layers = read_layers(None, ["backend.fast.kind=openvino", "backend.fast.threads=2"], {})
    names = contestants.all_names(layers, bundle)
    assert names[0] == "emulator"
    assert {"fast", "fast-ann", "openvino", "openvino-ann"} <= set(names)
    assert not {"null", "definition", "emulator-ann"} & set(names)
    complete(layers)
    chosen = {choice.name: choice for choice in contestants.choose(layers, names).backends}
    assert chosen["fast-ann"].kind == "openvino"
    assert chosen["fast-ann"].options.network == "ann"
    assert chosen["fast-ann"].options.threads == 2
    assert chosen["fast"].options.network == "dense"


def test_a_twin_of_nothing():
    layers = complete(read_layers(None, [], {}))
    with pytest.raises(ConfigError, match="'foo-ann'"):
        contestants.choose(layers, ["foo-ann"])

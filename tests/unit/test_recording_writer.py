"""Recording files: whole, with what they can hold, under a name that was free."""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.written import FORMATS, events_of, read

from firstspike.errors import OutputError
from firstspike.recording_writer import RecordingFile
from firstspike.sources.evt3_writer import Evt3Encoder, header
from firstspike.sources.formats._stream import Stats
from firstspike.sources.formats.evt3 import Evt3
from firstspike.types import EVENT, join


@pytest.mark.parametrize(("format", "suffix"), FORMATS)
def test_a_file_holds_what_was_written_and_appears_when_it_is_complete(tmp_path, format, suffix):  # noqa: A002
    sent = events_of(5000, start=10**9)
    path = tmp_path / f"a{suffix}"
    file = RecordingFile(path, format, 320, 240, source="cam 1")
    for start in range(0, 5000, 777):
        file.write(sent[start : start + 777])
    assert not path.exists()
    file.finish()
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    info, got = read(path)
    np.testing.assert_array_equal(got, sent)
    assert (info.width, info.height, info.sensor) == (320, 240, "cam 1")


@pytest.mark.parametrize(("format", "suffix"), FORMATS)
def test_what_a_file_cannot_hold_is_left_out_and_counted(tmp_path, format, suffix):  # noqa: A002
    events = events_of(10)
    events["t"] = [-5, 10, 20, 15, 30, 25, 40, 50, 45, 60]
    events["x"][7] = 320
    file = RecordingFile(tmp_path / f"a{suffix}", format, 320, 240, source="c")
    file.write(events[:4])
    file.write(events[4:])
    file.finish()
    _, got = read(tmp_path / f"a{suffix}")
    # 45 comes after 50, which is outside: it is in order.
    assert got["t"].tolist() == [10, 20, 30, 40, 45, 60]
    assert (file.events, file.outside, file.backward) == (6, 2, 2)


def test_a_file_that_exists_is_not_replaced(tmp_path):
    (tmp_path / "a.raw").write_text("mine")
    with pytest.raises(OutputError, match="exists: name another"):
        RecordingFile(tmp_path / "a.raw", "evt3", 320, 240, source="c")
    with pytest.raises(OutputError, match="cannot be written"):
        RecordingFile(tmp_path / "no" / "a.raw", "evt3", 320, 240, source="c")
    with pytest.raises(OutputError, match="EVT3 has no sensor"):
        RecordingFile(tmp_path / "b.raw", "evt3", 3000, 240, source="c")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.raw"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40_000_000), st.integers(0, 2047), st.integers(0, 2047), st.integers(0, 1)),
                min_size=1, max_size=40), st.integers(1, 7))  # fmt: skip
def test_evt3_words_give_back_any_events_however_they_are_cut(rows, size):
    events = np.zeros(len(rows), EVENT)
    steps, events["x"], events["y"], events["p"] = map(list, zip(*rows, strict=True))
    events["t"] = np.cumsum(steps)
    encoder, decoder = Evt3Encoder(), Evt3(Stats())
    words = np.concatenate([encoder.encode(events[i : i + size]) for i in range(0, len(events), size)])
    got = join([batch.copy() for batch in decoder.batches(words)])
    np.testing.assert_array_equal(got, events)


def test_evt3_headers_hold_no_second_line_of_a_cameras_name():
    assert header(9, 8, "a\nb").count(b"\n") == 5


@pytest.mark.parametrize("links", [True, False])
def test_two_that_chose_the_same_name_both_have_their_file(tmp_path, monkeypatch, links):
    if not links:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(PermissionError(1, "no links here")))
    files = [RecordingFile(tmp_path / "a.raw", "evt3", 320, 240, source="c") for _ in range(3)]
    for number, file in enumerate(files):
        file.write(events_of(10 + number))
        file.finish()
    assert [file.path.name for file in files] == ["a.raw", "a-2.raw", "a-3.raw"]
    assert [len(read(file.path)[1]) for file in files] == [10, 11, 12]
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize(("format", "suffix"), FORMATS)
def test_a_file_without_events_is_one_too(tmp_path, format, suffix):  # noqa: A002
    RecordingFile(tmp_path / f"a{suffix}", format, 320, 240, source="c").finish()
    info, got = read(tmp_path / f"a{suffix}")
    assert (info.width, info.height, len(got)) == (320, 240, 0)


def test_a_file_has_the_rights_of_any_new_one(tmp_path):
    before = os.umask(0o027)
    try:
        file = RecordingFile(tmp_path / "a.raw", "evt3", 320, 240, source="c")
        file.write(events_of(1))
        file.finish()
    finally:
        os.umask(before)
    assert (tmp_path / "a.raw").stat().st_mode & 0o777 == 0o640


def test_a_sensor_too_large_for_aedat4_is_refused(tmp_path):
    with pytest.raises(OutputError, match="AEDAT4 has no sensor of 40000×10"):
        RecordingFile(tmp_path / "a.aedat4", "aedat4", 40_000, 10, source="c")
    assert list(tmp_path.iterdir()) == []

"""Recording: whole files, rotation, and what becomes of it when the disk is full, slow or gone."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections import namedtuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.program import firstspike, started

from firstspike import recording_writer
from firstspike.errors import OutputError
from firstspike.recording_writer import FullError, Recorder, RecordingFile, Rotation
from firstspike.sender import Sender, play
from firstspike.sources.decoding import DecoderProcess
from firstspike.sources.evt3_writer import Evt3Encoder, header
from firstspike.sources.formats._stream import Stats
from firstspike.sources.formats.evt3 import Evt3
from firstspike.types import EVENT, join

FORMATS = [("aedat4", ".aedat4"), ("evt3", ".raw")]


def events_of(n, start=0, step=100, seed=0):
    rng = np.random.default_rng(seed)
    events = np.zeros(n, EVENT)
    events["t"] = start + np.arange(n) * step
    events["x"], events["y"] = rng.integers(0, 320, n), rng.integers(0, 240, n)
    events["p"] = rng.integers(0, 2, n)
    return events


def read(path):
    with DecoderProcess() as decoder, decoder.open(path) as recording:
        return recording.info, join(list(recording))


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


@pytest.mark.parametrize("began", [1_631_717_221_674_515, 90_000_000_000_000])
def test_evt3_of_a_camera_that_tells_unix_time_begins_in_the_first_turn_of_its_counter(began):
    events = events_of(3000)
    events["t"] += began - events["t"][0]
    encoder, decoder = Evt3Encoder(), Evt3(Stats())
    words = np.concatenate([encoder.encode(events[:7]), encoder.encode(events[7:])])
    assert words.nbytes <= 8 * len(events)
    got = join([batch.copy() for batch in decoder.batches(words)])
    assert got["t"][0] == began % (1 << 24)
    np.testing.assert_array_equal(np.diff(got["t"]), np.diff(events["t"]))


@pytest.mark.parametrize(("format", "suffix"), FORMATS)
def test_a_clock_that_is_set_to_unix_time_begins_another_file(tmp_path, format, suffix):  # noqa: A002
    events = events_of(300)
    events["t"][100:] += 1_631_717_221_674_515
    events["t"][200:] += 1_000_000_000_000
    recorder = recorder_of(tmp_path / f"a{suffix}", format, max_s=1e6)
    recorder.put(events[:150].copy(), (320, 240), "c")
    recorder.put(events[150:200].copy(), (320, 240), "c")
    recorder.put(events[200:].copy(), (320, 240), "c")
    recorder.close()
    parts = [read(path)[1] for path in sorted(tmp_path.iterdir())]
    assert [len(part) for part in parts] == [100, 100, 100]
    np.testing.assert_array_equal(join(parts)["x"], events["x"])


def test_evt3_headers_hold_no_second_line_of_a_cameras_name():
    assert header(9, 8, "a\nb").count(b"\n") == 5


def recorder_of(path, format="evt3", tell=lambda _: None, free=0, **rotation):  # noqa: A002
    return Recorder(Rotation(path, **rotation), format, free, tell)


@pytest.mark.parametrize(("format", "suffix"), FORMATS)
def test_files_follow_one_another_by_time(tmp_path, format, suffix):  # noqa: A002
    sent, told = events_of(1000), []
    (tmp_path / f"a-0002{suffix}").write_text("mine")
    recorder = recorder_of(tmp_path / f"a{suffix}", format, told.append, max_s=0.03)
    for start in range(0, 1000, 130):
        recorder.put(sent[start : start + 130], (320, 240), "c")
    recorder.close()
    names = [file.path.name for file in told]
    assert names == [f"a-{number:04}{suffix}" for number in (1, 3, 4, 5)]
    np.testing.assert_array_equal(join([read(file.path)[1] for file in told]), sent)
    assert [file.events for file in told] == [300, 300, 300, 100]
    assert (tmp_path / f"a-0002{suffix}").read_text() == "mine"


def test_files_follow_one_another_by_size(tmp_path):
    sent, told = events_of(200_000, step=7), []
    recorder = recorder_of(tmp_path / "a.raw", tell=told.append, max_bytes=300_000)
    for start in range(0, len(sent), 10_000):
        recorder.put(sent[start : start + 10_000], (320, 240), "c")
    recorder.close()
    assert len(told) > 2
    np.testing.assert_array_equal(join([read(file.path)[1] for file in told]), sent)
    assert all(300_000 <= file.path.stat().st_size < 400_000 for file in told[:-1])


def test_a_clock_set_back_and_another_segment_begin_another_file(tmp_path):
    told = []
    recorder = recorder_of(tmp_path / "a.raw", tell=told.append)
    recorder.put(events_of(10, start=10**8), (320, 240), "c")
    recorder.put(events_of(10), (320, 240), "c")
    recorder.end_segment()
    recorder.end_segment()
    recorder.put(events_of(10, start=10**8), (640, 480), "d")
    recorder.close()
    assert [file.path.name for file in told] == ["a.raw", "a-0002.raw", "a-0003.raw"]
    assert read(told[2].path)[0].width == 640
    assert recorder.written.events == 30


def test_nothing_came_and_nothing_is_written(tmp_path):
    recorder_of(tmp_path / "a.raw").close()
    assert list(tmp_path.iterdir()) == []


def test_below_the_floor_of_free_space_it_stops_and_what_was_written_is_whole(tmp_path, monkeypatch):
    usage = namedtuple("usage", "free")
    free = [10 << 20]
    monkeypatch.setattr(recording_writer.shutil, "disk_usage", lambda _: usage(free[0]))
    monkeypatch.setattr(recording_writer, "LOOK_S", -1.0)
    told = []
    recorder = recorder_of(tmp_path / "a.raw", tell=told.append, free=5 << 20)
    recorder.put(events_of(100), (320, 240), "c")
    until(lambda: recorder._file is not None and recorder._file.events == 100)
    free[0] = 4 << 20
    recorder.put(events_of(100, start=10**6), (320, 240), "c")
    until(lambda: recorder.error is not None)
    with pytest.raises(FullError, match="4 MiB are free, less than the floor of 5"):
        recorder.put(events_of(1), (320, 240), "c")
    with pytest.raises(FullError):
        recorder.close()
    assert len(read(tmp_path / "a.raw")[1]) == 100


def until(condition, within_s=10.0):
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.fixture
def small_disk(tmp_path):
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("a small disk needs root, to mount one")
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], capture_output=True, check=False)  # noqa: S607
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)  # noqa: S607


@pytest.mark.parametrize(("format", "suffix"), FORMATS)
def test_a_full_disk_is_an_error_and_leaves_no_half_file(small_disk, format, suffix):  # noqa: A002
    recorder = recorder_of(small_disk / f"a{suffix}", format)
    with pytest.raises(OutputError, match=r"cannot be written|reached the disk"):  # noqa: PT012 (it comes when it comes)
        for number in range(100):
            recorder.put(events_of(20_000, start=number * 10**7, step=9, seed=number), (320, 240), "c")
        recorder.close()
    until(lambda: not list(small_disk.iterdir()))


def test_a_disk_that_stalls_costs_events_and_not_the_reader(tmp_path, monkeypatch):
    monkeypatch.setattr(recording_writer, "QUEUE_BYTES", 32_000)
    gate = threading.Event()
    write = RecordingFile.write
    monkeypatch.setattr(RecordingFile, "write", lambda self, events: (gate.wait(), write(self, events))[1])
    recorder = recorder_of(tmp_path / "a.raw")
    began = time.monotonic()
    for number in range(10):
        recorder.put(events_of(1000, start=number * 10**6), (320, 240), "c")
    assert time.monotonic() - began < 5  # it did not wait
    gate.set()
    recorder.close()
    assert recorder.written.dropped >= 7000
    assert recorder.written.events + recorder.written.dropped == 10_000


def port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_the_command_records_what_is_sent_until_it_is_told_to_stop(tmp_path):
    address, out = f"udp://127.0.0.1:{port()}", tmp_path / "out.aedat4"
    sent = events_of(3000)
    with started("record", out, "--from", address, "--free-mib", "1",
                 stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:  # fmt: skip
        assert any("nobody sends" in child.stderr.readline() for _ in range(2))
        with Sender(address, 320, 240) as sender:
            play(sender, [sent], 1.0, None, lambda: False)
        time.sleep(0.3)
        child.send_signal(signal.SIGTERM)
        text, told = child.communicate(timeout=20)
    assert child.returncode == 0, told
    assert text == f"{out}: 3000 events\n"
    np.testing.assert_array_equal(read(out)[1], sent)


@pytest.mark.parametrize(
    ("arguments", "code", "part"),
    [
        (["x.mp4", "--from", "udp://127.0.0.1:1"], 64, "of which format"),
        (["x.raw"], 64, "nothing to record from"),
        (["x.raw", "--from", "udp://0.0.0.0:1"], 78, "open to other machines"),
        (["x.raw", "--set", "source.kind=simulated"], 78, "is not live"),
        (["gone/x.raw", "--from", "udp://127.0.0.1:1"], 74, "gone/x.raw cannot be written: No such file"),
        (["x.raw", "--from", "udp://127.0.0.1:1", "--seconds", "0"], 64, "no positive number"),
    ],
)
def test_what_cannot_be_recorded_says_why(tmp_path, arguments, code, part):
    done = firstspike("record", *arguments, cwd=tmp_path, environment={"FIRSTSPIKE_CONFIG": ""})
    assert (done.returncode, part in done.stderr, "Traceback" in done.stderr) == (code, True, False), done.stderr

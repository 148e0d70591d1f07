"""What a live source gives, file after file: rotation, lying times, and disks that are full, slow or gone."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections import namedtuple
from contextlib import contextmanager

import numpy as np
import pytest
from tests.support.program import firstspike, started
from tests.support.written import FORMATS, events_of, read

from firstspike import recorder as recorders
from firstspike import recording_writer
from firstspike.cli import record
from firstspike.errors import ConfigError, OutputError, UnavailableError
from firstspike.recorder import Recorder, Rotation
from firstspike.recording_writer import FullError, RecordingFile
from firstspike.sender import Sender, play
from firstspike.sources import Arrival, LiveStream, Segment, Waiting
from firstspike.types import RecordingInfo, join


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


def at(*times):
    events = events_of(len(times))
    events["t"] = times
    return events


def test_a_clock_set_back_in_the_middle_of_what_came_at_once_begins_another_file(tmp_path):
    told = []
    recorder = recorder_of(tmp_path / "a.raw", tell=told.append)
    recorder.put(join([events_of(10, start=10**8), events_of(20)]), (320, 240), "c")
    recorder.put(events_of(10, start=2000), (320, 240), "c")
    recorder.close()
    assert [file.events for file in told] == [10, 30]
    assert (recorder.written.events, recorder.written.backward) == (40, 0)


@pytest.mark.parametrize(("format", "suffix"), FORMATS)
@pytest.mark.parametrize("lie", [20_000_000, 2**50, 2**63 - 1])
def test_one_time_that_lies_costs_its_event_at_most(tmp_path, format, suffix, lie):  # noqa: A002
    told = []
    recorder = recorder_of(tmp_path / f"a{suffix}", format, told.append)
    recorder.put(at(1, 2, lie, 3, 4), (320, 240), "c")
    recorder.put(at(*range(10, 20)), (320, 240), "c")
    recorder.put(at(lie), (320, 240), "c")
    recorder.put(at(*range(20, 30)), (320, 240), "c")
    recorder.close()
    got = join([read(file.path)[1] for file in told])["t"].tolist()
    assert [t for t in got if t != lie] == [1, 2, 3, 4, *range(10, 30)]
    written = recorder.written
    assert written.events + written.outside + written.backward == 26
    assert written.outside == (2 if lie == 2**63 - 1 else 0)


@pytest.mark.parametrize(("format", "suffix"), FORMATS)
def test_times_since_1970_take_no_more_room(tmp_path, format, suffix):  # noqa: A002
    sent = events_of(100, start=1_700_000_000_000_000)
    recorder = recorder_of(tmp_path / f"a{suffix}", format)
    recorder.put(sent, (320, 240), "c")
    recorder.close()
    assert (tmp_path / f"a{suffix}").stat().st_size < 10_000
    np.testing.assert_array_equal(read(tmp_path / f"a{suffix}")[1], sent)


def test_a_stream_of_nothing_but_resets_costs_no_square(tmp_path, monkeypatch):
    made = []

    class Null:
        events, outside, backward, bytes = 1, 0, 0, 0

        def __init__(self, *_, **__):
            made.append(0)

        def write(self, events):
            made[-1] += len(events)

        def finish(self):
            pass

    monkeypatch.setattr(recorders, "RecordingFile", Null)
    looked = []
    look = Recorder._until_leap
    monkeypatch.setattr(Recorder, "_until_leap", lambda self, t: (looked.append(len(t)), look(self, t))[1])
    recorder = recorder_of(tmp_path / "a.raw")
    recorder.put(at(*np.tile([0, 1, 10**8, 10**8 + 1], 5000).tolist()), (320, 240), "c")
    recorder.close()
    assert sum(made) == 20_000
    assert sum(looked) < 20_000 * 300


@pytest.mark.parametrize(("format", "suffix"), FORMATS)
def test_a_folder_that_is_taken_away_is_an_error_and_no_silence(tmp_path, format, suffix):  # noqa: A002
    folder = tmp_path / "gone"
    folder.mkdir()
    recorder = recorder_of(folder / f"a{suffix}", format)
    recorder.put(events_of(100), (320, 240), "c")
    until(lambda: recorder._file is not None and recorder._file.events == 100)
    shutil.rmtree(folder)
    recorder.put(events_of(100, start=20_000), (320, 240), "c")
    with pytest.raises(OutputError, match="No such file"):
        recorder.close()
    assert recorder.written.files == 0


def test_a_fault_of_ours_while_writing_is_an_error_and_no_silence(tmp_path, monkeypatch):
    monkeypatch.setattr(RecordingFile, "write", lambda *_: 1 / 0)
    recorder = recorder_of(tmp_path / "a.raw")
    recorder.put(events_of(1), (320, 240), "c")
    with pytest.raises(OutputError, match="a fault of firstspike: ZeroDivisionError"):
        recorder.close()
    assert list(tmp_path.iterdir()) == []


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
    monkeypatch.setattr(recorders, "QUEUE_BYTES", 32_000)
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


class Camera:
    """A live source: a camera that gives events once and is lost; then whatever `after` does."""

    def __init__(self, after):
        self.after = after

    def segments(self):
        @contextmanager
        def opened():
            yield Lost()

        yield Segment("camera", opened)
        yield from self.after()

    def close(self):
        pass


class Lost(LiveStream):
    info = RecordingInfo("camera", 320, 240, "sensor", "cam")
    given = False

    def receive(self, within_s):
        if self.given:
            raise UnavailableError("the camera was lost")
        self.given = True
        return Arrival(events_of(100), time.monotonic_ns())

    def take_counts(self):
        return {"camera_overflows": 1}


def test_what_was_recorded_is_kept_whatever_ends_it(tmp_path, capsys):
    def another_camera():
        raise ConfigError("this camera has no such bias")
        yield

    recorder = recorder_of(tmp_path / "a.raw")
    with pytest.raises(ConfigError):
        record._record(Camera(another_camera), recorder, None, threading.Event())
    assert len(read(tmp_path / "a.raw")[1]) == 100
    assert "100 events in 1 files, 2 camera overflows" in capsys.readouterr().err


def test_the_time_is_over_also_while_there_is_no_camera(tmp_path):
    def nobody():
        while True:
            time.sleep(0.05)
            yield Waiting("plug one in", {"refused_packets": 1})

    recorder = recorder_of(tmp_path / "a.raw")
    assert record._record(Camera(nobody), recorder, 0.2, threading.Event()) == 0
    assert recorder.written.events == 100


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

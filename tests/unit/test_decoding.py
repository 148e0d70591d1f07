"""The decoder's child process: what a crash, a hang, garbage or an abandoned file do to the parent - one error."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from tests.support import aedat4
from tests.support import recordings as make
from tests.support.decoding import rows_of

from firstspike.errors import DataError, NoInputError, UsageError
from firstspike.sources import _decode_frames as frames
from firstspike.sources import _decode_link as link
from firstspike.sources.decoding import DecoderProcess
from firstspike.sources.summary import summarise
from firstspike.types import EVENT

ROWS = [(1000 + 40 * i, (7 * i) % 34, (3 * i) % 34, i % 2) for i in range(50)]
MEBI = 1 << 20


@pytest.fixture
def good(tmp_path):
    path = tmp_path / "good.raw"
    path.write_bytes(make.evt2(ROWS))
    return path


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """1.2 million events: more than any pipe holds."""
    path = tmp_path_factory.mktemp("large") / "large.dat"
    records = np.zeros(1_200_000, [("t", "<u4"), ("address", "<u4")])
    records["t"] = np.arange(len(records))
    path.write_bytes(make.dat([]) + records.tobytes())
    return path


@pytest.fixture(scope="module")
def shared():
    with DecoderProcess() as decoder:
        yield decoder


def fake_child(monkeypatch, code):
    """Makes DecoderProcess start a program of the test's instead of the decoder; `send` writes a frame."""
    prelude = (
        "import os, sys, time, json, struct, signal\n"
        "def send(kind, body=b''): os.write(1, struct.pack('<cI', kind, len(body)) + body)\n"
        "hello = lambda: send(b'H', b'{\"protocol\": 1}')\n"
        "def info(): send(b'I', json.dumps(dict(format='csv', width=9, height=9, geometry_from='given',"
        " sensor=None, notes=[])).encode())\n"
    )
    real = subprocess.Popen

    def start(argv, **options):
        return real([sys.executable, "-c", prelude + code], **options)

    monkeypatch.setattr(link.subprocess, "Popen", start)


def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


def children():
    return Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split()


def test_one_child_decodes_file_after_file(good, shared):
    pids = set()
    for _ in range(3):
        with shared.open(good) as recording:
            assert recording.info.format == "evt2"
            arrays = list(recording)
        assert {array.dtype for array in arrays} == {EVENT}
        assert rows_of(np.concatenate(arrays)) == ROWS
        assert (recording.stats.events, recording.stats.truncated_bytes) == (50, 0)
        assert recording.stats.bytes_read > 0
        pids.add(shared.pid)
    assert len(pids) == 1


def test_errors_keep_their_kind_and_the_child(good, tmp_path, shared):
    with shared.open(good) as recording:
        list(recording)
    pid = shared.pid
    bad = tmp_path / "bad"
    bad.write_bytes(b"\0" * 100)
    for path, options, error in [
        (tmp_path / "none", {}, NoInputError),
        (tmp_path, {}, NoInputError),
        (bad, {}, DataError),
        (good, {"format": "nosuch"}, UsageError),
        ("a\0b", {}, NoInputError),
    ]:
        with pytest.raises(error):
            shared.open(path, **options)
    assert shared.pid == pid
    with shared.open(good) as recording:
        assert rows_of(np.concatenate(list(recording))) == ROWS


def test_events_before_a_fault_come_first(tmp_path, shared):
    path = tmp_path / "damaged.aedat"
    path.write_bytes(make.AEDAT3_HEADER.encode() + make.aedat3_packet(ROWS) + b"\xff" * 40)
    recording = shared.open(path)
    events = iter(recording)
    assert rows_of(next(events)) == ROWS
    with pytest.raises(DataError, match="damaged packet header"):
        next(events)
    with pytest.raises(RuntimeError, match="not read to its end"):
        _ = recording.stats


def test_a_recording_given_up_half_way_leaves_the_process_usable(good, large):
    with DecoderProcess() as decoder:
        first = decoder.open(large)
        assert len(next(iter(first))) == 65_536
        with decoder.open(good) as second:  # closes the first
            assert rows_of(np.concatenate(list(second))) == ROWS
        assert list(first) == []
        with decoder.open(large) as third:
            next(iter(third))
        with decoder.open(large) as fourth:
            assert sum(map(len, fourth)) == 1_200_000


# A decoder takes a quarter of a second to start: the quick test kills few of them, and many that start at once.
@pytest.mark.parametrize("kills", [5, pytest.param(50, marks=pytest.mark.soak)])
def test_kills_leave_no_descriptor_and_no_zombie(good, large, kills):
    with DecoderProcess() as decoder:
        decoder.open(good).close()
    before = descriptors(), len(children())
    with DecoderProcess() as decoder:
        kill_while_it_reads(decoder, large, kills)
        with decoder.open(good) as recording:
            assert rows_of(np.concatenate(list(recording))) == ROWS
    assert (descriptors(), len(children())) == before


def test_fifty_kills_leave_no_descriptor_and_no_zombie(monkeypatch, large):
    fake_child(monkeypatch, "hello(); sys.stdin.readline(); info()\nwhile True: send(b'E', bytes(16 * 65536))")
    before = descriptors(), len(children())
    with DecoderProcess() as decoder:
        kill_while_it_reads(decoder, large, 50)
    assert (descriptors(), len(children())) == before


def kill_while_it_reads(decoder, path, kills):
    pids = set()
    for _ in range(kills):
        events = iter(decoder.open(path))
        next(events)
        pids.add(decoder.pid)
        os.kill(decoder.pid, signal.SIGKILL)
        with pytest.raises(DataError, match=rf"{path.name} could not be decoded: .*SIGKILL"):
            list(events)
    assert len(pids) == kills


def test_a_child_killed_while_idle_is_replaced_unnoticed(good):
    with DecoderProcess() as decoder:
        list(decoder.open(good))
        os.kill(decoder.pid, signal.SIGKILL)
        time.sleep(0.05)
        with decoder.open(good) as recording:
            assert rows_of(np.concatenate(list(recording))) == ROWS


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("hello(); sys.stdin.readline(); os.abort()", "SIGABRT"),
        ("hello(); sys.stdin.readline(); os.kill(os.getpid(), 11)", "SIGSEGV"),
        ("hello(); sys.stdin.readline(); sys.exit(3)", "exit code 3"),
        (
            "hello(); sys.stdin.readline(); sys.stderr.write('x' * 99999 + \"\\nthread 'main' panicked at a.rs:1:2:\\n"
            'called unwrap on None\\nnote: run with\\n"); sys.stderr.flush(); os.abort()',
            r"panicked at a.rs:1:2: called unwrap on None",
        ),
        ("hello(); sys.stdin.readline(); send(b'Z', b'')", "what is no frame"),
        ("hello(); sys.stdin.readline(); info(); send(b'E', b'123')", "what is no frame"),
        ("hello(); sys.stdin.readline(); info(); os.write(1, b'E\\xff\\xff\\xff\\xff')", "what is no frame"),
        ("hello(); sys.stdin.readline(); info(); send(b'S', b'nonsense')", "could not be decoded"),
        ("hello(); sys.stdin.readline(); info(); send(b'S', b'{}')", "could not be decoded"),
        ("hello(); sys.stdin.readline(); info(); send(b'S', b'[]')", "could not be decoded"),
        ("hello(); sys.stdin.readline(); info(); info()", "out of turn"),
        ("hello(); sys.stdin.readline(); send(b'I', b'{\"a\": 1}')", "what is no frame"),
        ("hello(); sys.stdin.readline(); send(b'X', b'[1]')", "could not be decoded"),
    ],
)
def test_whatever_a_child_does_is_one_data_error(monkeypatch, good, code, text):
    fake_child(monkeypatch, code + "; time.sleep(60)")
    before = descriptors(), len(children())
    with DecoderProcess(progress_s=5) as decoder, pytest.raises(DataError, match=text) as caught:
        list(decoder.open(good))
    assert str(good) in str(caught.value)
    assert (descriptors(), len(children())) == before


def test_a_hang_ends_at_the_deadline(monkeypatch, good):
    fake_child(monkeypatch, "hello(); sys.stdin.readline(); info(); time.sleep(60)")
    start = time.monotonic()
    with DecoderProcess(progress_s=0.5) as decoder, pytest.raises(DataError, match=r"no progress for 0.5 s"):
        list(decoder.open(good))
    assert time.monotonic() - start < 5


def test_a_child_that_floods_standard_error_is_read_in_bounded_memory(monkeypatch, good):
    fake_child(
        monkeypatch,
        "hello(); sys.stdin.readline(); info()\nfor _ in range(200): os.write(2, b'noise ' * 10000)\n"
        'send(b\'S\', b\'{"events": 0, "bytes_read": 1, "truncated_bytes": 0, "notes": []}\')\ntime.sleep(60)',
    )
    with DecoderProcess(progress_s=10) as decoder:
        child = decoder.open(good)
        assert list(child) == []
        assert len(decoder._child.said) <= 4096


def test_a_signal_of_life_extends_the_deadline(monkeypatch, good):
    fake_child(
        monkeypatch,
        "hello(); sys.stdin.readline()\nfor _ in range(6): time.sleep(0.4); send(b'T')\ninfo()\n"
        "for _ in range(3): time.sleep(0.4); send(b'T')\n"
        'send(b\'S\', b\'{"events": 0, "bytes_read": 1, "truncated_bytes": 0, "notes": []}\')\ntime.sleep(60)',
    )
    with DecoderProcess(progress_s=2.0) as decoder:
        assert list(decoder.open(good)) == []


def test_the_memory_limit_holds_and_is_one_error(tmp_path, good):
    path = tmp_path / "greedy"  # a packet that no bound of the format's own forbids
    path.write_bytes(aedat4.file([(0, bytes(60 * MEBI))], aedat4.LZ4))
    with DecoderProcess(memory_bytes=32 * MEBI) as decoder:
        with pytest.raises(DataError, match=r"greedy could not be decoded: .* needed more memory than its limit"):
            list(decoder.open(path))
        with decoder.open(good) as recording:
            assert rows_of(np.concatenate(list(recording))) == ROWS


def resident(pid):
    """The most that a process has had in memory, bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


@pytest.mark.parametrize("kind", ["dat", "csv", "evt3", "npz", "aedat4"])
def test_a_file_twenty_times_as_large_needs_no_more_memory(tmp_path, kind):
    from firstspike.sources.aedat4_writer import write_aedat4

    count, peaks = 50_000, []
    for repeats in (1, 20):
        events = np.zeros(count * repeats, EVENT)
        events["t"] = np.arange(len(events)) * 3
        events["x"] = np.arange(len(events)) % 320
        path = tmp_path / f"{kind}{repeats}"
        if kind == "aedat4":
            write_aedat4(path, [events], 320, 240, source="a test")
        elif kind == "npz":
            with path.open("wb") as file:
                np.savez_compressed(file, events=events)
        elif kind == "csv":
            path.write_bytes(b"t,x,y,p\n" + make.csv(rows_of(events[:count])) * repeats)
        elif kind == "dat":
            records = np.stack([events["t"], events["x"]], axis=1).astype("<u4")
            path.write_bytes(make.dat([]) + records.tobytes())
        else:
            header, body = make.evt3([]), make.evt3(rows_of(events[:count]))
            path.write_bytes(header + body[len(header) :] * repeats)
        with DecoderProcess() as decoder, decoder.open(path) as recording:
            assert sum(map(len, recording)) == count * repeats
            peaks.append(resident(decoder.pid))
    assert peaks[1] < peaks[0] + 8 * MEBI


def test_no_child_survives_a_parent_that_is_killed(large):
    code = (
        "import sys, time\nfrom firstspike.sources.decoding import DecoderProcess\n"
        "d = DecoderProcess(); r = iter(d.open(sys.argv[1])); next(r); print(d.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, large], stdout=subprocess.PIPE)
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 5
    while Path(f"/proc/{pid}/stat").exists() and " Z " not in Path(f"/proc/{pid}/stat").read_text():
        assert time.monotonic() < deadline, "the decoder outlived its parent"
        time.sleep(0.01)


def test_what_a_library_prints_does_not_reach_the_frames(good):
    code = (
        "import sys\nfrom firstspike.sources import decode_child as c\nreal = c._serve\n"
        "def noisy(*a): print('noise'); sys.stdout.flush(); import os; os.write(1, b'more noise'); real(*a)\n"
        "c._serve = noisy; c.main()"
    )
    argv = [sys.executable, "-c", code, str(os.getpid()), str(1 << 30)]
    child = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = child.communicate(b'{"path": "%s"}\n' % str(good).encode(), timeout=30)
    assert b"noise" not in out
    assert b"more noise" in err
    kinds = []
    while out:
        kind, length = frames.HEADER.unpack(out[: frames.HEADER.size])
        kinds.append(kind)
        out = out[frames.HEADER.size + length :]
    assert kinds == [b"H", b"I", b"E", b"S"]


def test_summary_counts(tmp_path, shared):
    path = tmp_path / "lying.txt"
    rows = [(0, 1, 1, 1), (10, 2, 1, 0), (4, 3, 1, 1), (12, 700, 1, 1), (11, 1, 1, 1), (30, 1, 500, 0)]
    path.write_bytes(b"t,x,y,p\n" + make.csv(rows) + b"9,1")
    seen = []
    found = summarise(path, decoder=shared, width=640, height=480, progress=seen.append)
    assert seen == [6]
    assert found.pop("notes") == ["columns txyp by the header line, times in µs"]
    assert found == {
        "file": str(path), "format": "csv", "sensor": None, "width": 640, "height": 480, "geometry_from": "given",
        "events": 6, "on": 4, "off": 2, "t_first_us": 0, "t_last_us": 30, "duration_us": 30, "rate_hz": 200_000.0,
        "backward": 2, "out_of_bounds": 2, "truncated_bytes": 3,
    }  # fmt: skip


def test_summary_of_nothing(tmp_path):
    path = tmp_path / "none.raw"
    path.write_bytes(make.evt3([]))
    found = summarise(path)
    assert (found["events"], found["t_first_us"], found["duration_us"], found["rate_hz"]) == (0, None, 0, None)

"""The camera's child process: hung, killed, slow, or talking nonsense."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from subprocess import Popen
from types import SimpleNamespace

import numpy as np
import pytest
from tests.support.cameras import bench_at, next_segment, read, reason
from tests.support.figures import figure

from firstspike.errors import UnavailableError
from firstspike.sources import _decode_frames as frames
from firstspike.sources import _decode_link
from firstspike.sources.camera_child import Reader
from firstspike.types import EVENT

pytest.importorskip("neuromorphic_drivers", reason="the extra 'camera' is not installed")


@pytest.fixture
def bench(tmp_path, monkeypatch):
    yield from bench_at(tmp_path, monkeypatch)


def n_open():
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_driver_that_hangs_is_killed_and_replaced(bench):
    bench.put("plugged", "1")
    segments = bench.source(hang_s=0.6).segments()
    with next_segment(segments).open() as stream:
        read(stream, 50)
        bench.put("hang")
        with pytest.raises(UnavailableError, match=r"made no progress for 0\.6 s"):
            read(stream, 10**9)
    bench.take("hang")
    began = time.monotonic()
    with next_segment(segments).open() as stream:
        assert len(read(stream, 50)) >= 50
    figure("camera's driver hangs (hang_s = 0.6)", f"killed; events again {time.monotonic() - began:.2f} s later")


def test_a_driver_that_crashes_is_replaced_and_its_signal_told(bench):
    bench.put("plugged", "1")
    segments = bench.source().segments()
    with next_segment(segments).open() as stream:
        bench.put("crash")
        with pytest.raises(UnavailableError, match="SIGSEGV"):
            read(stream, 10**9)
    bench.take("crash")
    began = time.monotonic()
    with next_segment(segments).open() as stream:
        read(stream, 50)
    figure("camera's driver crashes", f"its signal is told; events again {time.monotonic() - began:.2f} s later")


@pytest.mark.parametrize("frame", [(b"S", b"{}"), (b"X", b"[1]"), (b"X", b"{"), (b"X", b'{"kind": 5, "text": 1}')])
def test_a_child_that_sends_nonsense_is_no_camera(bench, frame):
    bench.put("plugged", "1")
    with next_segment(bench.source().segments()).open() as stream:
        stream._child.receive = lambda: (frame[0], memoryview(frame[1]))
        with pytest.raises(UnavailableError, match="Prophesee EVK4 1"):
            stream.receive(5)


def test_a_child_that_starts_slowly_holds_nobody_up(bench, monkeypatch):
    slow = bench.folder / "python"
    slow.write_text(f'#!/bin/sh\nuntil [ -e {bench.folder}/go ]; do sleep 0.05; done\nexec {sys.executable} "$@"\n')
    slow.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(slow))
    bench.put("plugged", "1")
    segments = bench.source(hang_s=0.5).segments()
    assert [next(segments).reason for _ in range(5)] == ["the camera's driver starts"] * 5
    bench.put("go")
    with next_segment(segments).open() as stream:
        read(stream, 50)


def test_the_end_of_the_whole_service_is_the_daemons_to_handle(bench):
    bench.put("plugged", "1")
    source = bench.source()
    with next_segment(source.segments()).open() as stream:
        for number in (signal.SIGTERM, signal.SIGINT):
            source._child.process.send_signal(number)  # as systemd does to all processes of a service
        stream.take_counts()
        for _ in range(5):
            read(stream, 100)


@pytest.mark.parametrize("phase", ["starting", "looking", "found", "open"])
def test_a_child_that_is_killed_is_replaced_whatever_it_did(bench, phase):
    source = bench.source()
    segments = source.segments()
    before = n_open()
    if phase == "starting":
        source._look(time.monotonic() + 0.001)
    if phase == "looking":
        reason(segments, "plug one in")
    bench.put("plugged", "1")
    segment = next_segment(segments) if phase in ("found", "open") else None
    child = source._child.process
    if phase == "open":
        with segment.open() as stream:
            read(stream, 50)
            child.kill()
            with pytest.raises(UnavailableError, match="SIGKILL"):
                read(stream, 10**9)
    else:
        child.kill()
        if segment is not None:
            with segment.open() as stream, pytest.raises(UnavailableError, match="SIGKILL"):
                read(stream, 10**9)
    with next_segment(segments).open() as stream:
        read(stream, 50)
    assert source._child is None
    assert n_open() == before


def test_a_child_that_hangs_in_the_kernel_is_left_behind_and_buried_later(bench, monkeypatch):
    bench.put("plugged", "1")
    source = bench.source()
    with next_segment(source.segments()).open():
        child, before = source._child.process, n_open()
        waited, kill = [], child.kill
        monkeypatch.setattr(child, "kill", lambda: None)  # it does not end
        monkeypatch.setattr(_decode_link, "_BURIAL_S", 0.05)
        monkeypatch.setattr(child, "wait", lambda timeout: (waited.append(timeout), Popen.wait(child, timeout))[1])
    assert waited == [0.05]
    assert n_open() == before - 3
    assert _decode_link._unburied == [child]
    kill()
    Popen.wait(child)
    with next_segment(source.segments()).open():
        assert _decode_link._unburied == []


def test_a_pipe_that_cannot_be_enlarged_is_no_fault(bench, monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "too much in pipes")

    monkeypatch.setattr(_decode_link.fcntl, "fcntl", refuse)
    bench.put("plugged", "1")
    with next_segment(bench.source().segments()).open() as stream:
        read(stream, 50)


def test_events_lie_where_native_code_may_read_them(bench):
    bench.put("plugged", "1")
    with next_segment(bench.source().segments()).open() as stream:
        for _ in range(5):
            events = stream.receive(5).events
            assert events.__array_interface__["data"][0] % 8 == 0


def test_a_large_packet_tells_the_sensors_time_with_its_last_part():
    told = []
    reader = Reader(None, 1.0, SimpleNamespace(send=lambda kind, head, body: told.append(frames.BATCH.unpack(head)[1])))
    reader._send(np.zeros(2 * frames.MAX_EVENTS + 1, EVENT), 0, 7_000)
    assert told == [-1, -1, 7_000]


def test_the_child_dies_with_its_daemon(bench):
    bench.put("plugged", "1")
    code = (
        "import time\nfrom firstspike.sources import camera, Segment\n"
        "source = camera.create(camera.Options(), None)\n"
        "for s in source.segments():\n    if isinstance(s, Segment): break\n"
        "print(source._child.process.pid, flush=True)\ntime.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as daemon:
        child = int(daemon.stdout.readline())
        os.kill(daemon.pid, signal.SIGKILL)
        daemon.wait()
    end = time.monotonic() + 5
    while time.monotonic() < end:
        state = Path(f"/proc/{child}/stat")
        if not state.exists() or state.read_text().rsplit(")", 1)[1].split()[0] == "Z":
            return
        time.sleep(0.02)
    raise AssertionError("the camera's child outlived its daemon")

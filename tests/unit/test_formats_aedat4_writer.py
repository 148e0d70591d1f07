"""AEDAT4 that we write: two independent decoders read it back; on failure nothing is left."""

from __future__ import annotations

import os
import subprocess
import sys

import aedat
import faery
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from tests.support import recordings as make
from tests.support.decoding import decode, rows, rows_of

from firstspike.errors import DataError, OutputError
from firstspike.sources.aedat4_writer import write_aedat4
from firstspike.types import EVENT


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows(320, 240))
def test_ours_faery_and_aedat_read_it_back(tmp_path, events):
    path = tmp_path / "a.aedat4"
    array = make.events_of(events)
    half = len(array) // 2
    assert write_aedat4(path, [array[:half], array[:0], array[half:]], 320, 240, source="simulated <&> ü") == len(
        events
    )
    info, found, stats = decode(path)
    assert (info.format, info.width, info.height, info.sensor) == ("aedat4", 320, 240, "simulated <&> ü")
    assert rows_of(found) == events
    assert stats.truncated_bytes == 0
    fields = ("t", "x", "y", "on")
    assert [tuple(int(e[f]) for f in fields) for b in faery.events_stream_from_file(path) for e in b] == events
    assert [tuple(int(e[f]) for f in fields) for packet in aedat.Decoder(path) for e in packet["events"]] == events
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.aedat4"]


def test_large_arrays_are_written_whole(tmp_path):
    events = np.zeros(200_000, EVENT)
    events["t"] = np.arange(len(events)) // 2
    events["x"] = np.arange(len(events)) % 640
    write_aedat4(tmp_path / "a.aedat4", iter([events]), 640, 480, source="a test")
    _, found, _ = decode(tmp_path / "a.aedat4")
    assert np.array_equal(found, np.concatenate([events]))


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        ([(5, 320, 0, 1)], "outside"),
        ([(5, 0, 240, 1)], "outside"),
        ([(5, 0, 0, 1), (4, 0, 0, 1)], "earlier"),
        ([(-1, 0, 0, 1)], "earlier"),
    ],
)
def test_what_aedat4_must_not_hold_is_refused_and_the_old_file_stays(tmp_path, bad, text):
    path = tmp_path / "a.aedat4"
    path.write_bytes(b"old")
    good = make.events_of([(1, 1, 1, 1)])
    with pytest.raises(DataError, match=text):
        write_aedat4(path, [good, make.events_of(bad)], 320, 240, source="a test")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.aedat4"]


def test_a_source_that_fails_leaves_nothing(tmp_path):
    def failing():
        yield make.events_of([(1, 1, 1, 1)])
        raise KeyError("stop")

    with pytest.raises(KeyError):
        write_aedat4(tmp_path / "a.aedat4", failing(), 320, 240, source="a test")
    assert list(tmp_path.iterdir()) == []


def test_places_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for place in (tmp_path / "no" / "a.aedat4", tmp_path / "file" / "a.aedat4", tmp_path):
        with pytest.raises(OutputError, match="cannot be written"):
            write_aedat4(place, [], 320, 240, source="a test")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_rights_follow_the_umask(tmp_path):
    mask = os.umask(0o027)
    try:
        write_aedat4(tmp_path / "a.aedat4", [], 8, 8, source="a test")
    finally:
        os.umask(mask)
    assert (tmp_path / "a.aedat4").stat().st_mode & 0o777 == 0o640


FULL_DISK = """
import resource, sys
import numpy as np
from firstspike.errors import OutputError
from firstspike.sources.aedat4_writer import write_aedat4
from firstspike.types import EVENT

events = np.zeros(60_000, EVENT)
events["t"] = np.arange(len(events))
path = sys.argv[1]
write_aedat4(path, [events], 8, 8, source="a test")
import os
size = os.path.getsize(path)
os.unlink(path)
for limit in [0, 13, 100, 1000, 5000, size // 2, *range(size - 600, size, 40), *range(size - 10, size)]:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        write_aedat4(path, [events], 8, 8, source="a test")
    except OutputError as error:
        assert path in str(error)
    else:
        sys.exit(f"no error though only {limit} of {size} bytes could be written")
    assert os.listdir(os.path.dirname(path)) == [], os.listdir(os.path.dirname(path))
resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
write_aedat4(path, [events], 8, 8, source="a test")
"""


def test_a_disk_that_fills_at_any_byte_is_one_error_and_leaves_nothing(tmp_path):
    path = tmp_path / "a.aedat4"
    done = subprocess.run([sys.executable, "-c", FULL_DISK, path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(decode(path)[1]) == 60_000

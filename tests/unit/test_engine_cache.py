"""Engines on disk: what is kept comes back to the byte, and nothing that is not whole and ours does."""

from __future__ import annotations

import os
import stat
import threading

import pytest

from firstspike.backends import _engine_cache
from firstspike.backends._engine_cache import Cache

KEY = {"onnx": "0" * 64, "tensorrt": "8.2.1", "capability": [5, 3]}
LIMIT = 1 << 20


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache" / "engines"


def the_file(folder):
    (path,) = folder.iterdir()
    return path


def test_what_was_kept_comes_back(folder):
    assert Cache(folder, LIMIT).get(KEY) is None
    Cache(folder, LIMIT).put(KEY, b"an engine\n\0with lines\n")
    cache = Cache(folder, LIMIT)
    assert cache.get(KEY) == b"an engine\n\0with lines\n"
    assert cache.get(KEY | {"capability": [7, 2]}) is None
    assert cache.notes == []
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def damage(name):
    def flipped(data):
        return data[:-1] + bytes([data[-1] ^ 1])

    return {
        "empty": lambda data: b"",
        "truncated": lambda data: data[:-7],
        "truncated in the head": lambda data: data[:40],
        "longer": lambda data: data + b"x",
        "a bit flipped": flipped,
        "foreign": lambda data: b"ftrt" + data,
        "head is no object": lambda data: _engine_cache.MAGIC + b"[1]\nengine",
        "head nests": lambda data: _engine_cache.MAGIC + b"[" * 60000 + b"\nengine",
    }[name]


@pytest.mark.parametrize(
    "name",
    [
        "empty",
        "truncated",
        "truncated in the head",
        "longer",
        "a bit flipped",
        "foreign",
        "head is no object",
        "head nests",
    ],
)
def test_a_damaged_file_is_never_an_engine_and_goes_away(name, folder):
    Cache(folder, LIMIT).put(KEY, bytes(range(256)))
    path = the_file(folder)
    path.write_bytes(damage(name)(path.read_bytes()))
    cache = Cache(folder, LIMIT)
    assert cache.get(KEY) is None
    assert len(cache.notes) == 1
    assert "it is built anew" in cache.notes[0]
    assert list(folder.iterdir()) == []


def test_of_a_cut_file_it_is_told_how_much_is_there(folder):
    Cache(folder, LIMIT).put(KEY, bytes(100))
    path = the_file(folder)
    path.write_bytes(path.read_bytes()[:-7])
    cache = Cache(folder, LIMIT)
    cache.get(KEY)
    assert "has 93 bytes of 100" in cache.notes[0]


def test_a_file_under_another_s_name_is_not_taken(folder):
    Cache(folder, LIMIT).put(KEY, b"one")
    one = the_file(folder)
    other = KEY | {"tensorrt": "10.3.0"}
    Cache(folder, LIMIT).put(other, b"other")
    (path,) = set(folder.iterdir()) - {one}
    path.write_bytes(one.read_bytes())
    cache = Cache(folder, LIMIT)
    assert cache.get(other) is None
    assert "is for another network, device or version" in cache.notes[0]


def test_the_least_recently_used_makes_room(folder):
    cache = Cache(folder, 3000)
    for number in range(3):
        before = set(folder.iterdir()) if folder.exists() else set()
        cache.put(KEY | {"number": number}, bytes(600))
        (path,) = set(folder.iterdir()) - before
        os.utime(path, (number + 1, number + 1))
    assert cache.get(KEY | {"number": 0}) is not None  # the oldest, and now the one used last
    cache.put(KEY | {"number": 3}, bytes(600))
    assert [cache.get(KEY | {"number": number}) is not None for number in range(4)] == [True, False, True, True]


def test_the_engine_just_written_stays_though_its_file_is_over_the_limit(folder):
    cache = Cache(folder, 600)
    cache.put(KEY, bytes(600))
    assert cache.get(KEY) == bytes(600)
    assert the_file(folder).stat().st_size > 600


def test_an_engine_larger_than_all_is_not_kept(folder):
    cache = Cache(folder, 100)
    cache.put(KEY, bytes(101))
    assert "an engine of 101 bytes is not kept" in cache.notes[0]
    assert not folder.exists()


def test_without_a_folder_nothing_is_kept():
    cache = Cache(None, LIMIT)
    cache.put(KEY, b"engine")
    cache.drop(KEY)
    assert cache.get(KEY) is None
    assert cache.notes == []


def test_files_of_others_are_left_alone_and_unfinished_ones_go(folder):
    folder.mkdir(0o700, parents=True)
    other, fresh, stale = (folder / name for name in ("notes.txt", "a.engine-unfinished", "b.engine-unfinished"))
    for path in (other, fresh, stale):
        path.write_bytes(bytes(5000))
    os.utime(stale, (1, 1))
    Cache(folder, 4000).put(KEY, b"engine")
    assert other.exists()
    assert fresh.exists()
    assert not stale.exists()


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_a_folder_that_others_can_write_to_is_not_used(mode, folder):
    Cache(folder, LIMIT).put(KEY, b"engine")
    folder.chmod(mode)
    cache = Cache(folder, LIMIT)
    assert cache.get(KEY) is None
    cache.put(KEY, b"another")
    assert len(cache.notes) == 1
    assert "no one else may write to it" in cache.notes[0]


def test_a_folder_that_cannot_be_made_costs_the_cache_alone(tmp_path):
    (tmp_path / "file").write_text("in the way")
    cache = Cache(tmp_path / "file" / "engines", LIMIT)
    assert cache.get(KEY) is None
    cache.put(KEY, b"engine")
    assert "the engine is not kept: " in cache.notes[0]


def test_a_full_disk_leaves_no_half_engine(folder, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_engine_cache.os, "fsync", full)
    cache = Cache(folder, LIMIT)
    cache.put(KEY, b"engine")
    assert cache.notes == [f"the engine is not kept: {folder}: No space left on device"]
    assert list(folder.iterdir()) == []


def test_workers_that_build_at_once_see_whole_engines_only(folder):
    engine, seen, stop = bytes(range(256)) * 200, [], threading.Event()

    def read():
        cache = Cache(folder, LIMIT)
        while not stop.is_set():
            seen.append(cache.get(KEY))
        seen.extend(cache.notes)

    reader = threading.Thread(target=read)
    reader.start()
    writers = [
        threading.Thread(target=lambda: [Cache(folder, LIMIT).put(KEY, engine) for _ in range(20)]) for _ in "ab"
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    stop.set()
    reader.join()
    assert set(seen) <= {None, engine}
    assert len(list(folder.iterdir())) == 1


def test_the_folder_is_systemd_s_or_the_user_s(tmp_path, monkeypatch):
    monkeypatch.setenv("CACHE_DIRECTORY", "/var/cache/firstspike:/other")
    assert str(_engine_cache.default_folder()) == "/var/cache/firstspike/engines"
    monkeypatch.delenv("CACHE_DIRECTORY")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert str(_engine_cache.default_folder()) == "/x/firstspike/engines"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert _engine_cache.default_folder() == tmp_path / ".cache" / "firstspike" / "engines"
    assert _engine_cache.folder("") == _engine_cache.default_folder()
    assert _engine_cache.folder("~/kept") == tmp_path / "kept"
    assert _engine_cache.folder("none") is None

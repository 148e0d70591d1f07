"""What survives a restart, a power cut, a full disk and a file full of rubbish."""

from __future__ import annotations

import json
import os
import threading
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from firstspike import state
from firstspike.messages import Health
from firstspike.messages_health import BackendHealth, Counters
from firstspike.state import FILE, Keeper, State


def health(windows, uptime_s=1.0):
    return Health(
        epoch="e", seq=0, state="running", reasons=[], uptime_s=uptime_s, version="0", model="m", labels=["a", "b"],
        source="s", counters=Counters(windows=windows, events=2 * windows),
        backends=[BackendHealth(name="emulator", state="ready", windows=windows, latency_p50_ms=0.5)],
    )  # fmt: skip


def run(place, *counts):
    """A daemon's life: its health at each writing."""
    keeper = Keeper(place)
    for count in counts:
        keeper.count(health(count))
        keeper.save()
    keeper.close()
    return keeper.state


def test_totals_add_up_over_runs(tmp_path):
    run(tmp_path, 3, 5)
    kept = run(tmp_path, 2, 7)
    assert (kept.totals["windows"], kept.totals["events"], kept.runs, kept.run_s) == (12, 24, 2, 2.0)
    assert kept.plans["emulator"].latency_p50_ms == 0.5
    assert state.read(tmp_path).model_dump() == kept.model_dump()
    assert sorted(path.name for path in tmp_path.iterdir()) == [FILE, f"{FILE}.lock"]


def test_a_run_that_is_killed_has_been_counted(tmp_path):
    keeper = Keeper(tmp_path, period_s=1000)
    with keeper.watching(lambda: [health(1)]):
        assert state.read(tmp_path).runs == 1


def test_hot_pixels_survive(tmp_path):
    keeper = Keeper(tmp_path)
    keeper.learned("DAVIS346 00000123", [(3, 4), (345, 259)])
    keeper.close()
    again = Keeper(tmp_path)
    assert again.hot_pixels("DAVIS346 00000123") == [(3, 4), (345, 259)]
    assert again.hot_pixels("another") == []
    again.close()


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\x00" * 4096, b"[]", b'{"schema": "firstspike.state/2"}', b'{"runs": -1}', b'{"totals": {"a": "b"}}'],
)
def test_what_cannot_be_understood_is_set_aside_and_told(tmp_path, caplog, content):
    (tmp_path / FILE).write_bytes(content)
    kept = run(tmp_path, 4)
    assert (kept.runs, kept.totals["windows"]) == (1, 4)
    aside = [path for path in tmp_path.iterdir() if "unreadable" in path.name]
    assert [path.read_bytes() for path in aside] == [content]
    assert str(aside[0]) in caplog.text


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.binary(max_size=200) | st.dictionaries(st.sampled_from([*State.model_fields, "schema"]), st.none() | st.text()
    | st.integers() | st.lists(st.integers())).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_no_file_keeps_the_daemon_from_starting(tmp_path, content):
    (tmp_path / FILE).write_bytes(content)
    assert run(tmp_path, 1).totals["windows"] >= 1


def test_files_set_aside_within_a_second_do_not_overwrite_each_other(tmp_path):
    for content in (b"1", b"2", b"3"):
        (tmp_path / FILE).write_bytes(content)
        assert state.read_or_set_aside(tmp_path).runs == 0
    aside = sorted(path.read_bytes() for path in tmp_path.iterdir() if "unreadable" in path.name)
    assert aside == [b"1", b"2", b"3"]


def test_what_a_kill_left_half_written_does_not_pile_up(tmp_path):
    keeper = Keeper(tmp_path)
    (tmp_path / f".{FILE}.4711.tmp").write_bytes(b"{")
    Keeper(tmp_path)  # not the one that keeps it
    assert (tmp_path / f".{FILE}.4711.tmp").exists()
    keeper.close()
    Keeper(tmp_path).close()
    assert not (tmp_path / f".{FILE}.4711.tmp").exists()


def test_a_second_daemon_leaves_the_first_ones_state_alone(tmp_path, caplog):
    first = Keeper(tmp_path)
    second = Keeper(tmp_path)
    assert "another firstspike" in caplog.text
    second.count(health(9))
    second.save()
    assert not (tmp_path / FILE).exists()
    first.save()
    assert state.read(tmp_path).totals == {}
    first.close()


def test_a_write_that_fails_leaves_the_old_file_and_is_told_once(tmp_path, monkeypatch, caplog):
    keeper = Keeper(tmp_path)
    keeper.count(health(1))
    keeper.save()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for windows in (2, 3):
        keeper.count(health(windows))
        keeper.save()
    assert caplog.text.count("No space left on device") == 1
    assert state.read(tmp_path).totals["windows"] == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [FILE, f"{FILE}.lock"]
    monkeypatch.undo()
    keeper.save()
    assert state.read(tmp_path).totals["windows"] == 3
    keeper.close()


def test_a_disk_that_hangs_holds_up_nobody_who_tells_or_asks(tmp_path, monkeypatch):
    keeper, hung, go_on = Keeper(tmp_path, period_s=1000), threading.Event(), threading.Event()
    fsync = os.fsync

    def hang(file):
        hung.set()
        go_on.wait(20)
        fsync(file)

    with keeper.watching(lambda: [health(1)]):
        monkeypatch.setattr(os, "fsync", hang)
        for number in range(3):
            keeper.learned("camera", [(number, number)])
            assert hung.wait(5)
        assert keeper.hot_pixels("camera") == [(2, 2)]
        keeper.count(health(2))
        assert not go_on.is_set()
        go_on.set()
    assert state.read(tmp_path).hot_pixels == {"camera": [(2, 2)]}


def test_a_run_that_cannot_be_counted_is_no_end_of_the_daemon(tmp_path, caplog):
    def odd():
        raise ValueError("odd")

    keeper = Keeper(tmp_path, period_s=0.01)
    with keeper.watching(odd):
        deadline = time.monotonic() + 10
        while caplog.text.count("ValueError: odd") < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert caplog.text.count("ValueError: odd") >= 3
    assert state.read(tmp_path).runs == 1


def test_what_was_learned_is_written_before_the_period_is_over(tmp_path):
    keeper = Keeper(tmp_path, period_s=1000)
    with keeper.watching(lambda: [health(1)]):
        keeper.learned("camera", [(1, 2)])
        deadline = time.monotonic() + 10
        while not state.read(tmp_path).hot_pixels and time.monotonic() < deadline:
            time.sleep(0.01)
        assert state.read(tmp_path).hot_pixels == {"camera": [(1, 2)]}


def test_a_place_that_cannot_be_made_is_told(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    keeper = Keeper(tmp_path / "file" / "state")
    keeper.save()
    assert "state is not kept" in caplog.text


def test_where_it_is_kept(monkeypatch):
    assert str(state.folder({"STATE_DIRECTORY": "/a:/b"})) == "/a"
    assert str(state.folder({"XDG_STATE_HOME": "/x"})) == "/x/firstspike"
    monkeypatch.setenv("HOME", "/home/u")
    assert str(state.folder({})) == "/home/u/.local/state/firstspike"

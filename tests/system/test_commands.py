"""The commands as a user meets them, mistakes and misfortunes included."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.support.program import ROOT, complained, firstspike, started

from firstspike.client import Subscriber

CONFIG = ROOT / "config.toml"
MODEL = ROOT / "models" / "nmnist"


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    path = tmp_path_factory.mktemp("recording") / "digits.aedat4"
    done = firstspike("simulate", path, "--digits", "314", "--seed", "7")
    assert done.returncode == 0, done.stderr
    return path


def test_info(recording):
    found = json.loads(firstspike("info", recording, "--json").stdout)
    assert (found["format"], found["width"], found["height"]) == ("aedat4", 34, 34)
    assert found["events"] == found["on"] + found["off"] > 3000
    assert found["duration_us"] > 600_000
    assert "simulated" in json.dumps(found)


def test_simulate_is_reproducible(recording, tmp_path):
    assert firstspike("simulate", tmp_path / "again.aedat4", "--digits", "314", "--seed", "7").returncode == 0
    again = firstspike("replay", tmp_path / "again.aedat4", "--speed", "max", "--json").stdout
    first = firstspike("replay", recording, "--speed", "max", "--json").stdout
    assert again.replace("again.aedat4", "").replace(str(tmp_path), "") == first.replace("digits.aedat4", "").replace(
        str(recording.parent), ""
    )


def test_replay_is_identical_to_the_byte_between_runs_and_speeds(recording):
    runs = [firstspike("replay", recording, "--json", "--speed", speed) for speed in ("max", "max", "3", "40")]
    assert all(run.returncode == 0 for run in runs)
    assert len({run.stdout for run in runs}) == 1
    decisions = [json.loads(line) for line in runs[0].stdout.splitlines()]
    assert [d["seq"] for d in decisions] == list(range(len(decisions)))
    assert {d["status"] for d in decisions} == {"ok"}
    assert {d["backend"] for d in decisions} == {"emulator"}
    assert {"label", "confidence", "t_us"} <= decisions[0].keys()


def test_replay_takes_its_time(recording):
    started = time.monotonic()
    firstspike("replay", recording, "--speed", "0.5")
    assert time.monotonic() - started > 1.5  # 1.3 s of recording at half speed, less a window


def test_replay_loops_until_it_is_stopped(recording):
    with started("replay", recording, "--loop", "--json", "--speed", "max", stdout=subprocess.PIPE) as child:
        seqs = [json.loads(child.stdout.readline())["seq"] for _ in range(100)]
        child.terminate()
        child.communicate(timeout=10)
    assert seqs == list(range(100))
    assert child.returncode == 0


def test_evaluate(tmp_path):
    for label in "31":
        (tmp_path / label).mkdir()
    firstspike("simulate", tmp_path / "3" / "a.aedat4", "--digits", "3", "--seed", "5")
    firstspike("simulate", tmp_path / "1" / "b.aedat4", "--digits", "1", "--seed", "5")
    (tmp_path / "1" / "c.raw").write_bytes(b"not a recording")
    done = firstspike("evaluate", tmp_path, "--model", MODEL, "--json")
    complained(done, os.EX_DATAERR)
    report = json.loads(done.stdout)
    assert report["n"] == 2
    assert list(report["failed"]) == [str(tmp_path / "1" / "c.raw")]
    assert sum(sum(row.values()) for row in report["confusion"].values()) == 2
    assert report["latency_us"]["p50"] > 0
    found = report["first_spike"]
    assert (found["windows"], found["membrane_accuracy"]) == (report["windows"], report["window_accuracy"])
    assert (found["accuracy"], found["agreement"]) == (report["window_accuracy"], 1.0)  # its neurons are gated
    assert found["known_step"]["of"] - 8 <= found["known_step"]["mean"] < found["known_step"]["of"]  # in its readout
    told = firstspike("evaluate", tmp_path, "--model", MODEL).stdout
    assert "by their first output spike" in told
    assert "agrees with the membrane in 100.00%" in told


def watched(recording, folder, *more):
    """Everything that a watching subscriber receives of a daemon that replays the recording."""
    endpoint = f"ipc://{folder}/p"
    settings = (
        "source.kind=recording", f'source.recording.paths=["{recording}"]', f"publish.endpoint={endpoint}",
        "publish.wait_for_subscriber_s=20", "source.recording.speed=max", "clock.kind=virtual", *more,
    )  # fmt: skip
    arguments = [part for setting in settings for part in ("--set", setting)]
    with started("run", "--config", CONFIG, *arguments, stderr=subprocess.PIPE) as daemon:
        watch = firstspike("watch", endpoint, "--until-stop", "--json", "--timeout", "30")
        _, log = daemon.communicate(timeout=20)
    assert (daemon.returncode, watch.returncode) == (0, 0), log
    return [json.loads(line) for line in watch.stdout.splitlines()]


def test_the_daemon_publishes_what_a_subscriber_receives(recording, tmp_path):
    received = watched(recording, tmp_path)
    decisions = [message for message in received if message["schema"] == "firstspike.decision/1"]
    replayed = firstspike("replay", recording, "--json", "--speed", "max").stdout
    assert decisions == [json.loads(line) for line in replayed.splitlines()]
    assert received[-1]["state"] == "stopping"
    assert received[-1]["counters"]["windows"] == len(decisions)


def test_watch_shows_provisional_decisions_before_the_decisions_that_they_leave_as_they_are(recording, tmp_path):
    received = watched(recording, tmp_path, "publish.provisional=true")
    mine = ("firstspike.decision/", "firstspike.provisional/")
    messages = [message for message in received if message["schema"].startswith(mine)]
    assert any(message["schema"] == "firstspike.energy/1" for message in received)
    decisions = [message for message in messages if message["schema"] == "firstspike.decision/1"]
    replayed = firstspike("replay", recording, "--json", "--speed", "max").stdout
    assert decisions == [json.loads(line) for line in replayed.splitlines()]
    early = {message["decision_seq"]: number for number, message in enumerate(messages) if "decision_seq" in message}
    assert len(early) == received[-1]["counters"]["provisional"] > 5
    for seq, number in early.items():
        assert messages[number + 1]["seq"] == seq
        assert messages[number + 1]["window"]["label"] == messages[number]["label"]
    lines = firstspike("replay", recording, "--speed", "max", "--set", "publish.provisional=true").stdout.splitlines()
    assert sum("provisional: spike at step" in line for line in lines) == len(early)
    assert len(lines) == len(messages)


def test_the_reference_configuration_runs_as_it_is(tmp_path):
    environment = {"RUNTIME_DIRECTORY": str(tmp_path)}
    options = {"environment": environment, "cwd": tmp_path, "stderr": subprocess.PIPE}
    with started("run", "--config", CONFIG, **options) as daemon:
        with Subscriber(f"ipc://{tmp_path}/firstspike.pub") as subscriber:
            message = subscriber.receive(20)
            assert message is not None
            assert message.backend == "emulator"
            assert message.stamps.closed_ns <= message.stamps.inferred_ns <= message.stamps.published_ns
            deadline = time.monotonic() + 5
            while subscriber.snapshot().health.state != "running":  # it follows at once, but in another thread
                assert time.monotonic() < deadline
        daemon.send_signal(signal.SIGTERM)
        _, log = daemon.communicate(timeout=10)
    assert daemon.returncode == 0, log
    assert "Traceback" not in log


def test_check_says_where_values_come_from():
    done = firstspike("check", "--config", CONFIG, environment={"FIRSTSPIKE__SCHEDULE__DEADLINE_MS": "55"})
    assert done.returncode == 0
    assert "schedule.deadline_ms = 55  (environment FIRSTSPIKE__SCHEDULE__DEADLINE_MS)" in done.stdout
    assert f"({CONFIG}:" in done.stdout


def test_unknown_keys_and_bad_values(tmp_path):
    bad = tmp_path / "bad.toml"
    bad.write_text(CONFIG.read_text().replace("max_events = 4000000", "max_evnets = 4") + "\n[publish2]\nx = 1\n")
    complained(firstspike("check", "--config", bad), os.EX_CONFIG, "window.max_evnets", "bad.toml:", "publish2")
    complained(firstspike("run", "--config", bad), os.EX_CONFIG, "window.max_evnets")
    complained(firstspike("check", "--config", tmp_path / "gone.toml"), os.EX_NOINPUT, "gone.toml")
    complained(firstspike("run", "--config", CONFIG, "--set", "publish.endpoint=tcp://*:1"), os.EX_CONFIG, "tcp://*:1")
    complained(
        firstspike("check", "--config", CONFIG, "--set", "source.kind=recording"), os.EX_CONFIG, "paths is empty"
    )


def test_wrong_usage(tmp_path):
    complained(firstspike(), os.EX_USAGE)
    complained(firstspike("replay"), os.EX_USAGE, "FILE")
    complained(firstspike("replay", "a", "--speed", "-1"), os.EX_USAGE, "-1")
    complained(firstspike("simulate", tmp_path / "x", "--digits", "12a"), os.EX_USAGE, "12a")


def test_models_that_cannot_be_used(recording, tmp_path):
    complained(firstspike("replay", recording, "--model", tmp_path), os.EX_NOINPUT, str(tmp_path), "bundle.json")
    changed = tmp_path / "changed"
    shutil.copytree(MODEL, changed)
    with (changed / "network.npz").open("ab") as file:
        file.write(b"x")
    complained(firstspike("replay", recording, "--model", changed), os.EX_CONFIG, "network.npz", "sha256")
    (changed / "network.npz").unlink()
    complained(firstspike("replay", recording, "--model", changed), os.EX_CONFIG, "network.npz", "missing")
    (changed / "bundle.json").write_text('{"schema": 1}')
    complained(firstspike("replay", recording, "--model", changed), os.EX_CONFIG, "bundle.json", "schema")
    (changed / "bundle.json").write_text("{" * 10_000)
    complained(firstspike("replay", recording, "--model", changed), os.EX_CONFIG, "bundle.json")


def test_files_that_cannot_be_replayed_do_not_keep_the_others_from_it(recording, tmp_path):
    (tmp_path / "empty.aedat4").write_bytes(b"")
    (tmp_path / "junk.raw").write_bytes(os.urandom(5000))
    cut = tmp_path / "cut.aedat4"
    cut.write_bytes(recording.read_bytes()[:-3000])
    arguments = [tmp_path / "gone.raw", tmp_path / "empty.aedat4", tmp_path / "junk.raw", tmp_path, cut, recording]
    done = firstspike("replay", *arguments, "--json", "--speed", "max")
    complained(done, os.EX_NOINPUT, "gone.raw", "empty.aedat4", "junk.raw", str(tmp_path))
    sources = {json.loads(line)["source"] for line in done.stdout.splitlines()}
    assert sources == {str(cut), str(recording)}


def test_a_cut_recording_says_so(recording, tmp_path):
    cut = tmp_path / "cut.aedat4"
    cut.write_bytes(recording.read_bytes()[:-3000])
    done = firstspike("replay", cut, "--speed", "max")
    assert "cut off" in done.stderr
    assert "truncated bytes" in done.stderr


def test_names_that_are_no_text(tmp_path):
    odd = tmp_path / os.fsdecode(b"bad\xff name\n.csv")
    odd.write_bytes((ROOT / "tests/replay/cases/faulty-csv/recording.csv").read_bytes())
    done = firstspike("replay", odd, "--speed", "max", "--json", "--columns", "txyp")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[0])["source"].endswith("bad\\xff name\n.csv")
    complained(firstspike("info", tmp_path / os.fsdecode(b"gone\xff.raw")), os.EX_NOINPUT, "does not exist")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-"])
def test_standard_descriptors_that_were_never_open(recording, closed):
    shell = f'"{sys.executable}" -m firstspike info "{recording}" --json {closed}'
    done = subprocess.run(["/bin/sh", "-c", shell], capture_output=True, text=True, check=False)
    assert done.returncode == (os.EX_IOERR if closed == ">&-" else 0), done.stderr
    assert "Traceback" not in done.stderr
    if closed == ">&-":
        assert "standard output" in done.stderr


def test_a_replay_survives_the_death_of_its_decoder(tmp_path):
    recording = tmp_path / "long.aedat4"  # too long for the pipe to hold, so the decoder is in the middle of it
    assert firstspike("simulate", recording, "--digits", "0123456789" * 3).returncode == 0
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with started("replay", recording, "--loop", "--json", "--speed", "20", **pipes) as child:
        child.stdout.readline()
        for task in Path(f"/proc/{child.pid}/task").iterdir():
            for pid in (task / "children").read_text().split():
                os.kill(int(pid), signal.SIGKILL)
        seqs = [json.loads(child.stdout.readline())["seq"] for _ in range(300)]
        child.terminate()
        child.communicate(timeout=10)
    assert seqs == list(range(1, 301))


def test_a_closed_standard_output(recording):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with started("replay", recording, "--loop", "--speed", "max", **pipes) as child:
        child.stdout.readline()
        child.stdout.close()
        child.stdout = None
        _, log = child.communicate(timeout=10)
    assert child.returncode == os.EX_IOERR
    assert "standard output was closed" in log
    assert "Traceback" not in log
    assert "Exception" not in log


@pytest.mark.parametrize("command", ["replay", "info"])
def test_a_full_disk_behind_standard_output(recording, command):
    with open("/dev/full", "w") as full:  # noqa: PTH123 (a device)
        done = firstspike(command, recording, stdout=full)
    complained(done, os.EX_IOERR, "No space left")
    assert "Exception" not in done.stderr


def test_simulate_replaces_no_device(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    complained(firstspike("simulate", tmp_path / "pipe"), os.EX_IOERR, "no regular file")
    assert (tmp_path / "pipe").is_fifo()


def test_a_full_disk_leaves_nothing_half_written(tmp_path):
    complained(firstspike("simulate", tmp_path / "no" / "such" / "folder.aedat4"), os.EX_IOERR, "folder.aedat4")
    assert list(tmp_path.iterdir()) == []


def test_stopping_by_ctrl_c_is_no_fault(recording):
    # A terminal sends the signal to the whole group: the decoder's process gets it too.
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "start_new_session": True}
    for _ in range(3):
        with started("replay", recording, "--loop", "--json", **options) as child:
            child.stdout.readline()
            os.killpg(child.pid, signal.SIGINT)
            _, log = child.communicate(timeout=10)
        assert child.returncode == 128 + signal.SIGINT, log
        assert "ERROR" not in log
        assert "Traceback" not in log


def test_a_killed_daemon_leaves_no_process_behind(recording):
    with started("replay", recording, "--loop", "--json", stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        tasks = Path(f"/proc/{child.pid}/task").iterdir()
        children = [int(pid) for task in tasks for pid in (task / "children").read_text().split()]
        assert children
        child.kill()
        child.wait()
        deadline = time.monotonic() + 5
        while any(Path(f"/proc/{pid}").exists() for pid in children):
            assert time.monotonic() < deadline, "the decoder outlived the daemon"
            time.sleep(0.05)

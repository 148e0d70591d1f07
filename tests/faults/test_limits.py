"""Limits that are met: a worker's memory, a full disk, a log that cannot be written."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.daemons import running
from tests.support.figures import figure

from firstspike.errors import OutputError
from firstspike.filters.hot_pixels import HotPixels, read_hot_pixels, write_hot_pixels

CGROUP = Path("/sys/fs/cgroup/memory")


def eater(command):
    """A worker that takes all the memory there is at its 20th window."""
    return {
        "backend__null__command": str(command).replace("'", '"'), "backend__null__fault": "memory",
        "backend__null__after": "10", "backend__null__every": "20", "backend__null__hang_s": "10",
    }  # fmt: skip


def test_a_worker_that_is_refused_memory_fails_that_window_and_stays(tmp_path):
    if shutil.which("prlimit") is None:
        pytest.skip("prlimit is not installed: it is Debian's util-linux")
    command = ["prlimit", f"--as={768 << 20}", sys.executable]
    with running(tmp_path, schedule__deadline_ms="5000", **eater(command)) as (child, watch):
        watch.until_answered_by("null")
        pid = watch.worker().pid

        def failed(watch):
            return any("MemoryError" in reason for d in watch.decisions for reason in d.reasons)

        watch.until(failed)
        watch.until_answered_by("null")
        worker = watch.worker()
        hit = [d for d in watch.decisions if any("MemoryError" in reason for reason in d.reasons)]
        figure(
            "worker: memory refused (RLIMIT_AS, 768 MiB)",
            f"{len(hit)} windows of {len(watch.decisions)} said MemoryError and were answered by "
            f"{', '.join(sorted({d.backend or 'nobody' for d in hit}))}; same worker, same daemon",
        )
        assert (worker.pid, worker.restarts) == (pid, 0)
        assert {d.backend for d in hit} <= {"emulator", None}
        assert child.poll() is None


@pytest.fixture
def cgroup():
    """A group whose members may have 300 MiB together; made by hand, so root's."""
    made = CGROUP / f"firstspike-test-{os.getpid()}"
    try:
        made.mkdir()
        (made / "memory.limit_in_bytes").write_text(str(300 << 20))
    except OSError as error:
        pytest.skip(f"no memory cgroup (v1) can be made here: {error}")
    yield made
    with contextlib.suppress(OSError):
        made.rmdir()


def test_a_worker_that_the_kernel_kills_for_its_memory_is_replaced(tmp_path, cgroup):
    enter = f'echo $$ > {cgroup}/cgroup.procs && exec "$0" "$@"'
    command = '["sh", "-c", ' + f"'{enter}', " + f'"{sys.executable}"]'
    settings = eater("") | {"backend__null__command": command}
    with running(tmp_path, **settings) as (child, watch):
        watch.until_answered_by("null")
        pid = watch.worker().pid
        watch.until(lambda watch: any("SIGKILL" in reason for d in watch.decisions for reason in d.reasons))
        watch.until_answered_by("null")
        worker = watch.worker()
        hit = [d for d in watch.decisions if any("SIGKILL" in reason for reason in d.reasons)]
        figure(
            "worker: killed for its memory (cgroup, 300 MiB)",
            f"{len(hit)} windows of {len(watch.decisions)} said SIGKILL and were answered by "
            f"{', '.join(sorted({d.backend or 'nobody' for d in hit}))}; {worker.restarts} restarts, same daemon",
        )
        assert worker.pid != pid
        assert worker.restarts >= 1
        assert child.poll() is None


def which(program):
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed")
    return found


@pytest.fixture
def full(tmp_path):
    """A disk with no room left."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        [which("mount"), "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here (root can): {mounted.stderr.strip()}")
    try:
        yield disk
    finally:
        subprocess.run([which("umount"), "--lazy", str(disk)], check=True)


def fill(disk):
    """Until not a byte more goes in."""
    with (disk / "ballast").open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        file.writelines(itertools.repeat(b"x" * 4096))


def test_a_list_on_a_full_disk_stays_as_it_was(full):
    old = HotPixels(4, 4, 1.0, ((1, 1),))
    write_hot_pixels(full / "hot.toml", old)
    fill(full)
    with pytest.raises(OutputError, match="No space left"):
        write_hot_pixels(
            full / "hot.toml", HotPixels(100, 100, 1.0, tuple((x, y) for x in range(99) for y in range(99)))
        )
    assert read_hot_pixels(full / "hot.toml") == old
    assert sorted(path.name for path in full.iterdir()) == ["ballast", "hot.toml"]
    figure(
        "disk full while a list of hot pixels is written",
        "refused by name; the old list is whole, nothing is left beside it",
    )


def test_a_daemon_goes_on_with_a_full_disk(tmp_path, full):
    """What it learns cannot be kept, and its log cannot be written: it answers all the same."""
    fill(full)
    settings = {"source__kind": "simulated", "filter__hot_pixels": f"{full}/hot.toml", "filter__learn_s": "0.3"}
    with (full / "log").open("wb") as log, running(tmp_path, options={"stderr": log}, **settings) as (child, watch):
        watch.until_answered_by("null", 60)
        assert not (full / "hot.toml").exists()
        assert (full / "log").stat().st_size == 0
        child.send_signal(signal.SIGTERM)
        code = child.wait(20)
    figure(
        "disk full under log and learned pixels",
        f"{len(watch.decisions)} decisions, {watch.subscriber.lost['decision']} lost; ended by SIGTERM with {code}",
    )
    assert code == 0
    assert watch.subscriber.lost["decision"] == 0


def test_a_crash_loop_of_a_worker_leaves_a_degraded_daemon_that_answers(tmp_path):
    settings = {"backend__null__fault": "exit", "backend__null__after": "2", "backend__null__rest_s": "30"}
    with running(tmp_path, **settings) as (child, watch):

        def resting(watch):
            return any((h.backends[0].state, h.backends[0].restarts) == ("backing-off", 5) for h in watch.health)

        watch.until(resting, 60)
        start = len(watch.decisions)
        watch.until_answered_by("emulator", 50)
        since, last = watch.decisions[start:], watch.health[-1]
        answered = sum(decision.backend == "emulator" for decision in since)
        figure(
            "crash loop of a worker",
            f"{last.backends[0].restarts} restarts, then {last.backends[0].state}, daemon {last.state}; the emulator "
            f"answered {answered} of {len(since)} windows since",
        )
        assert (last.state, last.backends[0].restarts) == ("degraded", 5)
        assert child.poll() is None

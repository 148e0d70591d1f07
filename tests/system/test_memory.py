"""A long recording replays in the memory of a short one."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from firstspike.sources.aedat4_writer import write_aedat4
from firstspike.types import EVENT

BLOCK = 65_536
MIB_KIB = 1024


def blocks(count):
    """Random events of a 640×480 sensor at 10 Mev/s."""
    rng = np.random.default_rng(0)
    for start in range(0, count, BLOCK):
        events = np.zeros(BLOCK, EVENT)
        events["t"] = 1_000_000 + (start + np.arange(BLOCK)) // 10
        events["x"], events["y"] = rng.integers(0, 640, BLOCK), rng.integers(0, 480, BLOCK)
        yield events


def peak_kib(path):
    """Peak memory of `replay` or of its decoder, whichever is larger."""
    argv = [sys.executable, "-m", "firstspike", "replay", path, "--speed", "max", "--set", "window.size=10000"]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as child:
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        assert child.returncode == 0, child.stderr.read()
    return usage.ru_maxrss


@pytest.mark.parametrize("factor", [20, pytest.param(1000, marks=pytest.mark.soak)])
def test_memory_does_not_grow_with_the_recording(tmp_path, factor):
    sizes = (4 * BLOCK, 4 * BLOCK * factor)
    peaks = []
    for number, size in enumerate(sizes):
        path = tmp_path / f"{number}.aedat4"
        write_aedat4(path, blocks(size), 640, 480, source="test (simulated)")
        peaks.append(peak_kib(path))
    print(f"{sizes[0]} events: {peaks[0] // MIB_KIB} MiB; {sizes[1]} events: {peaks[1] // MIB_KIB} MiB")
    assert peaks[1] < peaks[0] + 10 * MIB_KIB

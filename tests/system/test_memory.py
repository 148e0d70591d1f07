"""A long recording replays in the memory of a short one."""

from __future__ import annotations

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


# A process's peak includes that of the one it was forked from: a small one must stand between pytest and the program.
LAUNCHER = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(done.returncode)
"""


def peak_kib(path):
    """Peak memory of `replay` or of its decoder, whichever is larger."""
    replay = [sys.executable, "-m", "firstspike", "replay", path, "--speed", "max", "--set", "window.size=10000"]
    done = subprocess.run([sys.executable, "-c", LAUNCHER, *replay], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


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

"""lava-dl's netx under a Python of its own, without torch: made once, in build/."""

from __future__ import annotations

import functools
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from tests.support.slayer_file import write

from firstspike.errors import FirstspikeError
from firstspike.worker import interpreters

PLACE = Path(__file__).parents[2] / "build" / "netx-test"
CHILD = Path(__file__).with_name("netx_child.py")
PACKAGES = [
    "lava-nc==0.10.0", "lava-dl==0.6.0", "numpy==1.24.4", "scipy==1.15.3", "networkx==2.8.7", "h5py==3.16.0",
    "asteval==0.9.33", "cloudpickle==3.1.2", "joblib==1.6.0", "scikit-learn==1.7.2", "threadpoolctl==3.8.0",
]  # fmt: skip
"""All there is, so that pip need not look for what lava-dl names: torch, which netx does not need."""


@functools.cache
def _made():
    """The interpreter, or why there is none."""
    python, done = PLACE / "bin" / "python", PLACE / "packages.txt"
    wanted = "\n".join(PACKAGES)
    if done.exists() and done.read_text() == wanted:
        return python
    shutil.rmtree(PLACE, ignore_errors=True)
    try:
        base = interpreters.find(["3.10"]).path
    except FirstspikeError as error:
        return str(error)
    for argv in (
        [base, "-m", "venv", PLACE],
        [python, "-m", "pip", "install", "--quiet", "--no-deps", *PACKAGES],
    ):
        ended = subprocess.run(argv, capture_output=True, text=True, check=False)
        if ended.returncode:
            return ended.stderr.strip().splitlines()[-1:] or f"{argv[0]} ended with {ended.returncode}"
    done.write_text(wanted)
    return python


def python_of_netx():
    """The interpreter; the test is skipped where lava-dl cannot be installed."""
    found = _made()
    if not isinstance(found, Path):
        pytest.skip(f"lava-dl 0.6.0 cannot be installed here: {found}")
    return found


def netx_spikes(network, samples, folder):
    """Every layer's spikes (samples, steps, channels, height, width) as netx has them, flatten left out."""
    python = python_of_netx()
    write(network, folder / "n.net", pools_as_convs=True)
    np.savez(folder / "in.npz", frames=samples)
    shutil.copy(CHILD, folder)
    ended = subprocess.run(
        [python, folder / CHILD.name, folder / "n.net", folder / "in.npz", folder / "out.npz"],
        capture_output=True, text=True, timeout=120, check=False, cwd=folder,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-3000:]
    with np.load(folder / "out.npz") as out:
        layers = [out[f"layer{number}"] for number in range(len(out.files))]
    # netx counts (x, y, channel), and dense layers one way only.
    return [layer.transpose(0, 1, 4, 3, 2) if layer.ndim == 5 else layer[..., None, None] for layer in layers]

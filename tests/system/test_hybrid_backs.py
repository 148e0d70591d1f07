"""models/dvs128-hybrid's back on every driver that runs without its device, for real: the windows of all recordings.

OpenVINO's CPU, the stick's code on the CPU plug-in of its SDKs, and OpenVINO again behind an ssh server. A TensorRT
engine of it is built in tests/unit/test_tensorrt_real.py. Where recordings are not at hand, frames are drawn.
"""

from __future__ import annotations

import shlex
import time
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from tests.support.program import DATA
from tests.support.pythons import environment
from tests.support.sdk import python_of
from tests.support.sshd import server
from tests.support.sticks import myriad
from tests.system.test_hybrid import HYBRID, made, ready, window

from firstspike.benchmark import windows
from firstspike.bundle import open_bundle
from firstspike.hybrid.accumulate import accumulate

RECORDINGS = DATA / "dvs128_objects" / "2018-10-06"
TOLERANCE = 2.0**-10
"""Of a logit, from NumPy's: the unit of this model's potentials. All compute in float32; seen were 2e-5."""


@cache
def reference():
    """Counts of each window, and NumPy's logits."""
    bundle, emulator = open_bundle(HYBRID), made("emulator")
    shown = [window(seed).frames for seed in range(50)]
    if RECORDINGS.exists():
        shown = [one.spikes.frames for one in windows.recorded(bundle, RECORDINGS, 100_000).samples]
        assert len(shown) > 1_000
    front, back = emulator.parts
    counts = [accumulate(front.run(frames, 1.0), bundle.manifest.parts.interval) for frames in shown]
    return counts, np.stack([back.run(one, 1.0) for one in counts])


def compare(section):
    """The back of a section beside NumPy's; gives the largest difference of a logit."""
    chain = ready(made("emulator+there", there=section))
    try:
        counts, expected = reference()
        began = time.monotonic()
        found = np.stack([chain.parts[1].run(one, 10.0) for one in counts])
        seconds = time.monotonic() - began
    finally:
        chain.close()
    off = float(np.abs(found - expected).max())
    print(f"{len(counts)} windows, {seconds / len(counts) * 1e6:.0f} µs each, off by {off:.2g} of a logit at most")
    top = np.sort(expected, 1)
    assert off < TOLERANCE
    # Two logits closer than the tolerance may change places; none of the recordings' are.
    assert (top[:, -1] - top[:, -2]).min() > 2 * off
    np.testing.assert_array_equal(found.argmax(1), expected.argmax(1))


def test_openvinos_cpu():
    compare({"kind": "openvino", "command": [str(python_of("openvino"))]})


@pytest.mark.parametrize("sdk", ["2021.4.2", "2022.3.2"])
def test_the_sticks_code_on_its_sdks_cpu(sdk):
    python = myriad() if sdk == "2021.4.2" else environment(("3.9", "3.8", "3.7"), "openvino==2022.3.2")
    compare({"kind": "ncs2", "device": "CPU", "command": [str(python)]})


def test_a_back_through_ssh(tmp_path):
    python = python_of("openvino")
    with server(Path(tmp_path)) as ssh:
        compare({"kind": "openvino", "command": [*ssh, shlex.quote(str(python))]})

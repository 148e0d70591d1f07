"""The emulator on 64-bit ARM: compiled for it here, and run by QEMU. Skips where the two are not installed.

On Debian: apt-get install g++-aarch64-linux-gnu qemu-user-static.
"""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from tests.unit.networks import cases, lenet

from firstspike.ttfs import definition
from firstspike.ttfs.network import Conv, Dense, Flatten, MaxPool

ROOT = Path(__file__).parents[2]
NATIVE = ROOT / "runtime" / "native"
CXX = shutil.which("aarch64-linux-gnu-g++")
QEMU = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")

pytestmark = pytest.mark.skipif(
    CXX is None or QEMU is None, reason="g++-aarch64-linux-gnu and qemu-user-static are not installed"
)


def words(values):
    """A list of int32 with its length before it."""
    flat = np.asarray(values).astype(np.int32).reshape(-1)
    return np.concatenate([np.array([flat.size], np.int32), flat]).tobytes()


def word(value):
    return np.int32(value).tobytes()


def case_bytes(network, times):
    """A network, one input, and what the definition says, as tests/support/replay_network.cpp reads them."""
    parts = [words([network.neuron == "quartz", *network.input_shape, network.input_steps]), word(len(network.layers))]
    for layer in network.layers:
        match layer:
            case Flatten():
                parts += [word(0), words([])]
            case MaxPool():
                parts += [word(1), words([*layer.kernel, *layer.stride])]
            case Dense() | Conv():
                readout = [layer.readout.steps, layer.readout.ramp, layer.readout.rounding]
                if isinstance(layer, Conv):
                    readout += [*layer.weights.shape[2:], *layer.stride, *layer.padding]
                parts += [word(2 + isinstance(layer, Conv)), words(readout), words(layer.weights), words(layer.bias)]
    result = definition.run(network, times)
    spikes = np.concatenate([each.reshape(-1) for each in result.spike_steps])
    return b"".join([*parts, words(times), words(spikes), words(result.potential)])


@pytest.mark.parametrize("options", [["-march=armv8-a"], ["-march=armv8.2-a+dotprod"]], ids=["armv8", "dotprod"])
def test_every_spike_on_arm(tmp_path, options):
    program, data, made = tmp_path / "replay", tmp_path / "cases", []

    @settings(
        deadline=None, max_examples=120, derandomize=True, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(cases())
    def draw(case):
        made.append(case_bytes(*case))

    draw()
    random = np.random.default_rng(1)
    for neuron in ("gated", "quartz"):
        times = np.where(random.random((1, 28, 28)) < 0.8, 16, random.integers(0, 17, (1, 28, 28))).astype(np.uint8)
        made.append(case_bytes(lenet(neuron), times))
    data.write_bytes(word(len(made)) + b"".join(made))

    sources = [NATIVE / name for name in ("network.cpp", "build.cpp", "arrange.cpp", "wide.cpp")]
    kernels = [NATIVE / name for name in ("planes.cpp", "weighted.cpp", "place.cpp")]
    common = [CXX, "-std=c++20", "-O1", "-Wall", "-Wextra", "-Werror", "-Wno-psabi", "-static", f"-I{NATIVE}", *options]
    subprocess.run(
        [*common, "-DFS_ARCH=portable", *sources, *kernels, ROOT / "tests/support/replay_network.cpp", "-o", program],
        check=True,
    )
    ran = subprocess.run([QEMU, "-cpu", "max", program, data], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert " 0 wrong" in ran.stdout
    print(ran.stdout)

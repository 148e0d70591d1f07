"""The native library on 64-bit ARM: compiled for it here, and run by QEMU. Skips where the two are not installed.

On Debian: apt-get install g++-aarch64-linux-gnu qemu-user-static.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from tests.unit.networks import cases, lenet

from firstspike import native
from firstspike.native import KERNELS
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


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """The library's network part with the driver, compiled as CMakeLists.txt does: kernels once for each level."""
    folder = tmp_path_factory.mktemp("aarch64")
    common = [CXX, "-std=c++20", "-O1", "-Wall", "-Wextra", "-Werror", "-Wno-psabi", f"-I{NATIVE}"]
    objects = []
    for arch, options in (("portable", []), ("armv8_dotprod", ["-march=armv8.2-a+dotprod"])):
        for name in ("planes", "weighted", "place"):
            made = folder / f"{name}-{arch}.o"
            source = NATIVE / f"{name}.cpp"
            subprocess.run([*common, *options, f"-DFS_ARCH={arch}", "-c", source, "-o", made], check=True)
            objects.append(made)
    sources = [NATIVE / f"{name}.cpp" for name in ("network", "build", "arrange", "wide")]
    driver = ROOT / "tests" / "support" / "replay_network.cpp"
    subprocess.run([*common, "-static", *sources, driver, *objects, "-o", folder / "replay"], check=True)
    return folder / "replay"


def digest(folder, compiler, library):
    """The driver of what is no network, with a library of its processor."""
    driver = ROOT / "tests" / "support" / "native_digest.cpp"
    subprocess.run([compiler, "-std=c++20", "-O1", "-Wall", "-Wextra", "-Werror", f"-I{NATIVE}", driver, library,
                    f"-Wl,-rpath,{library.parent}", "-o", folder / "digest"], check=True)  # fmt: skip
    return folder / "digest"


def test_encoder_filters_decoder_and_sampler_say_on_arm_what_they_say_here(tmp_path):
    """The whole library, by CMakeLists.txt and its flags."""
    arm, here = tmp_path / "arm", tmp_path / "here"
    here.mkdir()
    ninja = shutil.which("ninja", path=str(Path(sys.executable).parent)) or "ninja"
    configure = [sys.executable, "-m", "cmake", "-S", NATIVE, "-B", arm, "-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}",
                 f"-DCMAKE_CXX_COMPILER={CXX}", "-DCMAKE_BUILD_TYPE=Release", "-DCMAKE_SYSTEM_NAME=Linux",
                 "-DCMAKE_SYSTEM_PROCESSOR=aarch64"]  # fmt: skip
    subprocess.run(configure, check=True, capture_output=True)
    done = subprocess.run([sys.executable, "-m", "cmake", "--build", arm], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    (tmp_path / "power").write_text("1234567\n")
    ours = digest(here, "g++", Path(native.library()._name).resolve())
    expected = subprocess.run([ours, tmp_path / "power"], capture_output=True, text=True, check=True).stdout
    assert "refused" not in expected
    assert "in order 1, 8 bytes '1234567\n', -9" in expected  # -9: EBADF, the file that is none
    theirs = digest(arm, CXX, arm / "libfirstspike.so")
    for processor in ("max", "cortex-a57"):
        run_it = [QEMU, "-L", "/usr/aarch64-linux-gnu", "-cpu", processor, theirs, tmp_path / "power"]
        ran = subprocess.run(run_it, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr
        assert ran.stdout == expected


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    made = []

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
    path = tmp_path_factory.mktemp("cases") / "cases"
    path.write_bytes(word(len(made)) + b"".join(made))
    return path


def run(program, data, processor, kernels):
    level = str(KERNELS[kernels])
    return subprocess.run([QEMU, "-cpu", processor, program, data, level], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("kernels", ["portable", "armv8-dotprod", "best"])
def test_every_spike_on_arm(program, data, kernels):
    ran = run(program, data, "max", kernels)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert " 0 wrong" in ran.stdout


def test_an_older_processor_runs_the_portable_kernels(program, data):
    """Cortex-A57 (Jetson Nano) has no dot product: "best" is what it can run, and that level is refused."""
    assert run(program, data, "cortex-a57", "best").returncode == 0
    refused = run(program, data, "cortex-a57", "armv8-dotprod")
    assert refused.returncode == 2
    assert "no kernels of that level" in refused.stdout

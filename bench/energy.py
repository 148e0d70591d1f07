"""What energy telemetry costs: reading meters 100 times a second, the account's thread, and the account of a decision.

    PYTHONPATH=. .venv/bin/python bench/energy.py [seconds of each]

The meters are files of a made-up /sys: RAPL's counter of a package (one file), and an AGX Orin's sum of rails by its
INA3221 (six). Both are read 100 times a second without end: the powers never change, so that no rate is found, and the
counter is asked more often than a daemon would (20 times). CPU time is the process's own (user and system), of which
nothing else runs; the least of several stretches counts, in turns, since the machine may be busy with other things.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import numpy as np
from tests.support import sysfs

from firstspike.bundle import open_bundle
from firstspike.clock import SystemClock
from firstspike.config import EnergySection
from firstspike.config_plugins import BackendChoice
from firstspike.energy import Meter, sampler
from firstspike.energy.meters import find
from firstspike.energy.sampler import Sampler
from firstspike.energy.telemetry import make
from firstspike.types import Inference, Spikes

ROOT = Path(__file__).parents[1]
STRETCHES = 6
HZ = 100.0


@contextmanager
def asleep() -> Iterator[None]:
    """What any thread of Python's that wakes up so often takes on this machine."""
    stopping = threading.Event()

    def run() -> None:
        while not stopping.is_set():
            time.sleep(1 / HZ)

    thread = threading.Thread(target=run)
    thread.start()
    yield
    stopping.set()
    thread.join()


@contextmanager
def sampled(meter: Meter, *, native: bool) -> Iterator[None]:
    """Read it; fails if it is not read as often as it says."""
    with Sampler([meter], HZ, native=native) as running:
        yield
        time.sleep(2 * sampler.FETCH_S)
        t_ns = running.tracks[meter.name].since(0).t_ns
    hz = (len(t_ns) - 1) / (t_ns[-1] - t_ns[0]) * 1e9
    if not 0.8 * HZ < hz < 1.2 * HZ:
        sys.exit(f"{meter.name} was read {hz:.0f} times a second, not {HZ:.0f}")


def share(way: AbstractContextManager[None], seconds: float) -> float:
    """Of a core."""
    with way:
        time.sleep(0.3)
        began, cpu = time.monotonic(), time.process_time()
        time.sleep(seconds)
        return (time.process_time() - cpu) / (time.monotonic() - began)


def account_us(root: Path, seconds: float) -> tuple[float, float]:
    """Share of a core that all of telemetry takes in a daemon that waits, and of each decision µs."""
    bundle, choice = open_bundle(ROOT / "models/nmnist"), BackendChoice("emulator", "emulator", EnergySection())
    with ExitStack() as stack:
        section = EnergySection(root=str(root), sample_hz=HZ)
        telemetry = make(section, ROOT, {None: [choice]}, SystemClock(), "e", lambda _: None, stack)
        account = telemetry.stream(None, [choice], bundle)
        with telemetry:
            telemetry.begin(lambda: False, rest=False)
            whole = min(share(contextlib.nullcontext(), seconds / STRETCHES) for _ in range(STRETCHES))
            rng = np.random.default_rng(0)
            spikes = Spikes(8, rng.integers(0, 9, (2, 34, 34), dtype=np.uint8), 500)
            answer = Inference("emulator", np.zeros(10, np.int32), None)
            each = []
            for _ in range(5):
                began = time.perf_counter()
                for _ in range(2000):
                    account.begin()
                    account.answered("emulator", spikes, answer, 1000)
                    account.end()
                each.append((time.perf_counter() - began) / 2000)
    return whole, min(each) * 1e6


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 12.0
    sampler.COUNTER_S = 0.0
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        meters = {}
        for kind, files, build in (("RAPL", "one file", sysfs.laptop), ("INA3221", "six files", sysfs.agx_orin)):
            build(Path(folder) / kind)
            found = find(Path(folder) / kind)
            stack.callback(found.close)
            meters[f"{kind}, {files}"] = next(one for one in found.meters if one.name.startswith(kind.lower()))
        ways: dict[str, Callable[[], AbstractContextManager[None]]] = {
            "nothing": contextlib.nullcontext,
            "a Python thread that does nothing but sleep so often": asleep,
        }
        for name, meter in meters.items():
            ways[f"{name}: read by a Python thread"] = lambda meter=meter: sampled(meter, native=False)
            ways[f"{name}: read by the native thread"] = lambda meter=meter: sampled(meter, native=True)
        found_shares: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(STRETCHES):
            for way, make_it in ways.items():
                found_shares[way].append(share(make_it(), seconds / STRETCHES))
        least = {way: min(shares) for way, shares in found_shares.items()}
        nothing = least.pop("nothing")
        whole, each = account_us(Path(folder) / "INA3221", seconds)
    print(f"| at {HZ:g} Hz, least of {STRETCHES} stretches | of a core |\n|---|---|")
    for way, found_share in least.items():
        print(f"| {way} | {found_share - nothing:.2%} |")
    print(f"| all of telemetry: six files, idle power, a window a second | {whole - nothing:.2%} |")
    print(f"\nAccount of a decision, the operation model included: {each:.1f} µs")


if __name__ == "__main__":
    main()

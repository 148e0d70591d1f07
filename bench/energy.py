"""What energy telemetry costs: reading a meter 100 times a second, the account's thread, and the account of a decision.

    .venv/bin/python bench/energy.py [seconds]

The meter is a file of a made-up /sys with a value that never changes, which is read at the full rate without end. CPU
time is the process's own (user and system), of which nothing else runs; the least of several stretches counts, since
the machine may be busy with other things.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from firstspike.bundle import open_bundle
from firstspike.clock import SystemClock
from firstspike.config import EnergySection
from firstspike.config_plugins import BackendChoice
from firstspike.energy.meters import find
from firstspike.energy.sampler import Sampler
from firstspike.energy.telemetry import make
from firstspike.types import Inference, Spikes

ROOT = Path(__file__).parents[1]
STRETCHES = 5
HZ = 100.0


def busy(seconds: float) -> float:
    """Least share of a core that this process took, of several stretches."""
    found = []
    for _ in range(STRETCHES):
        began, cpu = time.monotonic(), time.process_time()
        time.sleep(seconds / STRETCHES)
        found.append((time.process_time() - cpu) / (time.monotonic() - began))
    return min(found)


@contextmanager
def asleep() -> Iterator[None]:
    """What any thread that wakes up so often takes on this machine."""
    stopping = threading.Event()

    def run() -> None:
        while not stopping.is_set():
            time.sleep(1 / HZ)

    thread = threading.Thread(target=run)
    thread.start()
    yield
    stopping.set()
    thread.join()


def board(root: Path) -> None:
    folder = root / "sys/class/hwmon/hwmon0"
    folder.mkdir(parents=True)
    (folder / "name").write_text("ina226\n")
    (folder / "power1_input").write_text("4000000\n")


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    with tempfile.TemporaryDirectory() as folder:
        board(Path(folder))
        nothing = busy(1.0)
        with asleep():
            sleeping = busy(seconds) - nothing
        found = find(Path(folder))
        with Sampler(found.meters, HZ) as sampler:
            sampling = busy(seconds) - nothing
            taken = len(next(iter(sampler.tracks.values())).since(0).t_ns)
        found.close()
        bundle, choice = open_bundle(ROOT / "models/nmnist"), BackendChoice("emulator", "emulator", EnergySection())
        with ExitStack() as stack:
            section = EnergySection(root=folder, sample_hz=HZ)
            telemetry = make(section, ROOT, {None: [choice]}, SystemClock(), "e", lambda _: None, stack)
            account = telemetry.stream(None, [choice], bundle)
            with telemetry:
                telemetry.begin(lambda: False, rest=False)
                whole = busy(seconds) - nothing
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
    print(f"| {taken} readings at {HZ:g} Hz, least of {STRETCHES} stretches | |\n|---|---|")
    print(f"| a thread that does nothing but sleep so often, of a core | {sleeping:.2%} |")
    print(f"| the sampler's thread, of a core | {sampling:.2%} |")
    print(f"| with the account's thread (idle power, a window a second) | {whole:.2%} |")
    print(f"| of each decision, the operation model included | {min(each) * 1e6:.1f} µs |")


if __name__ == "__main__":
    main()

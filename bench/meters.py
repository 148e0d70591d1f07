"""What one reading of a meter costs, on files of the kernel's (/proc), without the sensor's own time.

    PYTHONPATH=. .venv/bin/python bench/meters.py

A sensor behind I²C adds its own: some 0.5 ms a value on a Jetson, in the kernel, without the interpreter's lock.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from tests.support import sysfs

from firstspike.energy.meters import find

REPEATS, READS = 7, 20_000


def main() -> None:
    """Print a line a kind of meter."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        sysfs.laptop(root)
        sysfs.agx_orin(root)
        sysfs.hwmon(root, 9, "ina226", "i2c-7/7-0045", power1_input=1)
        value = Path("/proc/sys/kernel/pid_max")  # a number that a driver's function writes, as in sysfs
        for name in ("energy_uj", "power1_input", "in?_input", "curr?_input"):
            for file in (root / "sys/devices").rglob(name):
                file.unlink()
                file.symlink_to(value)
        found = find(root)
        for meter in found.meters:
            runs = []
            for _ in range(REPEATS):
                start = time.perf_counter()
                for _ in range(READS):
                    meter.read()
                runs.append((time.perf_counter() - start) / READS)
            least = min(runs) * 1e6
            print(f"{meter.name}: {least:.2f} µs a reading, {least * 100 / 1e4:.3f} % of a core at 100 Hz")
        found.close()


if __name__ == "__main__":
    main()

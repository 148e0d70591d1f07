"""Everything that the README's figures come from, one after another: `make bench`."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
PARTS = (
    "encode.py", "recording.py", "emulator.py", "latency.py", "link.py", "failover.py", "sources.py", "filters.py",
    "energy.py", "live.py", "hostile.py",
)  # fmt: skip


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line.split(": ", 1)[1] for line in lines if line.startswith("model name")), platform.machine())


def main() -> None:
    print(f"{processor()}, Linux {platform.release()}, Python {platform.python_version()}\n")
    for part in PARTS:
        print(f"## bench/{part}\n", flush=True)
        subprocess.run([sys.executable, HERE / part], check=True)
        print(flush=True)


if __name__ == "__main__":
    main()

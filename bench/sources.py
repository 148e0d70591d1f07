"""How many windows a second 1, 2 and 4 sources get through the whole road, each in a daemon's pipeline of its own.

    .venv/bin/python bench/sources.py

Each source is a replay as fast as possible, printing its decisions into nothing: decoding in its child, windows of
10 ms, encoding, inference, decision, message. Start-up is measured with an empty replay and taken off.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

PLANS = ("emulator", "null")


def replay(recording: Path, plan: str) -> subprocess.Popen[bytes]:
    arguments = ["replay", str(recording), "--speed", "max", "--json", "--plan", plan, "--set", "window.size=10000",
                 "--set", "log.level=error"]  # fmt: skip
    command = [sys.executable, "-m", "firstspike", *arguments]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def seconds(recording: Path, plan: str, sources: int) -> float:
    began = time.monotonic()
    children = [replay(recording, plan) for _ in range(sources)]
    assert [child.wait() for child in children] == [0] * sources
    return time.monotonic() - began


def windows(recording: Path) -> int:
    arguments = ["replay", str(recording), "--speed", "max", "--json", "--set", "window.size=10000"]
    done = subprocess.run([sys.executable, "-m", "firstspike", *arguments], check=True, capture_output=True)
    return done.stdout.count(b"\n")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        long, short = Path(folder) / "long.aedat4", Path(folder) / "short.aedat4"
        for path, digits in ((long, "0123456789" * 30), (short, "0")):
            simulate = [sys.executable, "-m", "firstspike", "simulate", str(path), "--digits", digits]
            subprocess.run([*simulate, "--pause-ms", "0"], check=True, stdout=subprocess.DEVNULL)
        count = windows(long) - windows(short)
        print("| windows a second, nmnist, all sources together | 1 source | 2 | 4 |")
        print("|---|---|---|---|")
        for plan in PLANS:
            rates = []
            for sources in (1, 2, 4):
                taken = [seconds(long, plan, sources) - seconds(short, plan, sources) for _ in range(3)]
                rates.append(sources * count / min(taken))
            name = "emulator" if plan == "emulator" else "a worker that computes nothing to speak of (null)"
            print(f"| {name} | " + " | ".join(f"{rate:.0f}" for rate in rates) + " |", flush=True)


if __name__ == "__main__":
    main()

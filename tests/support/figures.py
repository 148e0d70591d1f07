"""What a fault test found, as a line of the README's table: `make faults` prints them all."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

FILE = "FIRSTSPIKE_FIGURES"
"""Environment variable: the file that lines are added to."""


def figure(fault: str, found: str) -> None:
    """Print a figure, and keep it where the environment says so.

    Args:
        fault: what was done, with how often: the same in each run of the same length.
        found: what came of it.
    """
    print(f"{fault}: {found}")
    if path := os.environ.get(FILE):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps([fault, found], ensure_ascii=False) + "\n")


def main() -> None:
    """Print the table of what a run left behind."""
    lines = [json.loads(line) for line in Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()]
    print("| fault | what came of it |\n|---|---|")
    for fault, found in dict(lines).items():
        print(f"| {fault} | {found} |")


if __name__ == "__main__":
    main()

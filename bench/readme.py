"""Puts the figures of a run of `make bench` into README.md, between its headings "How fast it is" and "Status".

make bench | tee bench.log
python3 bench/readme.py < bench.log
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"
SETTINGS = ("1280×720, 20 Mev/s", "1280×720, real", "320×240, 1 Mev/s")
ENCODERS = {
    "firstspike, TTFS of counts, 2×64×64": r"firstspike count, 2×64×64",
    "firstspike, TTFS of first events, 2×64×64": r"firstspike first, 2×64×64",
    "firstspike, TTFS of counts, sensor's size, 1 channel": r"firstspike count, 1×(720|240)",
    "firstspike, TTFS of counts, sensor's size, 2 channels": r"firstspike count, 2×(720|240)",
    "dv-processing EdgeMap, sensor's size": r"dv-processing",
    "numba loop, sensor's size": r"numba",
    "numpy.bincount, sensor's size": r"numpy",
    "tonic ToFrame, sensor's size": r"tonic",
}
ENGINES = (
    "emulator, gated, x86-64-v4", "emulator, gated, x86-64-v3", "emulator, gated, portable",
    "emulator, quartz, x86-64-v4", "ONNX Runtime FP32", "ONNX Runtime int8",
    "OpenVINO FP32", "OpenVINO bf16", "OpenVINO int8",
)  # fmt: skip


def table(log: str, begin: str) -> list[list[str]]:
    """The cells of the table whose first line starts so, without the line of dashes."""
    lines = log[log.index(begin) :].splitlines()
    end = next((i for i, line in enumerate(lines) if not line.startswith("|")), len(lines))
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[:end]]
    return [rows[0], *rows[2:]]


def markdown(rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def encoding(log: str) -> str:
    found = [{row[0]: row for row in table(log, f"| {setting}")} for setting in SETTINGS]
    rows = [["", *SETTINGS]]
    for label, pattern in ENCODERS.items():
        rows.append([label])
        for column in found:
            row = next(row for name, row in column.items() if re.match(pattern, name) and "C > T" not in name)
            rows[-1].append(f"{row[1]} ({row[3]}×)")
    return markdown(rows)


def inference(log: str) -> str:
    """One column a network, engines as rows."""
    titles = re.findall(r"^`([^`]+)`, (\S+), (T = \d+): (.*)\.$", log, re.M)
    rows = [["µs an inference", *(f"`{name}`, {steps}" for name, _, steps, _ in titles)]]
    columns = []
    for name, *_ in titles:
        part = log[log.index(f"`{name}`, ") :]
        columns.append({row[0]: row for row in table(part, "| µs an inference")})
    for engine in ENGINES:
        cells = [column.get(engine) for column in columns]
        if any(cells):
            rows.append([engine, *(f"{cell[1]} ({cell[2]}×)" if cell else "–" for cell in cells)])
    inputs = "; ".join(f"`{name}` ({shape}): {origin}" for name, shape, _, origin in titles)
    return f"{markdown(rows)}\n\nInputs: {inputs}."


def main() -> None:
    log = sys.stdin.read()
    processor = re.search(r"^(.*), Linux .*, Python .*$", log, re.M)
    versions = re.search(r"^(ONNX Runtime .*)$", log, re.M)
    if processor is None or versions is None:
        sys.exit("readme: standard input is not the output of 'make bench'")
    text = f"""## How fast it is

Ratios from one run of `make bench` on a 2-core virtual machine ({processor[1]}); run it on yours.

Events to tensor, in memory, windows of 10 ms, Mev/s (and ratio to dv-processing's EdgeMap):

{encoding(log)}

File to frames, each program's whole road (ours decodes in a supervised child process):

{markdown(table(log, "| file to frames"))}

One inference, one thread, called from Python, beside the network's floating-point twin in other engines ({versions[1]};
in brackets: times as fast as ONNX Runtime FP32). `quartz` is the same integers with the neuron that may spike early.

{inference(log)}

[ARCHITECTURE.md](ARCHITECTURE.md#how-the-emulator-is-fast) says why.

From window close to the decision in a subscriber's
hands, over ipc:

{markdown(table(log, "| µs, "))}

A worker adds a round trip over a socketpair to its SDK's own time (processors that sleep between windows wake up
slowly, whoever wakes them):

{markdown(table(log, "| µs a round trip"))}

A worker is killed again and again, as a pulled plug would; windows of 10 ms go on coming:

{markdown(table(log, "| ms, "))}

Several sources on the two cores, each in a daemon's pipeline of its own:

{markdown(table(log, "| windows a second"))}

"""
    readme = README.read_text(encoding="utf-8")
    begin, end = readme.index("## How fast it is"), readme.index("## Status")
    README.write_text(readme[:begin] + text + readme[end:], encoding="utf-8")


if __name__ == "__main__":
    main()

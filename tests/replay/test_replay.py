"""Recordings with their golden decisions, and that a replay of a real one is the same every time.

A case is a folder in `cases/` with a recording, `case.toml` (the arguments of `firstspike replay`) and `golden.jsonl`.
When a change of the decisions is meant, `make golden` writes them anew, and the difference is there to be read.
"""

from __future__ import annotations

import json
import math
import os
import tomllib
from pathlib import Path

import pytest
from tests.support.figures import figure
from tests.support.program import DATA, ROOT, firstspike

CASES = sorted(Path(__file__).parent.glob("cases/*/case.toml"))
IGNORED = ("epoch", "source")
"""`epoch` is the bundle's digest, `source` the path: neither is a decision."""


def replay(*arguments):
    done = firstspike("replay", *arguments, "--json", "--speed", "max", cwd=ROOT, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def decisions(text):
    found = [json.loads(line) for line in text.splitlines()]
    for decision in found:
        for key in IGNORED:
            decision.pop(key)
    return found


def same(a, b):
    """Equal, but for a unit in the last published decimal of a float: libm differs between systems. Energies, which
    are millionths, are multiplied and added only, and may differ in their last digits.
    """
    match a, b:
        case dict(), dict():
            return a.keys() == b.keys() and all(
                math.isclose(a[key], b[key], rel_tol=1e-12)
                if key.endswith("_j") and isinstance(a[key], float) and isinstance(b[key], float)
                else same(a[key], b[key])
                for key in a
            )
        case list(), list():
            return len(a) == len(b) and all(map(same, a, b))
        case float(), float():
            return math.isclose(a, b, abs_tol=2e-6)
    return type(a) is type(b) and a == b


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.parent.name)
def test_golden(case):
    arguments = tomllib.loads(case.read_text())["arguments"]
    found = replay(*arguments)
    golden = case.parent / "golden.jsonl"
    if os.environ.get("FIRSTSPIKE_WRITE_GOLDEN"):
        golden.write_text("".join(json.dumps(decision) + "\n" for decision in decisions(found)))
    expected = [json.loads(line) for line in golden.read_text().splitlines()]
    assert len(expected) > 0
    for number, (was, now) in enumerate(zip(expected, decisions(found), strict=True)):
        assert same(was, now), f"decision {number} differs from {golden}"


def test_there_are_cases():
    assert len(CASES) >= 2


REAL = [
    "dvs128_objects/2018-10-06/mug_0.aedat",
    "dvs128_handgesture_aedat4/lowrate_2024-06-13/dvSave-2024_06_13_16_28_29.aedat4",
    "nmnist/Train/0/00002.bin",
    "formats/evt3/derived_gen31_640x480_triggers.raw",
]


@pytest.mark.parametrize("name", REAL)
def test_three_replays_of_a_real_recording_are_identical(name):
    if not (DATA / name).exists():
        pytest.skip(f"{DATA / name} is not there")
    runs = {replay(DATA / name) for _ in range(3)}
    assert len(runs) == 1
    assert len(decisions(runs.pop())) > 2


@pytest.mark.soak
def test_three_replays_of_every_labelled_recording_are_identical():
    if not DATA.exists():
        pytest.skip(f"{DATA} is not there")
    folders = ("nmnist", "dvs128_objects", "dvs128_handgesture_aedat4")
    files = sorted(path for folder in folders for path in (DATA / folder).rglob("*.*") if path.suffix != ".csv")
    assert len(files) > 900
    runs = {replay(*files) for _ in range(3)}
    assert len(runs) == 1
    lines = runs.pop().splitlines()
    assert {json.loads(line)["source"] for line in lines} == {str(path) for path in files}
    figure(f"three replays of {len(files)} recordings", f"identical to the byte, {len(lines)} decisions each")

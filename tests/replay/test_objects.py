"""Golden answers of models/dvs128-objects on two real recordings, which are not ours to keep: without them, skipped.

`make golden` writes the answers anew when a change of them is meant.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from tests.support.program import DATA, ROOT, firstspike

GOLDEN = Path(__file__).parent / "objects.json"
SESSION = DATA / "dvs128_objects" / "2018-10-06"
NAMES = ("mech_pencil_0", "scissors_0")


@pytest.mark.parametrize("name", NAMES)
def test_golden_objects(name):
    recording = SESSION / f"{name}.aedat"
    if not recording.exists():
        pytest.skip(f"{recording} is not there")
    done = firstspike(
        "replay", recording, "--model", "dvs128-objects", "--json", "--speed", "max", cwd=ROOT, timeout=300
    )
    assert done.returncode == 0, done.stderr
    decisions = [json.loads(line) for line in done.stdout.splitlines()]
    found = [
        [one["window"]["index"], one["window"]["events"], one["window"]["label"], one["label"]] for one in decisions
    ]
    golden = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    if os.environ.get("FIRSTSPIKE_WRITE_GOLDEN"):
        golden[name] = found
        lines = ",\n".join(f'"{key}": {json.dumps(golden[key])}' for key in sorted(golden))
        GOLDEN.write_text(f"{{\n{lines}\n}}\n")
    assert len(found) > 150
    assert found == golden[name]

"""The `firstspike` program as a user runs it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("FIRSTSPIKE_DATA", ROOT.parent / "shared" / "data"))


def firstspike(*arguments, timeout=60, stdout=subprocess.PIPE, environment=None, cwd=None):
    """Run a command to its end; `stdout` and `stderr` are text."""
    return subprocess.run(
        [sys.executable, "-m", "firstspike", *map(str, arguments)], stdout=stdout, stderr=subprocess.PIPE, text=True,
        timeout=timeout, check=False, env=os.environ | (environment or {}), cwd=cwd,
    )  # fmt: skip


@contextlib.contextmanager
def started(*arguments, environment=None, **options):
    """A command that runs beside the test; it does not outlive it."""
    argv = [sys.executable, "-m", "firstspike", *map(str, arguments)]
    child = subprocess.Popen(argv, text=True, env=os.environ | (environment or {}), **options)
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def complained(done, code, *parts):
    """The command ended with this exit code and one clear message: no traceback, and these parts in it."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    for part in parts:
        assert part in done.stderr, done.stderr

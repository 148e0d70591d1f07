"""Environments of other Pythons for the TensorRT tests, made once, in build/; and the real TensorRT for RTX in one."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.support.program import ROOT

from firstspike.backends import tensorrt, tensorrt_rtx

BUILD = Path(__file__).with_name("tensorrt_rtx_build.py")


def interpreter(version):
    """A Python of this version: on PATH, pyenv's or uv's; None: there is none."""
    found = shutil.which(f"python{version}")
    homes = [
        Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions",
        Path.home() / ".local" / "share" / "uv" / "python",
    ]
    kept = [path for home in homes for path in sorted(home.glob(f"*{version}.*/bin/python{version}"))]
    for candidate in [*([found] if found else []), *kept]:
        # A shim may be there for a version that is not.
        if subprocess.run([candidate, "-c", "import venv"], capture_output=True, check=False).returncode == 0:
            return str(candidate)
    return None


@functools.cache
def environment(version, *packages):
    """The interpreter of an environment with these packages; skips by name where it cannot be made."""
    place = ROOT / "build" / f"test-tensorrt-{version}"
    done, python = place / "done", place / "bin" / "python"
    if done.is_file() and done.read_text() == json.dumps(packages) and python.exists():
        return python
    base = interpreter(version)
    if base is None:
        pytest.skip(f"there is no Python {version} on PATH, of pyenv or of uv")
    shutil.rmtree(place, ignore_errors=True)
    for argv in ([base, "-m", "venv", place], [python, "-m", "pip", "install", "--quiet", *packages]):
        made = subprocess.run(argv, capture_output=True, text=True, check=False)
        if made.returncode:
            last = "".join(made.stderr.strip().splitlines()[-1:])
            pytest.skip(f"{' '.join(packages)} cannot be installed for Python {version}: {last}")
    done.write_text(json.dumps(packages))
    return python


def rtx():
    """The interpreter with TensorRT for RTX."""
    recipe = tensorrt_rtx.ENVIRONMENT
    return environment(recipe["python"][0], *recipe["packages"])


def real(*requests):
    """What the driver's own code gives with the real TensorRT for RTX: a list of objects, see `tensorrt_rtx_build`."""
    room = ROOT / "runtime" / "firstspike"
    own = [name for name in tensorrt.SIBLINGS if "." not in name]
    sources = [room / "worker" / "shim.py", *(room / "backends" / f"{name}.py" for name in own)]
    # Isolated: beside the script lies a file of TensorRT's name.
    given = json.dumps({"sources": [str(path) for path in sources], "requests": requests})
    done = subprocess.run([rtx(), "-I", BUILD, given], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]

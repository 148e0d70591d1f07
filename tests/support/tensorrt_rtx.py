"""The real TensorRT for RTX, in an environment of its own."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from tests.support.program import ROOT
from tests.support.pythons import environment

from firstspike.backends import tensorrt, tensorrt_rtx

BUILD = Path(__file__).with_name("tensorrt_rtx_build.py")


def rtx():
    """The interpreter with TensorRT for RTX."""
    recipe = tensorrt_rtx.ENVIRONMENT
    return environment(tuple(recipe["python"]), *recipe["packages"])


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

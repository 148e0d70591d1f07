"""Other Pythons of this machine, and environments of them with packages that no driver asks for."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.program import ROOT

from firstspike.errors import UnavailableError
from firstspike.worker.interpreters import find

NUMPY = {
    (3, 6): "1.19.5", (3, 7): "1.21.6", (3, 8): "1.24.4", (3, 9): "2.0.2", (3, 10): "2.2.6", (3, 11): "2.4.6",
    (3, 12): "2.4.6", (3, 13): "2.4.6",
}  # fmt: skip
"""The last NumPy of each Python, which is what differs the most."""


@functools.cache
def interpreters():
    """Interpreters by (major, minor), from PATH, pyenv and uv, whichever comes first."""
    home = Path.home()
    pyenv = Path(os.environ.get("PYENV_ROOT", home / ".pyenv")) / "versions"
    uv = Path(os.environ.get("UV_PYTHON_INSTALL_DIR", home / ".local" / "share" / "uv" / "python"))
    named = [path for minor in (f"python3.{n}" for n in range(20)) if (path := shutil.which(minor))]
    found = {}
    for path in [*named, *sorted(pyenv.glob("*/bin/python")), *sorted(uv.glob("*/bin/python3"))]:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
        match = re.match(r"Python (\d+)\.(\d+)\.", done.stdout + done.stderr)  # Python 2 says it on standard error
        if done.returncode == 0 and match:  # pyenv's own python3.x fails where that is not chosen
            found.setdefault((int(match[1]), int(match[2])), str(path))
    return found


def interpreter(version):
    """Skips by name where it is missing."""
    if version not in interpreters():
        pytest.skip(f"Python {version[0]}.{version[1]} was not found on PATH, in pyenv's or in uv's folder")
    return interpreters()[version]


def with_numpy(version):
    """An environment of that Python with NumPy, made once and kept in build/; skips by name where that cannot be."""
    minor = f"{version[0]}.{version[1]}"
    base, folder = interpreter(version), ROOT / "build" / "pythons" / f"{minor}-numpy-{NUMPY[version]}"
    python = folder / "bin" / "python"
    if not (folder / ".done").exists():
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([base, "-m", "venv", "--without-pip", folder], check=True)
        site = folder / "lib" / f"python{minor}" / "site-packages"
        done = subprocess.run(
            [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", site,
             "--python-version", minor, "--only-binary", ":all:", "--no-deps", "--ignore-requires-python",
             f"numpy=={NUMPY[version]}"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            pytest.skip(f"NumPy {NUMPY[version]} for Python {minor} cannot be installed: {done.stderr.strip()[-200:]}")
        (folder / ".done").touch()
    return str(python)


@functools.cache
def environment(versions, *packages):
    """The Python of an environment with these packages, made once and kept in build/.

    Skips by name where there is no interpreter of these versions (best first), or pip cannot install.
    """
    folder = ROOT / "build" / "workers-test" / "_".join((versions[0], *packages)).replace("==", "-")
    python, done = folder / "bin" / "python", folder / ".done"
    if done.exists() and python.exists():
        return python
    try:
        found = find(versions)
    except UnavailableError as error:
        pytest.skip(f"{packages[0]}: {error}")
    shutil.rmtree(folder, ignore_errors=True)
    for argv in ([found.path, "-m", "venv", folder], [python, "-m", "pip", "install", "--quiet", *packages]):
        made = subprocess.run(argv, capture_output=True, text=True, check=False)
        if made.returncode:
            pytest.skip(f"{' '.join(packages)} cannot be installed: {made.stderr.strip().splitlines()[-1:]}")
    done.touch()
    return python

"""Makes a worker's environment: the interpreter that its SDK needs, and the exact packages, all or nothing.

It is made in a folder of its own and checked; only then the link is turned to it. Whatever ends an installation before
that leaves a folder that no link points to, and the next one sweeps it. The lock is held by pip too, so a pip that
outlives its parent is waited for.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import firstspike
from firstspike.errors import OutputError, UnavailableError
from firstspike.worker import interpreters
from firstspike.worker.drivers import DriverFile
from firstspike.worker.environments import MARKER, Environment, digest, locked, look, places, sweep, writing
from firstspike.worker.interpreters import Interpreter
from firstspike.worker.process import environment

Say = Callable[[str], None]

PIP = ("-m", "pip", "--disable-pip-version-check", "--no-input")
PIP_FOR_OLD = "pip==21.3.1"
"""The last for Python 3.6; what that brings along does not know today's wheels."""
NOT_INHERITED = ("PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_REQUIREMENT", "PIP_CONSTRAINT")
"""Settings of pip that would put packages elsewhere, or others beside."""
KEPT_LINES = 200

_LOAD = "import ctypes, sys; ctypes.CDLL(sys.argv[1])"
_IMPORT = "import importlib, sys; [importlib.import_module(name) for name in sys.argv[1:]]"


class Library(NamedTuple):
    """A library that is missing."""

    name: str
    package: str
    """The Debian package that has it."""

    def __str__(self) -> str:
        return f"{self.name}, which pip cannot install: apt-get install {self.package}"


def plan(driver: DriverFile, python: Path | None) -> tuple[Interpreter, list[str]]:
    """The interpreter that an installation would take, and what it would do, for a person."""
    interpreter, recipe = _interpreter(driver, python), driver.recipe
    lines = [f"python    {interpreter.path} ({interpreter.text})", f"place     {_target(driver)}"]
    lines.append(f"packages  {' '.join(recipe.packages) or 'none'}")
    if recipe.system_site:
        lines.append("          and those that this Python already has")
    if recipe.constraints:
        lines.append(f"pinned    {len(recipe.constraints)} packages, with what those pull in")
    lines += [f"missing   {library}" for library in missing_libraries(driver)]
    return interpreter, lines


def install(driver: DriverFile, python: Path | None, *, force: bool, say: Say, progress: Say) -> Environment:
    """Make a driver's environment, unless it is there.

    Args:
        driver: what for.
        python: take this interpreter.
        force: make it anew even if it is installed.
        say: told of each step.
        progress: told each line that pip writes.

    Raises:
        UnavailableError: no interpreter, or a package could not be installed or imported.
        OutputError: the place cannot be written.
    """
    found = look(driver)
    if found.state == "installed" and not force:
        return found
    interpreter = _interpreter(driver, python)
    path = _target(driver)
    if path.exists() and not path.is_symlink():
        raise OutputError(f"{path}: was not made by firstspike: move it away")
    with locked(path.parent, driver.name, say) as lock:
        if not force and (found := look(driver)).state == "installed":
            return found  # by whom this one has waited for
        with writing(path):
            sweep(path.parent, driver.name)
            folder = Path(tempfile.mkdtemp(prefix=f".{driver.name}-", dir=path.parent))
        try:
            say(f"making {path} with {interpreter.path} ({interpreter.text})")
            with writing(path):
                folder.chmod(0o755)  # the daemon may be another user
                _fill(folder, driver, interpreter, lock, say, progress)
                _turn(path, folder)
        finally:
            sweep(path.parent, driver.name)
    return look(driver)


def missing_libraries(driver: DriverFile) -> list[Library]:
    """Of the system packages that a driver names, those whose library this machine does not load."""
    named = [(soname(package), package) for package in driver.recipe.system]
    return [Library(name, package) for name, package in named if name is not None and not _loads(name)]


def soname(package: str) -> str | None:
    """The library of a Debian package by the archive's rule of names: libusb-1.0-0 has libusb-1.0.so.0."""
    name = re.fullmatch(r"(lib[a-z0-9.+-]*?[^0-9-]|lib[a-z0-9.+-]*?[0-9](?=-))-?([0-9]+)(t64)?", package)
    return f"{name[1]}.so.{name[2]}" if name else None


def unreadable_by_others(path: Path) -> Path | None:
    """The folder that keeps other users from an interpreter, such as root's home."""
    return next((folder for folder in reversed(path.parents) if not folder.stat().st_mode & 0o001), None)


def _target(driver: DriverFile) -> Path:
    """Where an environment is made: where it is, unless that is another's, else the first place."""
    found = look(driver)
    return found.path if os.access(found.path.parent, os.W_OK) else places()[0] / driver.name


def _interpreter(driver: DriverFile, python: Path | None) -> Interpreter:
    recipe = driver.recipe
    return interpreters.find(recipe.python, python, system=recipe.system_site, pip=bool(recipe.packages))


def _loads(library: str) -> bool:
    argv = [sys.executable, "-I", "-c", _LOAD, library]  # not in this process: a library may do anything when loaded
    return subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0


def _fill(folder: Path, driver: DriverFile, interpreter: Interpreter, lock: int, say: Say, progress: Say) -> None:
    """Make the virtual environment in a folder, with packages, checks and marker."""
    recipe = driver.recipe
    flags = ["--system-site-packages"] if recipe.system_site else []
    flags += [] if recipe.packages else ["--without-pip"]
    _run([interpreter.path, "-I", "-m", "venv", *flags, folder], "the environment could not be made", lock, progress)
    python = folder / "bin" / "python"
    if recipe.packages:
        say(f"installing {' '.join(recipe.packages)}")
        if interpreter.version < (3, 7):
            newer: list[str | Path] = [python, *PIP, "install", "--quiet", PIP_FOR_OLD]
            _run(newer, f"{PIP_FOR_OLD} could not be installed", lock, progress)
        pins = folder / "firstspike-pins.txt"
        pins.write_text("".join(f"{line}\n" for line in recipe.constraints), "utf-8")
        # Wheels alone: a build would need a compiler, take hours for NumPy on a small board, and fail late.
        argv: list[str | Path] = [
            python,
            *PIP,
            "install",
            "--only-binary",
            ":all:",
            "--constraint",
            pins,
            *recipe.packages,
        ]
        _run(argv, f"{' '.join(recipe.packages)} could not be installed", lock, progress)
    modules = list(dict.fromkeys(("numpy", *recipe.imports)))
    say(f"importing {', '.join(modules)}")
    fix = f"apt-get install {' '.join(recipe.system)}" if recipe.system else ""
    _run([python, "-c", _IMPORT, *modules], f"{driver.name} needs {' and '.join(modules)}", lock, progress, fix)
    marker = {
        "schema": "firstspike.worker-environment/1", "driver": driver.name, "recipe": digest(recipe),
        "packages": list(recipe.packages), "python": interpreter.text, "interpreter": str(interpreter.path),
        "made": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "firstspike": firstspike.__version__,
        "installed": sorted(
            info.name.removesuffix(".dist-info") for info in folder.glob("lib/python*/site-packages/*.dist-info")
        ),
    }  # fmt: skip
    (folder / MARKER).write_text(json.dumps(marker, indent=1) + "\n", "utf-8")


def _turn(path: Path, folder: Path) -> None:
    """Point the link at a folder, in one step."""
    link = path.parent / f".{path.name}-link"
    link.unlink(missing_ok=True)
    link.symlink_to(folder.name)
    link.replace(path)


def _run(argv: Sequence[str | Path], fault: str, lock: int, progress: Say, fix: str = "") -> None:
    """Run one step to its end; what it writes is told to `progress`.

    Raises:
        UnavailableError: it failed; with its last line that tells why.
    """
    env = {key: value for key, value in environment().items() if key not in NOT_INHERITED}
    lines: deque[str] = deque(maxlen=KEPT_LINES)
    try:
        child = subprocess.Popen(
            [str(part) for part in argv], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env=env, pass_fds=(lock,), start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        raise UnavailableError(f"{fault}: {argv[0]}: {error.strerror}") from None
    with child:
        try:
            assert child.stdout is not None  # noqa: S101 (for the type checker)
            for raw in child.stdout:
                if line := raw.decode("utf-8", "replace").strip():
                    lines.append(line)
                    progress(line)
            child.wait()
        finally:
            interpreters.end_group(child)
    if child.returncode:
        cause = telling(lines) or f"it ended with {child.returncode}"
        raise UnavailableError(": ".join(part for part in (fault, cause, fix) if part))


def telling(lines: Sequence[str]) -> str:
    """Of what pip or an interpreter wrote, what says why it failed."""
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    last = (errors or list(lines) or [""])[-1]
    if any("connection broken by" in line for line in lines):
        return (
            f"{last}: pip could not reach its package index: go online, or point pip at packages that are here "
            f"(PIP_INDEX_URL, PIP_FIND_LINKS)"
        )
    if errors and "from versions: none" in " ".join(errors):
        return f"{last}: there is no wheel of it for this Python on this machine"
    return last[:500]

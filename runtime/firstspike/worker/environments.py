"""Where workers' environments lie, how each stands, and its interpreter.

An environment is `<place>/<driver>`, a link to a folder beside it that holds a virtual environment and a marker.
`install` makes it; the link is set last, so what is there is whole.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from firstspike.errors import OutputError
from firstspike.worker import drivers
from firstspike.worker.shim import AbsentError

OVERRIDE = "FIRSTSPIKE_WORKERS"
"""Environment variable that names the folder of all environments."""
SYSTEM_PLACE = Path("/var/lib/firstspike/workers")
MARKER = "firstspike-worker.json"

State = Literal["installed", "outdated", "broken", "not installed"]


@dataclass(frozen=True, slots=True)
class Environment:
    """How a driver's environment stands."""

    name: str
    state: State
    path: Path
    """Where it is, or would be made."""
    python: Path | None = None
    """Its interpreter, if that can be started: of one that is installed or outdated, or of a driver for tests."""
    reason: str = ""
    fix: str = ""
    marker: Mapping[str, Any] = field(default_factory=dict)
    """What the installation wrote: versions, interpreter, time."""


def places() -> list[Path]:
    """Folders where environments are looked for, the first one first."""
    if given := os.environ.get(OVERRIDE):
        return [Path(given)]
    own = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "firstspike" / "workers"
    return [SYSTEM_PLACE, own] if _writable(SYSTEM_PLACE) else [own, SYSTEM_PLACE]


def look(driver: drivers.DriverFile) -> Environment:
    """How a driver's environment stands; nothing is run."""
    closed = ""
    for place in places():
        path = place / driver.name
        if os.path.lexists(path):
            return _stands(driver, path)
        if _closed(place):
            closed = f"; {place}, where the service's are, is not for you to look into"
    install = f"firstspike workers install {driver.name}"
    # A driver for tests needs NumPy alone, which is here.
    python = Path(sys.executable) if driver.for_tests else None
    path = places()[0] / driver.name
    return Environment(driver.name, "not installed", path, python, f"no environment was made for it{closed}", install)


def python_of(name: str) -> Path:
    """The interpreter of a driver's environment: what a worker of that kind is started with by default.

    Raises:
        AbsentError: it is not installed, or broken.
        ConfigError: no driver is called so.
    """
    found = look(drivers.load(name))
    if found.python is None:
        raise AbsentError(f"the environment of {name} is {found.state}: {found.reason}", found.fix)
    return found.python


def digest(recipe: drivers.Recipe) -> str:
    """Changes when an environment has to be made anew."""
    parts = [recipe.packages, recipe.constraints, recipe.system_site]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def remove(name: str, say: Callable[[str], None] = lambda _: None) -> Path | None:
    """Take an environment away, and what interrupted installations left.

    Returns:
        Where it was; None if there was none.

    Raises:
        OutputError: it cannot be removed, or firstspike did not make it.
    """
    for place in places():
        path = place / name
        if not os.path.lexists(path):
            continue
        if not path.is_symlink():
            raise OutputError(f"{path}: was not made by firstspike: remove it yourself")
        with locked(place, name, say), writing(path):
            path.unlink(missing_ok=True)
            sweep(place, name)
        return path
    return None


@contextlib.contextmanager
def locked(place: Path, name: str, say: Callable[[str], None]) -> Iterator[int]:
    """Hold the lock of one environment; the descriptor may be given to children, which then hold it too."""
    with writing(place):
        place.mkdir(parents=True, exist_ok=True)
        lock = os.open(place / f".{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another command works on the environment of {name}: waiting for it to end")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock
    finally:
        os.close(lock)


def sweep(place: Path, name: str) -> None:
    """Remove folders of this environment that its link does not point to; the lock is held."""
    path = place / name
    current = path.resolve() if path.is_symlink() else None
    for folder in place.glob(f".{name}-*"):
        if folder.is_symlink():
            folder.unlink()
        elif folder.resolve() != current:
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say what cannot be written, and where else it could be."""
    try:
        yield
    except OSError as error:
        where = error.filename or path
        raise OutputError(
            f"{where}: cannot be written: {error.strerror}: run it as a user who may, or set {OVERRIDE} to a folder"
        ) from None


def _stands(driver: drivers.DriverFile, path: Path) -> Environment:
    name, again = driver.name, f"firstspike workers install {driver.name}"
    python = path / "bin" / "python"
    try:
        marker = json.loads((path / MARKER).read_text("utf-8"))
        interpreter, made_of = str(marker["interpreter"]), str(marker["recipe"])
    except FileNotFoundError:
        gone = "its folder is gone" if not path.exists() else f"it has no {MARKER}: firstspike did not finish it"
        return Environment(name, "broken", path, None, gone, again)
    except (OSError, ValueError, TypeError, KeyError) as error:
        text = error.strerror if isinstance(error, OSError) else "it says nothing that firstspike understands"
        return Environment(name, "broken", path, None, f"{path / MARKER}: {text}", again)
    if not os.access(python, os.X_OK):
        there = Path(interpreter).exists()
        why = f"{python} cannot be executed" if there else f"its interpreter {interpreter} is gone"
        return Environment(name, "broken", path, None, why, again, marker)
    if made_of != digest(driver.recipe):
        return Environment(
            name, "outdated", path, python, "it holds other versions than this firstspike asks for", again, marker
        )
    return Environment(name, "installed", path, python, "", "", marker)


def _writable(path: Path) -> bool:
    """Whether a folder can be written or made."""
    while not os.access(path, os.F_OK) and path != path.parent:  # Path.exists fails in a folder that is closed
        path = path.parent
    return os.access(path, os.W_OK | os.X_OK)


def _closed(place: Path) -> bool:
    """Whether this user may not know what is there: a service's state is for the service and root."""
    try:
        place.lstat()
    except PermissionError:
        return True
    except OSError:
        return False
    return not os.access(place, os.X_OK)

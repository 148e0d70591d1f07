"""Finds a Python of a certain version where users have them: on PATH, with pyenv, with uv, beside the system's.

A name proves nothing (pyenv's shims are called `python3.9` whether there is one or not), so every candidate is run and
asked. What answers must be CPython and able to make environments.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from firstspike.errors import UnavailableError, UsageError
from firstspike.worker.drivers import OLDEST
from firstspike.worker.process import environment

ANSWER_S = 10.0
"""Time an interpreter has to say what it is; a cold start from a slow card takes a second or two."""
SYSTEM, LOCAL, OPTIONAL = Path("/usr/bin"), Path("/usr/local/bin"), Path("/opt")

_QUESTION = """\
import json, os, sys
missing = []
for name in ("venv", "ensurepip", "ctypes"):
    try:
        __import__(name)
    except ImportError:
        missing.append(name)
path = sys.executable
if sys.prefix != getattr(sys, "base_prefix", sys.prefix):
    path = getattr(sys, "_base_executable", path)
print(json.dumps([sys.implementation.name, list(sys.version_info[:3]), os.path.realpath(path), missing]))
"""
"""Of an interpreter inside an environment the one that made it is wanted: an environment of it would break with it."""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python that answered."""

    path: Path
    """The executable itself, behind links and shims."""
    version: tuple[int, int, int]
    missing: tuple[str, ...] = ()
    """Modules without which it cannot make an environment."""

    @property
    def text(self) -> str:
        """Version as text."""
        return ".".join(map(str, self.version))

    def fits(self, wanted: str) -> bool:
        """Whether it is of a version such as `3.9` or `3`."""
        parts = tuple(map(int, wanted.split(".")))
        return self.version[: len(parts)] == parts and self.version >= OLDEST

    def fault(self, *, pip: bool = True) -> str | None:
        """Why it cannot make an environment, with pip or without, and the fix; None if it can."""
        if not self.missing or (not pip and self.missing == ("ensurepip",)):
            return None
        fix = ""
        if self.path.parts[:3] == ("/", "usr", "bin"):
            fix = f": apt-get install python{self.version[0]}.{self.version[1]}-venv"
        return f"{self.path} has no module {' and '.join(self.missing)}{fix}"


def examine(path: Path, within_s: float = ANSWER_S) -> Interpreter | None:
    """Run an interpreter and ask what it is; None if it is not there, is none, or does not answer in time."""
    output = _output([str(path), "-I", "-c", _QUESTION], within_s).strip().rpartition("\n")[2]  # some greet first
    try:
        implementation, (major, minor, micro), real, missing = json.loads(output)
        found = Interpreter(Path(real), (int(major), int(minor), int(micro)), tuple(map(str, missing)))
    except (ValueError, TypeError):
        return None
    return found if implementation == "cpython" else None


def find(
    wanted: Sequence[str],
    given: Path | None = None,
    env: Mapping[str, str] = os.environ,
    *,
    system: bool = False,
    pip: bool = True,
) -> Interpreter:
    """An interpreter of the best version that is there.

    Args:
        wanted: versions such as `3.9`, best first.
        given: take this one and no other.
        env: where PATH and the places of pyenv and uv are read.
        system: take the system's own, whose packages apt-get installs.
        pip: whether its environment shall have pip.

    Raises:
        UnavailableError: there is none; the text says which would do, and how to get one.
        UsageError: the one that was given does not do.
    """
    if given is not None:
        return _given(given, wanted, pip=pip)
    faults: list[str] = []
    for version in wanted:
        seen: set[Path] = set()
        for path in _in([SYSTEM], version) if system else candidates(version, env):
            if (real := Path(os.path.realpath(path))) in seen:
                continue
            seen.add(real)
            found = examine(path)
            if found is None or not found.fits(version):
                continue
            if (fault := found.fault(pip=pip)) is None:
                return found
            faults.append(fault)
    if system:
        text = f"the system has no Python {_versions(wanted)} in {SYSTEM}, whose packages this back end needs"
        raise UnavailableError(
            f"{'; '.join([text, *dict.fromkeys(faults)])}: name another that has them: --python PATH"
        )
    raise UnavailableError(_none(wanted, list(dict.fromkeys(faults)), env))


def candidates(version: str, env: Mapping[str, str] = os.environ) -> Iterator[Path]:
    """Files that may be a Python of that version, most obvious first."""
    if f"{sys.version_info[0]}.{sys.version_info[1]}".startswith(version):
        yield Path(sys.executable)
    home = Path(env.get("HOME") or Path.home())
    folders = [Path(folder) for folder in env.get("PATH", "").split(os.pathsep) if folder]
    folders += _newest(Path(env.get("PYENV_ROOT") or home / ".pyenv") / "versions", version)
    for uv in _uv_folders(env, home):
        folders += _newest(uv, version)
    folders += [home / ".local" / "bin", LOCAL, SYSTEM]
    folders += [place / "bin" for place in sorted([*OPTIONAL.glob("python*"), *OPTIONAL.glob("python/*")])]
    yield from _in(folders, version)


def _in(folders: Sequence[Path], version: str) -> Iterator[Path]:
    for folder in folders:
        path = folder / f"python{version}"
        if os.access(path, os.X_OK) and path.is_file():
            yield path


def _newest(folder: Path, version: str) -> list[Path]:
    """The bin folders of versions kept side by side, the newest first: `3.9.18`, `cpython-3.9.25-linux-x86_64-gnu`."""

    def number(path: Path) -> tuple[int, ...]:
        digits = path.name.removeprefix("cpython-").split("-")[0].split(".")
        return tuple(int(digit) if digit.isdigit() else -1 for digit in digits)

    found = [path for path in folder.glob("*") if path.name.removeprefix("cpython-").startswith(version)]
    return [path / "bin" for path in sorted(found, key=number, reverse=True)]


def _uv_folders(env: Mapping[str, str], home: Path) -> list[Path]:
    found = [Path(env["UV_PYTHON_INSTALL_DIR"])] if env.get("UV_PYTHON_INSTALL_DIR") else []
    found.append(Path(env.get("XDG_DATA_HOME") or home / ".local" / "share") / "uv" / "python")
    if uv := shutil.which("uv", path=env.get("PATH", "")):  # its configuration file may name another place
        said = _output([uv, "python", "dir"], ANSWER_S).strip()
        found += [Path(said)] if said.startswith("/") else []
    return found


def _given(path: Path, wanted: Sequence[str], *, pip: bool) -> Interpreter:
    found = examine(path)
    if found is None:
        raise UsageError(f"--python {path}: is no Python that answers: name its executable, such as /usr/bin/python3.9")
    if not any(found.fits(version) for version in wanted):
        raise UsageError(f"--python {path}: is Python {found.text}: {_versions(wanted)} is needed")
    if fault := found.fault(pip=pip):
        raise UnavailableError(f"--python {path}: {fault}")
    return found


def _none(wanted: Sequence[str], faults: Sequence[str], env: Mapping[str, str]) -> str:
    best = wanted[0] if "." in wanted[0] else "3.11"
    path = env.get("PATH", "")
    ways = [
        f"{'' if shutil.which('uv', path=path) else 'pip install uv && '}uv python install {best}",
        *([f"pyenv install {best}"] if shutil.which("pyenv", path=path) else []),
        f"apt-get install python{best} python{best}-venv where the system's archive has it",
    ]
    text = (
        f"no Python {_versions(wanted)} was found: not on PATH, nor in pyenv's or uv's places, /usr/local/bin, "
        f"/usr/bin or /opt"
    )
    if faults:
        text += f" ({'; '.join(faults)})"
    return f"{text}: get one with {', or '.join(ways)}; or name one with --python PATH"


def _versions(wanted: Sequence[str]) -> str:
    """Versions for a sentence."""
    texts = [version if "." in version else f"{OLDEST[0]}.{OLDEST[1]} or newer" for version in wanted]
    return " or ".join([", ".join(texts[:-1]), texts[-1]]) if len(texts) > 1 else texts[0]


def _output(argv: Sequence[str], within_s: float) -> str:
    """What a program printed; empty if it failed or took too long. Whatever it started ends with it."""
    try:
        child = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment(),
            start_new_session=True,
        )  # fmt: skip
    except OSError:
        return ""
    with child:
        try:
            output, _ = child.communicate(timeout=within_s)
        except subprocess.TimeoutExpired:
            output = b""
        finally:
            end_group(child)
    return output.decode("utf-8", "replace") if child.returncode == 0 else ""


def end_group(child: subprocess.Popen[bytes]) -> None:
    """Kill a child that leads a session, and what it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)

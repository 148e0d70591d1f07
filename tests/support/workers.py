"""Interpreters and drivers that are not what they seem, for tests of workers' environments."""

from __future__ import annotations

import importlib
import sys
import textwrap

import pytest

from firstspike import backends, cli
from firstspike.worker import drivers, environments, install

FAKE_PYTHON = """\
#!/bin/sh
# Poses as a Python: says its version, makes environments that hold itself, and leaves pip to a script.
case "$*" in
  *base_prefix*) echo '["cpython", [{version}], "{path}", [{missing}]]' ;;
  *"-m venv "*) for folder; do :; done; mkdir -p "$folder/bin"; ln -s "{path}" "$folder/bin/python" ;;
  *"-m pip "*) exec sh "{folder}/pip.sh" "$@" ;;
  *import_module*) exec sh "{folder}/import.sh" "$@" ;;
esac
"""


def fake_python(path, version="3.9.7", *, missing="", pip="exit 0", imports="exit 0"):
    """A file that poses as an interpreter; `pip` and `imports` are shell scripts that pose as those."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = FAKE_PYTHON.format(version=version.replace(".", ", "), path=path, folder=path.parent, missing=missing)
    script(path, text)
    (path.parent / "pip.sh").write_text(pip)
    (path.parent / "import.sh").write_text(imports)
    return path


def script(path, text):
    """An executable file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def new_driver(tmp_path, monkeypatch):
    """Put a driver's file among the back ends, as a user who writes one does."""
    room = tmp_path / "backends"
    room.mkdir()
    monkeypatch.setattr(backends, "__path__", [*backends.__path__, str(room)])
    made = []

    def write(name, text):
        (room / f"{name}.py").write_text(textwrap.dedent(text))
        made.append(name)
        importlib.invalidate_caches()
        return name

    yield write
    for name in made:
        sys.modules.pop(f"firstspike.backends.{name}", None)
        backends.__dict__.pop(name, None)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Where environments go."""
    monkeypatch.setenv(environments.OVERRIDE, str(tmp_path / "workers"))
    return tmp_path / "workers"


def make(python, *, force=False, said=None):
    """Install `null` with an interpreter."""
    say = (said if said is not None else []).append
    return install.install(drivers.load("null"), python, force=force, say=say, progress=lambda _: None)


@pytest.fixture
def command(capsys):
    """Run `firstspike workers …` in this process: its exit code and all that it printed."""

    def run(*arguments):
        capsys.readouterr()
        try:
            code = cli.main(["workers", *map(str, arguments)])
        except SystemExit as error:
            code = error.code
        return code, "".join(capsys.readouterr())

    return run


def left(place):
    """What lies in the place beside locks."""
    return sorted(path.name for path in place.glob("*") if not path.name.endswith(".lock"))

"""Interpreters are found where users have them, and none is taken by its name alone."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from tests.support.workers import fake_python, script

from firstspike.errors import UnavailableError, UsageError
from firstspike.worker import interpreters
from firstspike.worker.interpreters import candidates, examine, find


@pytest.fixture
def env(tmp_path, monkeypatch):
    """A machine whose only interpreters are those that a test makes."""
    for name, place in (("SYSTEM", "usr/bin"), ("LOCAL", "usr/local/bin"), ("OPTIONAL", "opt")):
        monkeypatch.setattr(interpreters, name, tmp_path / place)
    return {"PATH": str(tmp_path / "bin"), "HOME": str(tmp_path / "home")}


@pytest.mark.parametrize(
    "place",
    [
        "bin/python3.8",
        "usr/bin/python3.8",
        "usr/local/bin/python3.8",
        "opt/python3.8/bin/python3.8",
        "opt/python/cp38-cp38/bin/python3.8",
        "home/.pyenv/versions/3.8.18/bin/python3.8",
        "home/.local/share/uv/python/cpython-3.8.20-linux-x86_64-gnu/bin/python3.8",
        "home/.local/bin/python3.8",
    ],
)
def test_every_place_is_looked_at(place, tmp_path, env):
    path = fake_python(tmp_path / place, "3.8.18")
    found = find(["3.8"], env=env)
    assert (found.path, found.version) == (path, (3, 8, 18))


@pytest.mark.parametrize(
    ("variable", "below"),
    [
        ("PYENV_ROOT", "versions/3.8.18"),
        ("UV_PYTHON_INSTALL_DIR", "cpython-3.8.20-linux-aarch64-gnu"),
        ("XDG_DATA_HOME", "uv/python/cpython-3.8.20-linux-aarch64-gnu"),
    ],
)
def test_places_that_the_environment_names(variable, below, tmp_path, env):
    path = fake_python(tmp_path / "elsewhere" / below / "bin" / "python3.8", "3.8.20")
    assert find(["3.8"], env=env | {variable: str(tmp_path / "elsewhere")}).path == path


def test_a_place_that_uv_names(tmp_path, env):
    path = fake_python(tmp_path / "configured" / "cpython-3.8.20-linux" / "bin" / "python3.8", "3.8.20")
    script(tmp_path / "bin" / "uv", f"#!/bin/sh\n[ \"$*\" = 'python dir' ] && echo {tmp_path / 'configured'}\n")
    assert find(["3.8"], env=env).path == path


def test_the_best_version_is_taken_and_of_it_the_newest(tmp_path, env):
    versions = tmp_path / "home" / ".pyenv" / "versions"
    for version in ("3.8.18", "3.9.9", "3.9.18", "3.10.1"):
        fake_python(versions / version / "bin" / f"python{version.rpartition('.')[0]}", version)
    assert find(["3.9", "3.8"], env=env).text == "3.9.18"
    assert find(["3.7", "3.8"], env=env).text == "3.8.18"


def test_a_shim_without_a_python_behind_it_is_passed_over(tmp_path, env):
    script(tmp_path / "bin" / "python3.8", "#!/bin/sh\necho 'pyenv: python3.8: command not found' >&2\nexit 127\n")
    path = fake_python(tmp_path / "home" / ".pyenv" / "versions" / "3.8.18" / "bin" / "python3.8", "3.8.18")
    assert find(["3.8"], env=env).path == path


def test_one_that_greets_is_taken_all_the_same(tmp_path):
    path = fake_python(tmp_path / "python3.8", "3.8.18")
    path.write_text(path.read_text().replace("echo '[", "echo Welcome to this board; echo '["))
    assert examine(path).version == (3, 8, 18)


@pytest.mark.parametrize(
    "text",
    [
        "#!/bin/sh\nexit 1\n",
        "#!/bin/sh\necho garbage\n",
        '#!/bin/sh\necho \'["cpython", [3], "/x", []]\'\n',
        '#!/bin/sh\necho \'["pypy", [3, 8, 1], "/x", []]\'\n',
        "#!/bin/sh\nhead -c 3000000 /dev/zero\n",
        "#!/nowhere\n",
        "\x7fELF, so to say",
    ],
)
def test_what_is_no_python_is_passed_over(text, tmp_path, env):
    script(tmp_path / "bin" / "python3.8", text)
    with pytest.raises(UnavailableError, match=r"no Python 3\.8 was found"):
        find(["3.8"], env=env)


def test_one_that_hangs_is_killed_with_what_it_started(tmp_path):
    path = script(tmp_path / "python3.8", f"#!/bin/sh\nsleep 600 &\necho $! > {tmp_path}/pid\nwait\n")
    assert examine(path, within_s=0.5) is None
    sleeper = Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}/stat")
    assert not sleeper.exists() or sleeper.read_text().split()[2] == "Z"


def test_one_that_lies_about_its_version_is_not_taken(tmp_path, env):
    fake_python(tmp_path / "bin" / "python3.8", "3.12.1")
    with pytest.raises(UnavailableError):
        find(["3.8"], env=env)


def test_one_without_venv_is_named_with_the_fix_and_another_is_taken(tmp_path, env):
    fake_python(tmp_path / "bin" / "python3.8", "3.8.10", missing='"ensurepip"')
    with pytest.raises(UnavailableError, match=r"bin/python3\.8 has no module ensurepip"):
        find(["3.8"], env=env)
    assert find(["3.8"], env=env, pip=False).missing == ("ensurepip",)
    whole = fake_python(tmp_path / "home" / ".local" / "bin" / "python3.8", "3.8.10")
    assert find(["3.8"], env=env).path == whole
    debian = interpreters.Interpreter(Path("/usr/bin/python3.8"), (3, 8, 10), ("ensurepip",))
    assert "apt-get install python3.8-venv" in str(debian.fault())


def test_where_there_is_none_the_text_says_which_would_do_and_how_to_get_one(tmp_path, env):
    with pytest.raises(UnavailableError) as found:
        find(["3.9", "3.8", "3.7"], env=env)
    text = str(found.value)
    assert found.value.exit_code == os.EX_UNAVAILABLE
    assert "no Python 3.9, 3.8 or 3.7 was found" in text
    assert "pip install uv && uv python install 3.9" in text
    assert "apt-get install python3.9 python3.9-venv" in text
    assert "--python PATH" in text
    assert "pyenv install" not in text
    script(tmp_path / "bin" / "pyenv", "#!/bin/sh\n")
    script(tmp_path / "bin" / "uv", "#!/bin/sh\n")
    with pytest.raises(UnavailableError, match=r"with uv python install 3\.9, or pyenv install 3\.9"):
        find(["3.9"], env=env)


def test_the_systems_own_is_taken_where_its_packages_are_needed(tmp_path, env):
    fake_python(tmp_path / "bin" / "python3.10", "3.10.1")
    with pytest.raises(UnavailableError, match=r"the system has no Python 3\.10 or 3\.8"):
        find(["3.10", "3.8"], env=env, system=True)
    path = fake_python(tmp_path / "usr" / "bin" / "python3.8", "3.8.10")
    assert find(["3.10", "3.8"], env=env, system=True).path == path


def test_one_that_is_given_must_do(tmp_path, env):
    path = fake_python(tmp_path / "my" / "python", "3.8.10")
    assert find(["3.9", "3.8"], path, env).path == path
    with pytest.raises(UsageError, match=r"is Python 3\.8\.10: 3\.9 is needed"):
        find(["3.9"], path, env)
    with pytest.raises(UsageError, match="is no Python that answers"):
        find(["3.9"], tmp_path / "nothing", env)
    fake_python(path, "3.8.10", missing='"venv", "ensurepip"')
    with pytest.raises(UnavailableError, match="has no module venv and ensurepip"):
        find(["3.8"], path, env)


def test_any_python_means_none_that_is_too_old_for_the_shim(tmp_path):
    assert not examine(fake_python(tmp_path / "python3", "3.5.9")).fits("3")
    assert examine(fake_python(tmp_path / "python3", "3.6.0")).fits("3")
    assert not examine(fake_python(tmp_path / "python3", "3.10.0")).fits("3.1")


def test_this_interpreter_is_found_and_behind_its_environment_the_real_one():
    found = find([f"3.{sys.version_info[1]}"])
    assert found.version == sys.version_info[:3]
    assert found.path == Path(os.path.realpath(sys.executable))
    assert Path(sys.executable) in list(candidates("3"))

"""Workers' environments are known for what they are, and found where they are."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from tests.support.workers import command, fake_python, left, make, new_driver, place

from firstspike.errors import OutputError
from firstspike.worker import drivers, environments, install
from firstspike.worker.environments import look, python_of
from firstspike.worker.shim import AbsentError

__all__ = ["command", "new_driver", "place"]


def test_a_vanished_interpreter_makes_it_broken_and_installing_mends_it(tmp_path, place, command):
    python = fake_python(tmp_path / "py" / "python3.9")
    make(python)
    python.unlink()
    found = look(drivers.load("null"))
    assert (found.state, found.python) == ("broken", None)
    assert f"its interpreter {python} is gone" in found.reason
    with pytest.raises(AbsentError) as absent:
        python_of("null")
    assert "is broken" in absent.value.reason
    assert absent.value.fix == "firstspike workers install null"
    code, listed = command("list")
    assert code == 0
    assert "broken" in listed
    assert str(python) in listed
    assert make(fake_python(tmp_path / "other" / "python3.9")).state == "installed"


def test_other_pins_make_it_outdated_and_still_of_use(tmp_path, place, new_driver):
    text = """
    "a device"
    ENVIRONMENT = {"python": ["3.9"], "packages": ["numpy==1.21.6"]}
    OPTIONS = {}
    class Driver: pass
    """
    python = fake_python(tmp_path / "py" / "python3.9")
    driver = drivers.load(new_driver("mine", text))
    assert install.install(driver, python, force=False, say=print, progress=print).state == "installed"
    driver.module.ENVIRONMENT["packages"] = ["numpy==1.22.0"]
    found = look(drivers.load("mine"))
    assert (found.state, found.python) == ("outdated", place / "mine" / "bin" / "python")
    assert found.fix == "firstspike workers install mine"
    again = install.install(drivers.load("mine"), python, force=False, say=print, progress=print)
    assert again.state == "installed"


@pytest.mark.parametrize("content", [None, "", "garbage", "[]", "{}", '"' + "x" * 9])
def test_a_marker_that_says_nothing_makes_it_broken(content, tmp_path, place):
    make(fake_python(tmp_path / "py" / "python3.9"))
    marker = place / "null" / environments.MARKER
    marker.unlink()
    if content is not None:
        marker.write_text(content)
    assert look(drivers.load("null")).state == "broken"
    assert make(fake_python(tmp_path / "py" / "python3.9")).state == "installed"


def test_removed_with_all_that_was_left(tmp_path, place, command):
    make(fake_python(tmp_path / "py" / "python3.9"))
    (place / ".null-left-behind").mkdir()
    assert command("remove", "null") == (0, f"null: removed {place}/null\n")
    assert left(place) == []
    assert command("remove", "null") == (0, "null: is not installed\n")


def test_what_firstspike_did_not_make_is_left_alone(tmp_path, place):
    (place / "null" / "precious").mkdir(parents=True)
    with pytest.raises(OutputError, match="was not made by firstspike"):
        make(fake_python(tmp_path / "py" / "python3.9"))
    with pytest.raises(OutputError, match="was not made by firstspike"):
        environments.remove("null")
    assert (place / "null" / "precious").exists()


def test_places_of_a_user_and_of_the_system(tmp_path, monkeypatch):
    monkeypatch.delenv(environments.OVERRIDE, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    own = tmp_path / "data" / "firstspike" / "workers"
    monkeypatch.setattr(environments, "SYSTEM_PLACE", tmp_path / "system" / "workers")
    assert environments.places() == [tmp_path / "system" / "workers", own]
    (tmp_path / "file").write_text("")
    closed = tmp_path / "file" / "workers"
    monkeypatch.setattr(environments, "SYSTEM_PLACE", closed)
    assert environments.places() == [own, closed]
    made = make(fake_python(tmp_path / "py" / "python3.9"))
    assert made.path == own / "null"


def test_the_interpreter_of_what_is_not_installed(place, new_driver):
    text = """
    "a device"
    ENVIRONMENT = {"python": ["3.9"], "packages": ["numpy==1.21.6"]}
    OPTIONS = {}
    class Driver: pass
    """
    with pytest.raises(AbsentError) as absent:
        python_of(new_driver("mine", text))
    assert absent.value.reason == "the environment of mine is not installed: no environment was made for it"
    assert absent.value.fix == "firstspike workers install mine"
    assert python_of("null") == Path(sys.executable)  # for tests: it needs NumPy alone


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("install", "nul"), ("no back end", "'nul'", "null")),
        (("remove", "../x"), ("'../x'",)),
        (("install", "null", "--python", "/nowhere"), ("--python /nowhere", "is no Python")),
        ((), ("TASK",)),
    ],
)
def test_mistakes_of_the_caller(arguments, parts, place, command):
    code, said = command(*arguments)
    assert code == os.EX_USAGE
    assert all(part in said for part in parts), said


def test_listed_before_anything_is_installed(place, command):
    listed = json.loads(command("list", "--json")[1])
    assert listed["places"] == [str(place)]
    null = next(worker for worker in listed["workers"] if worker["name"] == "null")
    assert (null["state"], null["fix"], null["python"]) == ("not installed", "firstspike workers install null", None)
    assert null["path"] == str(place / "null")

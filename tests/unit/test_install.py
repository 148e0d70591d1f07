"""Workers' environments are made whole or not at all, whatever happens on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from tests.support.program import firstspike
from tests.support.worker import alive
from tests.support.workers import command, fake_python, left, make, new_driver, place

from firstspike.errors import OutputError, UnavailableError
from firstspike.worker import drivers, environments, install
from firstspike.worker.environments import look, python_of

__all__ = ["command", "new_driver", "place"]

OFFLINE = {
    "PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_EXTRA_INDEX_URL": "", "PIP_FIND_LINKS": "", "PIP_RETRIES": "1",
    "PIP_CONFIG_FILE": os.devnull,
}  # fmt: skip
"""Settings of pip under which nothing answers."""


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """`null` installed for real, as a user does it."""
    place = tmp_path_factory.mktemp("real")
    done = firstspike("workers", "install", "null", environment={environments.OVERRIDE: str(place)}, timeout=300)
    if done.returncode == os.EX_UNAVAILABLE and "could not be installed" in done.stderr:
        pytest.skip(f"pip cannot install NumPy here: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    return place, done


def test_installed_for_real(real):
    place, done = real
    assert f"null: installed: {place}/null (Python 3." in done.stdout
    assert "null: attached" in done.stdout
    python = place / "null" / "bin" / "python"
    ran = subprocess.run([python, "-c", "import numpy, sys; print(numpy.__version__)"], capture_output=True, text=True)
    marker = json.loads((place / "null" / environments.MARKER).read_text())
    assert f"numpy-{ran.stdout.strip()}" in marker["installed"]
    assert f"numpy=={ran.stdout.strip()} " in "".join(f"{line} " for line in drivers.load("null").recipe.constraints)
    others = firstspike("workers", "doctor", "null", "--json", environment={environments.OVERRIDE: str(place)})
    found = json.loads(others.stdout)["accelerators"][0]
    assert (found["state"], found["probed_with"]) == ("ready", "environment")
    assert found["worker"]["numpy"] == ran.stdout.strip()


def test_installed_already(real):
    place, _ = real
    before = (place / "null").resolve()
    done = firstspike("workers", "install", "null", environment={environments.OVERRIDE: str(place)})
    assert done.returncode == 0
    assert "already installed" in done.stdout
    assert (place / "null").resolve() == before


def test_without_a_network_the_text_says_so_and_nothing_is_left(real, tmp_path, place, monkeypatch):
    for name, value in OFFLINE.items():
        monkeypatch.setenv(name, value)
    pip = f'exec {real[0]}/null/bin/python "$@" --dry-run --ignore-installed'  # the real one
    with pytest.raises(UnavailableError, match=r"numpy could not be installed: .*could not reach its package index"):
        make(fake_python(tmp_path / "py" / "python3.9", pip=pip))
    assert left(place) == []


@pytest.mark.parametrize(
    ("wrote", "cause"),
    [
        (["ERROR: No matching distribution found for x (from versions: none)"], "no wheel of it for this Python"),
        (
            ["WARNING: Retrying after connection broken by 'X'", "ERROR: No matching distribution found for x"],
            "found for x: pip could not reach its package index",
        ),
        (["x", "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device"], "No space"),
        (["Traceback (most recent call last):", "ImportError: libx.so.1: cannot open"], "ImportError: libx.so.1"),
        ([], ""),
    ],
)
def test_the_telling_line(wrote, cause):
    assert cause in install.telling(wrote)


def test_an_environment_has_a_link_a_marker_and_nothing_beside(tmp_path, place):
    python = fake_python(tmp_path / "py" / "python3.9")
    said = []
    made = make(python, said=said)
    assert made.state == "installed"
    assert made.python == place / "null" / "bin" / "python" == python_of("null")
    assert (made.marker["python"], made.marker["interpreter"]) == ("3.9.7", str(python))
    assert (place / "null").readlink().name in left(place)
    assert len(left(place)) == 2
    assert (place / "null").stat().st_mode & 0o055 == 0o055  # another user's daemon enters it
    assert "installing numpy" in said


def test_pip_is_asked_for_wheels_of_the_pinned_versions(tmp_path, place):
    python = fake_python(tmp_path / "py" / "python3.9", pip=f'echo "$@" >> {tmp_path}/asked')
    make(python)
    asked = (tmp_path / "asked").read_text()
    assert "--only-binary :all: --constraint " in asked
    assert asked.endswith(" numpy\n")
    assert (place / "null" / "firstspike-pins.txt").read_text().splitlines() == list(
        drivers.load("null").recipe.constraints
    )


def test_an_old_python_gets_a_pip_that_knows_todays_wheels_first(tmp_path, place):
    python = fake_python(tmp_path / "py" / "python3.6", "3.6.9", pip=f'echo "$@" >> {tmp_path}/asked')
    make(python)
    first, second = (tmp_path / "asked").read_text().splitlines()
    assert "pip==21.3.1" in first
    assert second.endswith(" numpy")


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ({"pip": "echo 'ERROR: no luck'; exit 1"}, "numpy could not be installed: no luck"),
        ({"imports": "echo 'ImportError: x'; exit 1"}, "null needs numpy: ImportError: x"),
        ({"pip": "kill -9 $$"}, "numpy could not be installed: it ended with -9"),
    ],
)
def test_what_fails_leaves_what_was_there_before(parts, text, tmp_path, place):
    broken = fake_python(tmp_path / "broken" / "python3.9", **parts)
    with pytest.raises(UnavailableError, match=text):
        make(broken)
    assert left(place) == []
    made = make(fake_python(tmp_path / "py" / "python3.9"))
    before = left(place)
    with pytest.raises(UnavailableError, match=text):
        make(broken, force=True)
    assert left(place) == before
    assert look(drivers.load("null")) == made


def test_forced_anew_it_replaces_the_old_one(tmp_path, place):
    make(fake_python(tmp_path / "py" / "python3.9"))
    before = (place / "null").resolve()
    made = make(fake_python(tmp_path / "py2" / "python3.9", "3.9.8"), force=True)
    assert made.marker["python"] == "3.9.8"
    assert not before.exists()
    assert len(left(place)) == 2


INSTALL = """\
import signal, sys
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite run in the background of a shell ignores it
from firstspike.worker import drivers, install
install.install(drivers.load("null"), Path(sys.argv[1]), force=False, say=print, progress=print)
"""


def await_file(path, within_s=30):
    """Wait until a file is there and has content."""
    deadline = time.monotonic() + within_s
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < deadline, f"{path} did not come"
        time.sleep(0.01)
    return path.read_text()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_interrupted_it_leaves_nothing_half_made(number, tmp_path, place):
    slow = fake_python(tmp_path / "slow" / "python3.9", pip=f"echo $$ > {tmp_path}/pip.pid; exec sleep 600")
    with subprocess.Popen([sys.executable, "-c", INSTALL, slow], stderr=subprocess.DEVNULL) as child:
        pip = int(await_file(tmp_path / "pip.pid"))
        child.send_signal(number)
        try:
            child.wait(30)
        finally:
            child.kill()
    assert look(drivers.load("null")).state == "not installed"
    if number == signal.SIGINT:
        assert left(place) == []
        assert not alive(pip)  # it has ended, whether or not its heir has taken notice
    else:
        os.kill(pip, 0)  # nobody was left to end it
    said, results = [], []
    quick = fake_python(tmp_path / "py" / "python3.9")
    thread = threading.Thread(target=lambda: results.append(make(quick, said=said)))
    thread.start()
    if number == signal.SIGKILL:
        deadline = time.monotonic() + 30
        while not said and time.monotonic() < deadline:
            time.sleep(0.01)
        assert "waiting for it to end" in said[0]
        assert results == []
        os.kill(pip, signal.SIGKILL)
    thread.join(30)
    assert results[0].state == "installed"
    assert len(left(place)) == 2


def test_two_at_once_make_one(tmp_path, place):
    python = fake_python(tmp_path / "py" / "python3.9", pip=f"echo x >> {tmp_path}/pips; sleep 0.5")
    results = []
    threads = [threading.Thread(target=lambda: results.append(make(python))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [found.state for found in results] == ["installed"] * 4
    assert (tmp_path / "pips").read_text() == "x\n"
    assert len(left(place)) == 2


def test_a_place_that_cannot_be_written(tmp_path, monkeypatch, command):
    monkeypatch.setenv(environments.OVERRIDE, "/proc/workers")  # nobody may write there, root neither
    with pytest.raises(OutputError, match=r"/proc/workers: cannot be written: .*FIRSTSPIKE_WORKERS"):
        make(fake_python(tmp_path / "py" / "python3.9"))
    file = tmp_path / "file"
    file.write_text("")
    monkeypatch.setenv(environments.OVERRIDE, str(file))
    code, said = command("install", "null")
    assert code == os.EX_IOERR
    assert f"firstspike: {file}" in said


def test_nothing_is_done_when_asked_what_would_be(tmp_path, place, command):
    python = fake_python(tmp_path / "py" / "python3.9")
    code, said = command("install", "null", "--dry-run", "--python", python)
    assert code == 0
    assert f"python    {python} (3.9.7)" in said
    assert f"place     {place}/null" in said
    assert not place.exists()


@pytest.mark.parametrize(
    ("package", "library"),
    [
        ("libusb-1.0-0", "libusb-1.0.so.0"), ("libc6", "libc.so.6"), ("zlib1g", None), ("libtbb12", "libtbb.so.12"),
        ("libssl3t64", "libssl.so.3"), ("python3-libnvinfer", None),
    ],
)  # fmt: skip
def test_a_debian_packages_library(package, library):
    assert install.soname(package) == library


def test_missing_libraries_are_named_with_their_package(new_driver):
    text = """
    "a device"
    ENVIRONMENT = {"python": ["3"], "system": ["libc6", "libnowhere-2.0-7"]}
    OPTIONS = {}
    class Driver: pass
    """
    missing = install.missing_libraries(drivers.load(new_driver("mine", text)))
    assert [str(library) for library in missing] == [
        "libnowhere-2.0.so.7, which pip cannot install: apt-get install libnowhere-2.0-7"
    ]


def test_an_interpreter_in_a_closed_folder_is_noticed(tmp_path):
    (tmp_path / "home").mkdir(mode=0o700)
    assert install.unreadable_by_others(tmp_path / "home" / "python3.9") is not None
    assert install.unreadable_by_others(Path("/usr/bin/env")) is None

"""The worker's side runs under every Python that an SDK may ask for."""

from __future__ import annotations

import importlib
import subprocess
from pathlib import Path

import pytest
from tests.support.pythons import NUMPY, interpreter, interpreters, with_numpy
from tests.support.worker import PATIENT, impatient, right, supervised, until, until_ready

import firstspike
from firstspike.worker import drivers
from firstspike.worker.start import Program

PACKAGE = Path(firstspike.__file__).parent


def sent_to_workers():
    """The files that run in workers: the shim, the drivers, and what they bring along."""
    known = [drivers.load(name) for name in drivers.names()]
    files = {importlib.import_module(name).__file__ for driver in known for name in driver.program(["python3"]).modules}
    return [PACKAGE / "worker" / "shim.py", *map(Path, sorted(files))]


ASKED_FOR = {(3, 6), (3, 9), (3, 10), (3, 12)}
"""By JetPack 4.6, the stick's OpenVINO, Lava and TensorRT for RTX; the others are tried in `make soak`."""
VERSIONS = [
    pytest.param(version, id=f"{version[0]}.{version[1]}", marks=() if version in ASKED_FOR else pytest.mark.soak)
    for version in NUMPY
]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_worker_answers_and_fails_alike_under_each_python(version):
    with supervised(Program((with_numpy(version),), "null"), fault="raise", every=3) as supervisor:
        condition = until_ready(supervisor)
        assert supervisor.hello["python"].startswith(f"{version[0]}.{version[1]}.")
        assert supervisor.hello["numpy"] == NUMPY[version]
        for number in range(2):
            right(supervisor, number)
        with pytest.raises(Exception, match="RuntimeError: it was told to fail"):
            right(supervisor)
        right(supervisor, 4)
        assert supervisor.condition.pid == condition.pid


def test_what_is_sent_to_workers_is_read_by_the_oldest_python():
    oldest = min((version for version in interpreters() if version >= (3, 6)), default=None)
    if oldest is None or oldest >= (3, 9):
        pytest.skip("no Python older than 3.9 was found on PATH, in pyenv's or in uv's folder")
    files = sent_to_workers()
    assert {"shim.py", "null.py"} <= {path.name for path in files}
    check = "import sys\nfor path in sys.argv[1:]: compile(open(path, encoding='utf-8').read(), path, 'exec')"
    done = subprocess.run([interpreters()[oldest], "-c", check, *files], stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_python_that_is_too_old_says_so():
    version = (2, 7)  # that is left of them on many machines; test_worker_start plays a 3.5
    limits = impatient(restarts=0, rest_s=60, period_s=60)
    with supervised(Program((interpreter(version),), "null"), limits) as supervisor:
        until(lambda: supervisor.condition.state == "backing-off")
        said = f"this is Python {version[0]}.{version[1]}, and 3.6 or newer is needed"
        assert said in supervisor.condition.reason


def test_a_worker_dies_in_the_same_words_under_the_oldest_python():
    """Before 3.9 standard error keeps lines back, and those before a crash would be lost."""
    version = min((version for version in interpreters() if version in NUMPY), default=(3, 6))
    with supervised(Program((with_numpy(version),), "null"), PATIENT, fault="segfault") as supervisor:
        until_ready(supervisor)
        with pytest.raises(Exception, match="SIGSEGV: Fatal Python error: Segmentation fault"):
            right(supervisor)

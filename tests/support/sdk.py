"""Real SDKs for tests: a worker's environment made as a user makes it, in build/, and a worker under it."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import pytest

from firstspike.errors import FirstspikeError
from firstspike.worker import drivers, environments, install

PLACE = Path(__file__).parents[2] / "build" / "workers-test"


@functools.cache
def _made(name):
    """The interpreter, or why there is none."""
    before = os.environ.get(environments.OVERRIDE)
    os.environ[environments.OVERRIDE] = str(PLACE)
    try:
        driver = drivers.load(name)
        install.install(driver, None, force=False, say=print, progress=lambda _: None)
        return environments.python_of(name)
    except FirstspikeError as error:
        return str(error)
    finally:
        os.environ.pop(environments.OVERRIDE)
        if before is not None:
            os.environ[environments.OVERRIDE] = before


def python_of(name):
    """The interpreter of a driver's environment; the test is skipped where it cannot be made."""
    found = _made(name)
    if isinstance(found, str):
        pytest.skip(f"the environment of {name} cannot be made here: {found}")
    return found

"""How Hypothesis draws: the same examples in every `make test`, new ones in `make soak`.

A change must not pass or fail by chance; new ground is broken where a failure stops nobody.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

# No deadline: a busy machine is no fault of the code's.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("new", print_blob=True, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


@pytest.fixture(autouse=True, scope="session")
def _state_of_tests(tmp_path_factory):
    """Daemons of tests keep their totals in a place of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STATE_DIRECTORY", str(tmp_path_factory.mktemp("state")))
        yield

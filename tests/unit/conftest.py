"""What tests of several files begin with."""

from __future__ import annotations

import pytest
from tests.support.packets import Listener

from firstspike.sources import network


@pytest.fixture
def listen(monkeypatch):
    """Makes network sources that listen, and closes them."""
    monkeypatch.setattr(network, "DROPS_S", 0.0)
    made = []

    def make(**options):
        made.append(Listener(**options))
        return made[-1]

    yield make
    for listener in made:
        listener.source.close()

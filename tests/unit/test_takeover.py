"""Between configurations: what is closed, and what the pipeline hears of an answerer that cannot begin."""

from __future__ import annotations

import threading
from contextlib import nullcontext

import pytest

from firstspike.bundle import InputSpec
from firstspike.shelf import Shelf
from firstspike.takeover import Switch

SPEC = InputSpec(channels=1, height=1, width=1, encoding="count", steps=8)


class Answers(nullcontext):
    """A handover that takes all."""

    def put(self, due):
        """Nothing is done with it."""


class Failing(Answers):
    """One whose thread cannot be started."""

    def __enter__(self):
        raise RuntimeError("can't start new thread")


def test_a_handover_that_cannot_begin_is_told_to_the_reader_which_does_not_wait_for_ever():
    heard = []

    def read():
        try:
            with switch:
                holding.set()
                going_on.wait(5)
                switch.put(None)
        except RuntimeError as error:
            heard.append(str(error))

    switch, holding, going_on = Switch(Answers(), SPEC), threading.Event(), threading.Event()
    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    assert holding.wait(5)
    assert switch.hold()
    going_on.set()
    switch.go_on(Failing(), SPEC)
    reader.join(5)
    assert not reader.is_alive()
    assert heard == ["can't start new thread"]
    assert switch.broken


def test_a_thing_that_cannot_be_closed_keeps_no_other_from_it():
    shelf, closed = Shelf(), []

    def close(thing):
        closed.append(thing)
        if thing == 1:
            raise OSError("stuck")

    for number in range(3):
        shelf.get(str(number), lambda: number, close)  # noqa: B023 (called at once)
    with pytest.raises(OSError, match="stuck"):
        shelf.close()
    assert closed == [0, 1, 2]
    shelf.close()
    assert closed == [0, 1, 2]

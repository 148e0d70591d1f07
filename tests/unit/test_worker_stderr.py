"""What a worker writes to standard error: nothing is waited for, nothing grows, the last words are kept."""

from __future__ import annotations

import logging
import os

import pytest
from tests.support.worker import until

from firstspike.worker import stderr
from firstspike.worker.stderr import Listener


class Wire:
    """A pipe whose reading end a listener has."""

    def __init__(self):
        source, self.sink = os.pipe()
        self.listener = Listener(os.fdopen(source, "rb", 0), "ncs2")

    def say(self, text):
        os.write(self.sink, text if isinstance(text, bytes) else text.encode())

    def end(self):
        os.close(self.sink)
        return self.listener.last_words(5)


@pytest.fixture
def wire():
    made = Wire()
    yield made
    made.listener.close()


def test_lines_are_logged_at_info_with_the_workers_name(wire, caplog):
    caplog.set_level(logging.INFO)
    wire.say("one\ntw")
    wire.say("o\nthree")
    wire.end()
    assert caplog.messages == ["ncs2: one", "ncs2: two", "ncs2: three"]


def test_a_flood_is_read_to_its_end_and_most_of_it_left_out(wire, caplog):
    caplog.set_level(logging.INFO)
    line = b"E: [xLink] a line of the plug-in, again and again\n"
    for _ in range(400):
        wire.say(line * 1000)
    wire.say("the end\n")
    assert wire.end().endswith("/ the end")
    assert wire.listener.bytes_read == 400_000 * len(line) + 8
    told = [message for message in caplog.messages if "left out" in message]
    counted = sum(int(message.split()[1]) for message in told)
    logged = len(caplog.messages) - len(told)
    assert logged < 1000
    assert counted + logged == 400_001


def test_memory_is_bounded_for_a_line_without_end(wire):
    for _ in range(100):
        wire.say(b"x" * 65536)
    until(lambda: wire.listener.bytes_read == 100 * 65536)
    assert len(wire.listener._tail) <= stderr.KEPT_BYTES
    assert len(wire.listener._rest) <= stderr.MAX_LINE
    assert len(wire.end()) <= 300


def test_the_last_words_are_those_that_tell(wire):
    wire.say(
        'Traceback (most recent call last):\n  File "<x>", line 1, in <module>\n    import nosuch\n'
        "ModuleNotFoundError: No module named 'nosuch'\n"
    )
    assert wire.end() == "ModuleNotFoundError: No module named 'nosuch'"


def test_words_of_long_ago_tell_nothing_of_the_end(wire, monkeypatch):
    wire.say("loaded\n")
    until(lambda: wire.listener.bytes_read > 0)
    monkeypatch.setattr(stderr, "TELLING_S", -1.0)
    assert wire.end() == ""


def test_what_moves_a_terminals_cursor_is_not_passed_on(wire, caplog):
    caplog.set_level(logging.INFO)
    wire.say(b"\x1b[2Jred\x07 \xff\x00end\n")
    assert "\x1b" not in wire.end()
    assert caplog.messages == ["ncs2: [2Jred  � end"]


def test_closing_does_not_wait_for_a_process_that_holds_the_other_end(wire):
    wire.say("still here\n")
    wire.listener.close()
    assert not wire.listener._thread.is_alive()
    os.close(wire.sink)
    wire.listener.close = lambda: None

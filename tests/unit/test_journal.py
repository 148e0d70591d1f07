"""The journal's datagrams, read as journald reads them."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import socket
import struct
import threading

import pytest

from firstspike import journal


@pytest.fixture
def journald(tmp_path):
    """A socket in journald's place, and what came as a dictionary."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "socket"))
        listening.settimeout(5)
        yield listening


@pytest.fixture
def log(journald, monkeypatch):
    monkeypatch.setattr(journal, "_context", {})
    made = logging.Logger("firstspike.test")
    handler = journal.JournalHandler(journald.getsockname())
    made.addHandler(handler)
    yield made
    handler.close()


def received(journald):
    data, ancillary, _, _ = socket.recv_fds(journald, 1 << 20, 1)
    if ancillary:
        with os.fdopen(ancillary[0], "rb") as memory:
            memory.seek(0)
            data = memory.read()
    return unpacked(data)


def unpacked(data):
    fields, at = {}, 0
    while at < len(data):
        end = data.index(b"\n", at)
        name, equals, value = data[at:end].partition(b"=")
        at = end + 1
        if not equals:
            (size,) = struct.unpack_from("<Q", data, at)
            value, at = data[at + 8 : at + 8 + size], at + 8 + size + 1
        fields[name.decode()] = value.decode()
    return fields


def test_a_record_has_its_fields(log, journald):
    journal.context(epoch="e1", model="nmnist@1")
    log.warning("worker %s died", "openvino", extra={"fields": {"backend": "openvino"}})
    fields = received(journald)
    assert fields["MESSAGE"] == "worker openvino died"
    assert (fields["PRIORITY"], fields["SYSLOG_IDENTIFIER"]) == ("4", "firstspike")
    assert fields["FIRSTSPIKE_BACKEND"] == "openvino"
    assert (fields["FIRSTSPIKE_EPOCH"], fields["FIRSTSPIKE_MODEL"]) == ("e1", "nmnist@1")
    assert fields["FIRSTSPIKE_LOGGER"] == "firstspike.test"
    assert fields["CODE_FILE"] == __file__
    assert int(fields["CODE_LINE"]) > 0


@pytest.mark.parametrize(
    ("level", "priority"), [(logging.DEBUG, 7), (logging.INFO, 6), (logging.WARNING, 4), (logging.ERROR, 3), (50, 2)]
)
def test_levels_become_priorities(log, journald, level, priority):
    log.log(level, "x")
    assert received(journald)["PRIORITY"] == str(priority)
    assert journal.prefix(level) == f"<{priority}>"


def test_no_text_can_forge_a_field(log, journald):
    log.info("first\nPRIORITY=0\nMESSAGE=forged")
    fields = received(journald)
    assert fields["MESSAGE"] == "first\nPRIORITY=0\nMESSAGE=forged"
    assert fields["PRIORITY"] == "6"


def test_text_that_is_no_utf8_and_a_traceback_arrive(log, journald):
    try:
        int("bad")
    except ValueError:
        log.exception("file %s", os.fsdecode(b"\xff"))
    message = received(journald)["MESSAGE"]
    assert message.startswith("file \\udcff\nTraceback")


def test_what_is_too_large_for_a_datagram_goes_as_a_sealed_file(log, journald):
    log.info("x" * 5_000_000)
    assert len(received(journald)["MESSAGE"]) == 5_000_000


@pytest.mark.parametrize("size", [10, 4_000_000])
def test_a_journal_that_does_not_read_holds_nobody_up_and_is_told_how_much_it_lost(log, journald, monkeypatch, size):
    handler = log.handlers[0]
    complaints = []
    monkeypatch.setattr(handler, "_complain", lambda *_: complaints.append(1))
    done = threading.Event()

    def write():
        for _ in range(2000):  # more than any queue of datagrams holds
            log.info("x" * (size if handler._lost == 0 else 10))
        done.set()

    threading.Thread(target=write, daemon=True).start()
    assert done.wait(30)
    lost = handler._lost
    assert lost > 0
    assert complaints == []  # standard error is the journal's too
    journald.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while received(journald):
            pass
    log.info("again")
    assert received(journald)["MESSAGE"] == f"{lost} records were lost: journald did not read"
    assert received(journald)["MESSAGE"] == "again"


def test_without_a_journal_lines_with_their_priority_go_to_standard_error(log, journald, tmp_path, capsys):
    log.handlers[0]._path = str(tmp_path / "nobody")
    log.error("two\nlines")
    assert capsys.readouterr().err == "<3>two\n<3>lines\n"


def test_it_is_ours_only_if_standard_error_goes_there(tmp_path):
    with (tmp_path / "log").open("w") as stream:
        found = os.fstat(stream.fileno())
        assert journal.is_ours({"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}, stream)
        assert not journal.is_ours({"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino + 1}"}, stream)
        assert not journal.is_ours({}, stream)
        assert not journal.is_ours({"JOURNAL_STREAM": "1:1"}, io.StringIO())


def test_the_text_is_the_records_alone_also_as_the_commands_set_it_up(journald, monkeypatch):
    monkeypatch.setattr(journal, "is_ours", lambda _: True)
    monkeypatch.setattr(journal, "SOCKET", journald.getsockname())
    monkeypatch.setattr(journal.JournalHandler.__init__, "__defaults__", (journald.getsockname(),))
    root = logging.getLogger()
    handlers, root.handlers = root.handlers, []
    try:
        logging.basicConfig(level=logging.INFO, handlers=[journal.handler({})])
        logging.getLogger("firstspike.x").error("hello")
        root.handlers[0].close()
    finally:
        root.handlers = handlers
    assert received(journald)["MESSAGE"] == "hello"


def test_elsewhere_lines_look_as_before():
    handler = journal.handler({})
    record = logging.LogRecord("firstspike", logging.INFO, "f", 1, "hello", None, None)
    assert handler.format(record) == "firstspike: INFO: hello"

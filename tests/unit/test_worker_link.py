"""The link by itself: frames cut at any byte, frames that are none, arrays that lie about themselves."""

from __future__ import annotations

import os
import sys
import time

import numpy as np
import pytest

from firstspike.worker import shim
from firstspike.worker.link import InterruptError, LateError, Link, LinkError, frame
from firstspike.worker.start import Program


class Saying(Program):
    """A program that says these bytes, in pieces with pauses between, then waits."""

    def argv(self):
        text = (
            "import os, time\n"
            f"for piece in {self.pieces!r}: os.write(1, piece); time.sleep({self.pause_s})\n"
            "time.sleep(60)"
        )
        return [sys.executable, "-c", text]


def saying(*pieces, pause_s=0.0):
    kind = type("Said", (Saying,), {"pieces": pieces, "pause_s": pause_s})
    return Link(kind((sys.executable,), "null"), "test")


@pytest.fixture
def made():
    links = []

    def make(*pieces, **options):
        links.append(saying(*pieces, **options))
        return links[-1]

    yield make
    for link in links:
        assert link.close(5)


def soon():
    return time.monotonic() + 20


ANSWER = frame(shim.ANSWER, 7, {"arrays": []}, b"body")


def test_a_frame_may_come_in_any_pieces(made):
    link = made(*(ANSWER[i : i + 1] for i in range(len(ANSWER))), pause_s=0.001)
    reply = link.receive(soon())
    assert (reply.kind, reply.number, reply.meta, reply.body) == (shim.ANSWER, 7, {"arrays": []}, b"body")


def test_frames_may_come_together(made):
    link = made(ANSWER + frame(shim.PONG, 8) + ANSWER[:10], ANSWER[10:])
    assert [link.receive(soon()).number for _ in range(3)] == [7, 8, 7]


def test_a_large_frame(made):
    body = bytes(range(64, 96)) * 3000  # more than a socket's first read, less than an argument may have
    assert made(frame(shim.ANSWER, 1, None, body)).receive(soon()).body == body


def test_half_a_frame_is_late_and_what_has_come_is_kept(made):
    link = made(ANSWER[:20], b"", ANSWER[20:], pause_s=0.5)
    with pytest.raises(LateError):
        link.receive(time.monotonic() + 0.2)
    assert link.receive(soon()).number == 7


def test_a_wait_can_be_broken_off(made):
    link, interrupt = made(), os.eventfd(1, os.EFD_CLOEXEC)
    with pytest.raises(InterruptError):
        link.receive(soon(), interrupt)
    with pytest.raises(InterruptError):
        link.send(bytes(1 << 24), soon(), interrupt)
    with pytest.raises(InterruptError):
        link.wait_for_end(20, interrupt)
    os.close(interrupt)


def test_a_worker_that_does_not_read_is_not_waited_for(made):
    started = time.monotonic()
    with pytest.raises(LinkError, match="did not read its input in time"):
        made().send(bytes(1 << 24), time.monotonic() + 0.1)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(("said", "cause"), [
    (b"F", None), (b"FSW1", None), (b"G", "no frame: 'G'"), (b"FSWx", "no frame: 'FSWx'"),
    (b"\xff\xfe\x00" * 10, "no frame"), (b"Last login: Monday\n", "no frame: 'Last login: Monday"),
    (shim.HEADER.pack(b"FSW1", 5, 1, 1 << 21, 0, 0), "too large"),
    (shim.HEADER.pack(b"FSW1", 5, 1, 0, 1 << 30, 0), "too large"),
    (shim.HEADER.pack(b"FSW1", 5, 1, 2, 0, 0) + b"[]", "no JSON object"),
    (shim.HEADER.pack(b"FSW1", 5, 1, 2, 0, 0) + b"{'", "no JSON"),
    (shim.HEADER.pack(b"FSW1", 5, 1, 2, 0, 0) + b"\xff\xff", "no JSON"),
    (shim.HEADER.pack(b"FSW1", 5, 1, 100_000, 0, 0) + b"[" * 100_000, "no JSON"),
])  # fmt: skip
def test_what_is_no_frame(made, said, cause):
    link = made(said)
    if cause is None:
        with pytest.raises(LateError):
            link.receive(time.monotonic() + 0.3)
    else:
        with pytest.raises(LinkError, match=cause.replace("[", r"\[")):
            link.receive(soon())


def test_arrays_go_there_and_back():
    arrays = {
        "a": np.arange(12, dtype=np.float32).reshape(3, 4), "b": np.array(5, np.int64), "c": np.zeros((0, 3), np.uint8),
        "d": np.array([True, False]),
    }  # fmt: skip
    form = shim.layout(shim.describe(arrays))
    found = shim.unpack(form, b"".join(array.tobytes() for array in arrays.values()))
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("described", [
    None, {}, [1], [["a", "<f4"]], [["a", "<f4", 3]], [["a", "<f4", [-1]]], [["a", "<f4", [1.5]]],
    [["a", "<f4", [True]]], [["a", ">f4", [1]]], [["a", "|O", [1]]], [["a", "<c8", [1]]], [["a", "<f3", [1]]],
    [["a", "<f4", [1] * 9]],
    [[1, "<f4", [1]]], [["a", 4, [1]]], [["a", "<f4", [1 << 28]]], [["a", "<f4", [1 << 20] * 8]], [["a", "", [1]]],
    [["a", "<f", [1]]], [["a", "<f4,<f4", [1]]], [["a", "<u1", [1 << 27]]] * 3,
])  # fmt: skip
def test_descriptions_that_lie_are_refused(described):
    with pytest.raises(ValueError, match="arra"):
        shim.unpack(shim.layout(described), bytes(8))


def test_arrays_that_do_not_fill_their_body_are_refused():
    with pytest.raises(ValueError, match="arrays of 4 bytes in a body of 5"):
        shim.unpack(shim.layout([["a", "<f4", [1]]]), bytes(5))


@pytest.mark.parametrize("answer", [np.zeros(3, np.complex64), np.array([None]), [1.0], "text"])
def test_a_driver_may_answer_arrays_of_real_numbers_only(answer):
    with pytest.raises(TypeError, match="where an array of real numbers is asked for"):
        shim.describe({"output": answer})


def test_a_memory_forgets():
    memory = shim.Memory()
    for number in range(10 * shim.KEPT_FORMS):
        assert memory.keep(b"%d" % number, number) == number
        assert memory[b"%d" % number] == number
    assert len(memory) <= shim.KEPT_FORMS


def test_ssh_is_handed_its_words_quoted():
    assert Program(("/usr/bin/ssh", "host", "python3"), "null", local=False).argv()[-2:][0] == "-c"
    assert Program(("/usr/bin/ssh", "host", "python3"), "null", local=False).argv()[-1].startswith("'import sys")

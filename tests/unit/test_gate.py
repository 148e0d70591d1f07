"""The gate's descriptors: ZeroMQ tells numbers, which may be another's by the time they are looked at."""

from __future__ import annotations

import errno
import os
import resource
import socket
from pathlib import Path

import pytest
import zmq

from firstspike.gate import Allowance, Gate, make_room


@pytest.fixture
def gate():
    context = zmq.Context()
    watched = context.socket(zmq.XPUB)
    made = Gate("socket", watched, 4, Allowance(64, 1.0), 64)
    yield made
    made.close()
    context.destroy(linger=0)


@pytest.fixture
def ends(tmp_path, gate):
    """Both ends of a connection that is the gate's."""
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        client.connect(str(tmp_path / "s"))
        server, _ = listener.accept()
        gate.ours.add(str(tmp_path / "s"))
        with server:
            yield server, client


def descriptors():
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_a_number_that_has_become_a_files_costs_no_descriptor(gate, tmp_path):
    with (tmp_path / "file").open("wb") as file:
        before = descriptors()
        for _ in range(10):
            gate._enter(file.fileno())
        assert descriptors() == before
    assert len(gate) == 0


def test_a_number_that_has_become_another_sockets_is_let_be(gate):
    one, other = socket.socketpair()
    with one, other:
        before = descriptors()
        gate._enter(one.fileno())
        assert (len(gate), descriptors()) == (0, before)
        one.send(b"x")
        assert other.recv(1) == b"x"


def test_where_no_descriptor_is_left_to_watch_by_nobody_is_let_in(gate, ends, monkeypatch):
    server, client = ends

    def none_left(_):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(os, "dup", none_left)
    gate._enter(server.fileno())
    client.settimeout(5)
    assert client.recv(1) == b""
    assert (len(gate), gate.figures.refused) == (0, 1)
    assert os.fstat(server.fileno())  # whose it is closes it


def test_its_descriptor_goes_with_the_connection(gate, ends):
    server, _ = ends
    before = descriptors()
    gate._enter(server.fileno())
    gate._enter(server.fileno())  # the same number anew
    assert (len(gate), descriptors()) == (1, before + 1)
    gate._leave(server.fileno())
    assert (len(gate), descriptors()) == (0, before)


@pytest.mark.parametrize(
    ("limits", "most", "able", "set_to"),
    [
        ((1024, 524288), 128, 128, 65536),
        ((1024, 1024), 128, 96, None),
        ((1024, 4096), 128, 128, 4096),
        ((64, 64), 128, 1, None),
        ((1024, resource.RLIM_INFINITY), 10_000, 10_000, 80_256),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), 128, 128, None),
        ((200_000, 200_000), 128, 128, None),
    ],
)
def test_there_are_descriptors_for_as_many_connections_as_are_let_in(monkeypatch, limits, most, able, set_to):
    changed = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda _, to: changed.append(to[0]))
    assert make_room(most) == able
    assert [one for one in changed if one != limits[0]] == ([] if set_to is None else [set_to])

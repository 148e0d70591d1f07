"""Strangers at the daemon's sockets: they are closed, memory stays, and a good subscriber is served all the while."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time

import pytest
from tests.support import hostile
from tests.support.figures import figure
from tests.support.messages import decision

from firstspike import endpoints, gate
from firstspike.client import Subscriber
from firstspike.publish import Publisher
from firstspike.topics import TOPICS

MANY = [200, pytest.param(10_000, marks=pytest.mark.soak)]
LONG = [200_000, pytest.param(1_000_000, marks=pytest.mark.soak)]


@pytest.fixture
def endpoint(tmp_path):
    return f"ipc://{tmp_path}/p"


@pytest.fixture
def publisher(endpoint):
    made = Publisher(endpoint, "e", max_connections=32)
    yield made
    made.close()


@contextlib.contextmanager
def good_subscriber(publisher, endpoint):
    """Somebody served a decision each 2 ms; at the end: how many there were, and the longest time to send one."""
    ending, figures = threading.Event(), {"sent": 0, "worst_ms": 0.0}

    def publish():
        while not ending.wait(0.002):
            began = time.perf_counter()
            publisher.publish_decision(decision(figures["sent"]))
            figures["worst_ms"] = max(figures["worst_ms"], (time.perf_counter() - began) * 1e3)
            figures["sent"] += 1

    with Subscriber(endpoint, high_water_mark=1_000_000) as subscriber:
        assert publisher.wait_for_subscriber(5, lambda: False)
        thread = threading.Thread(target=publish)
        thread.start()
        try:
            yield figures
        finally:
            ending.set()
            thread.join()
        publisher.publish_decision(decision(figures["sent"], label="last"))
        while (message := subscriber.receive(5)) is not None and message.label != "last":
            pass
        assert message is not None
        assert (subscriber.lost["decision"], subscriber.restarts, subscriber.malformed) == (0, 0, 0)


@pytest.mark.parametrize("most", LONG)
def test_a_flood_of_distinct_subscriptions_ends_with_its_connection(publisher, endpoint, most):
    def subscription(_):
        return hostile.frame(b"\x01" + os.urandom(31).hex().encode())

    with good_subscriber(publisher, endpoint) as figures:
        before, sent, connections = hostile.resident_mb(), 0, 0
        while sent < most and connections < 20:
            with hostile.introduced(endpoints.path_of(endpoint)) as stranger:
                sent += hostile.flood(stranger, subscription, most - sent)
            connections += 1
        grown = hostile.resident_mb() - before
    figure(
        f"flood of up to {most:,} distinct subscriptions a connection, 20 times",
        f"each closed, after {sent:,} in all; +{grown:.1f} MB; {figures['sent']} decisions to the good subscriber, 0 "
        f"lost, the longest took {figures['worst_ms']:.0f} ms to send",
    )
    assert connections == 20, "each connection was closed long before it had sent all"
    assert grown < 100
    assert publisher.connections()["refused"] >= 20


@pytest.mark.parametrize("address", ["publish", "snapshot"])
def test_a_message_that_never_ends_ends_with_its_connection(publisher, endpoint, address):
    at, kind = (endpoint, b"SUB") if address == "publish" else (endpoints.snapshot_of(endpoint), b"DEALER")
    with good_subscriber(publisher, endpoint) as figures:
        before = hostile.resident_mb()
        with hostile.introduced(endpoints.path_of(at), kind) as stranger:
            sent = hostile.flood(stranger, lambda _: hostile.frame(b"z" * 60, more=True), 20_000_000)
        time.sleep(0.2)
        grown = hostile.resident_mb() - before
    figure(
        f"a message of 20,000,000 parts, {address} socket",
        f"closed, after {sent:,} at most; +{grown:.1f} MB; the good subscriber lost 0 of {figures['sent']}",
    )
    assert sent < 20_000_000
    assert grown < 400  # what came before the connection had been found out; it is free again, for the next


def test_a_flood_of_requests_ends_with_its_connection(publisher, endpoint):
    with good_subscriber(publisher, endpoint):
        place = endpoints.path_of(endpoints.snapshot_of(endpoint))
        with hostile.introduced(place, b"DEALER") as stranger:
            sent = hostile.flood(stranger, lambda _: hostile.frame(b"snapshot"), 5_000_000)
            assert hostile.is_closed(stranger)
        assert sent < 5_000_000
        with Subscriber(endpoint) as other:
            assert other.snapshot(2).epoch == "e"


@pytest.mark.parametrize("count", MANY)
def test_connections_of_random_bytes_disturb_nobody(publisher, endpoint, count):
    with good_subscriber(publisher, endpoint) as figures:
        before, descriptors = hostile.resident_mb(), hostile.descriptors()
        for number in range(count):
            at = endpoint if number % 2 else endpoints.snapshot_of(endpoint)
            with contextlib.suppress(OSError), hostile.connected(endpoints.path_of(at)) as stranger:
                stranger.sendall(os.urandom(1 + number % 200))
        time.sleep(0.3)
        grown = hostile.resident_mb() - before
        left = hostile.descriptors() - descriptors
    figure(
        f"{count:,} connections of random bytes",
        f"+{grown:.1f} MB, {left:+d} descriptors; the good subscriber lost 0 of {figures['sent']}, the longest took "
        f"{figures['worst_ms']:.0f} ms to send",
    )
    assert grown < 30
    assert left <= 0


@pytest.mark.parametrize("count", [100, pytest.param(1000, marks=pytest.mark.soak)])
def test_half_open_connections_leave_room_for_a_subscriber(publisher, endpoint, count):
    with good_subscriber(publisher, endpoint), contextlib.ExitStack() as stack:
        for _ in range(count):
            stranger = stack.enter_context(hostile.connected(endpoints.path_of(endpoint)))
            stranger.sendall(hostile.GREETING[:11])
        deadline = time.monotonic() + 5
        while publisher.connections()["subscribers"] > 40 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert publisher.connections()["subscribers"] <= 40, "no more than max_connections, and those that are closing"
        began = time.monotonic()
        with Subscriber(endpoint) as late:
            assert late.receive(5) is not None
        took = time.monotonic() - began
    figure(f"{count:,} half-open connections", f"another subscriber got its first decision after {took * 1e3:.0f} ms")


def test_a_connection_that_never_introduces_itself_is_closed(publisher, endpoint):
    with hostile.connected(endpoints.path_of(endpoint)) as stranger:
        assert hostile.is_closed(stranger, 6)
    deadline = time.monotonic() + 2
    while publisher.connections()["subscribers"] and time.monotonic() < deadline:
        time.sleep(0.02)
    figures = publisher.connections()
    assert (figures["subscribers"], figures["handshakes_failed"]) == (0, 1)


def test_subscribers_that_are_there_keep_their_place_when_it_is_full(endpoint):
    publisher = Publisher(endpoint, "e", max_connections=3)
    try:
        with contextlib.ExitStack() as stack:
            there = []
            for _ in range(3):
                there.append(stack.enter_context(Subscriber(endpoint)))
                assert publisher.wait_for_subscriber(5, lambda: False)
            with hostile.connected(endpoints.path_of(endpoint)) as fourth:
                assert hostile.is_closed(fourth)
            publisher.publish_decision(decision())
            assert [one.receive(5) for one in there] == [decision()] * 3
    finally:
        publisher.close()


def test_a_subscriber_may_change_its_mind_now_and_then(publisher, endpoint):
    with good_subscriber(publisher, endpoint), hostile.introduced(endpoints.path_of(endpoint)) as one:
        for _ in range(20):
            one.sendall(hostile.frame(b"\x01health.") + hostile.frame(b"\x00health."))
            time.sleep(0.02)
        assert not hostile.is_closed(one, 0.3)


def test_descriptors_of_others_are_never_touched(publisher, endpoint):
    """A number that ZeroMQ told of may belong to somebody else by the time it is looked at."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        publisher._pub_gate._enter(ours.fileno())
        assert len(publisher._pub_gate) == 0
        theirs.sendall(b"x")
        assert ours.recv(1) == b"x"


def test_many_good_subscribers_at_once_are_no_flood(endpoint):
    publisher = Publisher(endpoint, "e", max_connections=64)
    try:
        with contextlib.ExitStack() as stack:
            crowd = [stack.enter_context(Subscriber(endpoint, topics=TOPICS)) for _ in range(40)]
            deadline = time.monotonic() + 20
            while any(one.epoch is None for one in crowd) and time.monotonic() < deadline:
                publisher.publish_decision(decision())
                for one in crowd:
                    one.receive(0.001)
            assert all(one.snapshot(5).epoch == "e" for one in crowd)
            assert publisher.connections()["refused"] == 0
    finally:
        publisher.close()


def test_slow_parts_of_an_endless_message_take_no_more_than_they_are(publisher, endpoint, monkeypatch):
    monkeypatch.setattr(gate, "UNREAD_LIMIT", 1e9)  # as if no look found any
    with hostile.introduced(endpoints.path_of(endpoint)) as stranger:
        part, parts = hostile.frame(b"x" * 64, more=True), 4000
        for _ in range(500):
            stranger.sendall(part)
            time.sleep(0.0002)
        before = hostile.resident_mb()
        for _ in range(parts):
            stranger.sendall(part)
            time.sleep(0.0002)  # so that each is read alone
        assert hostile.resident_mb() - before < parts * 1000 / 1e6  # a part with the buffer it came in has 8 KB


def test_a_crowd_at_the_door_of_a_daemon_with_few_descriptors_does_not_end_it(endpoint):
    path = endpoints.path_of(endpoint)
    settings = ("model.path=nmnist", "source.kind=simulated", f"publish.endpoint={endpoint}")
    few = ["bash", "-c", 'ulimit -Sn 256; exec "$@"', "bash", sys.executable, "-m", "firstspike", "run"]
    with subprocess.Popen([*few, *[part for one in settings for part in ("--set", one)]]) as daemon:
        try:
            with Subscriber(endpoint) as good, contextlib.ExitStack() as crowd:
                assert good.receive(30)
                for _ in range(3):
                    for name in (str(path), f"{path}.snapshot"):
                        for _ in range(100):
                            stranger = crowd.enter_context(socket.socket(socket.AF_UNIX))
                            stranger.settimeout(5)
                            with contextlib.suppress(OSError):
                                stranger.connect(name)
                for _ in range(20):
                    assert good.receive(10)
                assert daemon.poll() is None
        finally:
            daemon.kill()

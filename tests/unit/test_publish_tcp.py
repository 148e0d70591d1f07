"""Over TCP: only with CURVE, only for those on the list, and whoever is taken off it is put out."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time

import pytest
import zmq
from tests.support import hostile
from tests.support.messages import decision, health
from tests.support.program import complained, firstspike, started

from firstspike import access, endpoints, gate, keys
from firstspike.client import Subscriber
from firstspike.errors import ConfigError, UnavailableError
from firstspike.publish import Publisher


def free_port():
    """A port whose next one is free too."""
    while True:
        with socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
            with contextlib.suppress(OSError, OverflowError):
                other.bind(("127.0.0.1", port + 1))
                return port


@pytest.fixture
def place(tmp_path):
    keys.make(tmp_path / "keys" / "server")
    client = keys.make(tmp_path / "laptop")
    keys.allow(tmp_path / "keys", "laptop", client.public.decode())
    return tmp_path / "keys"


@pytest.fixture
def tcp():
    return f"tcp://127.0.0.1:{free_port()}"


@pytest.fixture
def publisher(tmp_path, place, tcp):
    made = Publisher(f"ipc://{tmp_path}/p", "e", remote=access.remote(tcp, str(place), tmp_path))
    yield made
    made.close()


def subscriber(place, tcp, name="laptop"):
    return Subscriber(tcp, server_key=str(place / "server.key"), keys=place.parent / f"{name}.key_secret")


def test_who_is_on_the_list_receives_what_subscribers_here_do(publisher, tmp_path, place, tcp):
    with subscriber(place, tcp) as far, Subscriber(f"ipc://{tmp_path}/p") as near:
        assert publisher.wait_for_subscriber(5, lambda: False)
        time.sleep(0.3)  # the other one's subscription
        for seq in range(3):
            publisher.publish_decision(decision(seq))
        for one in (far, near):
            assert [one.receive(5) for _ in range(3)] == [decision(seq) for seq in range(3)]


def test_a_late_joiner_has_the_state_within_100_ms(publisher, place, tcp, tmp_path):
    publisher.publish_decision(decision(7))
    publisher.publish_health(lambda seq: health(seq))
    took = []
    for join in (lambda: subscriber(place, tcp), lambda: Subscriber(f"ipc://{tmp_path}/p")):
        for _ in range(5):
            began = time.perf_counter()
            with join() as late:
                snapshot = late.snapshot(5)
                took.append(time.perf_counter() - began)
            assert (snapshot.decision, snapshot.health) == (decision(7), health())
    far, near = sorted(took[:5]), sorted(took[5:])
    print(f"join to state, ms: tcp with CURVE {far[2] * 1e3:.1f}, ipc {near[2] * 1e3:.1f}")
    assert near[0] < 0.1, "the least of five: this machine may be busy"
    assert far[0] < 0.1


def test_a_stranger_gets_nothing_and_is_named_in_the_log(publisher, place, tcp, caplog):
    keys.make(place.parent / "stranger")
    public = keys.read(place.parent / "stranger.key")[0].decode()
    with caplog.at_level(logging.WARNING), subscriber(place, tcp, "stranger") as stranger:
        with pytest.raises(UnavailableError, match="on its list"):
            stranger.snapshot(0.5)
        publisher.publish_decision(decision())
        assert stranger.receive(0.2) is None
    assert public in caplog.text
    assert not publisher.wait_for_subscriber(0.01, lambda: False)


def test_no_keys_no_connection(publisher, tcp):
    context = zmq.Context()
    for kind, address in ((zmq.SUB, tcp), (zmq.DEALER, endpoints.snapshot_of(tcp))):
        bare = context.socket(kind)
        bare.set(zmq.LINGER, 0)
        bare.connect(address)
        if kind == zmq.SUB:
            bare.subscribe(b"")
        else:
            bare.send(b"snapshot")
        for seq in range(10):
            publisher.publish_decision(decision(seq))
            assert not bare.poll(30)
        bare.close()
    context.term()


def test_another_daemons_key_is_noticed_by_the_client(publisher, place, tcp, tmp_path):
    keys.make(tmp_path / "other")
    own = tmp_path / "laptop.key_secret"
    with Subscriber(tcp, server_key=str(tmp_path / "other.key"), keys=own) as misled, pytest.raises(UnavailableError):
        misled.snapshot(0.5)


def test_without_its_keeper_the_door_stays_shut(tmp_path, place, tcp):
    """ZeroMQ must refuse everyone while nobody answers for them: no encryption without authentication."""
    context = zmq.Context()
    server = context.socket(zmq.ROUTER)
    access.secure(server, access.remote(tcp, str(place), tmp_path))
    server.bind(endpoints.snapshot_of(tcp))
    with subscriber(place, tcp) as nobody, pytest.raises(UnavailableError):
        nobody.snapshot(0.5)
    assert not server.poll(100)
    server.close(0)
    context.term()


def test_the_list_is_read_again_while_the_daemon_runs(publisher, place, tcp, monkeypatch):
    desk = keys.make(place.parent / "desk")
    keys.allow(place, "desk", desk.public.decode())
    deadline = time.monotonic() + 5
    while "desk" not in publisher._allowed.names() and time.monotonic() < deadline:
        time.sleep(0.05)
    with subscriber(place, tcp, "desk") as late:
        assert late.snapshot(5).epoch == "e"


def test_who_is_taken_off_the_list_is_put_out(publisher, place, tcp):
    with subscriber(place, tcp) as laptop:
        assert publisher.wait_for_subscriber(5, lambda: False)
        publisher.publish_decision(decision(0))
        assert laptop.receive(5) == decision(0)
        keys.revoke(place, "laptop")
        deadline = time.monotonic() + 5
        while publisher.connections()["refused"] == 0 and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.2)
        publisher.publish_decision(decision(1))
        assert laptop.receive(0.5) is None
        with pytest.raises(UnavailableError):
            laptop.snapshot(0.3)


def put_out(publisher, before):
    deadline = time.monotonic() + 5
    while publisher.connections()["refused"] == before and time.monotonic() < deadline:
        time.sleep(0.05)
    return publisher.connections()["refused"] > before


def test_who_said_nothing_before_it_was_taken_off_the_list_is_put_out_too(publisher, place, tcp):
    client, context = keys.pair(place.parent / "laptop.key_secret"), zmq.Context()
    silent = context.socket(zmq.SUB)
    silent.set(zmq.CURVE_SERVERKEY, keys.server(place).public)
    silent.set(zmq.CURVE_PUBLICKEY, client.public)
    silent.set(zmq.CURVE_SECRETKEY, client.secret)
    monitor = silent.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
    silent.connect(tcp)
    assert monitor.poll(5000)
    keys.revoke(place, "laptop")
    assert put_out(publisher, 0)
    silent.subscribe(b"")
    time.sleep(0.3)
    publisher.publish_decision(decision(0))
    assert not silent.poll(300)
    silent.disable_monitor()
    context.destroy(linger=0)


def test_who_has_a_names_former_key_is_put_out(publisher, place, tcp):
    with subscriber(place, tcp) as laptop:
        assert publisher.wait_for_subscriber(5, lambda: False)
        keys.allow(place, "laptop", keys.make(place.parent / "new").public.decode(), force=True)
        assert put_out(publisher, 0)
        time.sleep(0.2)
        publisher.publish_decision(decision(0))
        assert laptop.receive(0.5) is None
    with subscriber(place, tcp, "new") as laptop:
        assert laptop.snapshot(5).epoch == "e"


def test_a_list_that_is_spoiled_lets_nobody_in_and_is_reported(publisher, place, tcp, caplog):
    (place / "clients" / "bad.key").write_text("nonsense")
    deadline = time.monotonic() + 5
    while publisher._allowed.names() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert publisher._allowed.names() == set()
    assert "bad.key: is no ZeroMQ certificate" in caplog.text


def test_bytes_of_no_protocol_over_tcp(publisher, place, tcp):
    address = ("127.0.0.1", int(tcp.rpartition(":")[2]))
    for number in range(50):
        with contextlib.suppress(OSError), socket.create_connection(address, timeout=2) as stranger:
            stranger.sendall(os.urandom(1 + number) if number % 2 else hostile.GREETING + os.urandom(number))
    with subscriber(place, tcp) as laptop:
        assert laptop.snapshot(5).epoch == "e"


def test_a_flood_over_tcp_ends_with_its_connection(publisher, place, tcp):
    """Somebody on the list, who never stops subscribing."""
    context = zmq.Context()
    flooder = context.socket(zmq.XSUB)
    own = keys.pair(place.parent / "laptop.key_secret")
    flooder.set(zmq.LINGER, 0)
    flooder.set(zmq.CURVE_SERVERKEY, keys.read(place / "server.key")[0])
    flooder.set(zmq.CURVE_PUBLICKEY, own.public)
    flooder.set(zmq.CURVE_SECRETKEY, own.secret)
    flooder.set(zmq.SNDHWM, 100)
    flooder.connect(tcp)
    deadline = time.monotonic() + 10
    before = publisher.connections()["refused"]
    while publisher.connections()["refused"] == before and time.monotonic() < deadline:
        with contextlib.suppress(zmq.Again):
            flooder.send(b"\x01" + os.urandom(20), zmq.NOBLOCK)
    assert publisher.connections()["refused"] > before
    flooder.close()
    context.term()


def test_the_kernel_counts_what_came_over_tcp():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as far:
        near, _ = server.accept()
        with near:
            far.sendall(bytes(12_345))
            left = 12_345
            while left:
                left -= len(near.recv(left))
            assert gate._received(near) == 12_345


def test_a_slow_subscriber_over_tcp_loses_its_own_messages_alone(tmp_path, place, tcp):
    remote = access.remote(tcp, str(place), tmp_path)
    publisher = Publisher(f"ipc://{tmp_path}/p", "e", high_water_mark=10, remote=remote)
    total = 3000
    options = {"server_key": str(place / "server.key"), "keys": tmp_path / "laptop.key_secret", "high_water_mark": 10}
    try:
        with Subscriber(tcp, **options) as slow, Subscriber(f"ipc://{tmp_path}/p") as quick:
            assert publisher.wait_for_subscriber(5, lambda: False)
            time.sleep(0.3)  # the other one's subscription
            for seq in range(total):
                publisher.publish_decision(decision(seq, source="x" * 4000))
                assert quick.receive(10).seq == seq
            received = len(list(iter(lambda: slow.receive(0.3), None)))
            publisher.publish_decision(decision(total))
            assert slow.receive(5).seq == total
            assert received < total
            assert received + 1 + slow.lost["decision"] == total + 1
            assert quick.lost["decision"] == 0
    finally:
        publisher.close()


def test_a_client_without_keys_is_told_what_it_lacks(tcp, place):
    for options in ({}, {"server_key": "x" * 40}, {"keys": place / "server.key_secret"}):
        with pytest.raises(ConfigError, match="firstspike keys client"):
            Subscriber(tcp, **options)
    complained(firstspike("watch", tcp), os.EX_CONFIG, "--server-key", "firstspike keys client")


def test_a_port_that_is_taken(tmp_path, place, tcp):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", int(tcp.rpartition(":")[2])))
        taken.listen()
        with pytest.raises(UnavailableError, match="cannot be bound"):
            Publisher(f"ipc://{tmp_path}/p", "e", remote=access.remote(tcp, str(place), tmp_path))


def test_the_daemon_and_watch_speak_it(tmp_path, place, tcp):
    settings = {
        "model.path": "nmnist", "source.kind": "simulated", "source.simulated.digits": "31",
        "source.simulated.loop": "false", "publish.tcp": tcp, "publish.keys": place,
        "publish.endpoint": f"ipc://{tmp_path}/p", "publish.wait_for_subscriber_s": 20,
    }  # fmt: skip
    arguments = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    with started("run", *arguments):
        secret = tmp_path / "laptop.key_secret"
        public = keys.read(place / "server.key")[0].decode()
        done = firstspike("watch", tcp, "--server-key", public, "--keys", secret, "--until-stop", "--timeout", "20")
    assert done.returncode == 0, done.stderr
    assert "emulator" in done.stdout

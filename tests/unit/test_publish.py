"""Sockets: what subscribers and late joiners receive, and what strangers cannot do."""

from __future__ import annotations

import grp
import os
import tempfile
import time
from pathlib import Path

import pytest
import zmq
from tests.support.messages import decision, energy, health, provisional

from firstspike import endpoints
from firstspike.client import Subscriber
from firstspike.errors import ConfigError, OutputError, UnavailableError
from firstspike.publish import Publisher
from firstspike.topics import TOPICS


@pytest.fixture
def endpoint(tmp_path):
    # pytest's own folders can be too long for a socket's path.
    return f"ipc://{tmp_path}/p" if len(str(tmp_path)) < 80 else f"ipc:///tmp/fs-test-{os.getpid()}"


@pytest.fixture
def publisher(endpoint):
    made = Publisher(endpoint, "e", high_water_mark=10)
    yield made
    made.close()


def join(publisher, endpoint, **options):
    subscriber = Subscriber(endpoint, **options)
    assert publisher.wait_for_subscriber(5, lambda: False)
    return subscriber


def test_a_subscriber_receives_decisions_and_health_in_order(publisher, endpoint):
    with join(publisher, endpoint, topics=TOPICS) as subscriber:
        time.sleep(0.1)  # both subscriptions
        sent = [decision(seq) for seq in range(5)]
        for message in sent:
            publisher.publish_decision(message)
        publisher.publish_health(lambda seq: health(seq))
        assert [subscriber.receive(5) for _ in range(6)] == [*sent, health()]
        assert subscriber.lost == {"decision": 0, "health": 0, "provisional": 0, "energy": 0}


def test_a_provisional_decision_comes_before_its_decision_and_only_to_those_who_ask(publisher, endpoint):
    with join(publisher, endpoint, topics=TOPICS) as all_of_it, join(publisher, endpoint) as decisions:
        time.sleep(0.1)  # every subscription
        for seq in range(3):
            publisher.publish_provisional(provisional(seq))
            publisher.publish_decision(decision(seq))
        expected = [message for seq in range(3) for message in (provisional(seq), decision(seq))]
        assert [all_of_it.receive(5) for _ in range(6)] == expected
        assert [decisions.receive(5) for _ in range(3)] == [decision(seq) for seq in range(3)]
        assert decisions.receive(0.2) is None
        assert (decisions.malformed, decisions.lost["decision"]) == (0, 0)


def test_lost_provisional_decisions_are_counted_apart_and_a_snapshot_holds_none(publisher, endpoint):
    with join(publisher, endpoint, topics=TOPICS) as subscriber:
        time.sleep(0.1)
        for message in (provisional(0), provisional(4)):
            publisher.publish_provisional(message)
            assert subscriber.receive(5) == message
        assert subscriber.lost == {"decision": 0, "health": 0, "provisional": 3, "energy": 0}
        snapshot = subscriber.snapshot()
        assert (snapshot.decision, snapshot.next_seq["provisional"], snapshot.next_seq["decision"]) == (None, 5, 0)


def test_losses_and_restarts_are_counted(publisher, endpoint):
    with join(publisher, endpoint) as subscriber:
        for message in (decision(3), decision(4), decision(9), decision(0, epoch="f"), decision(2, epoch="f")):
            publisher.publish_decision(message)
        for _ in range(5):
            subscriber.receive(5)
        assert subscriber.lost["decision"] == 4 + 1
        assert (subscriber.restarts, subscriber.epoch) == (1, "f")


def test_a_slow_subscriber_loses_its_own_messages_and_knows_how_many(publisher, endpoint):
    with join(publisher, endpoint, high_water_mark=10) as slow, Subscriber(endpoint) as quick:
        assert publisher.wait_for_subscriber(5, lambda: False)
        total = 3000
        for seq in range(total):
            publisher.publish_decision(decision(seq, source="x" * 2000))
            assert quick.receive(10).seq == seq
        received = len(list(iter(lambda: slow.receive(0.2), None)))
        publisher.publish_decision(decision(total))
        assert slow.receive(5).seq == total
        assert received < total
        assert received + 1 + slow.lost["decision"] == total + 1
        assert quick.lost["decision"] == 0


def test_the_snapshot_has_the_state(publisher, endpoint):
    with Subscriber(endpoint) as subscriber:
        assert subscriber.snapshot().decision is None
        publisher.publish_decision(decision(7))
        publisher.publish_health(lambda seq: health(seq))
        snapshot = subscriber.snapshot()
        assert (snapshot.decision, snapshot.health) == (decision(7), health())
        assert snapshot.next_seq == {"decision": 8, "health": 1, "provisional": 0, "energy": 0}


def test_a_snapshot_holds_the_last_energy_of_the_machine_and_of_each_plan(publisher, endpoint):
    with join(publisher, endpoint, topics=TOPICS) as subscriber:
        time.sleep(0.1)
        sent = [energy(seq, name=name, subject="host" if name == "host" else "backend")
                for seq, name in enumerate(["host", "a", "b", "host", "a"])]  # fmt: skip
        for message in sent:
            publisher.publish_energy(message)
        assert [subscriber.receive(5) for _ in sent] == sent
        snapshot = subscriber.snapshot()
        assert {(one.name, one.seq) for one in snapshot.energy} == {("host", 3), ("a", 4), ("b", 2)}
        assert snapshot.next_seq["energy"] == 5


def test_nobody_there(endpoint):
    with Subscriber(endpoint) as subscriber:
        assert subscriber.receive(0.05) is None
        with pytest.raises(UnavailableError, match="is it running"):
            subscriber.snapshot(0.1)


def test_garbage_in_does_not_disturb(publisher, endpoint):
    context = zmq.Context()
    sockets = []
    for kind, address in ((zmq.DEALER, endpoints.snapshot_of(endpoint)), (zmq.SUB, endpoint)):
        for number in range(20):
            socket = context.socket(kind)
            socket.set(zmq.LINGER, 0)
            socket.connect(address)
            if kind == zmq.DEALER:
                socket.send_multipart([b"snapshot"] * 5 if number % 3 else [os.urandom(number)])
                socket.send(b"x" * 100_000)
            else:
                socket.subscribe(os.urandom(40))
            sockets.append(socket)
    with Subscriber(endpoint) as subscriber:
        assert subscriber.snapshot(5).epoch == "e"
        assert publisher.wait_for_subscriber(5, lambda: False)
        publisher.publish_decision(decision())
        assert subscriber.receive(5) == decision()
    for socket in sockets:
        socket.close()
    context.term()


def test_malformed_messages_are_counted_and_skipped(endpoint):
    context = zmq.Context()
    fake = context.socket(zmq.PUB)
    fake.bind(endpoint)
    with Subscriber(endpoint) as subscriber:
        deadline = time.monotonic() + 5
        while subscriber.malformed < 2 and time.monotonic() < deadline:
            fake.send_multipart([b"decision.", b"\x93junk"])
            fake.send_multipart([b"decision.more", b"x"])
            assert subscriber.receive(0.05) is None
        assert subscriber.malformed >= 2
    fake.close()
    context.term()


def test_a_second_daemon_does_not_steal_the_endpoint(publisher, endpoint):
    with pytest.raises(UnavailableError, match="another firstspike"):
        Publisher(endpoint, "f")


def test_a_file_in_the_endpoints_place_is_left_alone(tmp_path):
    (tmp_path / "precious").write_text("data")
    with pytest.raises(ConfigError, match="is no socket"):
        Publisher(f"ipc://{tmp_path}/precious", "e")
    (tmp_path / "p.lock").symlink_to(tmp_path / "precious")
    with pytest.raises(OutputError, match="no place for sockets"):
        Publisher(f"ipc://{tmp_path}/p", "e")
    assert (tmp_path / "precious").read_text() == "data"


def test_a_subscription_that_the_heartbeat_took_in_still_counts(publisher, endpoint):
    with Subscriber(endpoint):
        time.sleep(0.3)
        for _ in range(5):
            publisher.publish_health(lambda seq: health(seq))
        assert publisher.wait_for_subscriber(1, lambda: False)


def test_a_replay_that_begins_again_is_a_restart_and_no_loss(publisher, endpoint):
    with join(publisher, endpoint) as subscriber:
        for message in (decision(0), decision(1), decision(0)):
            publisher.publish_decision(message)
        for _ in range(3):
            subscriber.receive(5)
        assert (subscriber.restarts, subscriber.lost["decision"]) == (1, 0)


def test_the_sockets_are_not_for_everybody(publisher, endpoint):
    assert endpoints.path_of(endpoint).stat().st_mode & 0o777 == 0o660


def test_the_folder_of_sockets_is_made_for_owner_and_group_alone(tmp_path):
    made = Publisher(f"ipc://{tmp_path}/new/p", "e")
    made.close()
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o750
    assert (tmp_path / "new" / "p.lock").stat().st_mode & 0o777 == 0o600


def test_subscribers_do_not_trust_a_folder_that_others_can_write(monkeypatch):
    with tempfile.TemporaryDirectory() as short:  # a socket's path has 107 bytes
        folder = Path(short) / f"firstspike-{os.getuid()}"
        monkeypatch.setattr(endpoints, "runtime_dir", lambda: folder)
        Subscriber().close()  # nobody has made it yet
        folder.mkdir()
        Subscriber().close()
        folder.chmod(0o777)
        with pytest.raises(UnavailableError, match="only you can write"):
            Subscriber()


def test_a_group_is_given_folder_and_sockets(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("only root may give a socket to a group that it is not in")
    made = Publisher(f"ipc://{tmp_path}/new/p", "e", group="daemon")
    try:
        wanted = grp.getgrnam("daemon").gr_gid
        for path in (tmp_path / "new", tmp_path / "new" / "p", tmp_path / "new" / "p.snapshot"):
            assert path.stat().st_gid == wanted
    finally:
        made.close()


def test_a_group_that_is_none_is_refused_with_the_fix(tmp_path):
    with pytest.raises(ConfigError, match="groupadd"):
        Publisher(f"ipc://{tmp_path}/p", "e", group="nobody-has-this")
    assert list(tmp_path.iterdir()) == []


def test_the_umask_is_as_before(endpoint):
    before = os.umask(0o022)
    Publisher(endpoint, "e").close()
    assert os.umask(before) == 0o022


@pytest.mark.parametrize(
    "bad", ["tcp://*:5555", "ipc://relative", "", "ipc:///" + "x" * 200, "ipc:///a\0b", "/a\udcff"]
)
def test_endpoints_that_are_refused(bad):
    with pytest.raises(ConfigError, match="endpoint"):
        endpoints.resolve(bad)

"""Events over the network: what arrives, what was lost on the way, and what is refused."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from tests.support.packets import events_of, packet, packets_of

from firstspike.messages_health import Counters
from firstspike.sender import Sender, play
from firstspike.sources import Waiting, _network_stream, network
from firstspike.sources._packets import END, HEADER, Header, pack_header, parse_header
from firstspike.types import EVENT, join


def test_what_is_counted_has_a_place_in_health():
    assert network.create(network.Options(), None).counts.keys() <= Counters.model_fields.keys()


@pytest.mark.parametrize("zmq", [False, True])
def test_all_events_arrive_as_they_were_and_the_stream_ends(listen, tmp_path, zmq):
    listener = listen(address=f"ipc://{tmp_path}/s") if zmq else listen()
    sent = events_of(5000)

    def work():
        with Sender(listener.address, 320, 240) as sender:
            sender.send(sent)

    sender = threading.Thread(target=work)
    sender.start()  # a ZeroMQ socket takes its sender in while it is read
    stream = listener.stream()
    assert (stream.info.width, stream.info.height, stream.info.geometry_from) == (320, 240, "header")
    np.testing.assert_array_equal(listener.gather(stream), sent)
    sender.join()
    assert sum(listener.counts.values()) == 0
    assert stream.receive(0).ended


def test_times_of_decades_and_before_zero_survive(listen):
    listener = listen()
    sent = join([events_of(10, start=-(10**15)), events_of(10, start=10**15)])
    with Sender(listener.address, 320, 240) as sender:
        sender.send(sent)
    np.testing.assert_array_equal(listener.gather(listener.stream()), sent)


def test_lost_packets_and_their_events_are_counted_exactly(listen):
    listener, sent = listen(), events_of(100)
    packets = packets_of(sent)
    listener.send(*packets[:3], *packets[5:8], packets[9], packet(10, sent[:0], 100, flags=END))
    assert len(listener.gather(listener.stream())) == 70
    assert (listener.counts["lost_packets"], listener.counts["lost_events"]) == (3, 30)


def test_an_end_tells_of_packets_lost_before_it(listen):
    listener, sent = listen(), events_of(100)
    listener.send(*packets_of(sent)[:8], packet(10, sent[:0], 100, flags=END))
    listener.gather(listener.stream())
    assert (listener.counts["lost_packets"], listener.counts["lost_events"]) == (2, 20)


def test_who_joins_late_has_lost_nothing(listen):
    listener, sent = listen(), events_of(100)
    listener.send(*packets_of(sent)[4:], packet(10, sent[:0], 100, flags=END))
    assert len(listener.gather(listener.stream())) == 60
    assert listener.counts["lost_packets"] == 0


def test_packets_that_overtook_each_other_are_used_once(listen):
    listener, sent = listen(), events_of(60)
    packets = packets_of(sent)
    order = [0, 2, 1, 1, 3, 3, 5, 4]
    listener.send(*(packets[i] for i in order), packet(6, sent[:0], 60, flags=END))
    got = listener.gather(listener.stream())
    assert sorted(got.tolist()) == sorted(sent.tolist())
    assert (listener.counts["lost_packets"], listener.counts["reordered_packets"]) == (2, 2)
    assert (listener.counts["lost_events"], listener.counts["reordered_events"]) == (20, 20)
    assert listener.counts["refused_packets"] == 2


def test_numbers_wrap_without_a_loss(listen):
    listener, sent = listen(), events_of(40)
    numbers = [0xFFFFFFFE, 0xFFFFFFFF, 0, 1]
    listener.send(
        *(packet(n, sent[i * 10 : i * 10 + 10], i * 10) for i, n in enumerate(numbers)),
        packet(2, sent[:0], 40, flags=END),
    )
    assert len(listener.gather(listener.stream())) == 40
    assert listener.counts["lost_packets"] == 0


def test_garbage_is_counted_and_harms_nobody(listen):
    listener, sent = listen(), events_of(50)
    good = packets_of(sent)
    bad = [
        b"", b"x", b"FSEV", b"\0" * 40, b"\xff" * 1400, good[0][:-1], good[0] + b"\0" * 8, good[0][:39],
        b"FSEV\2" + good[0][5:], b"FSEV\1\x80" + good[0][6:], packet(0, sent[:1], 0, width=0),
        pack_header(Header(0, 0, 7, 0, 9, 9, 0, 0, 1 << 60)), pack_header(Header(0, 0, 7, 0, 9, 9, 0, 0, 1 << 52)),
        b"GET / HTTP/1.1\r\n\r\n" * 5,
    ]  # fmt: skip
    listener.send(*bad, *good, *bad, packet(5, sent[:0], 50, flags=END))
    np.testing.assert_array_equal(listener.gather(listener.stream()), sent)
    assert listener.counts["refused_packets"] == 2 * len(bad)
    assert listener.counts["lost_packets"] == 0


def test_a_second_sender_is_refused_while_the_first_one_sends(listen):
    listener, sent = listen(), events_of(40)
    mine, other = packets_of(sent), packets_of(events_of(40, 1), session=8)
    both = [one for pair in zip(mine, other, strict=True) for one in pair]
    listener.send(*both, packet(4, sent[:0], 40, flags=END))
    np.testing.assert_array_equal(listener.gather(listener.stream()), sent)
    assert listener.counts["refused_packets"] == 4


def test_a_sender_that_was_restarted_begins_another_segment(listen, monkeypatch):
    monkeypatch.setattr(_network_stream, "TAKE_OVER_S", 0.05)
    listener, first, second = listen(), events_of(20), events_of(20, 1)
    segments = listener.source.segments()
    listener.send(*packets_of(first))
    stream = listener.stream(segments)
    np.testing.assert_array_equal(listener.gather(stream, 20), first)
    assert not stream.receive(0.1).ended  # it looks, and nobody sends
    listener.send(*packets_of(second, session=8))
    assert len(listener.gather(stream)) == 0  # it ends, for the other has come
    np.testing.assert_array_equal(listener.gather(listener.stream(segments), 20), second)
    assert listener.counts["lost_packets"] == 0


@pytest.mark.parametrize("begins", [0, 500_000])
def test_a_sender_that_counts_anew_under_its_old_session_is_heard_again(listen, monkeypatch, begins):
    monkeypatch.setattr(_network_stream, "TAKE_OVER_S", 0.05)
    listener, sent = listen(), events_of(40)
    segments = listener.source.segments()
    # Packets 5,000 on; or one whose number is wrong, and then those that were due.
    listener.send(packet(begins, sent[:10], 0), packet(begins + 5_000, sent[10:20], 10))
    stream = listener.stream(segments)
    listener.gather(stream, 20)
    listener.send(packet(begins + 1, sent[20:30], 10))
    assert not stream.receive(0.1).ended  # it might have been overtaken
    assert not stream.receive(0.1).ended
    listener.send(packet(begins + 2, sent[20:30], 20), packet(begins + 3, sent[30:], 30))
    assert len(listener.gather(stream)) == 0
    np.testing.assert_array_equal(listener.gather(listener.stream(segments), 20), sent[20:])


def test_packets_that_the_goodbye_overtook_begin_no_stream(listen):
    listener, sent = listen(), events_of(40)
    packets = packets_of(sent)
    segments = listener.source.segments()
    listener.send(*packets[:3], packet(4, sent[:0], 40, flags=END), packets[3])
    listener.gather(listener.stream(segments))
    waiting = next(segments)
    assert isinstance(waiting, Waiting)
    listener.add(waiting.counts)
    assert (listener.counts["lost_events"], listener.counts["refused_packets"]) == (10, 1)


def test_who_was_not_read_for_long_is_not_taken_for_silent(listen, monkeypatch):
    monkeypatch.setattr(_network_stream, "TAKE_OVER_S", 0.05)
    listener, sent = listen(silence_s=0.1), events_of(40)
    mine, other = packets_of(sent), packets_of(events_of(40, 1), session=8)
    listener.send(*mine[:2])
    stream = listener.stream()
    listener.gather(stream, 20)
    time.sleep(0.3)  # the daemon is held up; meanwhile
    listener.send(other[0], mine[2], other[1], packet(0, sent[:0], 0, session=8, flags=END), mine[3])
    np.testing.assert_array_equal(listener.gather(stream, 20), sent[20:])
    assert listener.counts["refused_packets"] == 3


def test_behind_others_packets_own_ones_may_wait(listen, monkeypatch):
    monkeypatch.setattr(_network_stream, "BATCH_PACKETS", 4)
    listener, sent = listen(), events_of(20)
    listener.send(*packets_of(sent)[:1])
    stream = listener.stream()
    listener.gather(stream, 10)
    before_ns = stream.receive(0).arrived_ns
    listener.send(*packets_of(events_of(100, 1), session=8)[:9], b"garbage", *packets_of(sent)[1:])
    arrival = stream.receive(0.1)
    assert (len(arrival.events), arrival.arrived_ns) == (0, before_ns)  # what it says of silence holds for then
    assert len(listener.gather(stream, 10)) == 10


def test_that_only_the_time_came_is_dated_by_the_last_look(listen, monkeypatch):
    listener = listen()
    listener.send(*packets_of(events_of(10)))
    stream = listener.stream()
    listener.gather(stream, 10)
    read, looked = listener.source.port.read, []

    def slow(head, body):
        looked.append(time.monotonic_ns())
        size = read(head, body)
        if size == -1:
            time.sleep(0.05)  # held up after it has seen that nothing is left
        return size

    monkeypatch.setattr(listener.source.port, "read", slow)
    listener.send(pack_header(Header(0, 0, 7, 1, 320, 240, 0, 10, 5_000)))
    arrival = stream.receive(1)
    assert arrival.reached_us == 5_000
    assert arrival.arrived_ns <= looked[-1]


def test_a_sensor_of_another_size_begins_another_segment(listen):
    listener, sent = listen(), events_of(20)
    segments = listener.source.segments()
    listener.send(packet(0, sent[:10], 0), packet(1, sent[10:], 10, width=640))
    stream = listener.stream(segments)
    assert len(listener.gather(stream)) == 10
    assert listener.stream(segments).info.width == 640


def test_silence_ends_the_stream_and_an_empty_packet_is_none(listen):
    listener, sent = listen(silence_s=0.3), events_of(10)
    listener.send(*packets_of(sent))
    stream = listener.stream()
    began = time.monotonic()
    for number in range(4):
        time.sleep(0.1)
        head = Header(0, 0, 7, 1 + number, 320, 240, 0, 10, 50_000 + number)
        listener.send(pack_header(head))
        assert not (arrival := stream.receive(1)).ended
    assert (len(arrival.events), arrival.reached_us) == (0, 50_003)
    listener.gather(stream)
    assert time.monotonic() - began > 0.6


def test_that_nothing_was_there_is_dated_by_the_look_not_by_its_end(listen, monkeypatch):
    listener = listen()
    listener.send(*packets_of(events_of(10)))
    stream = listener.stream()
    listener.gather(stream, 10)
    looked = []
    monkeypatch.setattr(stream, "_read", lambda: (looked.append(time.monotonic_ns()), time.sleep(0.05))[1])
    for within_s in (0, 0.01):
        # The reader is held up after its look: what came meanwhile must not be closed out by time.
        assert stream.receive(within_s).arrived_ns <= looked[-1]


def test_of_several_cameras_one_is_taken(listen):
    listener, sent = listen(stream=3), events_of(20)
    listener.send(packet(0, sent[:10], 0, stream=2, session=1), *packets_of(sent, stream=3))
    np.testing.assert_array_equal(listener.gather(listener.stream(), 20), sent)
    assert listener.counts["refused_packets"] == 0


def test_nobody_sending_is_a_reason_and_no_end(listen):
    listener = listen()
    first = next(listener.source.segments())
    assert isinstance(first, Waiting)
    assert "nobody sends: try 'firstspike send" in first.reason


def test_once_is_the_end(listen):
    listener = listen(once=True)
    listener.send(*packets_of(events_of(10)))
    segments = listener.source.segments()
    listener.stream(segments)
    assert list(segments) == []


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"address": "udp://0.0.0.0:3333"}, "open to other machines"),
        ({"address": "udp://[::]:3333"}, "open to other machines"),
        ({"address": "udp://192.0.2.7:3333"}, "open to other machines"),
        ({"address": "tcp://0.0.0.0:3333", "allow": ["10.0.0.0/8"]}, "from this machine alone"),
        ({"address": "udp://camera.local:3333"}, "is no IP address"),
        ({"address": "udp://127.0.0.1"}, "must be udp://"),
        ({"address": "http://127.0.0.1:1"}, "must be udp://"),
        ({"address": "udp://127.0.0.1:99999"}, "out of range"),
        ({"allow": ["10.0.0.0/8/9"]}, "10.0.0.0/8/9"),
        ({"format": "aestream"}, "set width and height"),
        ({"width": 3}, "given together"),
    ],
)
def test_what_is_unsafe_or_makes_no_sense_is_refused(options, part):
    with pytest.raises(ValidationError) as caught:
        network.Options(**options)
    assert part in str(caught.value)


def test_an_open_address_with_a_list_of_senders_is_allowed():
    network.Options(address="udp://0.0.0.0:3333", allow=["10.0.0.0/8", "fe80::/10"])


@given(st.binary(max_size=80))
def test_any_bytes_are_a_header_or_none(data):
    assert parse_header(data, len(data) - HEADER.size) is None or data.startswith(b"FSEV\1")


def test_a_paced_sender_keeps_the_recordings_time_and_tells_it_in_silence(listen):
    listener = listen()
    sent = np.zeros(3, EVENT)
    sent["t"] = [1000, 1500, 401_000]
    began = time.monotonic()
    with Sender(listener.address, 320, 240) as sender:
        play(sender, [sent], 1.0, None, lambda: False)
        assert sender.sent.packets >= 4  # two with events, and the time in between
    assert time.monotonic() - began >= 0.4
    np.testing.assert_array_equal(listener.gather(listener.stream()), sent)
    assert listener.counts["lost_packets"] == 0


def test_what_is_sent_at_a_rate_takes_its_time(listen):
    listener, sent = listen(), events_of(3000)
    began = time.monotonic()
    with Sender(listener.address, 320, 240) as sender:
        play(sender, [sent], None, 10_000, lambda: False)
    assert time.monotonic() - began >= 0.25
    assert len(listener.gather(listener.stream())) == 3000

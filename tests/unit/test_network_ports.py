"""Where packets come in: who may send, who else listens there, and what the kernel has no room for."""

from __future__ import annotations

import socket

import pytest
from tests.support.packets import events_of, packet, packets_of

from firstspike.errors import OutputError, UnavailableError
from firstspike.sender import Sender
from firstspike.sources import Waiting, network
from firstspike.sources._packets import END


def test_only_those_named_may_send(listen):
    listener, sent = listen(allow=["192.0.2.0/24"]), events_of(10)
    listener.send(*packets_of(sent))
    waiting = next(listener.source.segments())
    assert isinstance(waiting, Waiting)
    assert waiting.counts["refused_packets"] == 1
    listener = listen(allow=["127.0.0.0/8"])
    listener.send(*packets_of(sent))
    assert len(listener.gather(listener.stream(), 10)) == 10


def test_senders_of_ipv4_are_known_by_it_at_an_ipv6_address(listen):
    try:
        listener = listen(address="udp://[::]:0", allow=["127.0.0.0/8"])
    except UnavailableError as error:
        pytest.skip(f"no IPv6 here: {error}")
    listener.to = "127.0.0.1", listener.to[1]
    listener.send(*packets_of(events_of(10)))
    assert len(listener.gather(listener.stream(), 10)) == 10


def test_an_address_that_is_taken_says_so(listen):
    address = listen().address
    with pytest.raises(UnavailableError, match="another program listens there"):
        network.create(network.Options(address=address), None).port  # noqa: B018 (it opens)
    with pytest.raises(UnavailableError, match="is it this machine's"):
        network.create(network.Options(address="udp://192.0.2.7:3333", allow=["10.0.0.0/8"]), None).port  # noqa: B018


def test_a_zeromq_path_is_locked_and_not_open_to_all(listen, tmp_path):
    address = f"ipc://{tmp_path}/s"
    listen(address=address)
    assert (tmp_path / "s").stat().st_mode & 0o777 == 0o660
    with pytest.raises(UnavailableError, match="another program listens there"):
        network.create(network.Options(address=address), None).port  # noqa: B018 (it opens)
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(UnavailableError, match="no socket"):
        network.create(network.Options(address=f"ipc://{tmp_path}/mine"), None).port  # noqa: B018
    assert (tmp_path / "mine").read_text() == "precious"


def test_a_place_that_zeromq_cannot_have_is_told():
    with pytest.raises(OutputError, match="cannot be sent to"):
        Sender(f"ipc:///{'x' * 200}", 320, 240)


def test_the_kernels_buffer_is_told_as_it_is(listen):
    port = listen(buffer_mib=1.0).source.port
    real = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with real:
        real.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        assert port.buffer_bytes >= real.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2
    assert "kernel buffer" in port.about
    assert ("instead of" in port.about) == (port.buffer_bytes < 1 << 20)


def test_what_the_kernel_drops_is_counted_and_is_what_is_lost(listen):
    listener, sent = listen(buffer_mib=0.03), events_of(40_000)
    packets = packets_of(sent, 100)
    listener.send(*packets)
    stream = listener.stream()
    got = 0
    while len((arrival := stream.receive(0.05)).events):
        got += len(arrival.events)
    listener.send(packet(400, sent[:0], len(sent), flags=END))
    listener.gather(stream)
    listener.add(stream.take_counts())
    assert listener.counts["kernel_drops"] > 0
    assert listener.counts["lost_packets"] == listener.counts["kernel_drops"]
    assert got + listener.counts["lost_events"] == len(sent)

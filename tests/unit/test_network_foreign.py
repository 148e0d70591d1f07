"""Packets of other senders, AEStream and faery: without numbers or sessions."""

from __future__ import annotations

import gc
import socket
import struct
import time

import faery
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.packets import events_of

from firstspike.sources import Segment, _network_stream, network
from firstspike.sources._packets import FOREIGN, Unwrap
from firstspike.types import EVENT


def test_what_the_kernel_dropped_is_told_at_the_end_of_a_stream_too(listen, monkeypatch):
    monkeypatch.setattr(network, "DROPS_S", 3600.0)
    listener = listen(buffer_mib=0.03, format="faery32", width=320, height=240, silence_s=0.1)
    stream = listener.stream(iter([Segment("s", listener.source._opener())]))
    assert stream.take_counts() == {}  # the first look
    listener.send(*[b"\0" * 1400] * 500)
    listener.gather(stream)
    assert listener.counts["kernel_drops"] > 0
    dropped = listener.counts["kernel_drops"]
    listener.source.close()
    assert listener.source.port  # opened anew, its counter is another
    listener.source.look()
    assert listener.source.take_counts() == {}
    assert listener.counts["kernel_drops"] == dropped


def test_senders_without_a_session_are_told_apart_by_their_hosts(listen, monkeypatch):
    monkeypatch.setattr(_network_stream, "TAKE_OVER_S", 0.05)
    listener = listen(format="faery32", width=320, height=240)

    def send(host, *times):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
            out.bind((host, 0))
            for t in times:
                out.sendto(struct.pack("<IHH", t, 1, 1), listener.to)

    segments = listener.source.segments()
    send("127.0.0.1", 10)
    stream = listener.stream(segments)
    listener.gather(stream, 1)
    send("127.0.0.2", 900)
    send("127.0.0.1", 20, 30)
    assert listener.gather(stream, 2)["t"].tolist() == [20, 30]
    assert listener.counts["refused_packets"] == 1
    assert not stream.receive(0.1).ended
    send("127.0.0.2", 1000)  # the first one is gone; who takes its place loses a packet
    assert len(listener.gather(stream)) == 0
    send("127.0.0.2", 1100)
    assert listener.gather(listener.stream(segments), 1)["t"].tolist() == [1100]


# faery leaves its socket to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(("kind", "theirs"), [("faery", "t64_x16_y16_on8"), ("faery32", "t32_x16_y15_on1")])
def test_packets_that_faery_sends(listen, kind, theirs):
    listener, sent = listen(format=kind, width=320, height=240), events_of(1000)
    array = np.empty(len(sent), faery.EVENTS_DTYPE)
    array["t"], array["x"], array["y"], array["on"] = sent["t"], sent["x"], sent["y"], sent["p"]
    faery.events_stream_from_array(array, (320, 240)).to_udp(listener.to, format=theirs)
    gc.collect()
    stream = listener.stream()
    np.testing.assert_array_equal(listener.gather(stream, 1000), sent)
    assert "losses on the way are not known" in stream.info.notes[0]


@pytest.mark.parametrize("timed", [True, False])
def test_packets_that_aestream_sends(listen, timed):
    listener, sent = listen(format="aestream", width=320, height=240), events_of(100)
    body = b""
    for t, x, y, p in sent.tolist():
        # As dvs_to_udp.cpp: column in the upper half, whose highest bit says that there is no time.
        body += struct.pack("<I", (x if timed else x | 0x8000) << 16 | p << 15 | y)
        body += struct.pack("<I", t) if timed else b""
    listener.send(body[:400], body[400:])
    got = listener.gather(listener.stream(), 100)
    for name in ("x", "y", "p", "t") if timed else ("x", "y", "p"):
        np.testing.assert_array_equal(got[name], sent[name])
    now_us = time.monotonic_ns() // 1000
    assert timed or (now_us - got["t"] >= 0).all()


@pytest.mark.parametrize("kind", sorted(FOREIGN))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(data=st.binary(max_size=200))
def test_any_bytes_are_events_or_refused(kind, data):
    events = FOREIGN[kind](memoryview(data), 5, Unwrap())
    assert events is None or (events.dtype == EVENT and len(events) > 0)


@given(st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=30), st.integers(1, 5))
def test_times_of_32_bits_are_unwrapped_however_they_are_cut(steps, size):
    times = np.cumsum(np.array(steps, np.int64) // 2)
    short, unwrap = times.astype(np.uint32), Unwrap()
    got = np.concatenate([unwrap(short[i : i + size]) for i in range(0, len(short), size)])
    np.testing.assert_array_equal(got, times)


def test_a_packet_from_before_the_wrap_of_32_bits_is_no_second_wrap():
    unwrap = Unwrap()
    got = [int(unwrap(np.array([t], np.uint32))[0]) for t in (0xFFFFFF00, 5, 0xFFFFFFF0, 10)]
    assert got == [0xFFFFFF00, 2**32 + 5, 0xFFFFFFF0, 2**32 + 10]

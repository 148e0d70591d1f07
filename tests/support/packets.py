"""Packets of events, and a source that listens for them."""

from __future__ import annotations

import socket
import time

import numpy as np

from firstspike.sources import Segment, network
from firstspike.sources._packets import Header, pack_events, pack_header
from firstspike.types import EVENT, join


def events_of(n, seed=0, start=0, width=320, height=240):
    rng = np.random.default_rng(seed)
    events = np.zeros(n, EVENT)
    events["t"] = start + np.sort(rng.integers(0, 100 * max(1, n), n))
    events["x"], events["y"] = rng.integers(0, width, n), rng.integers(0, height, n)
    events["p"] = rng.integers(0, 2, n)
    return events


class Listener:
    """A source that listens at a free port, and what it got."""

    def __init__(self, **options):
        options.setdefault("address", "udp://127.0.0.1:0")
        self.source = network.create(network.Options(**options), None)
        self.address = options["address"]
        if self.address.startswith("udp"):
            host, port = self.source.port.address
            self.address = f"udp://{host}:{port}"
            self.to = host, port
        else:
            assert self.source.port
        self.counts = dict.fromkeys(self.source.counts, 0)

    def stream(self, segments=None, within_s=5.0):
        """The next segment's stream."""
        segments = segments or self.source.segments()
        end = time.monotonic() + within_s
        for segment in segments:
            if isinstance(segment, Segment):
                with segment.open() as stream:
                    return stream
            self.add(segment.counts)
            assert time.monotonic() < end, "no stream began"
        raise AssertionError("the source ended")

    def add(self, counts):
        for name, count in counts.items():
            self.counts[name] += count

    def gather(self, stream, n=None, within_s=5.0):
        """Events until the stream ends, or there are `n`."""
        found, end = [], time.monotonic() + within_s
        while time.monotonic() < end:
            arrival = stream.receive(0.05)
            found.append(arrival.events)
            self.add(stream.take_counts())
            if arrival.ended or (n is not None and sum(map(len, found)) >= n):
                return join(found)
        raise AssertionError(f"{sum(map(len, found))} events came, and no end")

    def send(self, *packets):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
            for packet in packets:
                out.sendto(packet, self.to)


def packet(sequence, events, before, session=7, flags=0, width=320, height=240, stream=0):
    base = int(events["t"][0]) if len(events) else 0
    head = Header(flags, stream, session, sequence, width, height, len(events), before, base)
    return pack_header(head) + pack_events(events, base).tobytes()


def packets_of(events, size=10, **fields):
    return [
        packet(number, events[start : start + size], start, **fields)
        for number, start in enumerate(range(0, len(events), size))
    ]

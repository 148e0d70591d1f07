"""Packets of events on a network: firstspike's own, and those of AEStream and faery. docs/network.md has the bytes.

Own packets carry numbers, so that every loss is known; the others have none.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from firstspike.types import EVENT, Events
from firstspike.window import MAX_TIME_US

Format = Literal["firstspike", "aestream", "faery", "faery32"]

MAGIC = b"FSEV"
VERSION = 1
HEADER = struct.Struct("<4sBBHIIHHIQq")
"""Magic, version, flags, stream, session, sequence, width, height, count, first event's number, base time in µs."""
END = 1
"""Flag: the stream ends here."""
EVENT_BYTES = 8
MAX_PACKET_BYTES = 65_507
"""Of UDP over IPv4; the largest for ZeroMQ here too."""
MAX_SIDE = 32_767
MAX_SPAN_US = 0xFFFF_FFFF
"""From the base to a packet's events."""
_LAST_BASE_US = MAX_TIME_US - MAX_SPAN_US


class Header(NamedTuple):
    """What is said at the start of a packet of ours."""

    flags: int
    stream: int
    """Number of the camera, where several send to one port."""
    session: int
    """Drawn when a sender starts: another one begins another stream."""
    sequence: int
    """Of the packet in its session, modulo 2^32."""
    width: int
    height: int
    n_events: int
    """Events in the packet; 0 tells the time alone."""
    before: int
    """Events of the session before this packet."""
    base_us: int
    """What the events' times count from; of an empty packet the sensor's clock."""


def parse_header(head: bytes | bytearray | memoryview, payload_bytes: int) -> Header | None:
    """Read a header; None if it is no packet of ours, or not a whole one."""
    if len(head) < HEADER.size:
        return None
    magic, version, flags, *fields = HEADER.unpack_from(head)
    header = Header(flags, *fields)
    if (
        magic != MAGIC or version != VERSION or flags & ~END
        or header.n_events * EVENT_BYTES != payload_bytes
        or not (0 < header.width <= MAX_SIDE and 0 < header.height <= MAX_SIDE)
        or not -MAX_TIME_US <= header.base_us <= _LAST_BASE_US or header.before > MAX_TIME_US
    ):  # fmt: skip
        return None
    return header


def pack_header(header: Header) -> bytes:
    """The header's bytes."""
    return HEADER.pack(MAGIC, VERSION, *header)


def pack_events(events: Events, base_us: int) -> NDArray[np.uint32]:
    """The events' bytes: shape (n, 2), uint32; every time must lie within 2^32 µs of the base."""
    out = np.empty((len(events), 2), "<u4")
    out[:, 0] = events["t"] - base_us
    # Row and polarity in the upper half.
    out[:, 1] = events["x"] | ((events["y"].astype(np.uint32) << 1 | (events["p"] != 0)) << 16)
    return out


def unpack_events(payload: memoryview, counts: list[int], bases_us: list[int]) -> Events:
    """Events of several packets whose payloads lie one behind another.

    Args:
        payload: 8 bytes an event.
        counts: events of each packet.
        bases_us: base time of each.
    """
    words = np.frombuffer(payload, "<u4").reshape(-1, 2)
    events = np.empty(len(words), EVENT)
    bases = np.asarray(bases_us, np.int64)
    np.add(words[:, 0], bases[0] if len(counts) == 1 else np.repeat(bases, counts), out=events["t"])
    place = words[:, 1]
    events["x"] = place & 0xFFFF
    events["y"] = place >> 17
    events["p"] = place >> 16 & 1
    return events


class Unwrap:
    """Times of 32 bits, as whole ones: each lies within half the range of the one before."""

    def __init__(self) -> None:
        self._last: int | None = None

    def __call__(self, times: NDArray[np.uint32]) -> NDArray[np.int64]:
        if self._last is None:
            self._last = int(times[0])
        # Steps modulo 2^32 with a sign: a fall by most of the range is a wrap, a rise by as much is a packet that the
        # wrap overtook.
        steps = np.diff(times, prepend=np.uint32(self._last & 0xFFFFFFFF)).view(np.int32)
        wide = self._last + np.cumsum(steps, dtype=np.int64)
        self._last = int(wide[-1])
        return wide


def _aestream(payload: memoryview, now_us: int, unwrap: Unwrap) -> Events | None:
    words = np.frombuffer(payload, "<u4") if len(payload) % 4 == 0 else np.empty(0, "<u4")
    if not len(words):
        return None
    timed = not words[0] >> 31
    if timed and len(words) % 2:
        return None
    places = words[::2] if timed else words
    events = np.empty(len(places), EVENT)
    events["t"] = unwrap(words[1::2]) if timed else now_us
    events["x"] = places >> 16 & 0x7FFF
    events["y"] = places & 0x7FFF
    events["p"] = places >> 15 & 1
    return events


_FAERY = np.dtype([("t", "<u8"), ("x", "<u2"), ("y", "<u2"), ("p", "u1")])
_FAERY32 = np.dtype([("t", "<u4"), ("x", "<u2"), ("y", "<u2")])


def _faery(payload: memoryview, now_us: int, unwrap: Unwrap) -> Events | None:
    del now_us, unwrap
    if not len(payload) or len(payload) % _FAERY.itemsize:
        return None
    raw = np.frombuffer(payload, _FAERY)
    if raw["t"].max() > MAX_TIME_US:
        return None
    events = np.empty(len(raw), EVENT)
    events["t"], events["x"], events["y"], events["p"] = raw["t"], raw["x"], raw["y"], raw["p"] != 0
    return events


def _faery32(payload: memoryview, now_us: int, unwrap: Unwrap) -> Events | None:
    del now_us
    if not len(payload) or len(payload) % _FAERY32.itemsize:
        return None
    raw = np.frombuffer(payload, _FAERY32)
    events = np.empty(len(raw), EVENT)
    events["t"], events["x"], events["y"], events["p"] = unwrap(raw["t"]), raw["x"], raw["y"] >> 1, raw["y"] & 1
    return events


Foreign = Callable[[memoryview, int, Unwrap], Events | None]
FOREIGN: dict[str, Foreign] = {"aestream": _aestream, "faery": _faery, "faery32": _faery32}
"""Decoders of packets without a header: (bytes, the time now in µs, state) to events; None: it is no such packet."""


class Sequence:
    """Which packets of a session are missing."""

    REMEMBERED = 1024
    """Missing packets that may still come; older ones count as copies of what came before."""

    def __init__(self, header: Header) -> None:
        # Whoever joins late has lost nothing.
        self._next = header.sequence
        self._next_event = header.before
        self._missing: dict[int, None] = {}

    def take(self, header: Header, counts: dict[str, int]) -> bool:
        """Count a packet; False: it came before, and its events must not be taken twice."""
        ahead = (header.sequence - self._next) & 0xFFFFFFFF
        if ahead >= 1 << 31:
            if header.sequence not in self._missing:
                return False
            del self._missing[header.sequence]
            counts["reordered_packets"] += 1
            counts["reordered_events"] += header.n_events
            return True
        if ahead:
            counts["lost_packets"] += ahead
            for number in range(max(0, ahead - self.REMEMBERED), ahead):
                self._missing[(self._next + number) & 0xFFFFFFFF] = None
            while len(self._missing) > self.REMEMBERED:
                del self._missing[next(iter(self._missing))]
        counts["lost_events"] += max(0, header.before - self._next_event)
        self._next = (header.sequence + 1) & 0xFFFFFFFF
        self._next_event = header.before + header.n_events
        return True


def packets(events: Events, most: int, span_us: int) -> Iterator[Events]:
    """Cut events into what fits a packet: at most `most` events, of at most `span_us`."""
    slots = events["t"] // span_us
    bounds = [0, *(np.flatnonzero(slots[1:] != slots[:-1]) + 1).tolist(), len(events)]
    for begin, end in itertools.pairwise(bounds):
        for start in range(begin, end, most):
            yield events[start : min(end, start + most)]

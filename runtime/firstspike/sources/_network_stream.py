"""One sender's packets as a stream of events: whose they are, what was lost, and when it has ended."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import numpy as np

from firstspike.sources import Arrival, LiveStream
from firstspike.sources._packets import END, EVENT_BYTES, Foreign, Header, Sequence, Unwrap, unpack_events
from firstspike.types import EVENT, Events, RecordingInfo, join

if TYPE_CHECKING:
    from firstspike.sources.network import NetworkSource

log = logging.getLogger(__name__)

TAKE_OVER_S = 1.0
"""Another sender's packets are refused as long as the first one's are no older."""
BATCH_PACKETS = 128
"""Read at once, if they are there."""
GATHER_S = 0.002
GATHER_BYTES = 4 << 20
"""Packets may gather so long in a buffer of this size: at 100 M events a second it would be a third full."""
_NOTHING = np.empty(0, EVENT)


class NetworkStream(LiveStream):
    """One sender's packets, from its first to its end, its silence or another sender's first."""

    def __init__(self, source: NetworkSource, first: Header | None) -> None:
        self._source = source
        self._first = first
        self._sequence = None if first is None else Sequence(first)
        self._unwrap = Unwrap()
        self._host: str | None = None
        """Who sends, where packets do not say."""
        self._heard = time.monotonic()
        self._ended = False
        options = source.options
        self.gather_s = GATHER_S if source.port.buffer_bytes >= GATHER_BYTES else 0.0
        if first is None:
            assert options.width and options.height  # noqa: S101, PT018 (the options see to it)
            width, height, given = options.width, options.height, "given"
        else:
            width, height, given = first.width, first.height, "header"
        notes = () if first is not None else ("these packets have no numbers: losses on the way are not known",)
        self.info = RecordingInfo(options.format, width, height, given, options.address, notes)

    def receive(self, within_s: float) -> Arrival:
        """See `LiveStream.receive`."""
        source = self._source
        if self._ended:
            return Arrival(_NOTHING, time.monotonic_ns(), ended=True)
        arrival = self._read()
        if arrival is None and within_s > 0:
            source.port.wait(within_s)
            arrival = self._read()
        if arrival is not None:
            self._heard = time.monotonic()
            return arrival
        # Under a flood of others' packets the port is never empty.
        silence_s = source.options.silence_s
        if self._silent_s() > silence_s or time.monotonic() - self._heard > 2 * silence_s:
            log.info("%s: no packets for %g s: the stream has ended", source.options.address, silence_s)
            return self._end(_NOTHING)
        # There was nothing *then*: whoever is held up here for long has not looked since.
        return Arrival(_NOTHING, source.empty_ns)

    def _silent_s(self) -> float:
        """How long nothing came for sure: what came since the last look waits to be read."""
        return self._source.empty_ns / 1e9 - self._heard

    def _end(self, events: Events) -> Arrival:
        self._ended = True
        self._source.look()
        return Arrival(events, time.monotonic_ns(), ended=True)

    def _read(self) -> Arrival | None:
        """What is there now; None: nothing of this stream."""
        return self._read_own() if self._first is not None else self._read_foreign(self._source.foreign)

    def _read_own(self) -> Arrival | None:
        source, sequence, first = self._source, self._sequence, self._first
        assert sequence is not None and first is not None  # noqa: S101, PT018 (this is a stream of headers)
        counts: list[int] = []
        bases: list[int] = []
        used, reached, ended, heard = 0, None, False, False
        room, empty_ns = source.room, source.empty_ns
        for _ in range(BATCH_PACKETS):
            header = source.next_header(room[used:])
            if header is None:
                break
            own = header.session == first.session
            alike = header.width == first.width and header.height == first.height
            if not own and (heard or header.flags & END or self._silent_s() <= TAKE_OVER_S):
                source.count(refused_packets=1)
                continue
            if not own or not alike:
                source.hold(header, room[used : used + header.n_events * EVENT_BYTES])
                ended = True
                break
            if not sequence.take(header, source.counts):
                if not heard and self._silent_s() > TAKE_OVER_S:  # the sender counts anew
                    source.hold(header, room[used : used + header.n_events * EVENT_BYTES])
                    ended = True
                    break
                source.count(refused_packets=1)
                continue
            heard = True
            if header.n_events:
                counts.append(header.n_events)
                bases.append(header.base_us)
                used += header.n_events * EVENT_BYTES
                reached = None  # what was told before is no later than the events
            else:
                reached = header.base_us
            if header.flags & END:
                source.goodbye(header.session)
                ended = True
                break
        events = unpack_events(room[:used], counts, bases) if used else _NOTHING
        if ended:
            return self._end(events)
        if not heard:
            return None
        if used:
            return Arrival(events, time.monotonic_ns(), reached)
        # Without events it says that nothing is left, as of the last look.
        return Arrival(events, source.empty_ns, None if source.empty_ns == empty_ns else reached)

    def _read_foreign(self, decode: Foreign) -> Arrival | None:
        source, found = self._source, list[Events]()
        for _ in range(BATCH_PACKETS):
            payload = source.next_payload()
            if payload is None:
                break
            if self._host not in (None, source.port.sender):  # two senders' times would be one muddle
                source.count(refused_packets=1)
                if not found and self._silent_s() > TAKE_OVER_S:
                    return self._end(_NOTHING)
                continue
            events = decode(payload, time.monotonic_ns() // 1000, self._unwrap)
            if events is None:
                source.count(refused_packets=1)
            else:
                self._host = source.port.sender
                found.append(events)
        return Arrival(join(found), time.monotonic_ns()) if found else None

    def take_counts(self) -> dict[str, int]:
        """See `LiveStream.take_counts`."""
        return self._source.take_counts()

"""`[source] kind = "network"`: packets of events by UDP or ZeroMQ. docs/network.md has their bytes."""

from __future__ import annotations

import ipaddress
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from firstspike.errors import ConfigError
from firstspike.sources import Arrival, LiveStream, Segment, Source, Stream, Waiting
from firstspike.sources._packets import (
    END,
    EVENT_BYTES,
    FOREIGN,
    HEADER,
    MAX_PACKET_BYTES,
    MAX_SIDE,
    Foreign,
    Format,
    Header,
    Sequence,
    Unwrap,
    parse_header,
    unpack_events,
)
from firstspike.sources._ports import Network, Port, UdpPort, ZmqPort, host_of, split
from firstspike.types import EVENT, Events, RecordingInfo, join

log = logging.getLogger(__name__)

WAIT_S = 0.4
"""Between two looks for a sender."""
TAKE_OVER_S = 1.0
"""Another sender's packets are refused as long as the first one's are no older."""
BATCH_PACKETS = 128
"""Read at once, if they are there."""
GATHER_S = 0.002
GATHER_BYTES = 4 << 20
"""Packets may gather so long in a buffer of this size: at 100 M events a second it would be a third full."""
DROPS_S = 1.0
"""Between two looks at what the kernel dropped."""


class Options(BaseModel):
    """`[source.network]`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    address: Annotated[
        str, Field(description="udp://ADDRESS:PORT; ZeroMQ: tcp://127.0.0.1:PORT or ipc:///path; listened to")
    ] = "udp://127.0.0.1:3333"
    format: Annotated[Format, Field(description="whose packets; those of firstspike alone tell what was lost")] = (
        "firstspike"
    )
    allow: Annotated[
        list[str],
        Field(max_length=64, description="who may send, such as 192.168.1.0/24; empty: this machine"),
    ] = []
    stream: Annotated[int | None, Field(ge=0, le=65535, description="of several cameras on one port; none: any")] = None
    width: Annotated[int | None, Field(ge=1, le=MAX_SIDE, description="sensor, where packets do not say")] = None
    height: Annotated[int | None, Field(ge=1, le=MAX_SIDE)] = None
    buffer_mib: Annotated[float, Field(gt=0, le=1024, description="the kernel's, for UDP")] = 32.0
    silence_s: Annotated[float, Field(gt=0, le=86_400, description="without a packet; then the stream has ended")] = 3.0
    once: Annotated[bool, Field(description="end with the first stream")] = False

    @field_validator("allow")
    @classmethod
    def _networks(cls, value: list[str]) -> list[str]:
        for network in value:
            ipaddress.ip_network(network, strict=False)
        return value

    @model_validator(mode="after")
    def _is_safe_and_whole(self) -> Options:
        try:
            scheme, host = split(self.address)[0], host_of(self.address)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        if host is not None and not host.is_loopback:
            if scheme == "tcp":
                raise ValueError(
                    f"{self.address}: ZeroMQ takes from this machine alone: tcp://127.0.0.1:PORT, and from others "
                    "through an ssh tunnel, or use udp with allow"
                )
            if not self.allow:
                raise ValueError(
                    f"{self.address} is open to other machines: name those that may send, for example "
                    'allow = ["192.168.1.0/24"], or listen to udp://127.0.0.1'
                )
        if (self.width is None) != (self.height is None):
            raise ValueError("width and height must be given together")
        if self.format != "firstspike" and self.width is None:
            raise ValueError(f"packets of {self.format} do not say the sensor's size: set width and height")
        return self

    @property
    def networks(self) -> tuple[Network, ...]:
        """`allow`, parsed."""
        return tuple(ipaddress.ip_network(network, strict=False) for network in self.allow)


class NetworkStream(LiveStream):
    """One sender's packets, from its first to its end, its silence or another sender's first."""

    def __init__(self, source: NetworkSource, first: Header | None) -> None:
        self._source = source
        self._first = first
        self._sequence = None if first is None else Sequence(first)
        self._unwrap = Unwrap()
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
            alike = (header.width, header.height) == (first.width, first.height)
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
        source, found = self._source, []
        for _ in range(BATCH_PACKETS):
            payload = source.next_payload()
            if payload is None:
                break
            events = decode(payload, time.monotonic_ns() // 1000, self._unwrap)
            if events is None:
                source.count(refused_packets=1)
            else:
                found.append(events)
        return Arrival(join(found), time.monotonic_ns()) if found else None

    def take_counts(self) -> dict[str, int]:
        """See `LiveStream.take_counts`."""
        return self._source.take_counts()


_NOTHING = np.empty(0, EVENT)


class NetworkSource:
    """Listens at one address; a segment is one sender's stream."""

    live = True
    speed: float | None = None
    max_silence_us = 0

    def __init__(self, options: Options) -> None:
        self.options = options
        self.counts = dict.fromkeys(
            ("lost_packets", "lost_events", "reordered_packets", "refused_packets", "kernel_drops"), 0
        )
        self.room = memoryview(bytearray(BATCH_PACKETS * MAX_PACKET_BYTES))
        """For the packets of a batch, one behind another."""
        self._head = bytearray(HEADER.size)
        self._port: Port | None = None
        self.empty_ns = time.monotonic_ns()
        """When it was last seen that nothing is left to read."""
        self._over: tuple[int, float] | None = None
        """The session that said goodbye last, and until when what comes of it after all begins no stream."""
        self._held: tuple[Header, bytes] | None = None
        self._looked = float("-inf")
        self._dropped = 0

    @property
    def port(self) -> Port:
        """Where packets come in; opened when first needed."""
        if self._port is None:
            options = self.options
            if split(options.address)[0] == "udp":
                self._port = UdpPort(options.address, round(options.buffer_mib * (1 << 20)), options.networks)
            else:
                self._port = ZmqPort(options.address)
            log.info("listening at %s", self._port.about)
        return self._port

    def prepare(self, before: Source) -> None:
        """See `sources.Preparing`: opens the port, unless the other one has it, to be taken over then."""
        if not (isinstance(before, NetworkSource) and before.options.address == self.options.address):
            _ = self.port

    @property
    def foreign(self) -> Foreign:
        """The decoder of packets that are not ours."""
        return FOREIGN[self.options.format]

    def segments(self) -> Iterator[Segment | Waiting]:
        """A segment from a sender's first packet on."""
        options = self.options
        while True:
            if not self._await():
                reason = f"{options.address}: nobody sends: try 'firstspike send RECORDING --to {options.address}'"
                yield Waiting(reason, self.take_counts())
                continue
            yield Segment(options.address, self._opener())
            if options.once:
                return

    def _await(self) -> bool:
        """Whether a stream begins, within `WAIT_S`."""
        began = time.monotonic()
        end = began + WAIT_S
        while self._held is None:
            left = end - time.monotonic()
            if left <= 0 or not self.port.wait(left):
                return False
            if self.options.format != "firstspike":
                return True
            header = self.next_header(self.room)
            if header is None:
                continue
            if header.flags & END or (self._over and self._over[0] == header.session and began < self._over[1]):
                self.counts["refused_packets"] += 1
            else:
                self.hold(header, self.room[: header.n_events * EVENT_BYTES])
        return True

    def _opener(self) -> Callable[[], AbstractContextManager[Stream]]:
        @contextmanager
        def opened() -> Iterator[Stream]:
            yield NetworkStream(self, self._held[0] if self._held else None)

        return opened

    def hold(self, header: Header, payload: memoryview) -> None:
        """Keep a packet for the stream that it begins."""
        self._held = header, bytes(payload)

    def goodbye(self, session: int) -> None:
        """Its stream has ended; packets that were overtaken by the last one may still come."""
        self._over = session, time.monotonic() + TAKE_OVER_S

    def _read(self, body: memoryview) -> int:
        """See `Port.read`; keeps in mind when there was nothing."""
        looked_ns = time.monotonic_ns()
        size = self.port.read(self._head, body)
        if size == -1:
            self.empty_ns = looked_ns
        return size

    def next_header(self, room: memoryview) -> Header | None:
        """The next packet of ours, its events' bytes at the start of `room`; None: nothing is there now."""
        if self._held is not None:
            (header, payload), self._held = self._held, None
            room[: len(payload)] = payload
            return header
        for _ in range(BATCH_PACKETS):
            size = self._read(room)
            if size == -1:
                break
            header_or_none = parse_header(self._head, size - HEADER.size) if size >= HEADER.size else None
            if header_or_none is None:
                self.counts["refused_packets"] += 1
            elif self.options.stream in (None, header_or_none.stream):
                return header_or_none
        return None

    def next_payload(self) -> memoryview | None:
        """The next packet that is not ours, whole; None: nothing is there now."""
        for _ in range(BATCH_PACKETS):
            size = self._read(self.room[HEADER.size :])
            if size == -1:
                return None
            if size >= 0:
                self.room[: HEADER.size] = self._head
                return self.room[:size]
            self.counts["refused_packets"] += 1
        return None

    def count(self, **counts: int) -> None:
        """Add to the counts by name."""
        for name, count in counts.items():
            self.counts[name] += count

    def look(self) -> None:
        """Let the next `take_counts` ask the system what it dropped, however long ago it was asked last."""
        self._looked = float("-inf")

    def take_counts(self) -> dict[str, int]:
        """What was counted since the last call."""
        now = time.monotonic()
        if self._port is not None and now - self._looked > DROPS_S:
            self._looked, before, self._dropped = now, self._dropped, self._port.dropped()
            self.counts["kernel_drops"] += (self._dropped - before) & 0xFFFFFFFF
        counts = {name: count for name, count in self.counts.items() if count}
        for name in counts:
            self.counts[name] = 0
        return counts

    def close(self) -> None:
        """Stop listening."""
        if self._port is not None:
            self._port.close()
            self._port, self._dropped = None, 0


def create(options: Options, base: Path) -> NetworkSource:
    """See `sources`."""
    del base
    return NetworkSource(options)

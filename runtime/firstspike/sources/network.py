"""`[source] kind = "network"`: packets of events by UDP or ZeroMQ. docs/network.md has their bytes."""

from __future__ import annotations

import ipaddress
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from firstspike.errors import ConfigError
from firstspike.sources import Segment, Source, Stream, Waiting
from firstspike.sources._network_stream import BATCH_PACKETS, TAKE_OVER_S, NetworkStream
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
    parse_header,
)
from firstspike.sources._ports import Network, Port, UdpPort, ZmqPort, host_of, split

log = logging.getLogger(__name__)

WAIT_S = 0.4
"""Between two looks for a sender."""
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


class NetworkSource:
    """Listens at one address; a segment is one sender's stream."""

    live = True
    speed: float | None = None
    max_silence_us = 0

    def __init__(self, options: Options) -> None:
        self.options = options
        names = ("lost_packets", "lost_events", "reordered_packets", "reordered_events", "refused_packets")
        self.counts = dict.fromkeys((*names, "kernel_drops"), 0)
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
            log.log(logging.WARNING if self._port.short else logging.INFO, "listening at %s", self._port.about)
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
        port = self._port or self.port
        size = port.read(self._head, body)
        if size == -1:
            # It is known as of a time before the look: so it looks once more, rather than ask the time for each packet.
            looked_ns = time.monotonic_ns()
            size = port.read(self._head, body)
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

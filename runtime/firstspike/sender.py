"""Sends events as packets, by UDP or ZeroMQ: the other end of `[source] kind = "network"`."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import zmq

from firstspike.errors import DataError, OutputError
from firstspike.sources._packets import (
    END,
    EVENT_BYTES,
    HEADER,
    MAX_PACKET_BYTES,
    MAX_SIDE,
    Header,
    pack_events,
    pack_header,
    packets,
)
from firstspike.sources._ports import host_of, split
from firstspike.types import Events

DEFAULT_EVENTS = 175
"""In a packet: it then fits an Ethernet frame of 1,500 bytes."""
MAX_EVENTS = (MAX_PACKET_BYTES - HEADER.size) // EVENT_BYTES
SPAN_US = 1000
"""Most time in one packet: what a receiver waits for."""
TICK_S = 0.1
"""A silent sender tells the time so often."""
_CONNECT_S = 5.0


@dataclass(frozen=True, slots=True)
class Sent:
    """What left."""

    packets: int
    events: int


class Sender:
    """Sends one session.

    Args:
        address: where to: `udp://…`, or for ZeroMQ `tcp://…` or `ipc://…`.
        width: the sensor's, pixels.
        height: the same.
        stream: its number, where several cameras send to one port.
        packet_events: most events in a packet.

    Raises:
        ConfigError: no such address.
        OutputError: nobody listens there (ZeroMQ alone can tell), or sending fails.
    """

    def __init__(
        self, address: str, width: int, height: int, *, stream: int = 0, packet_events: int = DEFAULT_EVENTS
    ) -> None:
        if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
            raise DataError(f"{address}: a sensor of {width}×{height} pixels cannot be sent: {MAX_SIDE} at most")
        self._address = address
        self._size = width, height
        self._stream = stream
        self.packet_events = min(packet_events, MAX_EVENTS)
        self._session = int.from_bytes(os.urandom(4), "little")
        self._packets = self._events = 0
        self._last_us = 0
        self._close: Callable[[], None]
        self._send = self._open_udp() if split(address)[0] == "udp" else self._open_zmq()

    def _open_udp(self) -> Callable[[bytes, bytes | memoryview], None]:
        host = host_of(self._address)
        assert host is not None  # noqa: S101 (the scheme is udp)
        out = socket.socket(socket.AF_INET6 if host.version == 6 else socket.AF_INET, socket.SOCK_DGRAM)
        to = (str(host), split(self._address)[2])
        self._close = out.close

        def send(head: bytes, body: bytes | memoryview) -> None:
            try:
                out.sendmsg([head, body], [], 0, to)
            except OSError as error:
                raise OutputError(f"{self._address}: sending failed: {error.strerror}") from None

        return send

    def _open_zmq(self) -> Callable[[bytes, bytes | memoryview], None]:
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        out = context.socket(zmq.XPUB)
        out.set(zmq.LINGER, 1000)

        def close() -> None:
            out.close()
            context.term()

        self._close = close
        try:
            out.connect(self._address)
        except zmq.ZMQError as error:
            close()
            raise OutputError(f"{self._address}: cannot be sent to: {error.strerror}") from None
        if not out.poll(round(_CONNECT_S * 1000)):
            out.set(zmq.LINGER, 0)
            close()
            raise OutputError(f"{self._address}: nobody listens there: start the daemon first")
        out.recv()  # the receiver's subscription
        return lambda head, body: out.send(head + bytes(body))

    def send(self, events: Events) -> None:
        """Send events, times in order, in as few packets as may be."""
        for part in packets(events, self.packet_events, SPAN_US):
            self.send_packet(part)

    def send_packet(self, events: Events) -> None:
        """Send one packet; what it holds must fit."""
        base_us = int(events["t"].min())
        self._last_us = int(events["t"][-1])
        self._put(0, len(events), base_us, pack_events(events, base_us).data.cast("B"))

    def tell_time(self, sensor_us: int) -> None:
        """Send that there was no event until now."""
        self._last_us = sensor_us
        self._put(0, 0, sensor_us, b"")

    def _put(self, flags: int, n_events: int, base_us: int, body: bytes | memoryview) -> None:
        head = Header(flags, self._stream, self._session, self._packets & 0xFFFFFFFF, *self._size, n_events,
                      self._events, base_us)  # fmt: skip
        self._send(pack_header(head), body)
        self._packets += 1
        self._events += n_events

    @property
    def sent(self) -> Sent:
        """So far."""
        return Sent(self._packets, self._events)

    def close(self) -> None:
        """Say that the stream ends, and hang up."""
        try:
            self._put(END, 0, self._last_us, b"")
        finally:
            self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def play(
    sender: Sender, blocks: Iterable[Events], speed: float | None, rate: float | None, stopping: Callable[[], bool]
) -> None:
    """Send a recording.

    Args:
        sender: where to.
        blocks: its events, times in order.
        speed: times real time; None: no pace by time.
        rate: events a second, in place of `speed`; None: as they come.
        stopping: True ends it.
    """
    start_s = time.monotonic()
    first_us: int | None = None
    now_us, sent = 0, 0
    for block in blocks:
        for part in packets(block, sender.packet_events, SPAN_US):
            if stopping():
                return
            last_us = int(part["t"][-1])
            if first_us is None:
                first_us = now_us = int(part["t"][0])
            due_s = 0.0
            if rate is not None:
                due_s = sent / rate
            elif speed is not None:
                due_s = max(0, last_us - first_us) / 1e6 / speed
            while (left := start_s + due_s - time.monotonic()) > 0:
                if stopping():
                    return
                time.sleep(min(left, TICK_S))
                if speed is not None and left > TICK_S:
                    now_us = max(now_us, min(last_us, first_us + round((time.monotonic() - start_s) * 1e6 * speed)))
                    sender.tell_time(now_us)
            sender.send_packet(part)
            now_us, sent = max(now_us, last_us), sent + len(part)

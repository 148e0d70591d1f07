"""Where packets come in: a UDP socket or a ZeroMQ one. Every byte that comes is hostile."""

from __future__ import annotations

import errno
import fcntl
import ipaddress
import os
import select
import socket
import struct
from pathlib import Path
from typing import IO, Protocol
from urllib.parse import urlsplit

import zmq

from firstspike.errors import ConfigError, UnavailableError
from firstspike.sources._packets import MAX_PACKET_BYTES

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

SO_RCVBUFFORCE = 33
SO_MEMINFO = 55
_DROPS = 8
"""Place of the counter of dropped packets in SO_MEMINFO, the one that SO_RXQ_OVFL tells too."""
RCVHWM = 1000
_CUT = int(socket.MSG_TRUNC)
"""As a number: an enumeration's `&` costs as much as the rest of a packet."""


class Port(Protocol):
    """Takes in packets, one at a time."""

    about: str
    """For the user: address and size of the buffer."""
    buffer_bytes: int
    """What it holds, about."""

    def read(self, head: bytearray, body: memoryview) -> int:
        """Take a packet, its start into `head` and the rest into `body`; its length, −1: none is there, −2: refused."""

    def wait(self, within_s: float) -> bool:
        """Wait for a packet."""

    def dropped(self) -> int:
        """Packets that the system dropped since the start, for want of room."""

    def close(self) -> None:
        """Stop listening."""


def split(address: str) -> tuple[str, str, int]:
    """`udp://127.0.0.1:3333` as scheme, host and port; `ipc:///path` has no port.

    Raises:
        ConfigError: it is no such address.
    """
    try:
        url = urlsplit(address)
        scheme, host, port = url.scheme, url.hostname, url.port
    except ValueError as error:
        raise ConfigError(f"{address!r}: {error}") from None
    if scheme == "ipc" and url.path.startswith("/") and len(url.path) > 1 and not url.netloc:
        return scheme, url.path, 0
    if scheme not in ("udp", "tcp") or host is None or port is None or url.path:
        raise ConfigError(
            f"{address!r}: must be udp://ADDRESS:PORT, or for ZeroMQ tcp://ADDRESS:PORT or ipc:///path: for example "
            "udp://127.0.0.1:3333"
        )
    return scheme, "127.0.0.1" if host == "localhost" else host, port


def host_of(address: str) -> Address | None:
    """The IP address of `split`; None for ipc.

    Raises:
        ConfigError: it is none.
    """
    scheme, host, _ = split(address)
    if scheme == "ipc":
        return None
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        raise ConfigError(f"{address!r}: {host!r} is no IP address: name one of this machine's, not a name") from None


class UdpPort:
    """A UDP socket.

    Args:
        address: `udp://…`.
        buffer_bytes: wished size of the kernel's buffer.
        allow: who may send; empty: this machine alone, to which the address is bound.

    Raises:
        UnavailableError: the address cannot be had.
    """

    def __init__(self, address: str, buffer_bytes: int, allow: tuple[Network, ...]) -> None:
        host = host_of(address)
        assert host is not None  # noqa: S101 (the scheme is udp)
        family = socket.AF_INET6 if host.version == 6 else socket.AF_INET
        self._allow = allow
        self._known: dict[str, bool] = {}
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._socket.setblocking(False)  # noqa: FBT003 (the standard library's signature)
        self.buffer_bytes = self._make_room(buffer_bytes)
        try:
            self._socket.bind((str(host), split(address)[2]))
        except OSError as error:
            self._socket.close()
            fix = "another program listens there" if error.errno == errno.EADDRINUSE else "is it this machine's?"
            raise UnavailableError(f"{address}: cannot be listened to: {error.strerror}: {fix}") from None
        name = self._socket.getsockname()
        self.address = name[0], int(name[1])
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)
        self.about = f"{address}, kernel buffer {self.buffer_bytes / (1 << 20):.1f} MiB"
        if self.buffer_bytes < buffer_bytes:
            self.about += (
                f" instead of {buffer_bytes / (1 << 20):.1f}: bursts may be lost: raise it with "
                f"'sysctl -w net.core.rmem_max={buffer_bytes}'"
            )

    def _make_room(self, size: int) -> int:
        """Set the kernel's buffer; its real size, of which packets take more than their own bytes."""
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, size)  # needs CAP_NET_ADMIN
        except OSError:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
        # The kernel says twice what was asked for, since it counts its own bookkeeping.
        return self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2

    def read(self, head: bytearray, body: memoryview) -> int:
        """See `Port.read`."""
        try:
            size, _, flags, sender = self._socket.recvmsg_into([head, body])
        except (BlockingIOError, InterruptedError):
            return -1
        except OSError:  # such as an ICMP error of an earlier packet: nothing is lost by it
            return -2
        if flags & _CUT or (self._allow and not self._allowed(sender[0])):
            return -2
        return size

    def _allowed(self, host: str) -> bool:
        known = self._known.get(host)
        if known is None:
            address = ipaddress.ip_address(host.partition("%")[0])
            address = getattr(address, "ipv4_mapped", None) or address  # what an IPv6 socket makes of IPv4
            known = any(address in network for network in self._allow)
            if len(self._known) > 1000:
                self._known.clear()
            self._known[host] = known
        return known

    def wait(self, within_s: float) -> bool:
        """See `Port.wait`."""
        return bool(self._poll.poll(within_s * 1000))

    def dropped(self) -> int:
        """See `Port.dropped`."""
        raw = self._socket.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 36)
        return int(struct.unpack("=9I", raw)[_DROPS]) if len(raw) == 36 else 0

    def close(self) -> None:
        """See `Port.close`."""
        self._socket.close()


class ZmqPort:
    """A ZeroMQ SUB socket that senders connect to with PUB.

    Args:
        address: `tcp://127.0.0.1:…` or `ipc:///…`.

    Raises:
        UnavailableError: the address cannot be had.
    """

    def __init__(self, address: str) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.set(zmq.RCVHWM, RCVHWM)
        self._socket.set(zmq.LINGER, 0)
        self._socket.set(zmq.MAXMSGSIZE, MAX_PACKET_BYTES)
        self._socket.subscribe(b"")
        self._lock: IO[bytes] | None = None
        scheme, place, _ = split(address)
        try:
            if scheme == "ipc":
                self._lock = _claim(Path(place))
            self._socket.bind(address)
            if scheme == "ipc":
                Path(place).chmod(0o660)
        except (zmq.ZMQError, OSError) as error:
            self.close()
            raise UnavailableError(f"{address}: cannot be listened to: {error}") from None
        self.buffer_bytes = RCVHWM * MAX_PACKET_BYTES
        self.about = f"{address}, buffer of {RCVHWM} packets"

    def read(self, head: bytearray, body: memoryview) -> int:
        """See `Port.read`."""
        try:
            frames = self._socket.recv_multipart(zmq.NOBLOCK)
        except zmq.ZMQError:
            return -1
        packet = frames[0]
        if len(frames) != 1 or len(packet) > MAX_PACKET_BYTES:
            return -2
        start, rest = packet[: len(head)], packet[len(head) :]
        head[: len(start)] = start
        body[: len(rest)] = rest
        return len(packet)

    def wait(self, within_s: float) -> bool:
        """See `Port.wait`."""
        return bool(self._socket.poll(max(1, round(within_s * 1000)) if within_s else 0))

    def dropped(self) -> int:
        """A sender drops what finds no room: it is known from the numbers alone."""
        return 0

    def close(self) -> None:
        """See `Port.close`."""
        self._socket.close()
        self._context.term()
        if self._lock is not None:
            self._lock.close()


def _claim(path: Path) -> IO[bytes]:
    """Lock a path: ZeroMQ would delete whatever is there, and steal the socket of another daemon without a word.

    Raises:
        OSError: it is taken.
    """
    if path.exists() and not path.is_socket():
        raise OSError(errno.EEXIST, "something is there that is no socket: name another path", str(path))
    lock = os.fdopen(os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600), "rb+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise OSError(errno.EADDRINUSE, "another program listens there", str(path)) from None
    return lock

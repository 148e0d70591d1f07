"""The gate before the daemon's sockets: how many connect, and what each may send before it is closed.

A subscriber has next to nothing to say, and ZeroMQ keeps what it says without any bound: each distinct subscription
takes about 3 KB of a prefix tree, for good, and the parts of a message that never ends are kept until it does. So every
connection is known here by its descriptor, which ZeroMQ's monitor tells, and one that says too much is shut down. Three
things are counted: messages that arrived, bytes that came over TCP (the kernel counts them), and how often a look finds
bytes that nobody has read yet, which a subscriber has for microseconds and a flood always.
"""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import logging
import os
import resource
import socket
import struct
import termios
import time
from dataclasses import dataclass, field

import zmq

log = logging.getLogger(__name__)

UNREAD_LIMIT = 8.0
"""Points for looks that find unread bytes, before a connection is closed."""
MUCH_BYTES, MUCH, LITTLE = 4096, 4.0, 0.25
"""More unread bytes than a subscriber ever sends at once weigh more: a thread that starves leaves some unread too."""
FORGIVEN_S = 600.0
"""In this time one point is forgiven."""
TCP_BYTES, TCP_BYTES_A_SECOND = 32 << 10, 512
"""What a connection over TCP may send: at first, and from then on (heartbeats are some 60 bytes)."""
BYTES_RECEIVED = 128
"""Offset of tcpi_bytes_received in Linux's struct tcp_info."""
DESCRIPTORS, OTHERS, A_CONNECTION = 65_536, 256, 8
"""Wanted in all; of these for all else, and for a burst; for each of `max_connections`: on two sockets, by ipc and TCP,
ZeroMQ's and the gate's."""
ZERO_COPY_RECV = 10
"""An option of ZeroMQ's contexts that pyzmq does not name."""
LOG_EVERY_S = 10.0
ACCEPTED, DISCONNECTED = int(zmq.EVENT_ACCEPTED), int(zmq.EVENT_DISCONNECTED)
FAILED = int(
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)
EVENTS = ACCEPTED | DISCONNECTED | FAILED | int(zmq.EVENT_ACCEPT_FAILED)


def make_room(most: int) -> int:
    """Let this process have descriptors for so many connections: ZeroMQ aborts when it has none for one that came.

    Args:
        most: connections at a time, of each of ipc and TCP.

    Returns:
        For how many there are.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(DESCRIPTORS, OTHERS + most * A_CONNECTION)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        more = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (more, hard))
            soft = more
    able = most if soft == resource.RLIM_INFINITY else max(1, (soft - OTHERS) // A_CONNECTION)
    if able < most:
        log.warning(
            "%d descriptors are for %d connections, not %d (publish.max_connections): raise LimitNOFILE or `ulimit -n`",
            soft, able, most,
        )  # fmt: skip
    return min(most, able)


def keep_small(context: zmq.Context[zmq.Socket[bytes]]) -> None:
    """Let what comes in be copied: else each part of a message that never ends holds the 8 KiB it was read into."""
    with contextlib.suppress(zmq.ZMQError):
        context.set(ZERO_COPY_RECV, 0)


@dataclass(frozen=True, slots=True)
class Allowance:
    """Messages that one connection may send: at first, and how many more each second."""

    first: int
    a_second: float


@dataclass(slots=True)
class _Connection:
    duplicate: socket.socket
    """Of ZeroMQ's descriptor: it stays this connection's, whatever becomes of the number."""
    who: str
    family: int
    since: float
    charged: float = 0.0
    unread: float = 0.0
    proven: bool = False
    """It said something that a subscriber would."""
    closing: bool = False
    user: str | None = None
    """The name of its key and the key, over TCP; None: it has not said anything yet."""


@dataclass(slots=True)
class Figures:
    """What became of connections, since the start."""

    accepted: int = 0
    refused: int = 0
    """Closed because there were too many, or one said too much."""
    handshakes_failed: int = 0


@dataclass(slots=True)
class Gate:
    """Watches one socket's connections. For one thread.

    Args:
        name: of the socket, for the log.
        watched: the socket, bound after this.
        most: connections at a time, of each of ipc and TCP.
        allowance: what one may send.
        longest: bytes of one message.
        ours: names of the socket's own ends (`getsockname`), added when it is bound.
    """

    name: str
    watched: zmq.Socket[bytes]
    most: int
    allowance: Allowance
    longest: int
    ours: set[object] = field(default_factory=set)
    figures: Figures = field(default_factory=Figures)
    monitor: zmq.Socket[bytes] = field(init=False)
    newest: float = 0.0
    """When the last connection came, of `time.monotonic`."""
    _connections: dict[int, _Connection] = field(default_factory=dict)
    _said: float = -LOG_EVERY_S
    _unsaid: int = 0

    def __post_init__(self) -> None:
        address = f"inproc://gate-{os.urandom(8).hex()}"
        self.watched.monitor(address, EVENTS)
        self.monitor = self.watched.context.socket(zmq.PAIR)
        # ZeroMQ's own thread would wait for room, and with it all that is published. It is emptied each tick.
        self.monitor.set(zmq.RCVHWM, 0)
        self.monitor.connect(address)

    def __len__(self) -> int:
        return len(self._connections)

    def take_events(self) -> None:
        """Take in who came and who went."""
        with contextlib.suppress(zmq.Again):
            while True:
                frames = self.monitor.recv_multipart(zmq.NOBLOCK)
                if len(frames) != 2 or len(frames[0]) != 6:
                    continue
                event, value = struct.unpack("=Hi", frames[0])
                if event == ACCEPTED:
                    self._enter(value)
                elif event == DISCONNECTED:
                    self._leave(value)
                elif event & FAILED:
                    self.figures.handshakes_failed += 1

    def charge(self, frame: zmq.Frame, *, proper: bool) -> None:
        """A message came in: charge it to its connection, and close that if it was one too many.

        Args:
            frame: as it was received.
            proper: it is what a subscriber would send.
        """
        try:
            connection = self._connections.get(int(frame.get(zmq.SRCFD)))
        except zmq.ZMQError:
            return
        if connection is None:
            return
        connection.proven |= proper
        if connection.family != socket.AF_UNIX:
            with contextlib.suppress(zmq.ZMQError):
                connection.user = str(frame.get("User-Id"))
        connection.charged += 1
        if len(frame) > self.longest:
            self._close(connection, "its messages are too long")
        if connection.charged > self.allowance.first + self.allowance.a_second * (time.monotonic() - connection.since):
            self._close(connection, "it sends too many messages")

    def look(self) -> bool:
        """Look at all connections, once a tick, and close those that flood; True: look again soon."""
        now, soon = time.monotonic(), False
        for connection in self._connections.values():
            if connection.closing:
                continue
            if unread := _unread(connection.duplicate):
                connection.unread += MUCH if unread > MUCH_BYTES else LITTLE
                soon = True
            allowed = UNREAD_LIMIT + (now - connection.since) / FORGIVEN_S
            if connection.unread > allowed:
                self._close(connection, "it never stops sending")
            elif connection.family != socket.AF_UNIX:
                most = TCP_BYTES + TCP_BYTES_A_SECOND * (now - connection.since)
                if _received(connection.duplicate) > most:
                    self._close(connection, "it sends too much")
        return soon

    def trim(self) -> None:
        """Close connections beyond the most. Those that came and what they said should have been taken in before."""
        for family in {one.family for one in self._connections.values()}:
            kin = [one for one in self._connections.values() if one.family == family and not one.closing]
            excess = len(kin) - self.most
            if excess <= 0:
                continue
            # A crowd that says nothing gives way to whoever comes; subscribers do not.
            giving_way = [one for one in kin if not one.proven] + [one for one in reversed(kin) if one.proven]
            for one in giving_way[:excess]:
                self._close(one, f"there are {self.most} connections")

    def put_out(self, allowed: set[str]) -> None:
        """Close the connections of users who are not allowed any longer.

        So are those that did not say anything yet, since nobody knows whose they are: clients come again.

        Args:
            allowed: users, as ZAP called them.
        """
        self.take_events()
        for connection in self._connections.values():
            if connection.family == socket.AF_UNIX or connection.user in allowed:
                continue
            if connection.user is None:
                self._close(connection, "it said nothing, and the list of who is allowed has changed")
            else:
                self._close(connection, f"{connection.user.rpartition(' ')[0]} is not on the list any longer")

    def close(self) -> None:
        """Let go of everything. The watched socket is still open."""
        self.watched.disable_monitor()
        self.monitor.close(0)
        for connection in self._connections.values():
            connection.duplicate.close()
        self._connections.clear()

    def _enter(self, fd: int) -> None:
        self._leave(fd)  # its number was used before, and that it was closed was not told
        try:
            number = os.dup(fd)
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                self._turn_away(fd)
            return  # or it has gone already
        try:
            duplicate = socket.socket(fileno=number)
        except OSError:
            os.close(number)  # by now it is a file's, say
            return
        try:
            here: object = duplicate.getsockname()
            here = here[1] if isinstance(here, tuple) else here
            if here not in self.ours:
                raise OSError  # noqa: TRY301 (the number belongs to something else by now)
            connection = _Connection(duplicate, _peer(duplicate), duplicate.family, time.monotonic())
        except OSError:
            duplicate.close()
            return
        self.figures.accepted += 1
        self.newest = connection.since
        self._connections[fd] = connection

    def _turn_away(self, fd: int) -> None:
        """No descriptor is left to watch it by: nobody stays who is not watched."""
        with contextlib.suppress(OSError):
            bare = socket.socket(fileno=fd)
            try:
                here: object = bare.getsockname()
                if (here[1] if isinstance(here, tuple) else here) in self.ours:
                    bare.shutdown(socket.SHUT_RDWR)
                    self.figures.refused += 1
            finally:
                bare.detach()  # it is ZeroMQ's

    def _leave(self, fd: int) -> None:
        connection = self._connections.pop(fd, None)
        if connection is not None:
            connection.duplicate.close()

    def _close(self, connection: _Connection, why: str) -> None:
        if connection.closing:
            return
        connection.closing = True
        self.figures.refused += 1
        with contextlib.suppress(OSError):
            connection.duplicate.shutdown(socket.SHUT_RDWR)
        now = time.monotonic()
        if now - self._said < LOG_EVERY_S:
            self._unsaid += 1
            return
        more = f" ({self._unsaid} more since the last such message)" if self._unsaid else ""
        log.warning("%s: closed the connection of %s: %s%s", self.name, connection.who, why, more)
        self._said, self._unsaid = now, 0


def _unread(duplicate: socket.socket) -> int:
    count = array.array("i", [0])
    try:
        fcntl.ioctl(duplicate, termios.FIONREAD, count)
    except OSError:
        return 0
    return count[0]


def _received(duplicate: socket.socket) -> int:
    try:
        info = duplicate.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, BYTES_RECEIVED + 8)
    except OSError:
        return 0
    return int(struct.unpack_from("=Q", info, BYTES_RECEIVED)[0]) if len(info) >= BYTES_RECEIVED + 8 else 0


def _peer(duplicate: socket.socket) -> str:
    if duplicate.family == socket.AF_UNIX:
        pid, uid, _ = struct.unpack("=3i", duplicate.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        return f"process {pid} of user {uid}"
    host, port, *_ = duplicate.getpeername()
    return f"{host}:{port}"

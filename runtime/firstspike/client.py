"""For applications: subscribe to a daemon's messages.

from firstspike.client import Subscriber
with Subscriber() as subscriber:
    for message in subscriber:
        print(message.label, message.confidence, message.status)
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import zmq

from firstspike import endpoints
from firstspike.claim import require_own
from firstspike.errors import ConfigError, DataError, UnavailableError
from firstspike.keys import KEY_BYTES, Pair, check_public, pair, read
from firstspike.messages import MAX_MESSAGE_BYTES, Decision, Energy, Health, Provisional, Snapshot, decode
from firstspike.topics import DECISION, SNAPSHOT_REQUEST, TOPICS, Topic

log = logging.getLogger(__name__)

Message = Decision | Health | Provisional | Energy


@dataclass(frozen=True, slots=True)
class _Curve:
    """What TCP needs."""

    server: bytes
    own: Pair


def _curve(endpoint: str, server_key: str | None, secret: Path | str | None) -> _Curve:
    if server_key is None or secret is None:
        raise ConfigError(
            f"endpoint {endpoint!r}: TCP needs keys: the daemon's public key (--server-key) and your own .key_secret "
            f"file (--keys), which `firstspike keys client NAME` makes"
        )
    file = Path(server_key)
    server = read(file)[0] if len(server_key) != KEY_BYTES or file.exists() else check_public(server_key)
    return _Curve(server, pair(Path(secret)))


class Subscriber:
    """Receives a daemon's messages and counts those that it lost.

    Args:
        endpoint: the daemon's `[publish] endpoint`; 'auto' is its default.
        topics: which topics to take.
        high_water_mark: messages kept while the application is busy; more are lost, and counted.
        server_key: over TCP, the daemon's public key: its text, or the file that holds it.
        keys: over TCP, this client's `.key_secret` file; the daemon's list must have its public key.

    Raises:
        ConfigError: the endpoint is none, or TCP lacks its keys.
        UnavailableError: its folder in a shared place is someone else's, who could pass for the daemon.

    Attributes:
        lost: messages missed, by topic, known from the gaps in `seq`.
        malformed: frames that were no valid message: dropped.
        restarts: times the daemon's epoch changed.
        epoch: the daemon's current run, None before the first message.

    Not thread-safe: one Subscriber a thread.
    """

    def __init__(
        self, endpoint: str = endpoints.AUTO, *, topics: tuple[Topic, ...] = (DECISION,), high_water_mark: int = 1000,
        server_key: str | None = None, keys: Path | str | None = None,
    ) -> None:  # fmt: skip
        self._curve: _Curve | None = None
        if endpoint.startswith(endpoints.TCP):
            self.endpoint = endpoints.resolve_tcp(endpoint)
            self._curve = _curve(endpoint, server_key, keys)
        else:
            self.endpoint = endpoints.of_daemon(endpoint)
            with contextlib.suppress(OSError):  # it is not there yet, say
                require_own(endpoints.path_of(self.endpoint).parent)
        self.lost = {topic.name: 0 for topic in TOPICS}
        self.malformed = 0
        self.restarts = 0
        self.epoch: str | None = None
        self._expected: dict[str, int] = {}
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.set(zmq.RCVHWM, high_water_mark)
        self._socket.set(zmq.LINGER, 0)
        self._socket.set(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
        self._socket.set(zmq.RECONNECT_IVL, 100)
        self._socket.set(zmq.RECONNECT_IVL_MAX, 1000)
        for topic in topics:
            self._socket.subscribe(topic.prefix)
        self._secure(self._socket)
        self._socket.connect(self.endpoint)

    def receive(self, timeout_s: float | None = None) -> Message | None:
        """The next message, or None if none came in time. Waits for a daemon that is not there yet."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            left = None if deadline is None else max(0, round((deadline - time.monotonic()) * 1000))
            if not self._socket.poll(left):
                return None
            frames = self._socket.recv_multipart()
            topic = next((topic for topic in TOPICS if frames[0].startswith(topic.prefix)), None)
            if topic is None or len(frames) != 2:
                self.malformed += 1
                continue
            try:
                message = decode(frames[1], topic.model)
            except DataError as error:
                self.malformed += 1
                log.warning("%s: %s", self.endpoint, error)
                continue
            assert isinstance(message, Message)  # noqa: S101 (what the topic table holds)
            if topic.frame(message.stream) != frames[0]:
                self.malformed += 1
                continue
            self._count(topic, message)
            return message

    def __iter__(self) -> Iterator[Message]:
        """All messages, for ever."""
        while True:
            if (message := self.receive()) is not None:
                yield message

    def _count(self, topic: Topic, message: Message) -> None:
        key = topic.key(message.stream)
        # Deterministic replays of one bundle share their epoch: there, a count that goes back tells of the restart.
        if message.epoch != self.epoch or message.seq < self._expected.get(key, 0):
            self.restarts += self.epoch is not None
            self.epoch = message.epoch
            self._expected = {}
        expected = self._expected.get(key, message.seq)
        self.lost[topic.name] += max(0, message.seq - expected)
        self._expected[key] = message.seq + 1

    def snapshot(self, timeout_s: float = 1.0) -> Snapshot:
        """Ask the daemon for its state: the last decision and health, and the next `seq` of each topic.

        Raises:
            UnavailableError: no daemon answered in time.
        """
        socket = self._context.socket(zmq.DEALER)
        try:
            socket.set(zmq.LINGER, 0)
            socket.set(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
            self._secure(socket)
            socket.connect(endpoints.snapshot_of(self.endpoint))
            socket.send(SNAPSHOT_REQUEST)
            if not socket.poll(round(timeout_s * 1000)):
                raise UnavailableError(
                    f"{self.endpoint}: no daemon answered within {timeout_s:g} s: is it running?{self._doubt}"
                )
            return decode(socket.recv(), Snapshot)
        finally:
            socket.close()

    def _secure(self, socket: zmq.Socket[bytes]) -> None:
        if self._curve is not None:
            socket.set(zmq.CURVE_SERVERKEY, self._curve.server)
            socket.set(zmq.CURVE_PUBLICKEY, self._curve.own.public)
            socket.set(zmq.CURVE_SECRETKEY, self._curve.own.secret)

    @property
    def _doubt(self) -> str:
        return " Is its key the one given, and is this client's on its list?" if self._curve is not None else ""

    def close(self) -> None:
        """Disconnect."""
        self._socket.close()
        self._context.term()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

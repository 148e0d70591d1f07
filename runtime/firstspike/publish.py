"""What leaves the daemon: a PUB socket for messages, a ROUTER that answers with the state. Neither takes commands."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zmq

from firstspike import endpoints
from firstspike.errors import ConfigError, OutputError, UnavailableError
from firstspike.messages import Decision, Energy, Health, Provisional, Snapshot, StreamState, encode
from firstspike.progress import THREADS
from firstspike.topics import DECISION, ENERGY, HEALTH, PROVISIONAL, TOPICS, Topic

log = logging.getLogger(__name__)

SNAPSHOT_REQUEST = b"snapshot"
MAX_REQUEST_BYTES = 64
LINGER_MS = 500
POLL_MS = 50


class Publisher:
    """Owns the daemon's sockets.

    Args:
        endpoint: resolved ipc endpoint (`endpoints.resolve`).
        epoch: this run's name.
        high_water_mark: messages kept for a subscriber that is slow; beyond it, that subscriber loses the newest and
            sees a gap in `seq`. Nobody else is affected.

    Raises:
        UnavailableError: another daemon has this endpoint.
        OutputError: the sockets' folder cannot be made or written.
    """

    def __init__(self, endpoint: str, epoch: str, *, high_water_mark: int = 1000) -> None:
        self._lock_file = _claim(endpoint)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        # XPUB is PUB that tells of subscriptions, which `wait_for_subscriber` needs; what else comes in is thrown away.
        try:
            self._pub = self._bind(zmq.XPUB, endpoint, high_water_mark)
            self._router = self._bind(zmq.ROUTER, endpoints.snapshot_of(endpoint), 16)
        except BaseException:
            self._context.destroy(linger=0)
            self._lock_file.close()
            raise
        self._pub.set(zmq.XPUB_VERBOSE, 1)
        self._send_lock = threading.Lock()
        self._subscribed = threading.Event()
        next_seq = dict.fromkeys((topic.name for topic in TOPICS), 0)
        self._state = Snapshot(epoch=epoch, next_seq=next_seq, decision=None, health=None)
        self._closing = threading.Event()
        self._part = THREADS.loop("snapshot")
        self._thread = threading.Thread(target=self._answer_snapshots, name="snapshot", daemon=True)
        self._thread.start()

    def _bind(self, kind: int, endpoint: str, high_water_mark: int) -> zmq.Socket[bytes]:
        socket = self._context.socket(kind)
        socket.set(zmq.SNDHWM, high_water_mark)
        socket.set(zmq.RCVHWM, 100)
        socket.set(zmq.LINGER, LINGER_MS)
        socket.set(zmq.MAXMSGSIZE, MAX_REQUEST_BYTES)
        path = endpoints.path_of(endpoint)
        if path.exists() and not path.is_socket():
            # ZeroMQ would delete whatever is there.
            raise ConfigError(f"{path}: exists and is no socket: set [publish] endpoint to a path of its own")
        try:
            socket.bind(endpoint)
            endpoints.path_of(endpoint).chmod(0o660)
        except (zmq.ZMQError, OSError) as error:
            raise UnavailableError(f"{endpoint}: cannot be bound: {error}") from None
        return socket

    def publish_decision(self, decision: Decision) -> None:
        """Send a decision; its `seq` must be the next one."""
        self._send(DECISION, decision, decision.seq)

    def publish_provisional(self, provisional: Provisional) -> None:
        """Send a provisional decision; its `seq` must be the next one. A snapshot does not hold it: it is soon over."""
        self._send(PROVISIONAL, provisional, provisional.seq)

    def publish_health(self, make: Callable[[int], Health], stream: str | None = None) -> None:
        """Send health of a stream; `make` gets the `seq` to use."""
        health = make(self._state.next_seq.get(HEALTH.key(stream), 0))
        self._send(HEALTH, health, health.seq)

    def publish_energy(self, energy: Energy) -> None:
        """Send an energy record; its `seq` must be the next one."""
        self._send(ENERGY, energy, energy.seq)

    def _send(self, topic: Topic, message: Decision | Energy | Health | Provisional, seq: int) -> None:
        payload = encode(message)
        with self._send_lock:
            # PUB never blocks: a subscriber whose queue is full loses the message and sees the gap.
            self._pub.send_multipart([topic.frame(message.stream), payload], zmq.NOBLOCK)
            # One assignment of all that a snapshot shows, so that its parts belong together.
            next_seq = self._state.next_seq | {topic.key(message.stream): seq + 1}
            last: dict[str, Any] = {} if isinstance(message, Provisional) else {topic.name: message}
            if isinstance(message, Energy):
                last = {topic.name: [*(one for one in self._state.energy if not one.is_of(message)), message]}
            elif last and message.stream is not None:
                streams = self._state.streams
                state = streams.get(message.stream, StreamState()).model_copy(update=last)
                last = {"streams": streams | {message.stream: state}}
            self._state = self._state.model_copy(update={"next_seq": next_seq, **last})
            self._take_subscription()

    def _take_subscription(self) -> None:
        """Take in what a subscriber sent, if anything: a subscription is the byte 1 and a prefix of the topics."""
        with contextlib.suppress(zmq.Again):
            frame = self._pub.recv(zmq.NOBLOCK)
            prefix = frame[1:]  # also of one stream's decisions alone
            if frame[:1] == b"\x01" and (DECISION.prefix.startswith(prefix) or prefix.startswith(DECISION.prefix)):
                self._subscribed.set()

    def wait_for_subscriber(self, timeout_s: float, stopping: Callable[[], bool]) -> bool:
        """Wait until someone new subscribes to decisions; False if the time ran out or `stopping` said so."""
        deadline = time.monotonic() + timeout_s
        while not stopping() and time.monotonic() < deadline:
            with self._send_lock:
                self._take_subscription()
            if self._subscribed.wait(POLL_MS / 1000):
                self._subscribed.clear()
                return True
        return False

    def _answer_snapshots(self) -> None:
        while not self._closing.is_set():
            self._part.beat()
            if not self._router.poll(POLL_MS):
                continue
            frames = self._router.recv_multipart()
            # [identity, request] from a DEALER, [identity, empty, request] from a REQ; anything else is no business.
            if frames[-1] != SNAPSHOT_REQUEST or len(frames) > 3:
                continue
            with contextlib.suppress(zmq.ZMQError):
                self._router.send_multipart([*frames[:-1], encode(self._state)], zmq.NOBLOCK)

    def close(self) -> None:
        """Send what is queued, for half a second at most, and free the endpoint."""
        self._closing.set()
        THREADS.leave(self._part)
        self._thread.join()
        self._pub.close()
        self._router.close()
        self._context.term()
        self._lock_file.close()


def _claim(endpoint: str) -> Any:
    """Lock the endpoint: ZeroMQ's second bind would silently steal the path from the first."""
    path = endpoints.path_of(endpoint)
    try:
        path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        require_own(path.parent)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        lock = os.fdopen(os.open(f"{path}.lock", flags, 0o600), "rb+")
    except OSError as error:
        raise OutputError(f"{path.parent}: no place for sockets: {error.strerror}: set [publish] endpoint") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise UnavailableError(
            f"{endpoint}: another firstspike publishes here: stop it or set [publish] endpoint"
        ) from None
    return lock


def require_own(folder: Path) -> None:
    """Refuse a folder in a shared place that someone else made: they could read or replace the sockets.

    Raises:
        UnavailableError: it is such a folder.
        OSError: it is not there.
    """
    found = folder.lstat()
    if folder.name != f"firstspike-{os.getuid()}":
        return
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise UnavailableError(
            f"{folder}: is not a folder that only you can write: remove it or set [publish] endpoint"
        )

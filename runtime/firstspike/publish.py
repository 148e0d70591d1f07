"""What leaves the daemon: an XPUB socket for messages, a ROUTER that answers with the state. Neither takes commands.

Both are bound on this machine, and over TCP too if there are keys and a list of who is allowed (`access`). What comes
in is thrown away unread, but for subscriptions and one tiny request; `gate` bounds it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import zmq

from firstspike import access, claim, endpoints
from firstspike.access import Remote
from firstspike.errors import ConfigError, UnavailableError
from firstspike.gate import Allowance, Gate, keep_small
from firstspike.messages import Decision, Energy, Health, Provisional, Snapshot, StreamState, encode
from firstspike.progress import THREADS
from firstspike.topics import DECISION, ENERGY, HEALTH, PROVISIONAL, SNAPSHOT_REQUEST, TOPICS, Topic

log = logging.getLogger(__name__)

MAX_REQUEST_BYTES = 64
MAX_CONNECTIONS = 128
LINGER_MS = 500
POLL_MS, SOON_MS, QUIET_MS = 50, 5, 250
"""Between looks at the connections: while one is new; if one may flood; if all are settled. If there are none, it rests
as long as it may: a new one is told of at once."""
SETTLED_S = 5.0
HANDSHAKE_MS = 3000
"""A connection that has not introduced itself by then is closed."""
AT_ONCE = 2
"""Messages that may wait in a connection. ZeroMQ takes in all that come before it sends the next decision: with 100,
one subscriber that never stops subscribing held a decision up for 3 s. (With 1, connections that ZAP lets in stall.)"""
SUBSCRIPTIONS = Allowance(64, 1.0)
REQUESTS = Allowance(20, 20.0)
MOST_A_TICK = 256


class Publisher:
    """Owns the daemon's sockets.

    Args:
        endpoint: resolved ipc endpoint (`endpoints.resolve`).
        epoch: this run's name.
        high_water_mark: messages kept for a subscriber that is slow; beyond it, that subscriber loses the newest and
            sees a gap in `seq`. Nobody else is affected.
        remote: how to publish over TCP as well; None: nothing leaves this machine.
        group: whose members may subscribe on this machine; empty: the daemon's own.
        max_connections: at a time, of each of ipc and TCP.

    Raises:
        UnavailableError: another daemon has this endpoint.
        OutputError: the sockets' folder cannot be made or written.
        ConfigError: the group is none, or not the daemon's to give; or the endpoint's place is taken by a file.
    """

    def __init__(
        self, endpoint: str, epoch: str, *, high_water_mark: int = 1000, remote: Remote | None = None, group: str = "",
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:  # fmt: skip
        gid = claim.group_id(group)
        self._lock_file = claim.claim(endpoint, gid)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        keep_small(self._context)
        self._allowed = remote.allowed if remote else None
        # XPUB is PUB that tells of subscriptions, which `wait_for_subscriber` and the gate need.
        try:
            self._zap = self._context.socket(zmq.REP)
            self._zap.bind(access.ZAP_ENDPOINT)
            self._pub = self._socket(zmq.XPUB, high_water_mark)
            self._pub.set(zmq.XPUB_VERBOSER, 1)
            self._router = self._socket(zmq.ROUTER, 16)
            self._pub_gate = Gate("publish socket", self._pub, max_connections, SUBSCRIPTIONS, MAX_REQUEST_BYTES)
            self._router_gate = Gate("snapshot socket", self._router, max_connections, REQUESTS, MAX_REQUEST_BYTES)
            self._bind(self._pub_gate, endpoint, gid)
            self._bind(self._router_gate, endpoints.snapshot_of(endpoint), gid)
            if remote is not None:
                self._bind_tcp(self._pub_gate, remote.endpoint, remote)
                self._bind_tcp(self._router_gate, endpoints.snapshot_of(remote.endpoint), remote)
        except BaseException:
            self._context.destroy(linger=0)
            self._lock_file.close()
            raise
        self._send_lock = threading.Lock()
        self._arrived: deque[zmq.Frame] = deque()
        """What came in on the publish socket and was not looked at yet."""
        self._subscribed = threading.Semaphore(0)
        """Subscriptions to decisions that nobody has waited for yet."""
        next_seq = dict.fromkeys((topic.name for topic in TOPICS), 0)
        self._state = Snapshot(epoch=epoch, next_seq=next_seq, decision=None, health=None)
        self._encoded: tuple[Snapshot, bytes] | None = None
        self._closing = threading.Event()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC)
        """Readable when the door's keeper is to end."""
        self._part = THREADS.loop("door")
        self._thread = threading.Thread(target=self._keep_door, name="door", daemon=True)
        self._thread.start()

    def _socket(self, kind: int, high_water_mark: int) -> zmq.Socket[bytes]:
        socket = self._context.socket(kind)
        socket.set(zmq.SNDHWM, high_water_mark)
        socket.set(zmq.RCVHWM, AT_ONCE)
        socket.set(zmq.LINGER, LINGER_MS)
        socket.set(zmq.MAXMSGSIZE, MAX_REQUEST_BYTES)
        socket.set(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
        return socket

    @staticmethod
    def _bind(gate: Gate, endpoint: str, gid: int) -> None:
        path = endpoints.path_of(endpoint)
        if path.exists() and not path.is_socket():
            # ZeroMQ would delete whatever is there.
            raise ConfigError(f"{path}: exists and is no socket: set [publish] endpoint to a path of its own")
        gate.ours.add(str(path))
        before = os.umask(0o117)  # not even for a moment is it everybody's
        try:
            gate.watched.bind(endpoint)
            claim.give(path, gid)
            path.chmod(0o660)
        except (zmq.ZMQError, OSError) as error:
            raise UnavailableError(f"{endpoint}: cannot be bound: {error}") from None
        finally:
            os.umask(before)

    @staticmethod
    def _bind_tcp(gate: Gate, endpoint: str, remote: Remote) -> None:
        # A socket's options hold for what it binds from then on: what is bound on this machine needs no keys.
        access.secure(gate.watched, remote)
        gate.ours.add(int(endpoint.rpartition(":")[2]))
        try:
            gate.watched.bind(endpoint)
        except zmq.ZMQError as error:
            raise UnavailableError(f"{endpoint}: cannot be bound: {error}") from None

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
            # Asking makes ZeroMQ take notice of what subscribers have read since; by itself it does so once in 1 ms.
            with contextlib.suppress(zmq.Again):
                self._arrived.append(self._pub.recv(zmq.NOBLOCK, copy=False))
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

    def wait_for_subscriber(self, timeout_s: float, stopping: Callable[[], bool]) -> bool:
        """Wait until someone new subscribes to decisions; False if the time ran out or `stopping` said so."""
        deadline = time.monotonic() + timeout_s
        while not stopping() and time.monotonic() < deadline:
            if self._subscribed.acquire(timeout=POLL_MS / 1000):
                return True
        return False

    def next_seq(self) -> dict[str, int]:
        """Messages published so far, by topic."""
        return self._state.next_seq

    def connections(self) -> dict[str, int]:
        """How many are connected, and what became of connections since the start, for metrics."""
        gates = (self._pub_gate, self._router_gate)
        totals = {name: sum(asdict(gate.figures)[name] for gate in gates) for name in asdict(gates[0].figures)}
        return {"subscribers": len(self._pub_gate), **totals}

    def _keep_door(self) -> None:
        """Answer snapshots and ZAP, and keep the gates."""
        poller = zmq.Poller()
        doors = (
            (self._zap, self._answer_zap),
            (self._pub_gate.monitor, self._take_subscriptions),
            (self._router_gate.monitor, self._answer_snapshots),
            (self._router, self._answer_snapshots),
        )
        for socket, _ in doors:
            poller.register(socket, zmq.POLLIN)
        poller.register(self._wake, zmq.POLLIN)
        next_look = next_refresh = 0.0
        wait_ms = POLL_MS
        while not self._closing.is_set():
            self._part.beat()
            ready = dict(poller.poll(wait_ms))
            try:
                # What has nothing to say is not asked: that would be most of the work while nothing happens.
                for socket, answer in doors:
                    if socket in ready:
                        answer()
                if (now := time.monotonic()) < next_look:
                    continue
                self._take_subscriptions()
                soon = [gate.look() for gate in (self._pub_gate, self._router_gate)]
                newest = max(self._pub_gate.newest, self._router_gate.newest)
                quiet = QUIET_MS if len(self._pub_gate) or len(self._router_gate) else round(1000 * THREADS.rest_s)
                wait_ms = SOON_MS if any(soon) else POLL_MS if now - newest < SETTLED_S else quiet
                next_look = now + min(wait_ms, POLL_MS) / 1000
                if now >= next_refresh:
                    next_refresh = now + access.LOOK_S
                    self._refresh_allowed()
            except Exception:  # a fault here must not leave the door without its keeper
                log.exception("the sockets' keeper")

    def _take_subscriptions(self) -> None:
        """Take in who came, and what they sent: a subscription is the byte 1 and a prefix of the topics, 0 ends it."""
        with self._send_lock:
            for _ in range(MOST_A_TICK):
                if not int(self._pub.get(zmq.EVENTS)) & zmq.POLLIN:
                    break
                self._arrived.append(self._pub.recv(zmq.NOBLOCK, copy=False))
        self._pub_gate.take_events()  # who came is known before what it says
        while self._arrived:
            frame = self._arrived.popleft()
            data = frame.bytes
            wanted = [topic for topic in TOPICS if data[:1] == b"\x01" and _meets(topic, data[1:])]
            self._pub_gate.charge(frame, proper=bool(wanted))
            if DECISION in wanted:
                self._subscribed.release()
        self._pub_gate.trim()

    def _answer_snapshots(self) -> None:
        """Take in who came, and answer who asks."""
        self._router_gate.take_events()
        self._answer_requests()
        self._router_gate.trim()

    def _answer_requests(self) -> None:
        for _ in range(MOST_A_TICK):
            try:
                frames = self._router.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            # [identity, request] from a DEALER, [identity, empty, request] from a REQ; anything else is no business.
            proper = frames[-1].bytes == SNAPSHOT_REQUEST and len(frames) <= 3
            self._router_gate.charge(frames[-1], proper=proper)
            if not proper:
                continue
            state = self._state
            if self._encoded is None or self._encoded[0] is not state:
                self._encoded = (state, encode(state))
            with contextlib.suppress(zmq.ZMQError):
                self._router.send_multipart([*frames[:-1], self._encoded[1]], zmq.NOBLOCK)

    def _answer_zap(self) -> None:
        with contextlib.suppress(zmq.Again):
            while True:
                request = self._zap.recv_multipart(zmq.NOBLOCK)
                # Without a list nobody is asked for: then this refuses whoever asks.
                self._zap.send_multipart(access.answer(request, self._allowed))

    def _refresh_allowed(self) -> None:
        if self._allowed is not None and self._allowed.refresh():
            users = self._allowed.users()
            self._pub_gate.put_out(users)
            self._router_gate.put_out(users)

    def close(self) -> None:
        """Send what is queued, for half a second at most, and free the endpoint."""
        self._closing.set()
        os.eventfd_write(self._wake, 1)
        THREADS.leave(self._part)
        self._thread.join()
        os.close(self._wake)
        for gate in (self._pub_gate, self._router_gate):
            gate.close()
        for socket in (self._pub, self._router, self._zap):
            socket.close()
        self._context.term()
        self._lock_file.close()


def _meets(topic: Topic, prefix: bytes) -> bool:
    """Whether a subscription to this prefix can be met by the topic, or by a part of it."""
    return topic.prefix.startswith(prefix) or prefix.startswith(topic.prefix)

"""Who may subscribe over TCP: CURVE keys on an allow-list, asked by ZeroMQ through ZAP (RFC 27) for every connection.

It fails closed: ZeroMQ is told to refuse whoever nobody vouched for, so without an answer from here nobody gets in.
"""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

import zmq
from zmq.utils import z85

from firstspike import endpoints, keys
from firstspike.errors import ConfigError, FirstspikeError

log = logging.getLogger(__name__)

ZAP_ENDPOINT = "inproc://zeromq.zap.01"
ZAP_DOMAIN = b"firstspike"
HANDSHAKE_BYTES = 1024
"""CURVE's greetings have up to some 400; what is larger is refused unread."""
LOG_EVERY_S = 1.0
LOOK_S = 1.0
"""Between looks whether the list has changed."""


@dataclass(slots=True)
class AllowList:
    """The keys of `clients/`, read again when the folder changes: nobody waits for a restart to be let in or put out.

    Args:
        folder: the folder of keys.

    Raises:
        ConfigError: the list cannot be used, or is empty.
    """

    folder: Path
    _names: dict[bytes, str] = field(default_factory=dict)
    _stamp: object = None

    def __post_init__(self) -> None:
        self._stamp = self._look()
        self._names = _by_key(keys.allowed(self.folder))
        if not self._names:
            raise ConfigError(
                f"{self.folder / keys.CLIENTS}: TCP needs a list of who may subscribe, and nobody is on it: "
                f"run `firstspike keys allow NAME PUBLIC_KEY --keys {self.folder}`"
            )

    def name_of(self, key: bytes) -> str | None:
        """Whose key (32 bytes) it is; None if it is not allowed."""
        return self._names.get(key)

    def names(self) -> set[str]:
        """Everyone on the list."""
        return set(self._names.values())

    def user_of(self, key: bytes) -> str | None:
        """Who has this key, as a connection is called: the name and the key, since a name may be given another one."""
        name = self.name_of(key)
        return None if name is None else f"{name} {z85.encode(key).decode()}"

    def users(self) -> set[str]:
        """What `user_of` says of everyone on the list."""
        return {user for key in self._names if (user := self.user_of(key)) is not None}

    def refresh(self) -> bool:
        """Read the list again if it has changed; True if it had. One that cannot be read lets nobody in."""
        stamp = self._look()
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        try:
            self._names = _by_key(keys.allowed(self.folder))
        except ConfigError as error:
            self._names = {}
            log.error("%s: nobody is let in until that is mended", error)  # noqa: TRY400 (a user's file)
        else:
            log.info("%s: %d subscribers are allowed", self.folder / keys.CLIENTS, len(self._names))
        return True

    def _look(self) -> object:
        place = self.folder / keys.CLIENTS
        try:
            with os.scandir(place) as entries:
                found = sorted((entry.name, _stamp(entry.stat())) for entry in entries)
            return place.stat().st_mode, found
        except OSError as error:
            return error.errno


@dataclass(frozen=True, slots=True)
class Remote:
    """How the daemon publishes over TCP."""

    endpoint: str
    pair: keys.Pair
    allowed: AllowList


def remote(tcp: str, folder: str, base: Path) -> Remote | None:
    """What `[publish] tcp` and `keys` ask for; None: nothing leaves this machine.

    Raises:
        ConfigError: TCP without all that it needs: an address, the daemon's key, and a list of who is allowed.
    """
    if not tcp:
        return None
    try:
        place = keys.folder(folder, base)
        return Remote(endpoints.resolve_tcp(tcp), keys.server(place), AllowList(place))
    except FirstspikeError as error:
        raise ConfigError(f"publish.tcp = {tcp!r}: {error}") from None


def secure(socket: zmq.Socket[bytes], remote: Remote) -> None:
    """Let what a socket binds from now on speak CURVE, and ask ZAP about everyone."""
    socket.set(zmq.CURVE_SERVER, 1)
    socket.set(zmq.MAXMSGSIZE, HANDSHAKE_BYTES)
    socket.set(zmq.CURVE_PUBLICKEY, remote.pair.public)
    socket.set(zmq.CURVE_SECRETKEY, remote.pair.secret)
    socket.set(zmq.ZAP_DOMAIN, ZAP_DOMAIN)
    socket.set(zmq.ZAP_ENFORCE_DOMAIN, 1)
    socket.set(zmq.TCP_KEEPALIVE, 1)
    socket.set(zmq.TCP_KEEPALIVE_IDLE, 30)
    socket.set(zmq.TCP_KEEPALIVE_INTVL, 10)
    socket.set(zmq.TCP_KEEPALIVE_CNT, 3)


def answer(request: list[bytes], allowed: AllowList | None) -> list[bytes]:
    """ZAP's answer to a request: [version, id, domain, address, identity, mechanism, credentials…]."""
    user: str | None = None
    number = request[1] if len(request) > 1 else b""
    sound = len(request) == 7 and (request[0], request[2], request[5]) == (b"1.0", ZAP_DOMAIN, b"CURVE")
    if allowed is not None and sound:
        user = allowed.user_of(request[6])
    if user is None:
        if sound and len(request[6]) == 32:
            _refused(request[3].decode("ascii", "replace"), z85.encode(request[6]).decode())
        return [b"1.0", number, b"400", b"not allowed", b"", b""]
    return [b"1.0", number, b"200", b"OK", user.encode(), b""]


def _refused(address: str, key: str, last: list[float] = [-LOG_EVERY_S]) -> None:  # noqa: B006 (it remembers)
    """Say who was refused, now and then: strangers do not fill the log."""
    now = time.monotonic()
    if now - last[0] >= LOG_EVERY_S:
        last[0] = now
        log.warning("refused a subscriber from %.60s: its key %s is not on the list", address, key)


def _stamp(found: os.stat_result) -> tuple[int, ...]:
    return found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_size, found.st_mode


def _by_key(names: dict[str, bytes]) -> dict[bytes, str]:
    return {z85.decode(key): name for name, key in names.items()}

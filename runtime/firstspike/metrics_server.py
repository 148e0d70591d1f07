"""The daemon's HTTP: GET /metrics and /healthz, nothing else. One small request a connection, which is then closed."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import socket
import threading
import time
from collections.abc import Callable, Sequence

from firstspike.errors import ConfigError, UnavailableError
from firstspike.messages import Health

log = logging.getLogger(__name__)

MAX_REQUEST_BYTES = 4096
REQUEST_S = 2.0
"""A whole request and its answer may take so long."""
AT_ONCE = 4
"""Connections that are answered at a time; more wait, and beyond BACKLOG the kernel turns them away."""
BACKLOG = 8
POLL_S = 0.2
LOG_EVERY_S = 10.0


def address_of(text: str, *, allow_remote: bool) -> tuple[str, int]:
    """Address and port of `[metrics] address`.

    Raises:
        ConfigError: it is none, or not this machine's own without `allow_remote`.
    """
    host, _, port = text.rpartition(":")
    try:
        address = ipaddress.ip_address(host.strip("[]"))
        number = int(port) if port.isascii() and port.isdigit() else -1
    except ValueError:
        number = -1
    if not 1 <= number <= 65535:
        raise ConfigError(f"metrics.address = {text!r}: must be ADDRESS:PORT, such as 127.0.0.1:9464 or [::1]:9464")
    if not address.is_loopback and not allow_remote:
        raise ConfigError(
            f"metrics.address = {text!r}: anyone who reaches it could read there: take 127.0.0.1, or set "
            f"metrics.allow_remote = true"
        )
    return str(address), number


def serve(
    address: str, text: Callable[[], str], health: Callable[[], Sequence[Health]], *, allow_remote: bool
) -> MetricsServer:
    """Metrics and health (of each stream) of a daemon; the rest as `address_of` and `MetricsServer` have it."""

    def healthy() -> tuple[bool, str]:
        states = [one.state for one in health()]
        return all(state in ("running", "degraded") for state in states), " ".join(dict.fromkeys(states))

    server = MetricsServer(address_of(address, allow_remote=allow_remote), text, healthy)
    log.info("metrics on http://%s/metrics", address)
    if allow_remote:
        log.warning("metrics.allow_remote: whoever reaches %s can read them", address)
    return server


class MetricsServer:
    """Answers from threads of its own while it is entered.

    Args:
        address: and port, see `address_of`.
        text: makes the metrics.
        healthy: whether all is well, and a word on it; for /healthz.

    Raises:
        UnavailableError: the address cannot be had.
    """

    def __init__(
        self, address: tuple[str, int], text: Callable[[], str], healthy: Callable[[], tuple[bool, str]]
    ) -> None:
        self._text = text
        self._healthy = healthy
        self._closing = threading.Event()
        self._said = -LOG_EVERY_S
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        try:
            self._listener = socket.create_server(address, family=family, backlog=BACKLOG)
        except OSError as error:
            raise UnavailableError(
                f"metrics: {address[0]}:{address[1]} cannot be had: {error.strerror}: set [metrics] address"
            ) from None
        self._listener.settimeout(POLL_S)
        self.port = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._serve, name="metrics", daemon=True) for _ in range(AT_ONCE)]

    def __enter__(self) -> MetricsServer:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _serve(self) -> None:
        while not self._closing.is_set():
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                continue
            except OSError as error:  # no descriptors left, for one
                self._complain(error)
                self._closing.wait(POLL_S)
                continue
            with connection, contextlib.suppress(OSError):
                self._answer(connection)

    def _complain(self, error: OSError) -> None:
        now = time.monotonic()
        if now - self._said >= LOG_EVERY_S:
            self._said = now
            log.warning("metrics: %s", error.strerror)

    def _answer(self, connection: socket.socket) -> None:
        deadline = time.monotonic() + REQUEST_S
        request = b""
        while b"\r\n\r\n" not in request and b"\n\n" not in request:
            connection.settimeout(max(0.01, deadline - time.monotonic()))
            more = connection.recv(MAX_REQUEST_BYTES + 1 - len(request))
            request += more
            if not more or len(request) > MAX_REQUEST_BYTES or time.monotonic() > deadline:
                return
        status, kind, body = self._page(request.split(b"\r\n", 1)[0].split(b" "))
        head = (
            f"HTTP/1.1 {status}\r\nContent-Type: {kind}; charset=utf-8\r\nContent-Length: {len(body)}\r\n"
            "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n"
        )
        connection.settimeout(max(0.01, deadline - time.monotonic()))
        connection.sendall(head.encode() + body)

    def _page(self, words: list[bytes]) -> tuple[str, str, bytes]:
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
            return "400 Bad Request", "text/plain", b"not HTTP/1.1\n"
        if words[0] != b"GET":
            return "405 Method Not Allowed\r\nAllow: GET", "text/plain", b"only GET\n" * (words[0] != b"HEAD")
        try:
            match words[1].split(b"?", 1)[0]:
                case b"/metrics":
                    return "200 OK", "text/plain; version=0.0.4", self._text().encode()
                case b"/healthz":
                    well, word = self._healthy()
                    return "200 OK" if well else "503 Service Unavailable", "text/plain", f"{word}\n".encode()
                case _:
                    return "404 Not Found", "text/plain", b"here are /metrics and /healthz\n"
        except Exception:  # a fault here ends one answer, not the thread
            log.exception("metrics")
            return "500 Internal Server Error", "text/plain", b"see the daemon's log\n"

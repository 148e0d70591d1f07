"""Tells the service manager how the daemon is, by the datagrams of sd_notify(3): no library, no dependency.

READY once the daemon is running, STATUS as one line for `systemctl status`, RELOADING and READY around a change of the
configuration, STOPPING at the end. While back ends get ready (an engine may take minutes to be built) the manager's
patience is extended as long as there is progress. Its watchdog is fed by progress too (`progress`): a thread that
hangs, a deadlock, a stopped process all end in a restart, and the log says which part it was.

Without `$NOTIFY_SOCKET` all of this does nothing.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, MutableMapping

from firstspike.progress import Progress

log = logging.getLogger(__name__)

NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID = "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"
LOOK_S = 1.0
"""Between looks at progress and status, if the watchdog does not ask for more."""
PATIENCE_S = 30.0
"""The manager is asked to wait so much longer each time that the start has got on."""
MAX_STATUS = 500
SAID_AGAIN = {"STATUS", "WATCHDOG", "EXTEND_TIMEOUT_USEC"}
PATIENCE_OF_SEND_S = 5


class Notifier:
    """The manager's socket. What was in the environment is taken out: children do not speak for the daemon.

    Args:
        environment: where the socket and the watchdog's time are named.
    """

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        self._address = environment.pop(NOTIFY_SOCKET, "")
        pid = environment.pop(WATCHDOG_PID, "")
        usec = environment.pop(WATCHDOG_USEC, "")
        ours = pid in ("", str(os.getpid()))
        self.watchdog_s: float | None = int(usec) / 1e6 if self._address and ours and usec.isdecimal() else None
        """The manager restarts the daemon if it is not fed for so long; None: it has no watchdog."""
        self._socket: socket.socket | None = None
        if self._address.startswith(("/", "@")):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            # Not `settimeout`: to poll, such a socket is always ready.
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", PATIENCE_OF_SEND_S, 0))
            self._address = self._address.replace("@", "\0", 1) if self._address[0] == "@" else self._address
        elif self._address:
            log.warning("$NOTIFY_SOCKET is %r: neither a path nor an abstract address: not used", self._address)
            self.watchdog_s = None

    def __bool__(self) -> bool:
        return self._socket is not None

    def send(self, **fields: str | int) -> None:
        """Send assignments in one datagram; a manager that does not listen is no reason to stop.

        What is said again before long (status, watchdog) does not wait for one that is busy.
        """
        if self._socket is not None:
            flags = socket.MSG_DONTWAIT if {*fields} <= SAID_AGAIN else 0
            text = "\n".join(f"{name}={str(value).replace(chr(10), ' ')}" for name, value in fields.items())
            with contextlib.suppress(OSError):  # also of a socket whose reader is busy
                self._socket.sendto(text.encode(errors="replace"), flags, self._address)

    def close(self) -> None:
        """Let go of the socket."""
        if self._socket is not None:
            self._socket.close()


class Service:
    """The daemon as the service manager sees it; a context that ends with STOPPING said.

    Args:
        notifier: the manager's socket.
        progress: of the threads that are to get on.
        status: gives the line for `systemctl status`; asked by a thread of its own.
    """

    def __init__(self, notifier: Notifier, progress: Progress, status: Callable[[], str] = lambda: "") -> None:
        self._notifier = notifier
        self._progress = progress
        if notifier.watchdog_s:
            progress.rest_s = min(progress.rest_s, notifier.watchdog_s / 8)
        self.status = status
        self._ready = False
        self._told = ""
        self._speechless = False
        """Whether a fault of `status` was told."""
        self._ending = threading.Event()
        self._turn = threading.Lock()
        self._thread = threading.Thread(target=self._look, name="service", daemon=True)

    def __enter__(self) -> Service:
        if self._notifier:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping()
        if self._notifier:
            self._thread.join()
        self._notifier.close()

    def ready(self) -> None:
        """The daemon runs, or does so again after `reloading`."""
        with self._turn:
            self._ready = True
            self._notifier.send(READY=1, STATUS=self._line())

    def reloading(self) -> None:
        """Another configuration is being looked at."""
        self._notifier.send(RELOADING=1, MONOTONIC_USEC=time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000)

    def stopping(self) -> None:
        """The daemon ends; said once."""
        if not self._ending.is_set():
            self._ending.set()
            self._notifier.send(STOPPING=1, STATUS="stopping")

    def _line(self) -> str:
        try:
            self._told = self.status()[:MAX_STATUS]
        except Exception:  # for want of a line nobody starves the watchdog
            if not self._speechless:
                log.exception("the line for systemctl status")
            self._speechless = True
        return self._told

    def _look(self) -> None:
        watchdog_s = self._notifier.watchdog_s
        period_s = min(LOOK_S, watchdog_s / 4) if watchdog_s else LOOK_S
        moved, warned = time.monotonic(), False
        while not self._ending.wait(period_s):
            stalled = self._progress.stalled()
            now = time.monotonic()
            if not stalled:
                # Everybody got on since the last round: that, not the time passed, is what is told.
                self._progress.next_round()
                self._feed()
                if warned:
                    log.warning("watchdog: got on again after %.1f s", now - moved)
                moved, warned = now, False
            elif watchdog_s and now - moved > watchdog_s / 2 and not warned:
                log.error(
                    "watchdog: no progress of %s for %.1f s: the service manager restarts the daemon after %g s",
                    ", ".join(sorted(set(stalled))), now - moved, watchdog_s,
                )  # fmt: skip
                warned = True
            self._tell()

    def _feed(self) -> None:
        with self._turn:
            if not self._ready:
                self._notifier.send(EXTEND_TIMEOUT_USEC=round(PATIENCE_S * 1e6))
            if self._notifier.watchdog_s:
                self._notifier.send(WATCHDOG=1)

    def _tell(self) -> None:
        with self._turn:
            told = self._told
            if not self._ending.is_set() and self._line() != told:
                self._notifier.send(STATUS=self._told)

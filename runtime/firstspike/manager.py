"""The daemon as a service: status line, reload, and what is kept. `daemon` tells it where it stands.

Without a service manager, a configuration to load again or a place for state, each of these does nothing.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from firstspike import journal
from firstspike.config import Loaded
from firstspike.messages import Decision, Health
from firstspike.progress import THREADS
from firstspike.service import Notifier, Service
from firstspike.state import Keeper

if TYPE_CHECKING:
    from firstspike.daemon import Rooms
    from firstspike.generations import Generations
    from firstspike.health import Heartbeat

log = logging.getLogger(__name__)

LOOK_S = 0.2
"""Between looks whether the daemon ends while no reload is asked for."""


class Manager:
    """What stands around a daemon that runs as a service.

    Args:
        notifier: the service manager's socket; None: there is none.
        load: loads the configuration anew; raises FirstspikeError. None: there is no reload.
        wanted: set by SIGHUP.
        taken: told of a configuration that took over.
        keeper: of what survives a restart; None: nothing does.
    """

    def __init__(
        self, notifier: Notifier | None = None, load: Callable[[], Loaded] | None = None,
        wanted: threading.Event | None = None, taken: Callable[[Loaded], None] = lambda _: None,
        keeper: Keeper | None = None,
    ) -> None:  # fmt: skip
        self._service = Service(notifier or Notifier({}), THREADS)
        self._load = load
        self._wanted = wanted or threading.Event()
        self._taken = taken
        self._keeper = keeper
        self._ending = threading.Event()
        self._last: Decision | None = None
        self._counted = (0, 0.0)
        """Windows, and when they were counted."""

    def decided(self, decision: Decision) -> None:
        """Told of each decision."""
        self._last = decision

    def runs(self, rooms: Rooms, endpoint: str) -> None:
        """Told of the first rooms, and of those that took over."""
        plans = ", ".join(backend.name for backend in rooms.runner.backends)
        model = f"{rooms.bundle.manifest.name}@{rooms.bundle.manifest.version}"
        journal.context(epoch=rooms.epoch, model=model)
        log.info("publishing on %s (model %s, plans %s)", endpoint, rooms.bundle.manifest.name, plans)

    @contextmanager
    def watching(self, generations: Generations, health: Heartbeat) -> Iterator[None]:
        """While the daemon runs: tell the manager, reload when asked, keep what is to be kept."""
        with ExitStack() as stack:
            journal.context(config_generation=generations.number)
            self._service.status = lambda: self._line(health.message())
            stack.enter_context(self._service)
            if self._keeper is not None:
                stack.enter_context(self._keeper.watching(health.message))
            if self._load is not None:
                thread = threading.Thread(target=self._reload, args=(generations, health, self._load), name="reload")
                thread.start()
                stack.callback(thread.join)
                stack.callback(self._ending.set)
            yield

    def ready(self) -> None:
        """The daemon runs."""
        self._service.ready()

    def _reload(self, generations: Generations, health: Heartbeat, load: Callable[[], Loaded]) -> None:
        while not self._ending.is_set():
            if not self._wanted.wait(LOOK_S):
                continue
            self._wanted.clear()
            log.info("reload: asked for")
            self._service.reloading()
            if generations.reload(load):
                self._taken(generations.loaded)
                journal.context(config_generation=generations.number)
            health.tell()
            self._service.ready()

    def _line(self, health: Health) -> str:
        """How the daemon is, in a line: for `systemctl status`."""
        windows, now = health.counters.windows, time.monotonic()
        before, since = self._counted
        self._counted = windows, now
        if health.state == "starting":
            waits = [f"{one.name}: {one.state}{_after(one.reason)}" for one in health.backends if one.state != "ready"]
            return f"starting: {'; '.join(waits) or 'the plans are ready'}"
        rate = max(0, windows - before) / (now - since) if since else 0.0
        parts = [health.state + "".join(_after("; ".join(health.reasons)) if health.reasons else "")]
        plans = "+".join(one.name for one in health.backends if one.state in ("ready", "busy")) or "nobody"
        parts.append(f"{health.model} on {self._last.plan or 'nobody'}" if self._last else f"{health.model} on {plans}")
        parts.append(f"{rate:.1f} windows/s")
        if self._last is not None:
            said = "nothing" if self._last.label is None else f"{self._last.label} ({self._last.confidence or 0:.2f})"
            parts.append(f"last: {said}")
        if health.reload_error is not None:
            parts.append(f"last reload refused{_after(health.reload_error.splitlines()[0])}")
        return ", ".join(parts)


def _after(reason: str | None) -> str:
    return f": {reason}" if reason else ""

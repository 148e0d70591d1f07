"""The daemon as a service: status line, reload, and what is kept. `daemon` tells it where it stands.

Without a service manager, a configuration to load again or a place for state, each of these does nothing.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from firstspike import journal
from firstspike.config import Loaded
from firstspike.messages import Decision, Health
from firstspike.progress import THREADS
from firstspike.service import Notifier, Service
from firstspike.state import Keeper

if TYPE_CHECKING:
    from firstspike.generations import Generations
    from firstspike.health import Vitals
    from firstspike.rooms import House

log = logging.getLogger(__name__)


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
        self._last: dict[str | None, Decision] = {}
        """By stream."""
        self._counted = (0, 0.0)
        """Windows, and when they were counted."""

    @property
    def hot_pixels(self) -> Keeper | None:
        """Keeps what is learned of cameras."""
        return self._keeper

    def decided(self, decision: Decision) -> None:
        """Told of each decision."""
        self._last[decision.stream] = decision

    def runs(self, house: House, endpoint: str) -> None:
        """Told of the first rooms, and of those that took over."""
        manifests = [rooms.bundle.manifest for rooms in house.streams.values()]
        models = dict.fromkeys(f"{one.name}@{one.version}" for one in manifests)
        journal.context(epoch=house.epoch, model=", ".join(models))
        for name, rooms in house.streams.items():
            of = "" if name is None else f"stream {name}, "
            plans = ", ".join(backend.name for backend in rooms.runner.backends)
            log.info("publishing on %s (%smodel %s, plans %s)", endpoint, of, rooms.bundle.manifest.name, plans)

    @contextmanager
    def watching(self, generations: Generations, health: Vitals) -> Iterator[None]:
        """While the daemon runs: tell the manager, reload when asked, keep what is to be kept."""
        with ExitStack() as stack:
            journal.context(config_generation=generations.number)
            self._service.status = lambda: self._line(health.all())
            stack.enter_context(self._service)
            if self._keeper is not None:
                stack.enter_context(self._keeper.watching(health.all))
            if self._load is not None:
                thread = threading.Thread(target=self._reload, args=(generations, health, self._load), name="reload")
                thread.start()
                stack.callback(thread.join)
                stack.callback(self._wanted.set)
                stack.callback(self._ending.set)
            yield

    def ready(self) -> None:
        """The daemon runs."""
        self._service.ready()

    def _reload(self, generations: Generations, health: Vitals, load: Callable[[], Loaded]) -> None:
        while self._wanted.wait() and not self._ending.is_set():
            self._wanted.clear()
            log.info("reload: asked for")
            self._service.reloading()
            if generations.reload(load):
                self._taken(generations.loaded)
                journal.context(config_generation=generations.number)
            health.tell()
            self._service.ready()

    def _line(self, healths: Sequence[Health]) -> str:
        """How the daemon is, in a line: for `systemctl status`."""
        windows, now = sum(health.counters.windows for health in healths), time.monotonic()
        before, since = self._counted
        self._counted = windows, now
        rate = f"{max(0, windows - before) / (now - since) if since else 0.0:.1f} windows/s"
        first = healths[0]
        if len(healths) == 1:
            parts = self._of_one(first)
            if first.state != "starting":
                parts.insert(2, rate)
        else:
            states = {health.state for health in healths}
            worst = next(one for one in ("starting", "degraded", "running", "stopping") if one in states)
            of_each = [f"{health.stream}: {', '.join(self._of_one(health))}" for health in healths]
            parts = [worst, f"{len(healths)} streams", f"{rate}; {'; '.join(of_each)}"]
        if first.reload_error is not None and first.state != "starting":
            first_line, _, _ = first.reload_error.partition("\n")
            parts.append(f"last reload refused{_after(first_line)}")
        return ", ".join(parts)

    def _of_one(self, health: Health) -> list[str]:
        if health.state == "starting":
            waits = [f"{one.name}: {one.state}{_after(one.reason)}" for one in health.backends if one.state != "ready"]
            return [f"starting: {'; '.join(waits) or 'the plans are ready'}"]
        last = self._last.get(health.stream)
        plans = "+".join(one.name for one in health.backends if one.state in ("ready", "busy")) or "nobody"
        parts = [health.state + "".join(_after("; ".join(health.reasons)) if health.reasons else "")]
        parts.append(f"{health.model} on {last.plan or 'nobody'}" if last else f"{health.model} on {plans}")
        if last is not None:
            said = "nothing" if last.label is None else f"{last.label} ({last.confidence or 0:.2f})"
            parts.append(f"last: {said}")
        return parts


def _after(reason: str | None) -> str:
    return f": {reason}" if reason else ""

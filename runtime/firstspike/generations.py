"""Configurations that follow each other in one daemon: all or nothing, and the old one runs until the new one can.

A new configuration is loaded and checked, its bundle opened and its back ends made beside the running ones; what is the
same (a worker, a camera) is lent. Only when a plan of it can answer does it take over:

* If source and windows stay as they are, between two windows: no event is lost, and evidence goes on with the model.
* Else the pipeline ends between two windows and the next one begins with the new source.

What cannot be changed in a running daemon is refused by name. So is everything that is wrong: then nothing has changed.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from firstspike.config import Loaded
from firstspike.errors import ConfigError, FirstspikeError, UnavailableError

if TYPE_CHECKING:
    from firstspike.daemon import Rooms

log = logging.getLogger(__name__)

FIXED = (
    *(("publish", key) for key in ("endpoint", "high_water_mark", "tcp", "keys", "group", "max_connections")),
    *(("metrics", key) for key in ("enabled", "address", "allow_remote")),
    ("clock", "kind"),
)
"""Keys that a running daemon keeps: its sockets and its clock. (Whom the keys' folder lets in may change.)"""
LIVE = {"model", "backend", "window", "decide", "schedule", "publish", "energy", "log"}
"""Sections that a pipeline need not be made anew for; windows are among its settings."""
MAX_ERROR = 2000


class Make(Protocol):
    """Makes the rooms of a configuration: `daemon.rooms`."""

    def __call__(
        self, loaded: Loaded, stopping: Callable[[], bool], before: Rooms | None
    ) -> AbstractContextManager[Rooms]:
        """See `daemon.rooms`."""


class Generations:
    """Runs a configuration's rooms, and those that follow.

    Args:
        make: makes rooms.
        stopping: True ends the run.
        taken: told of rooms that took over, after the first.
    """

    def __init__(
        self, make: Make, stopping: Callable[[], bool], taken: Callable[[Rooms], None] = lambda _: None
    ) -> None:
        self._make = make
        self._stopping = stopping
        self._taken = taken
        self._loaded: Loaded | None = None
        self._rooms: Rooms | None = None
        self._stack = ExitStack()
        self._meter = ExitStack()
        self._metering = False
        self._next: Rooms | None = None
        """The one that follows when the pipeline has ended."""
        self._running = False
        self._turn = threading.Condition()
        self.number = 1
        """Of the running configuration; the first is 1."""
        self.asked = 0
        """How often another was asked for."""
        self.error: str | None = None
        """Why the last one that was asked for did not take over; None if it did."""

    @property
    def rooms(self) -> Rooms:
        """The running ones."""
        assert self._rooms is not None  # noqa: S101 (`start` came first)
        return self._rooms

    def health(self) -> dict[str, Any]:
        """Fields of `messages.Health`."""
        return {"config_generation": self.number, "reloads": self.asked, "reload_error": self.error}

    @property
    def loaded(self) -> Loaded:
        """The running configuration."""
        assert self._loaded is not None  # noqa: S101 (`start` came first)
        return self._loaded

    def start(self, loaded: Loaded) -> Rooms:
        """Make the first."""
        self._rooms, self._loaded = self._stack.enter_context(self._make(loaded, self._to_end, None)), loaded
        return self._rooms

    def _to_end(self) -> bool:
        return self._next is not None or self._stopping()

    def close(self) -> None:
        """Close what is running, or was."""
        self._stack.close()

    def run(self) -> None:
        """Run until the last configuration's source ends, or the daemon is to stop."""
        while True:
            with self._turn:
                self._running = True
            try:
                self.rooms.pipeline.run()
            finally:
                with self._turn:
                    self._running = False
                    following, self._next = self._next, None
                    if following is not None:
                        self._follow(following, self.rooms)
                        self._rooms = following
                    self._turn.notify_all()
            if following is None or self._stopping():
                return

    def reload(self, load: Callable[[], Loaded]) -> bool:
        """Let the configuration that `load` gives take over; else say why not, and go on.

        Returns:
            Whether it took over.
        """
        try:
            loaded = load()
            self._change(loaded)
        except FirstspikeError as error:
            self._refuse(str(error))
        except Exception as error:
            log.debug("", exc_info=True)
            self._refuse(f"a fault of firstspike: {type(error).__name__}: {error}")
        else:
            self.error = None
            self.number += 1
            log.info("reload: configuration %d runs", self.number)
        self.asked += 1
        return self.error is None

    def _refuse(self, text: str) -> None:
        self.error = text[:MAX_ERROR]
        for line in self.error.splitlines():
            log.error("reload: %s", line)
        log.error("reload: refused: configuration %d goes on unchanged", self.number)

    def _change(self, loaded: Loaded) -> None:
        old, stack = self.rooms, ExitStack()
        refuse_fixed(self.loaded, loaded)
        with contextlib.ExitStack() as undo:
            undo.callback(stack.close)
            new = stack.enter_context(self._make(loaded, self._to_end, old))
            new.await_plans()
            if not new.runner.can_answer() and old.runner.can_answer():
                raise UnavailableError(
                    f"schedule.plans: none can answer yet ({'; '.join(new.runner.out())}), and the running "
                    "configuration can: restart the daemon to use it all the same"
                )
            if new.source is old.source and same_road(self.loaded, loaded) and windows_alike(new, old):
                new = replace(new, pipeline=old.pipeline, switch=old.switch)
                done = old.switch.change(
                    new.handover, new.bundle.manifest.input, functools.partial(self._follow, new, old)
                )
            else:
                done = self._run_next(new)
            if not done:
                raise UnavailableError("the daemon is stopping")
            undo.pop_all()
        self._rooms, self._loaded = new, loaded
        new.shelf.take_over()
        before, self._stack = self._stack, stack
        self._taken(new)
        before.close()

    def _follow(self, new: Rooms, old: Rooms) -> None:
        """What was counted goes on; between two windows."""
        new.answerer.follow(old.answerer)
        self._meter.close()
        if new.account is not None and self._metering:
            if old.account is not None:
                new.account.follow(old.account)
            self._meter.enter_context(new.account)
            new.account.begin(self._stopping, rest=False)

    @contextmanager
    def metering(self) -> Iterator[None]:
        """While it is entered, the running configuration's energy account is kept."""
        self._metering = True
        try:
            with self._meter:
                if self.rooms.account is not None:
                    self._meter.enter_context(self.rooms.account)
                yield
        finally:
            self._metering = False

    def _run_next(self, new: Rooms) -> bool:
        """Let `run` go on with these; False if it has ended."""
        with self._turn:
            if not self._running:
                return False
            self._next = new
            self._turn.wait_for(lambda: self._next is None)
            return self._rooms is new


def windows_alike(new: Rooms, old: Rooms) -> bool:
    """Whether windows are cut alike; what filters do, the configuration says."""
    return replace(new.settings, filters=None) == replace(old.settings, filters=None)


def same_road(running: Loaded, loaded: Loaded) -> bool:
    """Whether the road up to the window is configured alike."""
    before, after = running.config.model_dump(exclude=LIVE), loaded.config.model_dump(exclude=LIVE)
    return before == after


def refuse_fixed(running: Loaded, loaded: Loaded) -> None:
    """Refuse a configuration that changes what a running daemon keeps.

    Raises:
        ConfigError: one line a key.
    """
    before, after = running.config.model_dump(), loaded.config.model_dump()
    faults = [
        f"{'.'.join(key)} = {after[key[0]][key[1]]!r} ({loaded.origin(*key)}): cannot be changed in a running daemon "
        f"(it is {before[key[0]][key[1]]!r}): restart it"
        for key in FIXED
        if before[key[0]][key[1]] != after[key[0]][key[1]]
    ]
    if faults:
        raise ConfigError("\n".join(faults))

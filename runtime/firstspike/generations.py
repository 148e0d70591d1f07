"""Configurations that follow each other in one daemon: all or nothing, and the old one runs until the new one can.

A new configuration is loaded and checked, its bundles opened and its back ends made beside the running ones; what is
the same (a worker, a camera) is lent. Only when in every stream a plan of it can answer, all streams are held between
two windows, and it takes over in all of them:

* If a stream's source and windows stay as they are, its pipeline goes on: no event is lost, and evidence goes on with
  the model.
* Else its pipeline has ended there, and the next one begins with the new source.

What cannot be changed in a running daemon is refused by name. So is everything that is wrong: then nothing has changed.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, Protocol

from firstspike.config import Loaded
from firstspike.errors import ConfigError, FirstspikeError, UnavailableError
from firstspike.roads import Road
from firstspike.rooms import House, Lane, Rooms
from firstspike.sources import Preparing

log = logging.getLogger(__name__)

FIXED = (
    *(("publish", key) for key in ("endpoint", "high_water_mark", "tcp", "keys", "group", "max_connections")),
    *(("metrics", key) for key in ("enabled", "address", "allow_remote")),
    ("clock", "kind"),
)
"""Keys that a running daemon keeps: its sockets and its clock. (Whom the keys' folder lets in may change.)"""
MAX_ERROR = 2000


class Make(Protocol):
    """Makes the rooms of a configuration: `rooms.house`."""

    def __call__(
        self, loaded: Loaded, lane: Callable[[str | None], Lane], before: House | None
    ) -> AbstractContextManager[House]:
        """See `rooms.house`."""


class Generations:
    """Runs a configuration's rooms, and those that follow.

    Args:
        make: makes rooms.
        stopping: True ends the run.
        taken: told of rooms that took over, after the first.
        ready: told of each road whose plans are ready.
    """

    def __init__(
        self, make: Make, stopping: Callable[[], bool], taken: Callable[[House], None] = lambda _: None,
        ready: Callable[[Road], None] = lambda _: None,
    ) -> None:  # fmt: skip
        self._make = make
        self._stopping = stopping
        self._taken = taken
        self._ready = ready
        self._loaded: Loaded | None = None
        self._house: House | None = None
        self._stack = ExitStack()
        self._meter = ExitStack()
        self._metering = False
        self._turn = threading.Condition()
        self._changing = False
        self.roads: dict[str | None, Road] = {}
        """By the stream's name."""
        self.number = 1
        """Of the running configuration; the first is 1."""
        self.asked = 0
        """How often another was asked for."""
        self.error: str | None = None
        """Why the last one that was asked for did not take over; None if it did."""

    @property
    def rooms(self) -> Rooms:
        """The running ones, of the only stream or of the first."""
        return next(iter(self.roads.values())).rooms

    @property
    def house(self) -> House:
        """What was made last."""
        assert self._house is not None  # noqa: S101 (`start` came first)
        return self._house

    def health(self) -> dict[str, Any]:
        """Fields of `messages.Health`."""
        return {"config_generation": self.number, "reloads": self.asked, "reload_error": self.error}

    @property
    def loaded(self) -> Loaded:
        """The running configuration."""
        assert self._loaded is not None  # noqa: S101 (`start` came first)
        return self._loaded

    def start(self, loaded: Loaded) -> House:
        """Make the first."""
        for name in names(loaded):
            self.roads[name] = Road(name, self._turn, self._stopping)
        self._house, self._loaded = self._stack.enter_context(self._make(loaded, self._lane, None)), loaded
        for name, road in self.roads.items():
            road.rooms = self._house.streams[name]
        return self._house

    def _lane(self, name: str | None) -> Lane:
        return self.roads[name].lane

    def close(self) -> None:
        """Close what is running, or was."""
        self._stack.close()
        for road in self.roads.values():
            road.close()

    def run(self) -> None:
        """Run until the last configuration's sources end, or the daemon is to stop.

        Raises:
            FirstspikeError: what the only stream raised; of several, each tells its own.
        """
        roads = [*self.roads.values()]
        if roads[0].name is None:
            roads[0].run(self._ready)
            return
        for road in roads:
            road.begin(self._ready)
        with self._turn:
            self._turn.wait_for(lambda: not self._changing and all(road.state == "ended" for road in roads))
        for road in roads:
            road.join()

    def reload(self, load: Callable[[], Loaded]) -> bool:
        """Let the configuration that `load` gives take over; else say why not, and go on.

        Returns:
            Whether it took over.
        """
        try:
            loaded = load()
            with self._turn:
                self._changing = True
            try:
                self._change(loaded)
            finally:
                with self._turn:
                    self._changing = False
                    self._turn.notify_all()
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
        refuse_fixed(self.loaded, loaded)
        self._refuse_now()
        old, stack = self.house, ExitStack()
        with ExitStack() as undo:
            undo.callback(stack.close)
            new = stack.enter_context(self._make(loaded, self._lane, old))
            for name, made in new.streams.items():
                _get_ready(made, self.roads[name])
            self._refuse_now()
            undo.pop_all()
        # From here on it is the running one: what fails now is reported, and takes nothing back.
        self._take_over(new, old)
        self._house, self._loaded = new, loaded
        new.shelf.take_over()
        before, self._stack = self._stack, stack
        with _reported("what follows the configuration"):
            self._taken(new)
        with _reported("closing what the configuration before had"):
            before.close()

    def _refuse_now(self) -> None:
        """Refuse what would come too early or too late."""
        states = {road.state for road in self.roads.values()}
        if "starting" in states:
            raise UnavailableError("the daemon is still starting: reload it again when it runs")
        if self._stopping() or states == {"ended"}:
            raise UnavailableError("the daemon is stopping")

    def _take_over(self, new: House, old: House) -> None:
        with ExitStack() as held:
            for name, road in self.roads.items():
                made, way = new.streams[name], road.hold(new.streams[name])
                held.callback(road.go_on, made, way, self._ready)
            for name, made in new.streams.items():
                former = self.roads[name].rooms
                made.answerer.follow(former.answerer)
                if made.source is not former.source:
                    with _reported("closing the former source"):
                        former.source.close()  # a device or a port that the new one wants too
            with _reported("energy"):
                self._follow(new, old)

    def _follow(self, new: House, old: House) -> None:
        """What the energy account counted goes on; between two windows."""
        self._meter.close()
        if not self._metering:
            return
        for account in new.accounts:
            # One account each, or, of virtual streams, in the same order.
            former = old.accounts[new.accounts.index(account)] if old.accounts else None
            if former is not None:
                account.follow(former)
            self._meter.enter_context(account)
        for made in new.streams.values():
            if made.account is not None:
                made.account.begin(self._stopping, rest=False)

    @contextmanager
    def metering(self) -> Iterator[None]:
        """While it is entered, the running configuration's energy account is kept."""
        self._metering = True
        try:
            with self._meter:
                for account in self.house.accounts:
                    self._meter.enter_context(account)
                yield
        finally:
            self._metering = False


@contextmanager
def _reported(what: str) -> Iterator[None]:
    """Log what fails, and go on."""
    try:
        yield
    except Exception:
        log.exception("reload: %s", what)


def _get_ready(new: Rooms, road: Road) -> None:
    """Wait until rooms that are to follow could.

    Raises:
        FirstspikeError: they cannot.
    """
    old = road.rooms
    new.await_plans()
    if not new.runner.can_answer() and old.runner.can_answer():
        of = "" if road.name is None else f"stream {road.name}: "
        raise UnavailableError(
            f"{of}schedule.plans: none can answer yet ({'; '.join(new.runner.out())}), and the running "
            "configuration can: restart the daemon to use it all the same"
        )
    if new.source is not old.source and isinstance(new.source, Preparing):
        with new.loaded.blame("source", new.loaded.config.source.kind):
            new.source.prepare(old.source)


def names(loaded: Loaded) -> list[str | None]:
    """Of the streams; None: the only one has none."""
    return [name for name, _ in loaded.streams] or [None]


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
    had, has = dict(running.streams), dict(loaded.streams)
    for name in {**had, **has}:
        if (name in had) != (name in has):
            source, what = (loaded, "is new") if name in has else (running, "is gone")
            faults.append(
                f"stream.{name} ({source.origin('stream', name)}): {what}: a running daemon keeps its streams: "
                "restart it"
            )
    if faults:
        raise ConfigError("\n".join(faults))

"""A stream while the daemon runs: a thread that runs its rooms, is held between two windows, and goes on with others.

What befalls one of several streams is that one's alone. A daemon with one stream, which has no name, shares its fate.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from firstspike import progress
from firstspike.config import Loaded
from firstspike.errors import FirstspikeError
from firstspike.progress import READER, THREADS
from firstspike.rooms import Lane, Rooms

log = logging.getLogger(__name__)

LIVE = {"model", "backend", "window", "decide", "schedule", "publish", "energy", "log"}
"""Sections that a pipeline need not be made anew for; windows are among its settings."""
LOOK_S = 0.005
State = Literal["starting", "running", "held", "ended"]
Way = Literal["in place", "next", "ended"]
"""How rooms follow others: in the running pipeline, after it, or nothing runs that they could follow."""


class Road:
    """One stream's.

    Args:
        name: the stream's; None: it is the only one.
        turn: for all roads of a daemon; told whenever a road's state changes.
        stopping: True ends the run.
    """

    def __init__(self, name: str | None, turn: threading.Condition, stopping: Callable[[], bool]) -> None:
        self.name = name
        self._turn = turn
        self._stopping = stopping
        self._asked = False
        """To end its pipeline, and wait for what follows."""
        of = f" of {name}" if name is not None else ""
        self._reader = f"{READER}{of}"
        self._answers = THREADS.task(f"answers{of}")
        self.lane = Lane(self._to_end, self._answers)
        self.state: State = "starting"
        self._rooms: Rooms | None = None
        self._thread: threading.Thread | None = None

    @property
    def rooms(self) -> Rooms:
        """The running ones, or those that ran last."""
        assert self._rooms is not None  # noqa: S101 (whoever made the road puts them in)
        return self._rooms

    @rooms.setter
    def rooms(self, rooms: Rooms) -> None:
        self._rooms = rooms

    def _to_end(self) -> bool:
        progress.beat()  # whoever waits or reads for the pipeline asks this often
        return self._asked or self._stopping()

    def begin(self, ready: Callable[[Road], None]) -> None:
        """Run in a thread of its own, from which no error comes: it is told by the pipeline.

        Args:
            ready: called when the plans are.
        """
        with self._turn:
            self.state = "starting"
        self._thread = threading.Thread(target=self._run_alone, args=(ready,), name=f"stream {self.name}")
        self._thread.start()

    def join(self) -> None:
        """Wait for the thread to end."""
        if self._thread is not None:
            self._thread.join()

    def _run_alone(self, ready: Callable[[Road], None]) -> None:
        try:
            self.run(ready)
        except FirstspikeError as error:
            log.error("stream %s has ended: %s", self.name, error)  # noqa: TRY400 (a taken port is no traceback)
            self._failed(error)
        except Exception as error:
            log.exception("stream %s has ended by a fault of firstspike", self.name)
            self._failed(FirstspikeError(f"a fault of firstspike: {type(error).__name__}: {error}"))

    def _failed(self, error: FirstspikeError) -> None:
        pipeline = self.rooms.pipeline
        pipeline.failures.append((self.name or "", error))
        pipeline.broken = f"the stream has ended: {error}"

    def run(self, ready: Callable[[Road], None]) -> None:
        """Run until the source ends or the daemon is to stop; with other rooms, when they follow.

        Raises:
            FirstspikeError: what the pipeline raised.
        """
        try:
            with THREADS.here(self._reader):
                self.rooms.await_plans()
                ready(self)
                self._to("running")
                self.rooms.pipeline.run()
                while self._followed():
                    self.rooms.pipeline.run()
        finally:
            self._to("ended")

    def _to(self, state: State) -> None:
        with self._turn:
            self.state = state
            self._turn.notify_all()

    def _followed(self) -> bool:
        """The pipeline has ended: whether other rooms follow."""
        with self._turn:
            if not self._asked:
                return False
            self.state = "held"
            self._turn.notify_all()
            self._turn.wait_for(lambda: self.state != "held")
        return not self._stopping()

    def hold(self, new: Rooms) -> Way:
        """Stop between two windows, so that other rooms can follow; `go_on` must come next.

        If source and windows stay as they are, the pipeline itself goes on, and new windows wait; else it ends.
        """
        if self.alike(new):
            while self.state == "running":
                if self.rooms.switch.hold():
                    return "in place"
                if self.rooms.switch.broken:
                    break
                with self._turn:  # it is about to begin, or to end
                    self._turn.wait(LOOK_S)
            return "ended"
        with self._turn:
            if self.state == "running":
                self._asked = True
                self._turn.wait_for(lambda: self.state in ("held", "ended"))
            return "next" if self.state == "held" else "ended"

    def alike(self, new: Rooms) -> bool:
        """Whether all up to the window is as it is."""
        old = self.rooms
        return new.source is old.source and same_road(old.loaded, new.loaded) and windows_alike(new, old)

    def go_on(self, new: Rooms, way: Way, ready: Callable[[Road], None]) -> None:
        """Let other rooms follow; a named stream that had ended begins again, if they read something else."""
        old = self.rooms
        if way == "in place":
            self.rooms = replace(new, pipeline=old.pipeline, switch=old.switch)
            old.pipeline.be_patient(new.settings.patience_ns)
            old.switch.go_on(new.handover, new.bundle.manifest.input)
        elif way == "next":
            self.rooms = new
        elif self.name is None or self.alike(new) or self._stopping():
            self.rooms = replace(new, pipeline=old.pipeline, switch=old.switch)  # what became of it is still told
        else:
            self.join()
            self.rooms = new
            self.begin(ready)
        with self._turn:
            self._asked = False
            if way == "next":
                self.state = "running"  # already now: the next hold must not find it held and take this one's rooms
            self._turn.notify_all()

    def close(self) -> None:
        """Nothing more is expected of it."""
        THREADS.leave(self._answers)


def windows_alike(new: Rooms, old: Rooms) -> bool:
    """Whether windows are cut alike; what filters do, the configuration says, and patience may change meanwhile."""
    return replace(new.settings, filters=None, patience_ns=0) == replace(old.settings, filters=None, patience_ns=0)


def same_road(running: Loaded, loaded: Loaded) -> bool:
    """Whether the road up to the window is configured alike."""
    before, after = running.config.model_dump(exclude=LIVE), loaded.config.model_dump(exclude=LIVE)
    return before == after

"""Keeps one worker: starts it, loads the network, kills what hangs, waits, starts again, and says how it stands.

    absent ◀── starting ──▶ ready ⇄ busy
       └──▶ backing-off ◀── failed ◀─┘

A thread of the supervisor's own starts and ends the worker; `infer` is called by whoever has a window. An answer that
misses its window's deadline leaves the worker alone for `hang_s`: it may be slow once. Then it is killed.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firstspike.types import Condition, State
from firstspike.worker import shim
from firstspike.worker.link import LateError, Link, LinkError, Reply, frame
from firstspike.worker.start import Program

log = logging.getLogger(__name__)


class WorkerError(Exception):
    """This window has no answer from this worker; the text is the reason."""


@dataclass(frozen=True)
class Limits:
    """Times that a worker may take, in seconds, and how often it may fail."""

    start_s: float = 60.0
    """From the start of the process until the network is loaded."""
    hang_s: float = 2.0
    """Of one answer; then the worker is killed."""
    restarts: int = 5
    """Restarts within `period_s` that are made at once; then the worker rests."""
    period_s: float = 60.0
    rest_s: float = 30.0
    """Longest rest between restarts of a worker that fails again and again."""
    look_s: float = 10.0
    """Between looks for a device that is absent."""


FIRST_REST_S = 0.05
"""Before the first restart; doubled for each that follows within the period."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A worker's answer to one window."""

    arrays: dict[str, NDArray[Any]]
    device_s: float
    """Seconds that the driver took, by the worker's own clock."""
    link_bytes: int
    """Bytes of the request and the reply."""


class Supervisor:
    """One worker.

    Args:
        name: of the back end, in texts.
        program: how to start it.
        load: meta and body of the LOAD request.
        limits: see `Limits`.
    """

    def __init__(self, name: str, program: Program, load: tuple[dict[str, Any], bytes], limits: Limits) -> None:
        self.name = name
        self._program = program
        self._load = load
        self._limits = limits
        self._lock = threading.Lock()
        """Held by who uses the link."""
        self._link: Link | None = None
        self._number = 0
        self._overdue_since: float | None = None
        """When the request was sent whose answer is still awaited though its window has gone."""
        self._wake = threading.Event()
        self._closing = False
        self._condition = Condition("starting")
        self._starts: list[float] = []
        self._absent_since = 0.0
        self.about: dict[str, Any] = {}
        """What the driver says of itself once the network is loaded."""
        self._thread = threading.Thread(target=self._run, name=f"worker {name}", daemon=True)
        self._thread.start()

    @property
    def condition(self) -> Condition:
        """How the worker stands now."""
        return self._condition

    def wait_ready(self, within_s: float) -> Condition:
        """Wait until the worker is ready or known not to be."""
        deadline = time.monotonic() + within_s
        while self._condition.state == "starting" and time.monotonic() < deadline:
            time.sleep(0.005)
        return self._condition

    def infer(self, times: NDArray[np.uint8], deadline: float) -> Answer:
        """Put one window to the worker.

        Args:
            times: spike times (channels, height, width).
            deadline: of `time.monotonic`; not awaited beyond it.

        Raises:
            WorkerError: there is no answer; the worker is looked after.
        """
        if not self._lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise WorkerError(f"{self.name}: busy with another window")
        try:
            link = self._link
            if self._condition.state != "ready" or link is None:
                raise WorkerError(f"{self.name}: {self._condition.state}: {self._condition.reason or 'not ready yet'}")
            self._settle("busy", link)
            return self._ask(link, times, deadline)
        finally:
            self._lock.release()

    def _ask(self, link: Link, times: NDArray[np.uint8], deadline: float) -> Answer:
        self._number += 1
        meta = {"arrays": [["times", "|u1", list(times.shape)]]}
        request = frame(shim.INFER, self._number, meta, np.ascontiguousarray(times).data.cast("B"))
        started = time.monotonic()
        try:
            link.send(request, max(deadline, started + 0.001))
            reply = self._reply(link, self._number, deadline)
            if reply.kind == shim.FAILURE:
                self._settle("ready", link)
                raise WorkerError(f"{self.name}: {reply.meta.get('reason', 'failed without a reason')!s:.500}")
            answer = self._read(reply, len(request))
        except LateError:
            self._overdue_since = started
            self._settle("busy", link, f"no answer for {time.monotonic() - started:.3f} s")
            self._wake.set()
            waited = (time.monotonic() - started) * 1e3
            raise WorkerError(f"{self.name}: no answer within {waited:.0f} ms") from None
        except LinkError as error:
            self._give_up(f"the worker {error}")
            raise WorkerError(f"{self.name}: the worker {error}") from None
        self._settle("ready", link)
        return answer

    def _reply(self, link: Link, number: int, deadline: float) -> Reply:
        reply = link.receive(deadline)
        if reply.number != number:
            raise LinkError(f"answered request {reply.number} when {number} was asked")
        return reply

    def _read(self, reply: Reply, sent: int) -> Answer:
        if reply.kind != shim.ANSWER:
            raise LinkError(f"sent a frame of kind {reply.kind} as its answer")
        try:
            arrays = shim.unpack(reply.meta.get("arrays"), reply.body)
            seconds = float(reply.meta.get("seconds", 0.0))
        except (ValueError, TypeError) as error:
            raise LinkError(f"sent an answer that cannot be read: {error}") from None
        return Answer(arrays, seconds, sent + len(reply.body))

    def distrust(self, reason: str) -> None:
        """An answer made no sense: kill the worker and start another."""
        with self._lock:
            self._give_up(reason)

    def close(self) -> None:
        """End the worker and the thread."""
        self._closing = True
        self._wake.set()
        self._thread.join(10.0)

    def _settle(
        self, state: State, link: Link | None = None, reason: str | None = None, fix: str | None = None
    ) -> None:
        restarts = max(0, len(self._starts) - 1)
        self._condition = Condition(state, reason, fix or None, restarts, link.pid if link else None)

    def _give_up(self, reason: str) -> None:
        """End the worker; the thread starts another."""
        link, self._link = self._link, None
        self._overdue_since = None
        self._settle("failed", None, reason)
        if link is not None:
            link.close()
            log.warning("%s: %s", self.name, reason)
        self._wake.set()

    def _run(self) -> None:
        while not self._closing:
            if self._link is None:
                rest = self._start()
            else:
                rest = self._await_overdue()
            self._wake.wait(rest)
            self._wake.clear()
        with self._lock:
            if self._link is not None:
                self._link.close()
                self._link = None

    def _start(self) -> float | None:
        """Start a worker, if it is time for that.

        Returns:
            Seconds until there is something to do; None: until woken.
        """
        now, limits = time.monotonic(), self._limits
        recent = [at for at in self._starts if now - at < limits.period_s]
        due = self._not_before(recent)
        if now < due:
            if self._condition.state == "failed":
                self._settle("backing-off", None, self._condition.reason, self._condition.fix)
            return due - now
        self._starts = [*recent, now]
        self._settle("starting", None, self._condition.reason)
        try:
            link = Link(self._program, self.name)
        except LinkError as error:
            self._settle("failed", None, f"the worker {error}")
            return 0
        try:
            self._load_into(link, now + limits.start_s)
        except (LinkError, LateError, shim.AbsentError) as error:
            link.close()
            match error:
                case shim.AbsentError():
                    self._absent(error)
                case LateError():
                    self._settle("failed", None, f"the worker was not ready within {limits.start_s:g} s")
                case _:
                    self._settle("failed", None, f"the worker {error}")
            return 0
        with self._lock:
            self._link = link
            self._settle("ready", link)
        log.info("%s: ready (pid %d)", self.name, link.pid)
        return None

    def _absent(self, error: shim.AbsentError) -> None:
        self._starts.clear()  # nothing failed
        self._absent_since = time.monotonic()
        self._settle("absent", None, error.reason, error.fix)

    def _not_before(self, recent: list[float]) -> float:
        """When the next start is due, given the recent ones."""
        limits = self._limits
        if self._condition.state == "absent":
            return self._absent_since + limits.look_s
        if not recent:
            return 0.0
        rest = limits.rest_s if len(recent) > limits.restarts else FIRST_REST_S * 2 ** (len(recent) - 1)
        return recent[-1] + min(rest, limits.rest_s)

    def _load_into(self, link: Link, deadline: float) -> None:
        link.send(self._program.greeting(), deadline)
        hello = link.receive(deadline)
        if hello.kind != shim.HELLO or hello.meta.get("protocol") != shim.PROTOCOL:
            raise LinkError(f"greeted with protocol {hello.meta.get('protocol')!r:.20}, not {shim.PROTOCOL}")
        link.send(frame(shim.LOAD, 0, *self._load), deadline)
        reply = link.receive(deadline)
        if reply.kind == shim.FAILURE:
            reason, fix = str(reply.meta.get("reason", "failed"))[:500], str(reply.meta.get("fix", ""))[:500]
            if reply.meta.get("absent"):
                raise shim.AbsentError(reason, fix)
            raise LinkError(f"cannot load the network: {reason}")
        if reply.kind != shim.LOADED:
            raise LinkError(f"answered with a frame of kind {reply.kind} when it was to load the network")
        about = reply.meta.get("about")
        self.about = about if isinstance(about, dict) else {}

    def _await_overdue(self) -> float | None:
        """See to an answer that missed its window's deadline: it comes late, or the worker is killed."""
        with self._lock:
            link, since = self._link, self._overdue_since
            if link is None or since is None:
                return None if link is not None else 0
            deadline = since + self._limits.hang_s
            try:
                self._reply(link, self._number, deadline)
            except LateError:
                self._give_up(f"the worker gave no answer for {self._limits.hang_s:g} s and was killed")
                return 0
            except LinkError as error:
                self._give_up(f"the worker {error}")
                return 0
            self._overdue_since = None
            self._settle("ready", link)
        return None

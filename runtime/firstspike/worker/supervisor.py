"""Keeps one worker: starts it, loads the network, kills what hangs, waits, starts again, and says how it stands.

    absent ◀── starting ──▶ ready ⇄ busy
       └──▶ backing-off ◀── failed ◀─┘

A thread of the supervisor's own starts and ends the worker, and watches it while nobody asks; `infer` is called by
whoever has a window. An answer that misses its window's deadline leaves the worker alone for `hang_s`: it may be slow
once. Then it is killed. So is a worker that gives no sign of life while idle, or says what nobody asked for.

Who uses the link holds `_lock`, or is the thread while `_overdue_since` is set or no link is offered: nobody else
touches it then.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import select
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firstspike.types import Condition, State
from firstspike.worker import shim
from firstspike.worker.link import CAUSE_S, InterruptError, LateError, Link, LinkError, Reply, frame
from firstspike.worker.restarts import Restarts
from firstspike.worker.start import Program
from firstspike.worker.state import Answer, Limits, WorkerError

__all__ = ["Answer", "Limits", "Supervisor", "WorkerError"]

log = logging.getLogger(__name__)

PONG_S = 0.02
"""How long a window that comes meanwhile waits for an idle worker's sign of life."""
STOP_S = 0.4
"""Grace for a worker that is asked to end; then it is killed."""
BURY_S = 0.2
"""How long the end of a killed process is awaited at a time."""
ALARM_S = 5
"""A worker on another host that hangs ends itself so long after it should have been killed."""
SOON_S = 1.0
"""Until the first look for a device that was there just now."""


class Supervisor:
    """One worker.

    Args:
        name: of the back end, in texts.
        program: how to start it; or what tells that at each start, and raises AbsentError as long as it cannot be.
        load: meta and body of the LOAD request.
        limits: see `Limits`.
    """

    def __init__(
        self, name: str, program: Program | Callable[[], Program], load: tuple[dict[str, Any], bytes], limits: Limits
    ) -> None:
        self.name = name
        self._program: Callable[[], Program] = program if callable(program) else lambda: program
        self._load = load
        self._limits = limits
        self._lock = threading.Lock()
        self._link: Link | None = None
        """The worker that is ready or busy."""
        self._beginning: Link | None = None
        """The worker that is starting."""
        self._ended: list[Link] = []
        """Killed, and not buried yet."""
        self._number = 0
        self._overdue_since: float | None = None
        """When the request was sent whose answer is still awaited though its window has gone."""
        self._heard = 0.0
        """When the last answer came."""
        self._state: State = "starting"
        self._reason: str | None = None
        self._fix: str | None = None
        self._started_again = 0
        self._restarts = Restarts(limits.restarts, limits.period_s, limits.rest_s)
        self._due = 0.0
        """When the next start is due."""
        self._metas: dict[tuple[int, ...], bytes] = {}
        self._forms = shim.Memory()
        self._closing = False
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        """Readable when the thread has something to look at."""
        self._quit = os.eventfd(0, os.EFD_CLOEXEC)
        """Readable when the thread is to end, which alone breaks off a start."""
        self.about: dict[str, Any] = {}
        """What the driver says of itself once the network is loaded."""
        self.hello: dict[str, Any] = {}
        """What the worker says of itself: `python`, `numpy`, `machine`, `pid`."""
        self._thread = threading.Thread(target=self._run, name=f"worker {name}", daemon=True)
        self._thread.start()

    @property
    def condition(self) -> Condition:
        """How the worker stands now."""
        link = self._link or self._beginning
        return Condition(self._state, self._reason, self._fix, self._started_again, link.pid if link else None)

    def wait_ready(self, within_s: float) -> Condition:
        """Wait until the worker is ready or known not to be."""
        deadline = time.monotonic() + within_s
        while self._state == "starting" and time.monotonic() < deadline:
            time.sleep(0.005)
        return self.condition

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
            if link is None or self._state != "ready":
                raise WorkerError(f"{self.name}: {self._state}: {self._reason or 'not ready yet'}")
            body = np.ascontiguousarray(times, np.uint8)
            meta = self._metas.get(times.shape) or self._meta_of(times.shape)
            reply, sent = self._ask(link, shim.INFER, meta, body, body.nbytes, deadline)
            if reply.kind == shim.FAILURE:
                if reply.meta.get("absent"):
                    self._fail("", absent=_absence(reply))
                raise WorkerError(f"{self.name}: {reply.meta.get('reason', 'failed without a reason')!s:.500}")
            try:
                return self._read(reply, sent)
            except LinkError as error:
                self._fail(f"the worker {error}")
                raise WorkerError(f"{self.name}: the worker {error}") from None
        finally:
            self._lock.release()

    def _ask(self, link: Link, kind: int, meta: bytes, body: Any, size: int, deadline: float) -> tuple[Reply, int]:
        """A request and its reply; the caller holds the lock. What fails is looked after before it is raised."""
        started = time.monotonic()
        if started >= deadline:
            raise WorkerError(f"{self.name}: no time was left to ask")
        self._number += 1
        self._state = "busy"
        try:
            sent = link.request(kind, self._number, meta, body, size, deadline)
            reply = self._reply(link, deadline)
        except LateError:
            waited = time.monotonic() - started
            self._state, self._reason = "busy", f"no answer for {waited:.3f} s"
            self._overdue_since = started
            os.eventfd_write(self._wake, 1)
            raise WorkerError(f"{self.name}: no answer within {waited * 1e3:.0f} ms") from None
        except LinkError as error:
            self._fail(f"the worker {error}", error.fix)
            raise WorkerError(f"{self.name}: the worker {error}") from None
        except BaseException:  # a signal's handler raised: nobody will take the answer
            self._fail("the worker was left in the middle of an answer")
            raise
        self._state, self._reason = "ready", None
        return reply, sent

    def _reply(self, link: Link, deadline: float, interrupt: int | None = None) -> Reply:
        """The reply to the last request."""
        reply = link.receive(deadline, interrupt)
        if reply.number != self._number:
            raise LinkError(f"answered request {reply.number} when {self._number} was asked")
        self._heard = time.monotonic()
        return reply

    def _meta_of(self, shape: tuple[int, ...]) -> bytes:
        """A window's description, the same bytes each time."""
        meta = self._metas[shape] = json.dumps({"arrays": [["times", "|u1", list(shape)]]}).encode()
        return meta

    def _read(self, reply: Reply, sent: int) -> Answer:
        if reply.kind != shim.ANSWER:
            raise LinkError(f"sent a frame of kind {reply.kind} as its answer")
        try:
            form = self._forms.get(reply.text)
            if form is None:
                form = self._forms.keep(reply.text, shim.layout(reply.meta.get("arrays")))
            arrays = shim.unpack(form, reply.body)
        except ValueError as error:
            raise LinkError(f"sent an answer that cannot be read: {error}") from None
        return Answer(arrays, reply.nanoseconds / 1e9, sent + shim.HEADER.size + len(reply.text) + len(reply.body))

    def distrust(self, reason: str) -> None:
        """An answer made no sense: kill the worker and start another."""
        with self._lock:
            self._fail(reason)

    def close(self) -> None:
        """End the worker and the thread, within about a second: it is asked to stop if it is idle, else killed."""
        if self._closing:
            return
        self._closing = True
        os.eventfd_write(self._quit, 1)
        os.eventfd_write(self._wake, 1)
        self._thread.join(5.0)
        if not self._thread.is_alive():
            os.close(self._quit)
            os.close(self._wake)

    def _fail(self, reason: str, fix: str = "", absent: shim.AbsentError | None = None) -> None:
        """End the worker that is ready or busy; the thread buries it and starts another. The lock is held."""
        link, self._link = self._link, None
        if link is None:
            return
        self._overdue_since = None
        link.kill()
        self._ended.append(link)
        if absent is not None:
            self._absent(absent, min(SOON_S, self._limits.look_s))
        else:
            self._failed(reason, fix)
        os.eventfd_write(self._wake, 1)

    def _failed(self, reason: str, fix: str = "") -> None:
        """Note a failure, and when the next start is due."""
        now = time.monotonic()
        self._due = self._restarts.failed(now)
        self._state, self._reason, self._fix = "failed", reason, fix or None
        log.warning("%s: %s; to be started again in %.2g s", self.name, reason, self._due - now)

    def _absent(self, error: shim.AbsentError, look_s: float) -> None:
        """Note that the device is not there, which is no failure, and when to look again."""
        self._due = time.monotonic() + look_s
        if (self._state, self._reason) != ("absent", error.reason):
            log.warning("%s: absent: %s", self.name, error.reason)
        self._state, self._reason, self._fix = "absent", error.reason, error.fix or None

    def _run(self) -> None:
        while not self._closing:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._wake)
            for link in list(self._ended):
                if link.close(BURY_S):
                    self._ended.remove(link)
            try:
                self._step()
            except InterruptError:
                continue
            except Exception as error:
                log.exception("%s: a fault in the supervisor itself", self.name)
                with self._lock:
                    self._fail(f"{type(error).__name__}: {error}")
                if self._state == "starting":
                    self._failed(f"{type(error).__name__}: {error}")
        self._end()

    def _step(self) -> None:
        """One thing that the thread does.

        Raises:
            InterruptError: it was woken.
        """
        link, since = self._link, self._overdue_since
        if link is None:
            wait = self._due - time.monotonic()
            if wait <= 0:
                self._start()
            else:
                if self._state == "failed":
                    self._state = "backing-off"
                select.select([self._wake], [], [], wait)
        elif since is not None:
            self._await_overdue(link, since)
        elif link.wait_for_end(self._heard + self._limits.ping_s - time.monotonic(), self._wake):
            self._note_end(link)
        elif time.monotonic() - self._heard >= self._limits.ping_s:  # windows' answers are signs of life too
            self._ping(link)

    def _start(self) -> None:
        """Start a worker and load the network."""
        deadline = time.monotonic() + self._limits.start_s
        if self._state != "absent":  # that it remains until it is there
            self._started_again += self._state in ("failed", "backing-off")
            self._state = "starting"
        try:
            program = self._program()
            link = self._beginning = Link(program, self.name)
        except shim.AbsentError as error:
            self._absent(error, self._limits.look_s)
            return
        except LinkError as error:
            self._failed(f"the worker {error}", error.fix)
            return
        try:
            self._load_into(link, deadline, local=program.local)
        except Exception as error:
            self._beginning = None
            link.kill()
            self._ended.append(link)
            match error:
                case shim.AbsentError():
                    self._absent(error, self._limits.look_s)
                case LateError():
                    self._failed(f"the worker was not ready within {self._limits.start_s:g} s")
                case LinkError():
                    self._failed(f"the worker {error}", error.fix)
                case _:  # to end, or a fault of ours
                    raise
            return
        with self._lock:
            self._heard = time.monotonic()
            self._link, self._beginning = link, None
            self._state, self._reason, self._fix = "ready", None, None
        log.info("%s: ready (pid %d)", self.name, link.pid)

    def _load_into(self, link: Link, deadline: float, *, local: bool) -> None:
        self.hello = link.greet(deadline, self._quit)
        meta, body = self._load
        if not local:  # killing ssh may not reach a driver that hangs: then the kernel there ends it
            limits = self._limits
            meta = meta | {"start_s": math.ceil(limits.start_s) + ALARM_S, "hang_s": math.ceil(limits.hang_s) + ALARM_S}
        link.send(frame(shim.LOAD, 0, meta, body), deadline, self._quit)
        reply = link.receive(deadline, self._quit)
        if reply.kind == shim.FAILURE:
            if reply.meta.get("absent"):
                raise _absence(reply)
            raise LinkError(f"cannot load the network: {reply.meta.get('reason', 'failed')!s:.500}")
        if reply.kind != shim.LOADED:
            raise LinkError(f"answered with a frame of kind {reply.kind} when it was to load the network")
        about = reply.meta.get("about")
        self.about = about if isinstance(about, dict) else {}

    def _await_overdue(self, link: Link, since: float) -> None:
        """See to an answer that missed its window's deadline: it comes late, or the worker is killed."""
        hang_s = self._limits.hang_s
        failure = None
        try:
            self._reply(link, since + hang_s, self._wake)
        except LateError:
            failure = f"the worker gave no answer for {hang_s:g} s and was killed"
        except LinkError as error:
            failure = f"the worker {error}"
        with self._lock:
            if self._link is link and failure is not None:
                self._fail(failure)
            elif self._link is link:
                self._overdue_since = None
                self._state, self._reason = "ready", None

    def _note_end(self, link: Link) -> None:
        """The worker ended while nobody asked anything of it; who had asked has noted it."""
        with self._lock:
            if self._link is not link:
                return
            self._link, self._state, self._reason = None, "failed", "the worker has ended"
            self._ended.append(link)
        self._failed(f"the worker {link.process.cause(CAUSE_S)}")

    def _ping(self, link: Link) -> None:
        """Ask an idle worker for a sign of life; one that owes a window its answer is seen to by the window."""
        if not self._lock.acquire(blocking=False):
            self._heard = time.monotonic()
            return
        try:
            if self._link is link and self._state == "ready":
                with contextlib.suppress(WorkerError):
                    reply, _ = self._ask(link, shim.PING, b"", b"", 0, time.monotonic() + PONG_S)
                    if reply.kind != shim.PONG:
                        self._fail(f"the worker sent a frame of kind {reply.kind} as a sign of life")
        finally:
            self._lock.release()

    def _end(self) -> None:
        """Let the worker go, and all that is left of others."""
        idle = self._lock.acquire(timeout=BURY_S)
        link, self._link = self._link, None
        if link is not None:
            if idle and self._overdue_since is None:
                link.stop(STOP_S)
            link.kill()
            self._ended.append(link)
        if not idle:  # whoever asks learns that the worker was killed
            idle = self._lock.acquire(timeout=BURY_S)
        self._state, self._reason = "failed", "closed"
        if idle:
            self._lock.release()
        for ended in self._ended:
            if not ended.close(BURY_S):
                log.error("%s: process %d was killed and has not ended: its device hangs", self.name, ended.pid)


def _absence(reply: Reply) -> shim.AbsentError:
    return shim.AbsentError(f"{reply.meta.get('reason', '')!s:.500}", f"{reply.meta.get('fix', '')!s:.500}")

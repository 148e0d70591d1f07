"""What survives a restart: totals since installation, hot pixels that were learned, how the plans did.

One JSON file, `state.json`, in `$STATE_DIRECTORY` (systemd's) or `~/.local/state/firstspike`. It is written beside and
renamed, after fsync, so that a power cut leaves the old one or the new one, never half of one. A file that cannot be
understood is set aside under another name, reported, and never fatal: a daemon that does not start because of its
statistics would be absurd.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from firstspike.files import write_atomically
from firstspike.messages import Health
from firstspike.messages_health import Counters

log = logging.getLogger(__name__)

SCHEMA = "firstspike.state/1"
FILE = "state.json"
MAX_BYTES = 64 << 20
PERIOD_S = 60.0


class PlanState(BaseModel):
    """What is known of a plan: its last figures, as health told them."""

    model_config = ConfigDict(extra="ignore")

    windows: int = Field(0, ge=0)
    failures: int = Field(0, ge=0)
    latency_p50_ms: float | None = None
    latency_p99_ms: float | None = None


class State(BaseModel):
    """The file's content; what a later version of the schema's first number added is kept as it is."""

    model_config = ConfigDict(extra="allow", populate_by_name=True)

    schema_: str = Field(SCHEMA, alias="schema", pattern=r"^firstspike\.state/1$")
    since: str = ""
    """When the counting began, UTC."""
    saved: str = ""
    """When it was written last, UTC."""
    runs: int = Field(0, ge=0)
    """How often the daemon was started."""
    run_s: float = Field(0.0, ge=0)
    """How long it ran, all in all."""
    totals: dict[str, int] = {}
    """Sums of `messages_health.Counters` over all runs."""
    hot_pixels: dict[str, list[tuple[int, int]]] = {}
    """By sensor (its name and serial number): (x, y)."""
    plans: dict[str, PlanState] = {}
    """By name; of several streams as STREAM:PLAN."""


def folder(environment: Mapping[str, str] | None = None) -> Path:
    """Where state is kept."""
    env = os.environ if environment is None else environment
    if given := env.get("STATE_DIRECTORY"):
        return Path(given.split(":")[0])
    return Path(env.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "firstspike"


def read(place: Path) -> State:
    """The state that was kept.

    Raises:
        OSError: there is none, or it cannot be read.
        ValueError: it is not what `Keeper.save` wrote.
    """
    with (place / FILE).open("rb") as file:
        raw = file.read(MAX_BYTES + 1)
    if len(raw) > MAX_BYTES:
        raise ValueError(f"larger than {MAX_BYTES} bytes")
    try:
        return State.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{where}: {first['msg']}" if where else str(first["msg"])) from None


def _text(state: State) -> bytes:
    text = json.dumps(state.model_dump(by_alias=True, mode="json"), indent=1, ensure_ascii=False) + "\n"
    return text.encode()


def read_or_set_aside(place: Path) -> State:
    """The state that was kept; a new one if there is none, or none that can be understood, which is set aside.

    Raises:
        OSError: the folder cannot be used.
    """
    try:
        return read(place)
    except FileNotFoundError:
        return State(since=_now())
    except ValueError as error:
        name = f"{FILE}.unreadable-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}"
        names = [name, *(f"{name}.{number}" for number in range(1, 1000))]
        aside = next(place / one for one in names if not (place / one).exists())
        (place / FILE).rename(aside)
        log.error("%s: not understood (%s): set aside as %s, counting begins anew", place / FILE, error, aside)  # noqa: TRY400
        return State(since=_now())


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


class Keeper:
    """Keeps the state of one daemon; a place that another one uses, or that cannot be written, is reported, not used.

    Args:
        place: the folder; made if it is not there.
        period_s: between two writes.
    """

    def __init__(self, place: Path, period_s: float = PERIOD_S) -> None:
        self._place, self._period_s = place, period_s
        self._turn = threading.Lock()
        self._writing = threading.Lock()
        """Apart, and taken first: a disk that hangs holds up nobody who only tells or asks."""
        self._wake = threading.Event()
        self._watched = False
        self._lock_file: Any = None
        self._ok = True
        self.state = State(since=_now())
        try:
            place.mkdir(mode=0o750, parents=True, exist_ok=True)
            self._lock_file = (place / f"{FILE}.lock").open("ab")
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for half in place.glob(f".{FILE}.*.tmp"):  # of runs that were killed while they wrote
                with contextlib.suppress(OSError):
                    half.unlink()
            self.state = read_or_set_aside(place)
        except BlockingIOError:
            self._give_up("another firstspike keeps its state here: set $STATE_DIRECTORY for one of them")
        except OSError as error:
            self._give_up(f"{error.strerror}")
        self.state.runs += 1
        self._before = dict(self.state.totals)
        self._before_s = self.state.run_s

    def _give_up(self, why: str) -> None:
        log.warning("%s: %s: state is not kept", self._place, why)
        self.close()
        self._ok = False

    def learned(self, sensor: str, pixels: list[tuple[int, int]]) -> None:
        """Keep a sensor's hot pixels; they are written at once, while it is watched by another thread."""
        with self._turn:
            self.state.hot_pixels[sensor] = pixels
        if self._watched:
            self._wake.set()
        else:
            self.save()

    def hot_pixels(self, sensor: str) -> list[tuple[int, int]]:
        """What was learned of a sensor, in this run or an earlier one."""
        with self._turn:
            return list(self.state.hot_pixels.get(sensor, []))

    def count(self, *healths: Health) -> None:
        """Take in how this run stands, that is, all its streams."""
        with self._turn:
            state = self.state
            state.run_s = round(self._before_s + max(health.uptime_s for health in healths), 3)
            state.totals.update({name: self._before.get(name, 0) for name in Counters.model_fields})
            for health in healths:
                for name, count in health.counters.model_dump().items():
                    state.totals[name] += count
                of = "" if health.stream is None else f"{health.stream}:"
                for one in health.backends:
                    if one.windows:
                        state.plans[of + one.name] = PlanState.model_validate(one.model_dump())

    def save(self) -> None:
        """Write it; that it cannot be written is said once, and again after it could."""
        if self._lock_file is None:
            return
        try:
            with self._writing:
                with self._turn:
                    self.state.saved = _now()
                    text = _text(self.state)
                write_atomically(self._place / FILE, text)
        except OSError as error:
            if self._ok:
                log.error("%s: cannot be written: %s: state is not kept", self._place / FILE, error.strerror)  # noqa: TRY400
            self._ok = False
        else:
            self._ok = True

    @contextmanager
    def watching(self, healths: Callable[[], Sequence[Health]]) -> Iterator[None]:
        """Write once a period, and at the end; `healths` gives those of all streams."""
        ending = threading.Event()

        def keep_now() -> None:
            try:
                self.count(*healths())
            except Exception:  # statistics end neither this thread nor the daemon
                log.exception("%s: the run cannot be counted", self._place / FILE)
            self.save()

        def keep() -> None:
            while True:
                self._wake.wait(self._period_s)
                self._wake.clear()  # before the look: what is set from now on wakes again
                if ending.is_set():
                    return
                keep_now()

        thread = threading.Thread(target=keep, name="state", daemon=True)
        self.save()  # a run that is killed has been counted, and a place that cannot be written is told at once
        thread.start()
        self._watched = True
        try:
            yield
        finally:
            self._watched = False
            ending.set()
            self._wake.set()
            thread.join()
            keep_now()
            self.close()

    def close(self) -> None:
        """Let another daemon keep its state here."""
        if self._lock_file is not None:
            self._lock_file.close()
            self._lock_file = None

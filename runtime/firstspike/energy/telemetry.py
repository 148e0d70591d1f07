"""Energy telemetry of a running daemon: reads the meters, learns idle power, closes energy windows in time.

`make` decides which meters are read: the machine's total and those that sections [backend.NAME] name, and no more.
Under the virtual clock none is, and the account closes its windows itself.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from firstspike.bundle import Bundle
from firstspike.clock import Clock
from firstspike.config import EnergySection
from firstspike.config_plugins import BackendChoice
from firstspike.energy import Meter
from firstspike.energy.account import Accounts, Names, PlanMeters
from firstspike.energy.baseline import Baseline
from firstspike.energy.interval import LONGEST_DELAY, Figure, energy
from firstspike.energy.meters import Found, find
from firstspike.energy.operations import Model, Modelled
from firstspike.energy.sampler import Sampler
from firstspike.energy.stream import StreamAccount
from firstspike.errors import FirstspikeError
from firstspike.messages import Energy

log = logging.getLogger(__name__)

LOOK_S = 0.25
"""Between looks whether the daemon is idle, or a window over."""
FIRST_S = 0.2
"""That the first readings are waited for."""
LATEST_S = 5.0
"""After a window's end that its readings are waited for: a sensor may be slow."""
SPARE_NS = 2_000_000_000
"""Samples before the next block of idle time that are fetched with it."""
VIRTUAL = "the clock is virtual: no meter is read"
SWITCHED_OFF = "energy.meters is empty: no meter is read"


@dataclass(frozen=True, slots=True)
class Wiring:
    """Which meters are whose."""

    host: Names
    plans: dict[str, PlanMeters]
    why: str | None
    """The machine has no meter; None: it has."""

    @property
    def names(self) -> list[str]:
        """Every meter that is wanted."""
        found = [*self.host, *(name for plan in self.plans.values() for names in plan.sums for name in names)]
        return list(dict.fromkeys(found))


def wire(section: EnergySection, choices: Sequence[BackendChoice], found: Found) -> Wiring:
    """Decide which meters are whose."""
    why = None
    if "auto" in section.meters:
        total = found.total()
    else:
        total = next((meter for name in section.meters if (meter := found.named(name)) is not None), None)
        missing = [name for name in section.meters if found.named(name) is None]
        if missing:
            there = ", ".join(found.names()) or "none"
            why = f"energy.meters names {', '.join(missing)}, which is not there: there are {there}"
    host: Names = (total.name,) if total else ()
    if not section.meters:
        why = SWITCHED_OFF
    elif not host and why is None:
        reasons = "; ".join(f"{one.name or one.kind}: {one.reason}" for one in found.left_out[:3])
        why = f"no meter was found ({reasons}): firstspike meters says more" if reasons else "no meter was found"

    def of(choice: BackendChoice) -> Names:
        return (choice.meter,) if choice.meter else host

    plans = {
        choice.name: PlanMeters(of(choice.parts[0]), of(choice.parts[1])) if choice.parts else PlanMeters(of(choice))
        for choice in choices
    }
    return Wiring(host, plans, why)


class Telemetry:
    """Runs from when it is entered.

    Args:
        accounts: whose windows are closed.
        meters: that are read.
        plans: of each stream, with their meters.
        section: `[energy]`.
        clock: the daemon's.
    """

    def __init__(
        self, accounts: Accounts, meters: Sequence[Meter], plans: Mapping[str | None, Mapping[str, PlanMeters]],
        section: EnergySection, clock: Clock,
    ) -> None:  # fmt: skip
        self.accounts = accounts
        self._plans = plans
        self._clock = clock
        self._virtual = clock.kind == "virtual"
        self._sampler = Sampler(meters, section.sample_hz, 2 * section.window_s + 20)
        self._baselines = {meter.name: Baseline(meter) for meter in meters}
        self._baseline_s = section.baseline_s if meters else 0.0
        # Without a meter there is no idle power to learn, and nothing to wait for.
        self._look_s = LOOK_S if meters else section.window_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="energy", daemon=True)
        self._number = 0

    def __enter__(self) -> Telemetry:
        if not self._virtual:
            self._sampler.__enter__()
            until = time.monotonic() + FIRST_S
            while time.monotonic() < until and not all(track.last_ns() for track in self._sampler.tracks.values()):
                time.sleep(0.001)
            self.accounts.start()
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._virtual:
            self.accounts.finish()
            return
        self._stopping.set()
        self._thread.join()
        self._sampler.__exit__()

    def stream(self, name: str | None, choices: Sequence[BackendChoice], bundle: Bundle) -> StreamAccount:
        """The account of one stream's plans.

        Args:
            name: of the stream.
            choices: the plans' back ends.
            bundle: its model.
        """
        model = model_of(bundle, at_once=self._virtual)
        manifest = bundle.manifest
        network = f"{manifest.name}@{manifest.version}, {bundle.digest[:8]}" if len(self._plans) > 1 else ""
        return StreamAccount(self.accounts, name, self._plans[name], model, self._clock, twins(model, choices), network)

    def follow(self, before: Telemetry) -> None:
        """Go on where another of this run, which has ended, left off: totals, messages' numbers, idle power."""
        self.accounts.follow(before.accounts)
        self._baselines |= {name: one for name, one in before._baselines.items() if name in self._baselines}

    def begin(self, stopping: Callable[[], bool], *, rest: bool) -> None:
        """Tell that a stream's plans are ready: from here on the machine is idle when nothing is inferred.

        Args:
            stopping: True ends the wait.
            rest: wait for `baseline_s`, and on until idle power is known, three times that at most.
        """
        self.accounts.end()
        if not rest:
            return
        began = time.monotonic()
        while not stopping() and (rested := time.monotonic() - began) < 3 * self._baseline_s:
            if rested >= self._baseline_s and all(one.idle()[0] is not None for one in self._baselines.values()):
                return
            time.sleep(LOOK_S / 2)

    def _run(self) -> None:
        while not self._stopping.wait(self._look_s):
            try:
                self._learn()
                while self._due():
                    self._close()
            except Exception:  # whatever is wrong with one window, the next ones are told
                log.exception("energy: a window could not be told")

    def _learn(self) -> None:
        now_ns = time.monotonic_ns()
        since_ns = self.accounts.idle_since_ns()
        if since_ns is None:
            return
        for name, baseline in self._baselines.items():
            track = self._sampler.tracks[name]
            if track.last_ns() <= baseline.reached_ns:
                continue
            samples = track.since(max(since_ns, baseline.reached_ns - SPARE_NS))
            baseline.feed(samples, since_ns, min(now_ns, track.last_ns()))

    def _due(self) -> bool:
        """Whether the next window is over, and read to its end as far as that can be waited for."""
        end_ns = self.accounts.began_ns + (self._number + 1) * self.accounts.window_ns
        now_ns = time.monotonic_ns()
        if now_ns < end_ns:
            return False
        if now_ns > end_ns + LATEST_S * 1e9:
            return True
        # A reading that failed is one too: it makes a gap.
        return all(
            track.last_ns() >= end_ns + LONGEST_DELAY * (track.period_s() or 0.0) * 1e9
            for track in self._sampler.tracks.values()
        )

    def _close(self) -> None:
        number, self._number = self._number, self._number + 1
        start_ns = self.accounts.began_ns + number * self.accounts.window_ns
        end_ns = start_ns + self.accounts.window_ns
        figures: dict[str, Figure] = {}
        for name, track in self._sampler.tracks.items():
            idle, why = self._baselines[name].idle()
            figures[name] = energy(track.meter, track.since(start_ns), start_ns, end_ns, idle, why)
        self.accounts.close(number, figures)


def model_of(bundle: Bundle, *, at_once: bool) -> Model | None:
    """The operation model; None: this bundle has none.

    Args:
        bundle: the model's.
        at_once: it may take its time within an inference.
    """
    try:
        return Model(bundle, learn_within=at_once)
    except FirstspikeError as error:
        log.warning("energy is not modelled: %s", error)
        return None


def twins(model: Model | None, choices: Sequence[BackendChoice]) -> dict[str, Modelled]:
    """What the model says of plans that run the floating-point twin."""
    found = {}
    for choice in choices:
        if model is not None and getattr(choice.options, "network", "") == "ann":
            of_twin = model.ann(16 if getattr(choice.options, "precision", "") == "f16" else 32)
            if of_twin is not None:
                found[choice.name] = of_twin
    return found


def make(
    section: EnergySection, base: Path, streams: Mapping[str | None, Sequence[BackendChoice]], clock: Clock, epoch: str,
    sink: Callable[[Energy], None] | None, stack: ExitStack,
) -> Telemetry:  # fmt: skip
    """What feeds the account, to be entered.

    Args:
        section: `[energy]`.
        base: what a relative root counts from.
        streams: the back ends of each one's plans.
        clock: the daemon's; of a virtual one, which stands for one stream's time, the stream's.
        epoch: this run's name.
        sink: takes the messages.
        stack: closes what is opened.
    """
    host: Names = ()
    why: str | None = VIRTUAL
    plans: dict[str | None, dict[str, PlanMeters]] = {}
    meters: list[Meter] = []
    if clock.kind == "virtual":
        for name, choices in streams.items():
            plans[name] = {choice.name: PlanMeters((), () if choice.parts else None) for choice in choices}
    else:
        found = find(base / section.root) if section.meters else Found((), ())
        wanted: list[str] = []
        for name, choices in streams.items():
            wiring = wire(section, choices, found)
            host, why, plans[name] = wiring.host, wiring.why, wiring.plans
            wanted += wiring.names
        meters = [meter for name in dict.fromkeys(wanted) if (meter := found.named(name)) is not None]
        for name in found.names():
            meter = found.named(name)
            if meter is not None and meter not in meters:
                meter.close()
        for opened in meters:
            stack.callback(opened.close)
        log.info("energy: %s", ", ".join(dict.fromkeys(wanted)) or why)
    accounts = Accounts(
        host=host, clock=clock, epoch=epoch, window_ns=round(section.window_s * 1e9), sink=sink, why=why,
        stream=next(iter(streams)) if clock.kind == "virtual" else None,
    )  # fmt: skip
    return Telemetry(accounts, meters, plans, section, clock)

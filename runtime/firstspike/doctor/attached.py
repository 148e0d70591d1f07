"""Accelerators: which are attached, and why not. Each driver looks in a process of its own, with a deadline."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal

from firstspike import config
from firstspike.errors import FirstspikeError
from firstspike.worker import drivers, environments, install
from firstspike.worker.environments import Environment
from firstspike.worker.options import WorkerOptions
from firstspike.worker.probe import Device, Probed, probe

PROBE_S = 20.0
"""Seconds that a probe may take: a Neural Compute Stick that does not boot is given up after 15."""

State = Literal["ready", "absent", "failed", "not installed", "broken"]


@dataclass(frozen=True, slots=True)
class Section:
    """A back end to be examined, as the configuration has it or by default."""

    name: str
    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options that differ from the driver's defaults."""
    command: tuple[str, ...] | None = None
    """How its interpreter is reached; None: the environment that was installed."""


@dataclass(frozen=True, slots=True)
class Accelerator:
    """One back end that runs in a worker."""

    name: str
    kind: str
    state: State
    reason: str
    """Why it is not ready, or what else its user should know; empty if all is well."""
    fix: str
    devices: tuple[Device, ...]
    probed_with: Literal["environment", "command", "firstspike"]
    """Whose Python looked for devices. Without an environment it is firstspike's, which sees what needs no SDK."""
    worker: Mapping[str, Any]
    environment: Environment
    missing: tuple[install.Library, ...]
    """Libraries of the system that it lacks."""
    tried: str
    """What this back end has really run on, as its author says."""


def accelerators(sections: Sequence[Section], within_s: float = PROBE_S) -> list[Accelerator]:
    """Examine back ends, all at once.

    Args:
        sections: which.
        within_s: seconds that each may take to look for its devices.
    """
    if not sections:
        return []
    # A worker dies with the thread that starts it: each probe begins and ends in one.
    with ThreadPoolExecutor(len(sections)) as pool:
        return list(pool.map(lambda section: _examine(section, within_s), sections))


def _examine(section: Section, within_s: float) -> Accelerator:
    try:
        driver = drivers.load(section.kind)
    except FirstspikeError as error:
        return _unusable(section, str(error))
    environment = environments.look(driver)
    options = driver.defaults() | dict(section.options)
    probed_with: Literal["environment", "command", "firstspike"] = "command" if section.command else "environment"
    if section.command is None and environment.state in ("not installed", "broken"):
        probed_with = "firstspike"
    command = section.command or (str(environment.python or sys.executable),)
    answer = probe(driver.program(command), options, within_s)
    missing = tuple(install.missing_libraries(driver)) if probed_with != "command" else ()
    state, reason, fix = _judge(section, environment, answer)
    return Accelerator(
        section.name, section.kind, state, reason, fix, answer.devices, probed_with, answer.worker, environment,
        missing, driver.tried,
    )  # fmt: skip


def _unusable(section: Section, reason: str) -> Accelerator:
    nowhere = Environment(section.kind, "not installed", environments.places()[0] / section.kind)
    fix = "correct its file"
    return Accelerator(section.name, section.kind, "failed", reason, fix, (), "firstspike", {}, nowhere, (), "")


def _judge(section: Section, environment: Environment, answer: Probed) -> tuple[State, str, str]:
    """State, reason and fix."""
    if section.command is None and environment.python is None:
        state: State = "broken" if environment.state == "broken" else "not installed"
        return state, environment.reason, environment.fix
    if answer.failure is not None:
        again = f"firstspike workers install {environment.name} --force"
        return "failed", answer.failure, "try its command by hand" if section.command else again
    if not any(device.present for device in answer.devices):
        first = answer.devices[0] if answer.devices else Device("any", present=False, reason="no device was found")
        return "absent", first.reason or "no device was found", first.fix
    if section.command is None and environment.state == "outdated":
        return "ready", environment.reason, environment.fix
    return "ready", "", ""


def sections(loaded: config.Loaded | None) -> list[Section]:
    """What to examine: the configured plans that run in workers, then the other drivers as they are by default."""
    configured = []
    plans_of = loaded.backends if loaded is not None else ()
    chosen = {part.name: part for plan in plans_of for part in plan.parts or (plan,)}
    for choice in chosen.values():
        if isinstance(choice.options, WorkerOptions):
            command = tuple(choice.options.command) or None
            configured.append(Section(choice.name, choice.kind, choice.options.of_driver(), command))
    mentioned = {section.kind for section in configured}
    return configured + [Section(name, name) for name in of_use() if name not in mentioned]


def of_use() -> list[str]:
    """The drivers that are not for tests alone."""
    found = []
    for name in drivers.names():
        try:
            for_tests = drivers.load(name).for_tests
        except FirstspikeError:  # a file that cannot be used is reported when it is examined
            for_tests = False
        found += [] if for_tests else [name]
    return found

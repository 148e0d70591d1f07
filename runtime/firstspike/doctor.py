"""What this machine has, what it lacks, and the fix: the answers behind `firstspike doctor`.

Nothing here changes anything, and nothing that is asked can hang or end it: every driver looks for its devices in a
process of its own, with a deadline.
"""

from __future__ import annotations

import os
import platform
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import firstspike
from firstspike import bundle, config, endpoints, native, publish
from firstspike.backends import Backend
from firstspike.config_plugins import BackendChoice
from firstspike.errors import FirstspikeError
from firstspike.hybrid import place
from firstspike.worker import drivers, environments, install
from firstspike.worker.environments import Environment
from firstspike.worker.options import WorkerOptions
from firstspike.worker.probe import Device, Probed, probe

SCHEMA = "firstspike.doctor/1"
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
class Fact:
    """Something that is right or not."""

    ok: bool
    text: str
    """What there is; if it is not right, what is wrong."""
    fix: str = ""


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


def machine() -> dict[str, Any]:
    """Versions and processor."""
    return {
        "firstspike": firstspike.__version__, "python": platform.python_version(), "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}", "cpus": os.cpu_count() or 1,
    }  # fmt: skip


def library() -> Fact:
    """The native library, and the vector units that it uses here."""
    try:
        lib = native.library()
    except FirstspikeError as error:
        text, _, fix = str(error).rpartition(": run ")
        return Fact(ok=False, text=text or str(error), fix=f"run {fix}" if text else "run 'make setup'")
    network = lib.fs_network_new(0, 1, 1, 1, 1)
    levels = {name: level for name, level in native.KERNELS.items() if level >= 0}
    there = [name for name, level in levels.items() if network and not lib.fs_network_kernels(network, level)]
    lib.fs_network_free(network)
    return Fact(ok=True, text=f"kernels {max(there, key=levels.__getitem__, default='unknown')}")


def endpoint(wanted: str) -> Fact:
    """The place of the daemon's sockets, and whether one is listening there."""
    try:
        resolved = endpoints.of_daemon(wanted)
        path = endpoints.path_of(resolved)
        if path.parent.exists():
            publish.require_own(path.parent)
    except FirstspikeError as error:
        return Fact(ok=False, text=str(error), fix="set [publish] endpoint")
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(0.2)
        if client.connect_ex(os.fsencode(path)) == 0:
            return Fact(ok=True, text=f"{resolved}, where a daemon listens")
    folder = path.parent
    while not folder.exists():
        folder = folder.parent
    if not os.access(folder, os.W_OK | os.X_OK):
        return Fact(ok=False, text=f"{folder}: cannot be written", fix="set [publish] endpoint, or XDG_RUNTIME_DIR")
    return Fact(ok=True, text=resolved)


def models() -> list[dict[str, Any]]:
    """The bundles that a configuration can name, each verified."""
    found: dict[str, dict[str, Any]] = {}
    for folder in bundle.places():
        for manifest in sorted(folder.glob(f"*/{bundle.MANIFEST}")):
            found.setdefault(manifest.parent.name, _model(manifest.parent))
    return list(found.values())


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


def _model(folder: Path) -> dict[str, Any]:
    try:
        manifest = bundle.open_bundle(folder).manifest
    except FirstspikeError as error:
        return {"name": folder.name, "version": None, "path": str(folder), "ok": False, "reason": str(error)}
    return {"name": folder.name, "version": manifest.version, "path": str(folder), "ok": True, "reason": ""}


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


@dataclass(frozen=True, slots=True)
class Plan:
    """Whether one plan of the configuration can run."""

    name: str
    ok: bool
    reason: str = ""
    fix: str = ""


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


def plans(loaded: config.Loaded, within_s: float = PROBE_S) -> list[Plan]:
    """Try all plans of the configuration at once: make each ready to answer, as the daemon does, and end it.

    Args:
        loaded: the configuration.
        within_s: seconds that each may take.
    """
    try:
        opened = bundle.open_bundle(loaded.model_path)
    except FirstspikeError as error:
        return [Plan(choice.name, ok=False, reason=str(error)) for choice in loaded.backends]
    parts = place.Parts()
    try:
        with ThreadPoolExecutor(len(loaded.backends)) as pool:
            made = [_made(choice, opened, parts) for choice in loaded.backends]
            return list(pool.map(lambda plan: _ready(plan, within_s), made))
    finally:
        parts.close()


def _made(choice: BackendChoice, opened: bundle.Bundle, parts: place.Parts) -> Backend | Plan:
    """A plan's back end, not started yet, or why there is none."""
    try:
        return place.make(choice, opened, parts)
    except FirstspikeError as error:
        return Plan(choice.name, ok=False, reason=str(error))


def _ready(backend: Backend | Plan, within_s: float) -> Plan:
    """Start it, and wait for it."""
    if isinstance(backend, Plan):
        return backend
    deadline = time.monotonic() + within_s
    try:
        while (condition := backend.condition()).state == "starting" and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        backend.close()
    state = f"not ready within {within_s:g} s" if condition.state == "starting" else condition.state
    reason = f"{state}: {condition.reason}" if condition.reason else state
    ready = condition.state == "ready"
    return Plan(backend.name, ready, "" if ready else reason, condition.fix or "")

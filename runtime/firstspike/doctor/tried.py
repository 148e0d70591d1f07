"""The plans of a configuration: each is made ready to answer, as the daemon does, and ended."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from firstspike import bundle, config
from firstspike.backends import Backend
from firstspike.config_plugins import BackendChoice
from firstspike.doctor.attached import PROBE_S
from firstspike.errors import FirstspikeError
from firstspike.hybrid import place


@dataclass(frozen=True, slots=True)
class Plan:
    """Whether one plan of the configuration can run."""

    name: str
    ok: bool
    reason: str = ""
    fix: str = ""


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

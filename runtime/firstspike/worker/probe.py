"""Asks a driver in a worker of its own what is attached, with a deadline: whatever it does, there is an answer."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from firstspike.worker import shim
from firstspike.worker.link import LateError, Link, LinkError, Reply, frame
from firstspike.worker.start import Program

MAX_DEVICES = 64
MAX_TEXT = 500


@dataclass(frozen=True, slots=True)
class Device:
    """What a driver says of one device."""

    device: str
    present: bool
    reason: str = ""
    """Why it cannot be used; empty if it can."""
    fix: str = ""
    more: Mapping[str, Any] = field(default_factory=dict)
    """What else the driver says: versions, memory, states."""


@dataclass(frozen=True, slots=True)
class Probed:
    """A driver's answer, or why there is none."""

    devices: tuple[Device, ...] = ()
    failure: str | None = None
    """Why there is no answer; then there are no devices."""
    worker: Mapping[str, Any] = field(default_factory=dict)
    """What the worker greeted with: versions of Python and NumPy, machine."""
    seconds: float = 0.0


def probe(program: Program, options: Mapping[str, Any], within_s: float) -> Probed:
    """Start a worker, ask it what is attached, and end it.

    Args:
        program: interpreter and driver.
        options: of the driver.
        within_s: seconds for all of it.
    """
    started = time.monotonic()
    deadline = started + within_s
    try:
        link = Link(program, program.driver)
    except LinkError as error:
        return Probed(failure=f"the worker {error}")
    worker: Mapping[str, Any] = {}
    try:
        hello = link.greet(deadline)
        worker = {key: str(hello.get(key, ""))[:MAX_TEXT] for key in ("python", "numpy", "machine")}
        link.send(frame(shim.PROBE, 1, {"options": dict(options)}), deadline)
        devices, failure = _read(link.receive(deadline))
    except LinkError as error:
        devices, failure = (), f"the worker {error}"
    except LateError:
        devices, failure = (), f"no answer within {within_s:g} s: the worker was killed"
    finally:
        link.close()
    return Probed(devices, failure, worker, time.monotonic() - started)


def _read(reply: Reply) -> tuple[tuple[Device, ...], str | None]:
    if reply.kind == shim.FAILURE:
        reason, fix = (str(reply.meta.get(key, ""))[:MAX_TEXT] for key in ("reason", "fix"))
        if reply.meta.get("absent"):
            return (Device("any", present=False, reason=reason, fix=fix),), None
        return (), f"its probe failed: {reason}"
    found = reply.meta.get("found")
    if reply.kind != shim.PROBED or not isinstance(found, list):
        return (), "its probe answered with no list of devices"
    devices = [_device(entry) for entry in found[:MAX_DEVICES]]
    whole = tuple(device for device in devices if device is not None)
    if len(whole) < len(devices):
        return (), "its probe answered with a device without name and presence"
    return whole, None


def _device(entry: Any) -> Device | None:
    if not isinstance(entry, dict) or not isinstance(entry.get("device"), str):
        return None
    present = entry.get("present")
    if not isinstance(present, bool):
        return None
    known = ("device", "present", "reason", "fix")
    texts = [str(entry.get(key) or "")[:MAX_TEXT] for key in ("device", "reason", "fix")]
    more = {str(key): value for key, value in entry.items() if key not in known}
    return Device(texts[0], present, texts[1], texts[2], more)

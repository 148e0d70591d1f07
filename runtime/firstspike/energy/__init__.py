"""Energy: meters that read a sensor (one file a kind), and the seam between them and the account that is kept of it.

A meter answers a `Reading` or `Unavailable` with a reason, never a zero in place of either.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

Scope = Literal["board", "rail", "chip", "package", "battery"]
Kind = Literal["power", "counter"]


@dataclass(frozen=True, slots=True)
class Reading:
    """One sample."""

    t_ns: int
    """time.monotonic_ns() at the middle of the read."""
    value: float
    """Of a power meter W, the mean or the moment's as the sensor gives it. Of a counter J, never decreasing: the meter
    has undone wrap-around already."""


@dataclass(frozen=True, slots=True)
class Unavailable:
    """Why there is no reading."""

    reason: str
    """What is missing."""
    fix: str = ""
    """What the user can do about it."""


class Meter(Protocol):
    """One sensor, open; its attributes never change."""

    name: str
    """Unique: "ina3221:VDD_IN", "rapl:package-0", "nvml:0", "hwmon:ina226@1-0040:power1", "power_supply:BAT0"."""
    what: str
    """In words: which rail or domain it is, and what is in it."""
    scope: Scope
    """What it measures the whole of."""
    kind: Kind
    """What a reading's value is."""
    resolution: float
    """Smallest step of the value, W or J; 0.0 if it is not known. Of a sum the root of its parts' squares: each
    hides by itself where it stands between two steps."""
    u95_fraction: float | None
    """Relative accuracy by the sensor's data sheet, 95 %, whose name stands in the meter's file; None: not known."""

    def read(self) -> Reading | Unavailable:
        """Take one sample: below 1 ms, pread on open descriptors.

        A failure is never a zero, and nothing is raised for a sensor that refuses or is gone.
        """

    def close(self) -> None:
        """Let the descriptors go."""

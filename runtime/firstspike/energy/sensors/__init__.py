"""Sensors, one file a kind.

Each offers `find(root: Path) -> Offer`, which looks below `root` for sensors of its kind ("/" is this machine, any
other a copy of a machine's /sys), changes nothing, raises nothing, and says of each sensor that it does not offer why.
`_template.py` shows how to add one.

A kind never offers two meters one of which is part of the other: who adds up what it finds counts nothing twice. What
is part of another meter is left out, and may be asked for by name.
"""

from __future__ import annotations

from dataclasses import dataclass

from firstspike.energy import Meter


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A sensor, or a whole kind of them, that is not offered."""

    kind: str
    """Name of the file, such as "rapl"."""
    name: str
    """As a meter would be called; empty for the whole kind."""
    reason: str
    fix: str = ""
    """What the user can do about it, where something can be done."""
    meter: Meter | None = None
    """It, where it works but is part of another: to be had by its name."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What one file found."""

    meters: tuple[Meter, ...] = ()
    left_out: tuple[LeftOut, ...] = ()

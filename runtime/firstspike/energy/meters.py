"""Every meter that this machine has, and why the others are not among them."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from firstspike.energy import Meter, Reading, sensors
from firstspike.energy.sensors import LeftOut, Offer

BY_SCOPE = ("board", "battery", "package", "chip", "rail")
"""What is nearest to the whole machine comes first."""


@dataclass(frozen=True, slots=True)
class Found:
    """What was found. Meters of one kind have nothing in common; those of two kinds may measure the same."""

    meters: tuple[Meter, ...]
    """By scope, the machine's total first (`BY_SCOPE`)."""
    left_out: tuple[LeftOut, ...]

    def total(self) -> Meter | None:
        """The meter that is nearest to what the whole machine draws; None: there is none.

        One that answers now is preferred: a laptop on its charger has a battery that says nothing.
        """
        answering = (meter for meter in self.meters if isinstance(meter.read(), Reading))
        return next(answering, self.meters[0] if self.meters else None)

    def named(self, name: str) -> Meter | None:
        """The meter of that name, also one that is part of another and so not among `meters`."""
        offered = (*self.meters, *(one.meter for one in self.left_out if one.meter is not None))
        return next((meter for meter in offered if meter.name == name), None)

    def names(self) -> list[str]:
        """Every name that `named` knows."""
        return [meter.name for meter in self.meters] + [one.name for one in self.left_out if one.meter is not None]

    def close(self) -> None:
        """Close all."""
        for name in self.names():
            meter = self.named(name)
            if meter is not None:
                meter.close()


def kinds() -> list[str]:
    """The kinds of sensor that are known: the files of `sensors`."""
    return sorted(module.name for module in pkgutil.iter_modules(sensors.__path__) if not module.name.startswith("_"))


def find(root: Path = Path("/")) -> Found:
    """Look for every meter.

    Args:
        root: "/" for this machine, or a folder with a copy of a machine's /sys.
    """
    meters: list[Meter] = []
    left_out: list[LeftOut] = []
    for name in kinds():
        look = cast(Callable[[Path], Offer], importlib.import_module(f"firstspike.energy.sensors.{name}").find)
        try:
            found = look(root)
        except Exception as error:  # noqa: BLE001 (whatever is wrong with one kind, the others are found)
            found = Offer((), (LeftOut(name, "", f"looking for it failed: {type(error).__name__}: {error}"),))
        meters += found.meters
        left_out += found.left_out
    return Found(tuple(sorted(meters, key=lambda meter: BY_SCOPE.index(meter.scope))), tuple(left_out))

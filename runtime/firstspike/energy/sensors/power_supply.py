"""Batteries and other supplies that say what flows: /sys/class/power_supply/*.

    type (Battery, UPS, USB, Mains), status, power_now (µW), or current_now (µA) times voltage_now (µV)
    (kernel.org, Documentation/ABI/testing/sysfs-class-power)

A battery tells what the machine draws only while it discharges: charging, what flows is not the load. Some drivers give
a discharge a negative sign. Of a USB-C port, the drivers `ucsi` and `tcpm` give what was negotiated, not what flows
(jetson-stats, pull request 900): left out. So are batteries of mice and pens (`scope` Device). Accuracy: not known, and
values are often seconds old.
"""

from __future__ import annotations

from pathlib import Path

from firstspike.energy import Kind, Reading, Scope, Unavailable
from firstspike.energy.sensors import LeftOut, Offer
from firstspike.energy.sensors._files import Number, PowerMeter, Product, Word, forbidden, text

KIND = "power_supply"
NEGOTIATED = ("ucsi-source-psy", "tcpm-source-psy")


class SupplyMeter:
    """One supply. Its answer is unavailable while the machine does not draw from it."""

    kind: Kind = "power"
    resolution = 0.0
    u95_fraction: float | None = None

    def __init__(self, folder: Path, *, battery: bool, products: list[Product]) -> None:
        self.name = f"{KIND}:{folder.name}"
        self.scope: Scope = "battery" if battery else "board"
        self.what = "what the machine draws from the battery" if battery else "what comes in by this supply"
        self._folder, self._battery = folder, battery
        self._status = Word(folder / ("status" if battery else "online"))
        self._power = PowerMeter(self.name, self.what, self.scope, products)

    def read(self) -> Reading | Unavailable:
        """See `Meter`."""
        if self._battery:
            status = self._status.read()
            if status != "Discharging":
                said = status.lower() or "not saying what it does"
                fix = "unplug the charger to measure what the machine draws"
                return Unavailable(
                    f"{self._folder}: the battery is {said}: what flows is not what the machine draws", fix
                )
        elif self._status.read() == "0":
            return Unavailable(f"{self._folder}: nothing is plugged in")
        found = self._power.read()
        if isinstance(found, Unavailable):
            return found
        if found.value == 0.0:
            return Unavailable(f"{self._folder}: says 0 W while the machine runs from it: it does not measure now")
        return Reading(found.t_ns, abs(found.value)) if self._battery else found

    def close(self) -> None:
        """See `Meter`."""
        self._power.close()
        self._status.close()


def find(root: Path) -> Offer:
    """See `sensors`."""
    meters, left_out = [], []
    for folder in sorted(root.glob("sys/class/power_supply/*")):
        name, kind = f"{KIND}:{folder.name}", text(folder / "type")
        files = ["power_now"] if (folder / "power_now").exists() else ["current_now", "voltage_now"]
        missing = [file for file in files if not (folder / file).exists()]
        unavailable = next(filter(None, (forbidden(folder / file) for file in files)), None)
        if folder.name.startswith(NEGOTIATED):
            left_out.append(LeftOut(KIND, name, "its driver tells what was negotiated on USB-C, not what flows"))
        elif text(folder / "scope") == "Device":
            left_out.append(LeftOut(KIND, name, "the battery of a device, such as a mouse: not this machine's"))
        elif missing:
            left_out.append(LeftOut(KIND, name, f"{folder}: has no {' and no '.join(missing)}: it does not measure"))
        elif unavailable is not None:
            left_out.append(LeftOut(KIND, name, unavailable.reason, unavailable.fix))
        else:
            factor = 1e-6 if len(files) == 1 else 1e-12
            products = [Product([Number(folder / file) for file in files], factor)]
            meters.append(SupplyMeter(folder, battery=kind in ("Battery", "UPS"), products=products))
    if not meters and not left_out:
        left_out.append(LeftOut(KIND, "", "no battery or other supply below sys/class/power_supply"))
    return Offer(tuple(meters), tuple(left_out))

"""The Neural Compute Stick 2: it has no power sensor, and nothing of it can be read."""

from __future__ import annotations

from pathlib import Path

from firstspike.energy.sensors import LeftOut, Offer

KIND = "ncs2"
FIX = (
    "put an inline meter into the stick's 5 V (INA219, INA226 or INA260 on the machine's I²C, which hwmon offers), "
    "and name it: docs/meters.md"
)


def find(root: Path) -> Offer:
    """See `sensors`."""
    for product in root.glob("sys/bus/usb/devices/*/idVendor"):
        try:
            if product.read_text().strip() == "03e7":
                reason = f"{product.parent}: a Neural Compute Stick has no power sensor"
                return Offer((), (LeftOut(KIND, f"{KIND}:{product.parent.name}", reason, FIX),))
        except OSError:
            continue
    return Offer((), (LeftOut(KIND, "", "a Neural Compute Stick 2 has no power sensor", FIX),))

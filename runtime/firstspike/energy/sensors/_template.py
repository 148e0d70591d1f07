"""A template: copy it to `<kind>.py`, and `firstspike meters` shows it. Names that begin with _ are no kinds.

Say here which files there are, in which units, since which kernel, what is in the figure, and where its accuracy is
stated.
"""

from __future__ import annotations

from pathlib import Path

from firstspike.energy import Meter
from firstspike.energy.sensors import LeftOut, Offer
from firstspike.energy.sensors._files import Number, PowerMeter, Product, forbidden

KIND = "template"


def find(root: Path) -> Offer:
    """See `sensors`."""
    meters: list[Meter] = []
    left_out: list[LeftOut] = []
    for file in sorted(root.glob("sys/class/template/*/microwatts")):
        name = f"{KIND}:{file.parent.name}"
        unavailable = forbidden(file)
        if unavailable is not None:
            left_out.append(LeftOut(KIND, name, unavailable.reason, unavailable.fix))
        else:
            # A power: a sum of products of numbers. A counter of energy: CounterMeter, with its range if it wraps.
            meters.append(PowerMeter(name, "what is in it", "board", [Product([Number(file)], 1e-6)]))
    if not meters and not left_out:
        left_out.append(LeftOut(KIND, "", "why there is none", "what the user can do"))
    return Offer(tuple(meters), tuple(left_out))

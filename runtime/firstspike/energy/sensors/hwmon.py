"""Power and energy of any chip in the kernel's hwmon: INA219, INA226, INA238, INA260 and their like, graphics cards.

    powerN_input (µW), powerN_average (µW), energyN_input (µJ), labels in powerN_label, energyN_label, in1_label
    (kernel.org, Documentation/hwmon/sysfs-interface.rst)

What an inline meter measures is what the user wired: a Neural Compute Stick 2 or any USB accelerator has no sensor, and
is measured by an INA219, INA226 or INA260 in its supply (`ncs2`, docs/meters.md). Left to others: INA3221 (`ina3221`),
and the mirror of a battery (`power_supply`). Of a power and a counter of one chip and number, the counter is taken.

Accuracy: INA260's data sheet (SBOS656C) bounds its gain errors by 0.15 % of the current, shunt inside, and 0.1 % of the
voltage at 25 °C: 0.5 % here, with room for drift; its offset of up to 5 mA is not in that. The other chips' shunts are
the board's, and nobody tells their tolerance: not known. Resolution: INA260 10 mW; the others' follow from calibration.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from firstspike.energy import Scope
from firstspike.energy.sensors import LeftOut, Offer
from firstspike.energy.sensors._files import Counted, CounterMeter, Number, PowerMeter, Product, forbidden, text

KIND = "hwmon"
CHIPS: dict[str, Scope] = {
    "amdgpu": "chip", "nouveau": "chip", "i915": "chip", "xe": "chip", "amd_energy": "package", "power_meter": "board",
}  # fmt: skip
"""What a chip measures the whole of; the others measure a rail. ACPI's power_meter is in servers' supplies."""
DATA_SHEET = {"ina260": (0.01, 0.005)}
"""Resolution in W and accuracy."""
CONTAINED = {"amd_energy": re.compile(r"Ecore\d+"), "i915": re.compile("gt.*"), "xe": re.compile("pkg")}
"""Labels of what is within another channel of its chip: cores within sockets, a processor within its card."""


@dataclass(frozen=True, slots=True)
class Channel:
    """One power or energy of a chip."""

    chip: str
    folder: Path
    file: str
    """powerN_input, powerN_average or energyN_input."""

    @property
    def short(self) -> str:
        """Such as power1."""
        return self.file.partition("_")[0]

    @property
    def number(self) -> str:
        """N."""
        return self.short.lstrip("powerngy")

    @property
    def called(self) -> str:
        """As a meter."""
        device = (self.folder / "device").resolve().name if (self.folder / "device").exists() else self.folder.name
        return f"{KIND}:{self.chip}@{device}:{self.short}"

    @property
    def label(self) -> str:
        """Its own, or that of the chip's only voltage."""
        return text(self.folder / f"{self.short}_label") or text(self.folder / f"in{self.number}_label")

    def meter(self) -> PowerMeter | CounterMeter:
        """It, open."""
        label = self.label
        kind = "energy" if self.short.startswith("energy") else "mean power" if "average" in self.file else "power"
        what = f"{kind} at {self.chip}" + (f", {label}" if label else "") + ": what is wired to it"
        # Jetson AGX Thor's INA238 carries the board's input (NVIDIA's developer guide; jetson-stats, pull request 900).
        scope: Scope = "board" if label == "VIN" else CHIPS.get(self.chip, "rail")
        number = Number(self.folder.resolve() / self.file)
        if kind == "energy":
            return CounterMeter(self.called, what, scope, [Counted(number, 1e-6, None)], resolution=1e-6)
        resolution, u95 = DATA_SHEET.get(self.chip, (0.0, None))
        products = [Product([number], 1e-6)]
        return PowerMeter(self.called, what, scope, products, resolution=resolution, u95_fraction=u95)


def find(root: Path) -> Offer:
    """See `sensors`."""
    meters, left_out = [], []
    for folder in sorted(root.glob("sys/class/hwmon/hwmon*"), key=lambda path: (len(path.name), path.name)):
        chip = text(folder / "name")
        if chip == "ina3221":
            continue
        channels = list(_channels(folder, chip))
        if channels and (folder / "device" / "type").exists() and (folder / "device" / "status").exists():
            name = f"{KIND}:{chip}@{folder.name}"
            left_out.append(LeftOut(KIND, name, f"{folder}: mirrors the supply power_supply:{chip}"))
            continue
        whole = {channel.label for channel in channels if not _contained(channel)}
        for channel in channels:
            unavailable = forbidden(channel.folder / channel.file)
            counters = [one for one in channels if one.short == f"energy{channel.number}" and one is not channel]
            if unavailable is not None:
                left_out.append(LeftOut(KIND, channel.called, unavailable.reason, unavailable.fix))
            elif counters:
                reason = f"the counter {counters[0].called} counts the same"
                left_out.append(LeftOut(KIND, channel.called, reason, meter=channel.meter()))
            elif whole and _contained(channel):
                reason = f"part of {', '.join(sorted(whole)) or 'another channel'} of the same chip"
                left_out.append(LeftOut(KIND, channel.called, reason, meter=channel.meter()))
            else:
                meters.append(channel.meter())
    if not meters and not left_out:
        reason = "no chip below sys/class/hwmon measures power or energy"
        fix = "wire an inline meter (INA219, INA226, INA260) into the supply and load its driver: docs/meters.md"
        left_out.append(LeftOut(KIND, "", reason, fix))
    return Offer(tuple(meters), tuple(left_out))


def _contained(channel: Channel) -> bool:
    pattern = CONTAINED.get(channel.chip)
    return pattern is not None and pattern.fullmatch(channel.label) is not None


def _channels(folder: Path, chip: str) -> Iterator[Channel]:
    """In order of number: counters, then powers; of a power's two files the moment's."""
    energies = [path.name for path in folder.glob("energy*_input")]
    powers = [path.name for path in folder.glob("power*_input")]
    means = [path.name for path in folder.glob("power*_average")]
    means = [name for name in means if name.replace("_average", "_input") not in powers]
    for file in sorted((*energies, *powers, *means), key=lambda name: (len(name.partition("_")[0]), name)):
        if re.fullmatch(r"(energy|power)\d+_(input|average)", file):
            yield Channel(chip, folder, file)

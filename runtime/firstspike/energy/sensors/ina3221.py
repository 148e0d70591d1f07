"""INA3221, the three-channel power monitor of NVIDIA's Jetson boards: millivolts and milliamperes of each rail.

Two drivers, two trees:

    L4T 32       /sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0/{rail_name_0, in_power0_input (mW)}
    L4T 35, 36   /sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3/{in1_label, in1_input (mV), curr1_input (mA)}

where in4 to in6 are voltages over the shunts and in7 is their sum ("sum of shunt voltages"): no rails. A channel with
the label NC is connected to nothing. Rails of the boards, from NVIDIA's developer guides (L4T 32.7, 35.6, 36.3;
"Platform Power and Performance"), the mainline device trees (tegra234-p3701.dtsi) and energymon's JetsonPowerRails.md:

    Nano 4 GB            POM_5V_IN, of which POM_5V_GPU, POM_5V_CPU        Nano 2 GB  has no INA3221
    TX1, TX2             VDD_IN (the module), VDD_MUX (the carrier board, beside it), sub-rails of both
    TX2 NX, Xavier NX    VDD_IN, of which VDD_CPU_GPU_CV, VDD_SOC
    AGX Xavier           GPU + CPU + SOC + CV + VDDRQ + SYS5V: no total
    Orin NX, Orin Nano   VDD_IN, of which VDD_CPU_GPU_CV, VDD_SOC
    AGX Orin             VDD_GPU_SOC + VDD_CPU_CV + VIN_SYS_5V0: no total. VDDQ_VDD2_1V8AO is fed by VIN_SYS_5V0
                         (NVIDIA's forum, topic 223111)
    AGX Thor             VDD_GPU + VDD_CPU_SOC_MSS + VIN_SYS_5V0; its carrier's VIN is an INA238's (`hwmon`)

Accuracy: the chip's data sheet (SBOS576) bounds its gain error by 0.25 %, but the shunts' tolerance is the board's and
not published: not known. A read goes over I²C: some 0.5 ms a value (two values a rail) on an AGX Orin.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import hypot
from pathlib import Path

from firstspike.energy import Meter
from firstspike.energy.sensors import LeftOut, Offer
from firstspike.energy.sensors._files import Number, PowerMeter, Product, forbidden, text

KIND = "ina3221"
TOTALS = {
    "VIN": "the whole board's input",
    "POM_5V_IN": "the module's 5 V input: GPU, CPU, memory and all else on the module",
    "VDD_IN": "the module's input: GPU, CPU, memory and all else on the module; the carrier board is not in it",
}
"""Rails that hold all the others, the largest first."""
SUMS = (
    ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"),
    ("VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0"),
    ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"),
)
"""Rails of boards without a total that add up to the module: AGX Orin, AGX Thor, AGX Xavier."""
BESIDE = {"VDD_MUX": "the carrier board, which the module's input does not hold"}
SHUNT_STEP_V = 40e-6
"""A step of the converter behind a channel's shunt (SBOS576)."""


@dataclass(frozen=True, slots=True)
class Rail:
    """One channel that is connected."""

    label: str
    device: str
    """Bus and address of the chip."""
    product: Product
    resolution: float

    def meter(self, what: str) -> PowerMeter:
        """It alone."""
        return PowerMeter(f"{KIND}:{self.label}", what, "rail", [self.product], resolution=self.resolution)


def find(root: Path) -> Offer:
    """See `sensors`."""
    left_out: list[LeftOut] = []
    rails = [*_iio(root, left_out), *_hwmon(root, left_out)]
    if not rails:
        reason = "no INA3221 was found below sys/bus/i2c: it is on Jetson boards (not on the Nano 2 GB)"
        return Offer((), (*left_out, LeftOut(KIND, "", reason)))
    labels = [rail.label for rail in rails]
    rails = [replace(one, label=f"{one.label}@{one.device}") if labels.count(one.label) > 1 else one for one in rails]
    rails = [rail for rail in rails if not _refusing(rail, left_out)]
    total, parts = _total(rails)
    if total is None:
        return Offer(
            tuple(rail.meter(f"rail {rail.label}; whether it holds others is not known") for rail in rails),
            tuple(left_out),
        )
    for rail in rails:
        if f"{KIND}:{rail.label}" != total.name:
            reason = f"part of {total.name}"
            if rail.label in BESIDE:
                reason = BESIDE[rail.label]
            elif rail.label not in parts and parts:
                reason = f"not in the sum {total.name}: one of its rails feeds it"
            left_out.append(LeftOut(KIND, f"{KIND}:{rail.label}", reason, meter=rail.meter(f"rail {rail.label}")))
    return Offer((total,), tuple(left_out))


def _total(rails: list[Rail]) -> tuple[Meter | None, tuple[str, ...]]:
    """The meter of all that the board draws as far as it can be known, and of what it is the sum, if it is one."""
    by_label = {rail.label: rail for rail in rails}
    for label, what in TOTALS.items():
        if label in by_label:
            rail = by_label[label]
            meter = PowerMeter(f"{KIND}:{label}", what, "board", [rail.product], resolution=rail.resolution)
            return meter, ()
    for labels in SUMS:
        if set(labels) <= by_label.keys():
            added = [by_label[label] for label in labels]
            name, resolution = "+".join(labels), hypot(*(rail.resolution for rail in added))
            what = f"sum of {len(labels)} rails, read one after the other, which together feed the module: this board "
            what += "has no sensor of its whole input; the carrier board is in it only as far as these rails feed it"
            products = [rail.product for rail in added]
            return PowerMeter(f"{KIND}:{name}", what, "board", products, resolution=resolution), labels
    return None, ()


def _refusing(rail: Rail, left_out: list[LeftOut]) -> bool:
    """Whether a rail may not be read. One that does not answer now is kept: it may again."""
    for number in rail.product.numbers:
        unavailable = forbidden(number.path)
        if unavailable is not None:
            left_out.append(LeftOut(KIND, f"{KIND}:{rail.label}", unavailable.reason, unavailable.fix))
            return True
    return False


def _iio(root: Path, left_out: list[LeftOut]) -> Iterable[Rail]:
    """Of L4T 32."""
    drivers = sorted(root.glob("sys/bus/i2c/drivers/ina3221*/*/iio:device*"))
    for folder in _distinct([*drivers, *sorted(root.glob("sys/bus/iio/devices/iio:device*"))]):
        for channel in range(3):
            power = folder / f"in_power{channel}_input"
            if (folder / f"rail_name_{channel}").exists() and power.exists():
                label = text(folder / f"rail_name_{channel}")
                if _connected(label, power, left_out):
                    yield Rail(label, folder.parent.name, Product([Number(power)], 1e-3), 0.0)


def _hwmon(root: Path, left_out: list[LeftOut]) -> Iterable[Rail]:
    """Of L4T 35 and 36, and of the mainline kernel."""
    drivers = sorted(root.glob("sys/bus/i2c/drivers/ina3221*/*/hwmon/hwmon*"))
    for folder in _distinct([*drivers, *sorted(root.glob("sys/class/hwmon/hwmon*"))]):
        if text(folder / "name") != KIND:
            continue
        device = (folder / "device").resolve().name
        for channel in range(1, 4):
            volts, amperes = folder / f"in{channel}_input", folder / f"curr{channel}_input"
            if not (volts.exists() and amperes.exists()):
                continue
            label = text(folder / f"in{channel}_label") or f"{device}-{channel}"
            if text(folder / f"in{channel}_enable") == "0":
                left_out.append(LeftOut(KIND, f"{KIND}:{label}", f"{volts.parent}: channel {channel} is switched off"))
            elif _connected(label, volts, left_out):
                product = Product([Number(volts), Number(amperes)], 1e-6)
                yield Rail(label, device, product, _step(folder, channel, volts))
        if (folder / "in7_input").exists():
            name = f"{KIND}:in7@{device}"
            left_out.append(LeftOut(KIND, name, "in7 is the sum of the shunts' voltages: no rail"))


def _connected(label: str, file: Path, left_out: list[LeftOut]) -> bool:
    if label.upper() in ("NC", "(NULL)"):
        reason = f"{file}: the channel has the label {label}: it is connected to nothing"
        left_out.append(LeftOut(KIND, f"{KIND}:{label}", reason))
        return False
    return True


def _step(folder: Path, channel: int, volts: Path) -> float:
    """W a step of the current at this voltage; 0.0 where the shunt is not told."""
    ohms, millivolts = text(folder / f"shunt{channel}_resistor"), text(volts)
    if not (ohms.isdigit() and millivolts.isdigit() and int(ohms)):
        return 0.0
    return SHUNT_STEP_V / (int(ohms) * 1e-6) * int(millivolts) * 1e-3


def _distinct(folders: list[Path]) -> list[Path]:
    """One path a folder, below its device: sysfs has several ways to each."""
    return list({folder.resolve(): None for folder in reversed(folders)})[::-1]

"""Copies of /sys, built file by file after the documented layouts of machines, since none was at hand to capture.

Followed, for paths, labels and values: Jetson Nano, L4T 32.7: NVIDIA's developer guide 32.7, jetson_stats' issue 131;
Orin Nano, L4T 36: developer guide r36.3 and mainline tegra234-p3767.dtsi; AGX Orin: tegra234-p3701.dtsi, jetson_stats'
issue 428 ("sum of shunt voltages" in in7) and public readings with VDDQ at 4.97 V; AGX Xavier and TX2: energymon's
JetsonPowerRails.md; x86: a machine's zones and names as posted to the linux-pm list (core, uncore, package-0, psys, and
package-0 again by mmio: the laptop), powercap's issue 3 and intel/thermal_daemon's issue 45 (dram, 262143999938 µJ),
intel/powertelemetry's issue 3 (a counter beyond its own range). Links are relative, as in sysfs.
"""

from __future__ import annotations

import os
from pathlib import Path


def put(root: Path, folder: str, **files: object) -> Path:
    """A folder below root with files, a line each."""
    path = root / folder
    path.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (path / name).write_text(f"{content}\n")
    return path


def link(root: Path, name: str, target: Path) -> None:
    """A relative link."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(os.path.relpath(target, path.parent))


def iio(root: Path, address: str, number: int, rails: list[tuple[str, int]]) -> Path:
    """An INA3221 under L4T 32: rails with their mW."""
    device = f"sys/devices/7000c400.i2c/i2c-{address[0]}/{address}"
    files = {"name": "ina3221x"}
    for channel, (label, milliwatts) in enumerate(rails):
        files |= {
            f"rail_name_{channel}": label, f"in_power{channel}_input": milliwatts, f"in_voltage{channel}_input": 5000,
            f"in_current{channel}_input": milliwatts // 5,
        }  # fmt: skip
    folder = put(root, f"{device}/iio:device{number}", **files)
    link(root, f"sys/bus/i2c/drivers/ina3221x/{address}", root / device)
    link(root, f"sys/bus/i2c/devices/{address}", root / device)
    link(root, f"sys/bus/iio/devices/iio:device{number}", folder)
    return folder


def ina3221(root: Path, address: str, number: int, rails: list[tuple[str, int, int]], micro_ohms: int) -> Path:
    """An INA3221 under L4T 35 and 36: rails with mV and mA; an empty label is a channel that is switched off."""
    device = f"sys/devices/platform/bus@0/c240000.i2c/i2c-{address[0]}/{address}"
    files = {"name": "ina3221", "in7_label": "sum of shunt voltages", "in7_input": 1160}
    for channel, (label, millivolts, milliamperes) in enumerate(rails, 1):
        files |= {
            f"in{channel}_enable": int(bool(label)), f"in{channel}_input": millivolts, f"in{channel + 3}_input": 520,
            f"curr{channel}_input": milliamperes, f"shunt{channel}_resistor": micro_ohms,
        }  # fmt: skip
        if label:
            files[f"in{channel}_label"] = label
    folder = put(root, f"{device}/hwmon/hwmon{number}", **files)
    link(root, f"{device}/hwmon/hwmon{number}/device", root / device)
    link(root, f"sys/bus/i2c/drivers/ina3221/{address}", root / device)
    link(root, f"sys/class/hwmon/hwmon{number}", folder)
    return folder


def hwmon(root: Path, number: int, chip: str, device: str, **files: object) -> Path:
    """Any chip in hwmon."""
    folder = put(root, f"sys/devices/{device}/hwmon/hwmon{number}", name=chip, **files)
    link(root, f"sys/devices/{device}/hwmon/hwmon{number}/device", root / "sys/devices" / device)
    link(root, f"sys/class/hwmon/hwmon{number}", folder)
    return folder


def rapl(root: Path, zone: str, name: str, microjoules: int, range_: int = 262143328850) -> Path:
    """A counter of powercap: `zone` such as intel-rapl:0:1."""
    control, *numbers = zone.split(":")
    above = "/".join(f"{control}:{':'.join(numbers[: depth + 1])}" for depth in range(len(numbers)))
    path = f"sys/devices/virtual/powercap/{control}/{above}"
    folder = put(root, path, name=name, energy_uj=microjoules, max_energy_range_uj=range_, enabled=1)
    link(root, f"sys/class/powercap/{zone}", folder)
    return folder


def supply(root: Path, name: str, **files: object) -> Path:
    """A battery or other supply."""
    folder = put(root, f"sys/devices/platform/{name}/power_supply/{name}", **files)
    link(root, f"sys/class/power_supply/{name}", folder)
    return folder


def nano(root: Path) -> Path:
    """Jetson Nano, L4T 32.7."""
    return iio(root, "6-0040", 0, [("POM_5V_IN", 2875), ("POM_5V_GPU", 123), ("POM_5V_CPU", 738)])


def tx2(root: Path) -> None:
    """Jetson TX2, L4T 32.7."""
    iio(root, "0-0040", 0, [("VDD_SYS_GPU", 152), ("VDD_SYS_SOC", 457), ("VDD_4V0_WIFI", 19)])
    iio(root, "0-0041", 1, [("VDD_IN", 3051), ("VDD_SYS_CPU", 381), ("VDD_SYS_DDR", 648)])
    iio(root, "0-0042", 2, [("VDD_MUX", 4120), ("VDD_5V0_IO_SYS", 900), ("VDD_3V3_SYS", 700)])


def agx_xavier(root: Path) -> None:
    """Jetson AGX Xavier, L4T 32.7."""
    iio(root, "1-0040", 0, [("GPU", 1242), ("CPU", 621), ("SOC", 1552)])
    iio(root, "1-0041", 1, [("CV", 155), ("VDDRQ", 776), ("SYS5V", 2240)])


def orin_nano(root: Path) -> Path:
    """Jetson Orin Nano, L4T 36."""
    rails = [("VDD_IN", 4984, 960), ("VDD_CPU_GPU_CV", 4976, 120), ("VDD_SOC", 4976, 304)]
    return ina3221(root, "1-0040", 1, rails, 5000)


def agx_orin(root: Path) -> Path:
    """Jetson AGX Orin, L4T 36: a second chip of which one channel is connected."""
    ina3221(root, "1-0041", 4, [("NC", 0, 0), ("VDDQ_VDD2_1V8AO", 4968, 80), ("NC", 0, 0)], 2000)
    rails = [("VDD_GPU_SOC", 12008, 280), ("VDD_CPU_CV", 12008, 40), ("VIN_SYS_5V0", 4968, 980)]
    return ina3221(root, "1-0040", 3, rails, 2000)


def laptop(root: Path) -> Path:
    """An x86 laptop: RAPL with psys and its mmio twin, a battery, a USB-C port and a mouse."""
    rapl(root, "intel-rapl:0:0", "core", 1_000_000)
    rapl(root, "intel-rapl:0:1", "uncore", 2_000_000)
    rapl(root, "intel-rapl:1", "psys", 900_000_000)
    rapl(root, "intel-rapl-mmio:0", "package-0", 123_000_061)
    supply(root, "BAT0", type="Battery", status="Discharging", voltage_now=11_400_000, current_now=700_000)
    hwmon(root, 2, "BAT0", "platform/BAT0/power_supply/BAT0", in0_input=11400, power1_input=7_980_000)
    supply(root, "ucsi-source-psy-USBC000:001", type="USB", online=1, voltage_now=20_000_000, current_now=3_250_000)
    supply(root, "hidpp_battery_0", type="Battery", scope="Device", status="Discharging", voltage_now=3_900_000)
    supply(root, "AC", type="Mains", online=0)
    return rapl(root, "intel-rapl:0", "package-0", 123_000_000)


def server(root: Path) -> None:
    """An x86 server of two sockets, with memory counted beside them."""
    for socket in (0, 1):
        rapl(root, f"intel-rapl:{socket}", f"package-{socket}", 5_000_000 * (socket + 1))
        rapl(root, f"intel-rapl:{socket}:0", "dram", 1_000_000, 65_712_999_613)

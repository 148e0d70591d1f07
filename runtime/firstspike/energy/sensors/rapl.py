"""RAPL, the energy counters of Intel's and AMD's processors, by the kernel's powercap (/sys/class/powercap).

    intel-rapl:0      name "package-0": cores, caches, what is integrated (graphics, memory controller); AMD's too
    intel-rapl:0:0    "core", intel-rapl:0:1 "uncore": parts of the package
    intel-rapl:0:2    "dram": memory, beside the package
    intel-rapl:1      "psys": the platform, packages included; what it really measures is up to the board's maker
    intel-rapl-mmio:0 the same package once more, through another door

Offered: the packages (their sum, if there are several), and memory. Not psys: it would count the packages twice, and on
many boards it is not wired. A counter has 32 bits (`max_energy_range_uj` µJ, 65 or 262 kJ: at 100 W it wraps within 11
or 44 minutes) and moves once a millisecond. Its readers must be root since CVE-2020-8694 (PLATYPUS), unless a rule says
otherwise (docs/meters.md). Accuracy: Intel states none; not known.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import hypot
from pathlib import Path

from firstspike.energy import Scope
from firstspike.energy.sensors import LeftOut, Offer
from firstspike.energy.sensors._files import Counted, CounterMeter, Number, forbidden, text

KIND = "rapl"
FIX = "install the udev rule of docs/meters.md, which lets a group read it, or run as root"
WHAT = {
    "package": "{}: cores, caches and what is integrated in the processor; neither memory nor the board",
    "dram": "memory of {}",
    "core": "the cores of {}",
    "uncore": "what is integrated in {} beside its cores, such as graphics",
    "psys": "the platform as its maker wired it, packages included",
}


@dataclass(frozen=True, slots=True)
class Domain:
    """One counter."""

    folder: Path
    name: str
    parent: str
    """Name of the package that it is in or beside; empty for packages and psys."""
    range_: int | None

    @property
    def called(self) -> str:
        """As a meter."""
        return f"{KIND}:{self.parent}-{self.name}" if self.parent else f"{KIND}:{self.name}"

    @property
    def step(self) -> float:
        """J a count of the register behind it, which has 32 bits; 0.0 if it is not known."""
        return self.range_ / 0xFFFFFFFF * 1e-6 if self.range_ else 0.0

    def counted(self) -> Counted:
        """Its counter."""
        return Counted(Number(self.folder / "energy_uj", FIX), 1e-6, self.range_)

    def meter(self) -> CounterMeter:
        """It alone."""
        kind = self.name.split("-")[0]
        what = WHAT.get(kind, "{} " + self.name).format(self.parent or self.name)
        scopes: dict[str, Scope] = {"package": "package", "psys": "board"}
        return CounterMeter(self.called, what, scopes.get(kind, "rail"), [self.counted()], resolution=self.step)


def find(root: Path) -> Offer:
    """See `sensors`."""
    domains, left_out = _domains(root)
    if not domains:
        reason = "no RAPL counter below sys/class/powercap: the processor has none, or its driver is not loaded"
        return Offer((), (*left_out, LeftOut(KIND, "", reason, "on x86, modprobe intel_rapl_msr")))
    readable = []
    for domain in domains:
        unavailable = forbidden(domain.folder / "energy_uj", FIX)
        if unavailable is None:
            readable.append(domain)
        else:
            left_out.append(LeftOut(KIND, domain.called, unavailable.reason, unavailable.fix))
    packages = [domain for domain in readable if domain.name.startswith("package")]
    offered = [domain.meter() for domain in readable if domain.name == "dram" or (packages == [domain])]
    if len(packages) > 1:
        named = ", ".join(domain.name for domain in packages)
        what = f"{named}: cores, caches and what is integrated in the processors; neither memory nor the board"
        counters, step = [domain.counted() for domain in packages], hypot(*(domain.step for domain in packages))
        offered.append(CounterMeter(f"{KIND}:packages", what, "package", counters, resolution=step))
    for domain in readable:
        if domain.called not in [meter.name for meter in offered]:
            reason = f"part of {KIND}:{domain.parent or 'packages'}"
            if domain.name == "psys":
                reason = "holds the packages too, and what else is up to the board's maker"
            left_out.append(LeftOut(KIND, domain.called, reason, meter=domain.meter()))
    return Offer(tuple(offered), tuple(left_out))


def _domains(root: Path) -> tuple[list[Domain], list[LeftOut]]:
    """Every counter, packages before what is in them, and the twins that are none."""
    found: list[Domain] = []
    left_out: list[LeftOut] = []
    folders = {folder.resolve(): folder for folder in sorted(root.glob("sys/class/powercap/intel-rapl*:*"))}
    packages: dict[str, str] = {}
    for folder in sorted(folders.values(), key=lambda folder: (folder.name.count(":"), folder.name)):
        zone, name = folder.name, text(folder / "name")
        if not (folder / "energy_uj").exists() or not name:
            continue
        if zone.startswith("intel-rapl-mmio"):
            left_out.append(LeftOut(KIND, f"{KIND}:mmio:{name}", f"{folder}: the same counter as intel-rapl's {name}"))
            continue
        parent = packages.get(zone.rpartition(":")[0], "")
        packages[zone] = name
        range_ = text(folder / "max_energy_range_uj")
        found.append(Domain(folder, name, parent, int(range_) if range_.isdigit() and int(range_) else None))
    return found, left_out

"""The installation around the daemon: service, sockets, keys, devices on USB, meters, disk, clock, processor.

Every check answers; one that cannot find out says so. The root of the file system is an argument, so that a tree made
by a test can be examined. `wrong` keeps the daemon from what its configuration asks for; `warning` may, or costs
something.
"""

from __future__ import annotations

import datetime as dt
import grp
import os
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from firstspike import access, endpoints, keys
from firstspike.config import Loaded
from firstspike.energy.meters import find
from firstspike.errors import FirstspikeError
from firstspike.metrics_server import address_of
from firstspike.sources import network

State = Literal["ok", "absent", "warning", "wrong", "unknown"]
UNIT = "firstspike.service"
RULES = "60-firstspike.rules"
RULES_PLACES = ("etc/udev/rules.d", "usr/lib/udev/rules.d", "lib/udev/rules.d")
GROUP = "firstspike-devices"
CAMERAS = {
    ("152a", "8400"): "iniVation DVS128", ("152a", "8419"): "iniVation DVXplorer",
    ("152a", "841a"): "iniVation DAVIS346 (or another DAVIS of USB 3)", ("152a", "841b"): "iniVation DAVIS of USB 2",
    ("04b4", "00f4"): "Prophesee EVK", ("04b4", "00f5"): "Prophesee EVK", ("1409", "8e00"): "Century Arks SilkyEvCam",
}  # fmt: skip
INIVATION = "152a"
WITHOUT = 'without one, source.kind = "simulated" shows that the rest works'
FLOOR, LOW = 16 << 20, 256 << 20
"""Bytes free in the state's folder: what is left below the first is too little to write anything."""
BUILT = dt.date(2026, 1, 1)
"""No clock that is right is before it."""
COMMAND_S = 5.0


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    state: State
    text: str
    fix: str = ""


def installation(loaded: Loaded | None, root: Path = Path("/")) -> list[Check]:
    """Look at everything.

    Args:
        loaded: the configuration, if it is valid.
        root: of the file system.
    """
    found: list[Check] = []
    for name, look in (
        ("service", lambda: _service(root)), ("udev rules", lambda: _rules(root)), ("group", lambda: _group()),
        ("sockets", lambda: _sockets(loaded)), ("publish.tcp", lambda: _tcp(loaded)),
        ("metrics", lambda: _metrics(loaded)), ("network", lambda: _network(loaded, root)),
        ("cameras", lambda: _cameras(root)), ("meters", lambda: _meters(root)),
        ("state folder", lambda: _state(root)), ("clock", lambda: _clock(root)), ("processor", lambda: _governor(root)),
    ):  # fmt: skip
        found += _safely(name, look)
    return found


def _safely(name: str, look: Callable[[], Iterator[Check]]) -> list[Check]:
    """A check whose own look fails is an answer too, and spoils no other."""
    try:
        return list(look())
    except Exception as error:  # noqa: BLE001 (whatever is odd about this machine)
        return [Check(name, "unknown", f"could not be found out: {type(error).__name__}: {error}")]


def _service(root: Path) -> Iterator[Check]:
    if not (root / "run/systemd/system").is_dir():
        yield Check("service", "absent", "systemd does not run this machine: `firstspike run` starts the daemon")
        return
    tool = shutil.which("systemctl")
    if tool is None:
        yield Check("service", "unknown", "systemctl was not found")
        return
    wanted = "LoadState,ActiveState,SubState,Result,UnitFileState,NRestarts,StatusText"
    try:
        done = subprocess.run(
            [tool, "show", UNIT, f"--property={wanted}"], capture_output=True, text=True, timeout=COMMAND_S, check=False
        )
    except subprocess.TimeoutExpired:
        yield Check("service", "unknown", f"systemctl did not answer within {COMMAND_S:g} s")
        return
    values = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    yield judge_service(values) if values else Check("service", "unknown", done.stderr.strip() or "systemctl is silent")


def judge_service(values: dict[str, str]) -> Check:
    """What `systemctl show` said of the unit."""
    if values.get("LoadState") == "not-found":
        return Check("service", "absent", f"{UNIT} is not installed", "make install, or the Debian package")
    if values.get("LoadState") not in ("loaded", None):
        fix = f"systemctl status {UNIT}"
        return Check("service", "wrong", f"{UNIT} cannot be loaded: {values['LoadState']}", fix)
    active, result = values.get("ActiveState", "?"), values.get("Result", "")
    restarts = int(values.get("NRestarts") or 0)
    text = f"{UNIT}: {active} ({values.get('SubState', '?')}), {values.get('UnitFileState') or 'not enabled'}"
    text += f", {restarts} restarts" if restarts else ""
    text += f": {values['StatusText']}" if values.get("StatusText") else ""
    if active == "failed" or result not in ("", "success"):
        return Check("service", "wrong", f"{text}: {result}", f"journalctl -u {UNIT} -n 50 says why")
    if active != "active":
        return Check("service", "warning", text, f"systemctl enable --now {UNIT}")
    if restarts:
        return Check("service", "warning", text, f"journalctl -u {UNIT} says why it ended")
    return Check("service", "ok", text)


def _rules(root: Path) -> Iterator[Check]:
    if not any((root / place).is_dir() for place in RULES_PLACES):
        yield Check("udev rules", "absent", "udev is not installed: whoever may open a device is decided elsewhere")
        return
    for place in RULES_PLACES:
        if (root / place / RULES).is_file():
            yield Check("udev rules", "ok", f"/{place}/{RULES}")
            return
    fix = f"make install, or copy systemd/{RULES} to /etc/udev/rules.d and run `udevadm control --reload`"
    yield Check("udev rules", "warning", f"{RULES} is not installed: only root may open cameras and sticks", fix)


def _group() -> Iterator[Check]:
    try:
        entry = grp.getgrnam(GROUP)
    except KeyError:
        yield Check("group", "absent", f"there is no group {GROUP}", f"groupadd --system {GROUP}")
        return
    if os.geteuid() == 0 or entry.gr_gid in os.getgroups():
        yield Check("group", "ok", f"{GROUP}")
        return
    fix = f"usermod -aG {GROUP} USER, and log in again"
    yield Check("group", "warning", f"you are not in {GROUP}: the service is, but you may not open its devices", fix)


def _sockets(loaded: Loaded | None) -> Iterator[Check]:
    wanted = loaded.config.publish if loaded is not None else None
    path = endpoints.path_of(endpoints.of_daemon(wanted.endpoint if wanted else endpoints.AUTO))
    if wanted is not None and wanted.group:
        try:
            grp.getgrnam(wanted.group)
        except KeyError:
            fix = f"groupadd --system {wanted.group}"
            yield Check("sockets", "wrong", f"publish.group = {wanted.group!r}: no such group", fix)
            return
    if not path.exists():
        yield Check("sockets", "absent", f"{path}: no daemon has made them")
        return
    mode, folder = path.stat().st_mode, path.parent.stat().st_mode
    if mode & 0o007 or (folder & 0o002 and not folder & stat.S_ISVTX):
        fix = f"restart the daemon, which makes them anew; chmod o-rwx {path.parent}"
        yield Check("sockets", "wrong", f"{path}: everybody may connect or replace it", fix)
    elif not os.access(path, os.W_OK):
        name = grp.getgrgid(path.stat().st_gid).gr_name
        yield Check("sockets", "warning", f"{path}: you may not subscribe", f"join the group {name}")
    else:
        yield Check("sockets", "ok", f"{path}, mode {stat.S_IMODE(mode):04o}, {path.owner()}:{path.group()}")


def _tcp(loaded: Loaded | None) -> Iterator[Check]:
    if loaded is None or not loaded.config.publish.tcp:
        yield Check("publish.tcp", "ok", "not set: nothing leaves this machine")
        return
    publish = loaded.config.publish
    try:
        remote = access.remote(publish.tcp, publish.keys, loaded.base)
    except FirstspikeError as error:
        yield Check("publish.tcp", "wrong", str(error), "docs/security.md")
        return
    assert remote is not None  # noqa: S101 (tcp is set)
    names = ", ".join(sorted(remote.allowed.names())[:8])
    folder = keys.folder(publish.keys, loaded.base)
    yield Check("publish.tcp", "ok", f"{remote.endpoint} for {len(remote.allowed.names())} ({names}), keys in {folder}")


def _metrics(loaded: Loaded | None) -> Iterator[Check]:
    if loaded is None or not loaded.config.metrics.enabled:
        yield Check("metrics", "ok", "not enabled")
        return
    section = loaded.config.metrics
    try:
        address_of(section.address, allow_remote=section.allow_remote)
    except FirstspikeError as error:
        yield Check("metrics", "wrong", str(error), "set [metrics] address")
        return
    if section.allow_remote:
        yield Check("metrics", "warning", f"http://{section.address}/metrics: without password, for all who reach it")
        return
    yield Check("metrics", "ok", f"http://{section.address}/metrics")


def _network(loaded: Loaded | None, root: Path) -> Iterator[Check]:
    """What the kernel keeps of UDP packets while nobody reads: a short buffer loses those of a few milliseconds."""
    streams = [own for _, own in loaded.streams] or [loaded] if loaded is not None else []
    wanted = [
        round(own.source_options.buffer_mib * (1 << 20)) for own in streams
        if isinstance(own.source_options, network.Options) and own.source_options.address.startswith("udp:")
    ]  # fmt: skip
    if not wanted:
        return
    limit = _read(root / "proc/sys/net/core/rmem_max")
    if not limit.isdigit():
        yield Check("network", "unknown", "the kernel does not say how large a buffer for packets may be")
        return
    most, allowed = max(wanted), int(limit)
    text = f"packets that wait to be read: {most / (1 << 20):.1f} MiB wanted, {allowed / (1 << 20):.1f} MiB allowed"
    if allowed >= most:
        yield Check("network", "ok", text)
        return
    fix = f"sysctl -w net.core.rmem_max={most}, and for good in /etc/sysctl.d/60-firstspike.conf: docs/network.md"
    yield Check("network", "warning", f"{text}: a busy machine loses some", fix)


def _cameras(root: Path) -> Iterator[Check]:
    devices = root / "sys/bus/usb/devices"
    if not devices.is_dir():
        fix = f"pass USB on to the container or virtual machine; {WITHOUT}"
        yield Check("cameras", "absent", "this machine shows no USB", fix)
        return
    seen = 0
    for device in sorted(devices.iterdir()):
        vendor, product = (_read(device / name) for name in ("idVendor", "idProduct"))
        known = CAMERAS.get((vendor, product)) or ("iniVation" if vendor == INIVATION else None)
        if known is None:
            continue
        seen += 1
        number = (_read(device / name) for name in ("busnum", "devnum"))
        node = root / "dev/bus/usb" / "/".join(f"{int(one or 0):03d}" for one in number)
        speed = _read(device / "speed")
        text = f"{known} ({vendor}:{product}) at USB {device.name}"
        if not node.exists():
            yield Check("cameras", "wrong", f"{text}: {node} is not there", "is /dev passed into this container?")
        elif not os.access(node, os.R_OK | os.W_OK):
            fix = f"install the udev rules, join {GROUP}, and plug it in again"
            yield Check("cameras", "warning", f"{text}: {node} may not be opened by you", fix)
        elif speed.isdigit() and int(speed) < 5000 and vendor != INIVATION:
            fix = "plug it into a port of USB 3, with a cable for it"
            yield Check("cameras", "warning", f"{text}: only at {speed} Mbit/s", fix)
        else:
            yield Check("cameras", "ok", text)
    if not seen:
        yield Check("cameras", "absent", "no event camera on USB", f"plug one in (docs/cameras.md); {WITHOUT}")


def _meters(root: Path) -> Iterator[Check]:
    """Energy meters."""
    found = find(root)
    try:
        names = [meter.name for meter in found.meters]
    finally:
        found.close()
    if names:
        yield Check("meters", "ok", ", ".join(names))
    else:
        yield Check("meters", "absent", "none: energy is modelled", "`firstspike meters` says what each would need")


def _state(root: Path) -> Iterator[Check]:
    wanted = Path(
        (os.environ.get("STATE_DIRECTORY") or "").split(":")[0]
        or (os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local/state")) + "/firstspike"
    )
    service = root / "var/lib/firstspike"
    if os.access(service, os.W_OK):
        wanted = service  # who may write there asks about the service
    folder = wanted
    while not os.access(folder, os.F_OK) and folder != folder.parent:
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    text = f"{wanted}: {free / 1e9:.1f} GB free"
    if not os.access(folder, os.W_OK):
        yield Check("state folder", "warning", f"{folder} cannot be written: totals do not survive a restart")
    elif free < FLOOR:
        yield Check("state folder", "wrong", text, f"free space on {folder}")
    else:
        low = free < LOW
        yield Check("state folder", "warning" if low else "ok", text, f"free space on {folder}" if low else "")


def _clock(root: Path) -> Iterator[Check]:
    today = dt.datetime.now(dt.UTC).date()
    if today < BUILT:
        text = f"it is {today.isoformat()} here: logs and recordings will be misdated; latencies are not touched"
        yield Check("clock", "warning", text, "set it, or run a time service (timedatectl set-ntp true)")
        return
    source = _read(root / "sys/devices/system/clocksource/clocksource0/current_clocksource")
    synchronised = (root / "run/systemd/timesync/synchronized").exists()
    yield Check("clock", "ok", f"{today.isoformat()}{', synchronised' if synchronised else ''}, source {source or '?'}")


def _governor(root: Path) -> Iterator[Check]:
    files = sorted((root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_governor"))
    governors = {_read(file) for file in files} - {""}
    if not governors:
        yield Check("processor", "absent", "its frequency is not governed from here")
        return
    drivers = {_read(file.with_name("scaling_driver")) for file in files}
    text = f"frequency governor {', '.join(sorted(governors))}"
    # Those of Intel and AMD that govern themselves call it powersave and go up at once.
    if "powersave" in governors and not drivers & {"intel_pstate", "amd-pstate-epp"}:
        fix = "echo schedutil | tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"
        yield Check("processor", "warning", f"{text}: always at its slowest", fix)
        return
    yield Check("processor", "ok", text)


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, ValueError):
        return ""

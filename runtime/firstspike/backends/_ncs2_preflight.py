"""What a Neural Compute Stick needs of the machine, looked at before any plug-in is touched: `look`.

OpenVINO says the same `NC_ERROR`, after seconds, for no stick, a stick that may not be opened and one that another
process holds; without libusb it silently knows no MYRIAD; where a sandbox forbids AF_NETLINK it writes 118 MB of log.
So this looks first, at sysfs, the device's node, libusb and netlink, and says which it is.
"""

import ctypes
import os
import re
import socket
from pathlib import Path
from typing import Any, Callable, List, NamedTuple, Optional, Tuple

VENDOR = "03e7"
UNBOOTED, BOOTED, OLDER = "2485", "f63b", "2150"
"""USB products: a stick 2 that waits for its firmware, one that runs it, and the Myriad 2 of the first stick."""

UDEV_RULE = """\
SUBSYSTEM=="usb", ATTRS{idVendor}=="03e7", ATTRS{idProduct}=="2150|2485|f63b", GROUP="plugdev", MODE="0660", \
ENV{ID_MM_DEVICE_IGNORE}="1"
"""
"""For /etc/udev/rules.d/97-myriad.rules. The product changes when the stick boots, so the rule names all of them."""

UDEV_FIX = (
    "put this line into /etc/udev/rules.d/97-myriad.rules, be in the group plugdev, run `udevadm control --reload` and "
    "plug the stick in again: " + UDEV_RULE.strip()
)

SYS, DEV, PROC = Path("/sys"), Path("/dev"), Path("/proc")

NETLINK_KOBJECT_UEVENT = 15
"""The netlink protocol by which libusb and udev hear of devices."""


class Stick(NamedTuple):
    """One Myriad on the bus."""

    id: str
    """As OpenVINO names it: `1.4-ma2480` for bus 1, port 4."""
    product: str
    node: Path
    """Its device node, where it should be."""


class Finding(NamedTuple):
    """One thing that was looked at; `reason` and `fix` are empty where it is well."""

    state: str
    """`ready`, or a name for what is wrong, the same in every release."""
    reason: str = ""
    fix: str = ""
    stick: Optional[Stick] = None

    @property
    def well(self) -> bool:
        """Whether nothing stands in the way."""
        return self.state == "ready"


def sticks(sys_root: Path = SYS, dev_root: Path = DEV) -> Optional[List[Stick]]:
    """The Myriads on the bus, in the order of their ports; None where the kernel shows no USB bus at all."""
    places = _listed(sys_root / "bus" / "usb" / "devices")
    if places is None:
        return None
    found = []
    for place in sorted(places):
        vendor, product = _attribute(place, "idVendor"), _attribute(place, "idProduct")
        if vendor == VENDOR and product in (UNBOOTED, BOOTED, OLDER):
            numbers = [_attribute(place, "busnum"), _attribute(place, "devnum")]
            node = dev_root.joinpath("bus", "usb", *(number.zfill(3) for number in numbers))
            chip = "ma2450" if product == OLDER else "ma2480"
            found.append(Stick(f"{place.name.replace('-', '.', 1)}-{chip}", product, node))
    return found


def look_at_all(
    wanted: str = "",
    sys_root: Path = SYS,
    dev_root: Path = DEV,
    proc_root: Path = PROC,
    load: Callable[[str], Any] = ctypes.CDLL,
    netlink: Callable[[int, int, int], Any] = socket.socket,
) -> List[Finding]:
    """Every stick on the bus with its state, what is nearest to working first; or the one thing that is in the way.

    Args:
        wanted: the stick's id as in `Stick.id`; empty: any.
        sys_root: where sysfs is mounted.
        dev_root: where device nodes lie.
        proc_root: where procfs is mounted; it tells who holds a stick.
        load: loads a shared library, or raises OSError.
        netlink: makes a socket, or raises OSError.
    """
    machine = _machine(load, netlink)
    if machine is not None:
        return [machine]
    found = sticks(sys_root, dev_root)
    if found is None:
        return [
            Finding(
                "no-usb", f"this machine shows no USB bus: there is no {sys_root}/bus/usb/devices",
                "pass the bus on to the container (docker: -v /dev/bus/usb:/dev/bus/usb --device-cgroup-rule='c 189:* "
                "rmw' --network host) or virtual machine, else load the kernel's USB drivers",
            )
        ]  # fmt: skip
    states = [_state_of(stick, proc_root) for stick in found if not wanted or stick.id == wanted]
    order = ("ready", "no-permission", "no-node", "in-use", "stale", "unsupported-stick")
    return sorted(states, key=lambda finding: order.index(finding.state)) or [_missing(wanted, found)]


def look(wanted: str = "", **where: Any) -> Finding:
    """The first of `look_at_all`: state `ready` with a stick, or what stands in the way."""
    return look_at_all(wanted, **where)[0]


def _machine(load: Callable[[str], Any], netlink: Callable[[int, int, int], Any]) -> Optional[Finding]:
    """What is wrong with the machine itself, whatever is plugged in."""
    try:
        load("libusb-1.0.so.0")
    except OSError as error:
        return Finding(
            "no-libusb", f"libusb is missing: {error}",
            "install libusb 1.0 (Debian and Ubuntu: apt-get install libusb-1.0-0)",
        )  # fmt: skip
    try:
        netlink(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_KOBJECT_UEVENT).close()
    except OSError as error:
        return Finding(
            "no-netlink", f"netlink sockets are not allowed here ({error.strerror}), and libusb needs one",
            "under systemd, name AF_NETLINK in the unit's RestrictAddressFamilies=; in a container, allow it in the "
            "seccomp profile",
        )  # fmt: skip
    return None


def _missing(wanted: str, found: List[Stick]) -> Finding:
    if wanted and found:
        here = ", ".join(stick.id for stick in found)
        return Finding(
            "no-stick", f"no stick {wanted} on the USB bus; there is {here}",
            "set device to MYRIAD, which takes any, or to MYRIAD.<id> with one of these; the id is the port",
        )  # fmt: skip
    return Finding(
        "no-stick", "no Neural Compute Stick on the USB bus (03e7:2485)",
        "plug one in; if it is, try another port or cable: `lsusb -d 03e7:` should list it",
    )  # fmt: skip


def _state_of(stick: Stick, proc_root: Path) -> Finding:
    if stick.product == OLDER:
        return Finding(
            "unsupported-stick", f"the stick {stick.id} is a first Neural Compute Stick (Myriad 2, 03e7:2150)",
            "use a Neural Compute Stick 2: OpenVINO 2021.4 and 2022.3 bring no firmware for the first one", stick,
        )  # fmt: skip
    if stick.product == BOOTED:
        holder = _holder(stick.node, proc_root)
        if holder:
            return Finding(
                "in-use", f"the stick {stick.id} is in use by {holder}: one process a stick",
                "end that process, or give each worker a stick of its own by device = \"MYRIAD.<id>\"", stick,
            )  # fmt: skip
        return Finding(
            "stale", f"the stick {stick.id} runs firmware already (03e7:f63b), and no process seen here holds it: it "
            "was left so by one that crashed, or is held by another user's or container's",
            "end whoever uses it, else unplug the stick and plug it in again", stick,
        )  # fmt: skip
    if not stick.node.exists():
        return Finding(
            "no-node", f"the stick {stick.id} is on the bus, but its node {stick.node} is not here",
            "in a container, pass the whole tree (-v /dev/bus/usb:/dev/bus/usb): the node changes when the stick boots",
            stick,
        )  # fmt: skip
    if not os.access(stick.node, os.R_OK | os.W_OK):
        return Finding(
            "no-permission", f"the stick {stick.id} may not be opened: no right to read and write {stick.node}",
            UDEV_FIX, stick,
        )  # fmt: skip
    return Finding("ready", stick=stick)


def _holder(node: Path, proc_root: Path) -> str:
    """`process <pid> (<name>)` that has a node open, or ''; other users' processes cannot be looked into."""
    for process in _listed(proc_root) or ():
        for fd in (_listed(process / "fd") or ()) if process.name.isdigit() else ():
            try:
                target = os.readlink(str(fd))
            except OSError:
                continue
            if target == str(node):
                return f"process {process.name} ({_attribute(process, 'comm') or 'unknown'})"
    return ""


def _listed(folder: Path) -> Optional[List[Path]]:
    try:
        return list(folder.iterdir())
    except OSError:
        return None


def _attribute(folder: Path, name: str) -> str:
    """A small text file's first line; '' if it cannot be read (a stick may leave at any moment)."""
    try:
        with (folder / name).open(errors="replace") as file:
            return file.readline(80).strip()
    except OSError:
        return ""


def wanted_id(device: str) -> Tuple[bool, str]:
    """Whether a device name means a stick, and which: `MYRIAD`, `MYRIAD.<id>`.

    Raises:
        ValueError: it names no device that this back end has.
    """
    if device == "CPU":
        return False, ""
    match = re.fullmatch(r"MYRIAD(?:\.([\w.-]+))?", device)
    if match is None:
        raise ValueError(f"device is {device[:60]!r}: use MYRIAD, MYRIAD.<id> or CPU")
    return True, match.group(1) or ""

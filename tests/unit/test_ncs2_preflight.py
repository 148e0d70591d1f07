"""What a Neural Compute Stick needs, in faked trees of sysfs, /dev and /proc: each state, its reason, its fix."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.program import ROOT

from firstspike.backends import _ncs2_preflight as preflight


class Machine:
    """A machine without a stick, until `plug`."""

    def __init__(self, root: Path) -> None:
        self.sys, self.dev, self.proc = root / "sys", root / "dev", root / "proc"
        self.bus = self.sys / "bus" / "usb" / "devices"
        for folder in (self.bus, self.dev, self.proc):
            folder.mkdir(parents=True)
        self.library = lambda name: None
        self.netlink = lambda *kind: open(os.devnull)  # noqa: SIM115, PTH123  (stands for a socket: it is closed)
        self.device("usb1", "1d6b", "0002", 1, 1)  # a root hub, as every bus has
        (self.bus / "1-0:1.0").mkdir()  # an interface: it has no vendor

    def device(self, name, vendor, product, bus, number):
        place = self.bus / name
        place.mkdir()
        for key, value in (("idVendor", vendor), ("idProduct", product), ("busnum", bus), ("devnum", number)):
            (place / key).write_text(f"{value}\n")
        return self.dev / "bus" / "usb" / f"{bus:03}" / f"{number:03}"

    def plug(self, name="1-4", product=preflight.UNBOOTED, bus=1, number=5, node=True):
        path = self.device(name, preflight.VENDOR, product, bus, number)
        if node:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
        return path

    def process(self, pid, name, opened):
        (self.proc / str(pid) / "fd").mkdir(parents=True)
        (self.proc / str(pid) / "comm").write_text(f"{name}\n")
        (self.proc / str(pid) / "fd" / "7").symlink_to(opened)

    def look_at_all(self, wanted=""):
        return preflight.look_at_all(wanted, self.sys, self.dev, self.proc, self.library, self.netlink)

    def look(self, wanted=""):
        return self.look_at_all(wanted)[0]


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def refuse(error):
    def call(*_):
        raise error

    return call


def test_a_stick_that_waits_for_its_firmware_is_ready(machine):
    node = machine.plug("1-4.2")
    assert machine.look() == preflight.Finding("ready", stick=preflight.Stick("1.4.2-ma2480", preflight.UNBOOTED, node))


def test_no_stick(machine):
    finding = machine.look()
    assert (finding.state, finding.well) == ("no-stick", False)
    assert "03e7:2485" in finding.reason
    assert "lsusb" in finding.fix


def test_another_vendors_device_of_the_same_number_is_no_stick(machine):
    machine.device("1-4", "1d6b", preflight.UNBOOTED, 1, 5)
    assert machine.look().state == "no-stick"


def test_another_product_of_the_vendor_is_no_stick(machine):
    machine.device("1-4", preflight.VENDOR, "0001", 1, 5)
    assert machine.look().state == "no-stick"


def test_the_wanted_stick_is_not_there_but_another_is(machine):
    machine.plug("1-4")
    finding = machine.look("2.1-ma2480")
    assert finding.state == "no-stick"
    assert "no stick 2.1-ma2480" in finding.reason
    assert "1.4-ma2480" in finding.reason
    assert machine.look("1.4-ma2480").well


def test_a_booted_stick_is_in_use_by_a_process_that_is_named(machine):
    machine.process(41, "sshd", "/dev/null")
    machine.process(42, "camera-thing", machine.plug(product=preflight.BOOTED))
    finding = machine.look()
    assert finding.state == "in-use"
    assert "process 42 (camera-thing)" in finding.reason


def test_a_booted_stick_that_nobody_holds_is_stale(machine):
    machine.plug(product=preflight.BOOTED)
    machine.process(42, "camera-thing", "/dev/null")
    finding = machine.look()
    assert finding.state == "stale"
    assert "03e7:f63b" in finding.reason
    assert "plug it in again" in finding.fix


def test_the_first_neural_compute_stick_is_not_supported(machine):
    machine.plug(product=preflight.OLDER)
    finding = machine.look()
    assert finding.state == "unsupported-stick"
    assert "03e7:2150" in finding.reason


def test_a_stick_that_can_be_used_counts_more_than_those_that_cannot(machine):
    machine.plug("1-1", preflight.OLDER, number=2)
    machine.plug("1-2", preflight.BOOTED, number=3)
    machine.plug("1-3", number=4)
    machine.plug("2-1", bus=2, node=False)
    assert machine.look().stick.id == "1.3-ma2480"
    assert [finding.state for finding in machine.look_at_all()] == ["ready", "no-node", "stale", "unsupported-stick"]


def test_a_stick_whose_node_is_not_in_the_container(machine):
    node = machine.plug(node=False)
    finding = machine.look()
    assert finding.state == "no-node"
    assert str(node) in finding.reason
    assert "/dev/bus/usb" in finding.fix


def test_a_node_that_may_not_be_opened_says_the_udev_rule(machine, monkeypatch):
    node = machine.plug()
    monkeypatch.setattr(os, "access", lambda path, mode: (path, mode) != (node, os.R_OK | os.W_OK))
    finding = machine.look()
    assert finding.state == "no-permission"
    assert str(node) in finding.reason
    assert preflight.UDEV_RULE.strip() in finding.fix
    for product in (preflight.UNBOOTED, preflight.BOOTED, preflight.OLDER):
        assert product in preflight.UDEV_RULE


def test_an_unprivileged_user_is_told_of_the_node(machine, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("needs root, to become a user who has no right to the node")
    machine.plug().chmod(0o600)
    for folder in (tmp_path, *tmp_path.parents):
        if folder != Path("/") and folder.is_relative_to(Path(tmp_path.parents[2])):
            folder.chmod(0o755)
    code = (
        "import os, sys; sys.path.insert(0, sys.argv[1]); import _ncs2_preflight as p; from pathlib import Path\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "print(p.look('', sys_root=Path(sys.argv[2]), dev_root=Path(sys.argv[3]), load=lambda name: None).state)"
    )
    backends = ROOT / "runtime" / "firstspike" / "backends"
    done = subprocess.run(
        [sys.executable, "-c", code, backends, machine.sys, machine.dev], capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["no-permission"], done.stderr


def test_no_usb_bus_at_all(machine):
    for path in sorted(machine.bus.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    machine.bus.rmdir()
    finding = machine.look()
    assert finding.state == "no-usb"
    assert "docker" in finding.fix


def test_no_libusb(machine):
    machine.plug()
    machine.library = refuse(OSError("libusb-1.0.so.0: cannot open shared object file: No such file or directory"))
    finding = machine.look()
    assert finding.state == "no-libusb"
    assert "libusb-1.0.so.0" in finding.reason
    assert "apt-get install libusb-1.0-0" in finding.fix


def test_netlink_forbidden_by_a_sandbox(machine):
    machine.plug()
    machine.netlink = refuse(OSError(97, "Address family not supported by protocol"))
    finding = machine.look()
    assert finding.state == "no-netlink"
    assert "RestrictAddressFamilies" in finding.fix


def test_a_stick_that_leaves_while_it_is_looked_at(machine):
    machine.plug()
    (machine.bus / "1-4" / "idProduct").unlink()
    assert machine.look().state == "no-stick"
    (machine.bus / "1-4").rename(machine.bus / "gone")
    (machine.bus / "1-4").symlink_to(machine.bus / "nowhere")
    assert machine.look().state == "no-stick"


@pytest.mark.parametrize(
    ("device", "meaning"),
    [("CPU", (False, "")), ("MYRIAD", (True, "")), ("MYRIAD.1.4.2-ma2480", (True, "1.4.2-ma2480"))],
)
def test_names_of_devices(device, meaning):
    assert preflight.wanted_id(device) == meaning


@pytest.mark.parametrize("device", ["", "myriad", "MYRIAD.", "GPU", "MULTI:CPU,MYRIAD", "MYRIAD\n", "HDDL"])
def test_names_of_devices_that_it_does_not_have(device):
    with pytest.raises(ValueError, match=r"use MYRIAD, MYRIAD\.<id> or CPU"):
        preflight.wanted_id(device)


@pytest.mark.parametrize("name", ["ncs2", "_ncs2_preflight", "_ncs2_openvino"])
def test_what_a_worker_is_sent_parses_as_its_oldest_python(name):
    text = (ROOT / "runtime" / "firstspike" / "backends" / f"{name}.py").read_text("utf-8")
    ast.parse(text, feature_version=(3, 6))
    assert "from __future__" not in text

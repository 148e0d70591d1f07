"""Real OpenVINO of given versions for tests, each in an environment of its own under build/, and a faked USB stick."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.support.program import ROOT
from tests.support.pythons import environment

CHILD = Path(__file__).parent / "worker_child.py"


def myriad() -> Path:
    """A Python with the one wheel that has the stick's plug-in and firmware."""
    return environment(("3.9", "3.8", "3.7"), "openvino==2021.4.2", "numpy==1.19.5")


def ask(python: Path, expression: str, *arguments, before: Sequence[str | Path] = (), environ=None, timeout=60):
    """What an expression gives that is run with the driver, under the worker's Python: see `worker_child`.

    Returns:
        The value, and what was written to standard error.
    """
    argv = [*before, python, CHILD, ROOT / "runtime" / "firstspike", "ncs2", expression, *arguments]
    done = subprocess.run(
        [str(part) for part in argv], capture_output=True, text=True, timeout=timeout, check=False,
        env=os.environ | (environ or {}),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


def umockdev(folder: Path, product: str) -> list[str]:
    """What to put before a command so that it sees a Myriad on USB that never boots; skipped without umockdev."""
    if shutil.which("umockdev-run") is None:
        pytest.skip("umockdev-run is not installed (Debian: apt-get install umockdev)")
    root = "/devices/pci0000:00/0000:00:14.0/usb1"
    entries = [_usb(f"{root}/1-1", "03e7", product, 2, "1"), _usb(root, "1d6b", "0002", 1, "0")]
    path = folder / f"stick-{product}.umockdev"
    path.write_text("\n\n".join(entries) + "\n")
    return ["umockdev-run", "--device", str(path), "--"]


def _usb(path: str, vendor: str, product: str, number: int, port: str) -> str:
    """A USB device in umockdev's notation."""
    ids = int(vendor, 16), int(product, 16)
    ends = b"".join(struct.pack("<BBBBHB", 7, 5, end, 2, 512, 0) for end in (0x81, 0x01))
    body = struct.pack("<BBBBBBBBB", 9, 4, 0, 0, 2, 0xFF, 0xFF, 0xFF, 0) + ends
    described = (
        (
            struct.pack("<BBHBBBBHHHBBBB", 18, 1, 0x0200, 0, 0, 0, 64, *ids, 1, 1, 2, 3, 1)
            + struct.pack("<BBHBBBBB", 9, 2, 9 + len(body), 1, 1, 0, 0x80, 250)
            + body
        )
        .hex()
        .upper()
    )
    node = f"bus/usb/001/{number:03}"
    attributes = {
        "idVendor": vendor, "idProduct": product, "busnum": "1", "devnum": str(number), "devpath": port, "speed": "480",
        "bConfigurationValue": "1", "bNumConfigurations": "1", "bcdDevice": "0001", "bDeviceClass": "00",
        "maxchild": "4",
    }  # fmt: skip
    return "\n".join(
        [
            f"P: {path}", f"N: {node}={described}", "E: SUBSYSTEM=usb", "E: DEVTYPE=usb_device",
            f"E: DEVNAME=/dev/{node}", "E: BUSNUM=001", f"E: DEVNUM={number:03}", "E: MAJOR=189",
            f"E: MINOR={number - 1}", f"E: PRODUCT={ids[0]:x}/{ids[1]:x}/1",
            *(f"A: {key}={value}\\n" for key, value in attributes.items()), f"H: descriptors={described}",
        ]
    )  # fmt: skip

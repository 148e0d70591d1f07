"""OpenVINO's devices: which are attached, and of those that are not, why and what to do.

Runs in a worker, beside `openvino`; Python 3.6 or newer.
"""

import importlib
from pathlib import Path
from typing import Any, Dict, List, Tuple

from firstspike.worker.shim import AbsentError

KINDS = ("CPU", "GPU", "NPU")
"""Devices that OpenVINO brings plug-ins for; AUTO, MULTI and HETERO choose among them."""
CHOOSING = ("AUTO", "MULTI", "HETERO", "BATCH")
INSTALL = "firstspike workers install openvino"
NODES = {"GPU": ("dev/dri", "renderD*"), "NPU": ("dev/accel", "accel*")}
"""Where the kernel shows a device: a folder and the names in it."""
DRIVERS = {
    "GPU": "install Intel's compute runtime (Debian: apt-get install intel-opencl-icd ocl-icd-libopencl1) and let the "
    "user into the group render",
    "NPU": "it needs a Core Ultra processor, Linux 6.6 or newer with intel_vpu, Intel's linux-npu-driver, and the user "
    "in the group render",
}


def attached(root: str = "/") -> List[Dict[str, Any]]:
    """What is attached: one entry for each device that is there, and for each kind that is not, why and what to do.

    Args:
        root: of the file system where device nodes are looked for.
    """
    try:
        openvino = sdk()
        core = openvino.Core()
    except AbsentError as error:
        return [{"device": kind, "present": False, "reason": error.reason, "fix": error.fix} for kind in KINDS]
    there = list(core.available_devices)
    found = []  # type: List[Dict[str, Any]]
    for kind in KINDS:
        mine = [device for device in there if kind_of(device) == kind]
        if not mine:
            reason, fix = why_absent(core, kind, root)
            found.append({"device": kind, "present": False, "reason": reason, "fix": fix})
        found += [
            {
                "device": device,
                "present": True,
                "reason": "",
                "fix": "",
                "name": full_name(core, device),
                "version": version(openvino),
            }
            for device in mine
        ]
    return found


def sdk() -> Any:
    """The SDK.

    Raises:
        AbsentError: it is not installed, does not load, or is older than 2023.
    """
    try:
        openvino = importlib.import_module("openvino")
    except ImportError as error:
        if getattr(error, "name", None) == "openvino":
            raise AbsentError("the Python package openvino is not installed for this interpreter", INSTALL) from None
        raise AbsentError("OpenVINO cannot be loaded: %s" % plain(error), INSTALL) from None
    if not hasattr(openvino, "Core"):
        found = getattr(openvino, "__version__", "of 2022 or before")
        raise AbsentError("OpenVINO %s is too old: 2023.0 brought the API that is used here" % found, INSTALL)
    return openvino


def check_device(core: Any, device: str, root: str = "/") -> None:
    """See that a device is there; those that choose among others are left to OpenVINO.

    Raises:
        AbsentError: it is not; with the reason and the fix.
    """
    kind = kind_of(device)
    there = list(core.available_devices)
    if kind in CHOOSING:
        for one in device.partition(":")[2].replace("-", "").split(","):
            if one:
                check_device(core, one.partition("(")[0], root)
        return
    if kind not in KINDS:
        raise AbsentError(
            "OpenVINO has no device %r" % device,
            "set device to one of %s, or to AUTO (names are in capitals)" % ", ".join(there),
        )
    mine = [one for one in there if kind_of(one) == kind]
    if not mine:
        raise AbsentError(*why_absent(core, kind, root))
    if device not in mine and device != kind and device != kind + ".0":
        raise AbsentError("there is no %s: OpenVINO finds %s" % (device, ", ".join(mine)), "set device to one of those")


def why_absent(core: Any, kind: str, root: str) -> Tuple[str, str]:
    """Why there is no device of a kind, and what to do: what the kernel shows, then what OpenVINO says."""
    folder, pattern = NODES.get(kind, ("", ""))
    if folder and not list((Path(root) / folder).glob(pattern)):
        return "the kernel shows no %s: there is no /%s/%s" % (kind, folder, pattern), DRIVERS[kind]
    try:
        core.get_property(kind, "FULL_DEVICE_NAME")
        said = "OpenVINO does not list it"
    except RuntimeError as error:
        said = "OpenVINO says: " + plain(error)
    return "no %s: %s" % (kind, said), DRIVERS.get(kind, INSTALL)


def kind_of(device: str) -> str:
    """`GPU` of `GPU.1`, `AUTO` of `AUTO:GPU,CPU`."""
    return device.partition(":")[0].partition(".")[0]


def full_name(core: Any, device: str) -> str:
    return str(device_property(core, device, "FULL_DEVICE_NAME") or device).strip()


def device_property(core: Any, device: str, name: str) -> Any:
    try:
        return core.get_property(device, name)
    except RuntimeError:
        return None  # this device has none of that name


def version(openvino: Any) -> str:
    return str(openvino.__version__).partition("-")[0]


def plain(error: BaseException) -> str:
    """What an error of OpenVINO says, without where in its sources it was raised."""
    lines = [line.strip() for line in str(error).splitlines()]
    kept = [line for line in lines if line and not line.startswith(("Exception from src/", "Check '"))]
    return " ".join(kept or lines)[:400]

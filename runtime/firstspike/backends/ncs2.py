"""`[backend.ncs2]`: Intel's Neural Compute Stick 2 through OpenVINO 2021.4 (`IECore`) or 2022.3 (`openvino.runtime`).

The stick computes in half precision, so it takes a bundle's `dense_fp16` or its `ann`. With `device = "CPU"` the same
code runs OpenVINO's CPU plug-in, which is how it is tested: on a stick it was never run by its makers.
"""

import re
from typing import Any, Dict, List

import numpy as np

from firstspike import onnx_header
from firstspike.backends import _ncs2_openvino as openvino
from firstspike.backends import _ncs2_preflight as preflight
from firstspike.worker.shim import AbsentError, Option

SIBLINGS = ("firstspike.onnx_header", "_ncs2_preflight", "_ncs2_openvino")
ENVIRONMENT = {
    # The only wheel with the stick's plug-in and firmware; it wants NumPy below 1.20. There is one for Python 3.6 too,
    # but the pip of a fresh 3.6 is too old to see it.
    "python": ["3.9", "3.8", "3.7"],
    "packages": ["openvino==2021.4.2", "numpy==1.19.5"],
    "system": ["libusb-1.0-0"],
    "imports": ["openvino.inference_engine"],
}
TRIED = "OpenVINO 2021.4.2 and 2022.3.2 on the CPU; sticks that umockdev faked and that never boot; never a real stick"
NETWORK = "dense"
ROLES = {"dense": "dense_fp16", "ann": "ann"}
"""The bundle's file for each value of `network`."""
OPTIONS = {
    "device": Option("MYRIAD", "MYRIAD takes any stick, MYRIAD.<id> one of several; CPU is for tests"),
    "network": Option(
        "dense",
        "dense: the bundle's integer network, in half precision; ann: its floating-point twin",
        choices=("dense", "ann"),
    ),
    "connect_s": Option(15.0, "a stick may take so long to boot, s", low=1, high=300),
    "archive": Option("", "folder of an unpacked OpenVINO 2022.3.1 LTS; empty: the environment's own OpenVINO"),
}

MAX_OPSET = 13
"""OpenVINO 2021.4 reads newer operators as if they were of this set: an opset-18 ReduceMean was wrong, no error."""

LOST_FIX = "plug the stick in again, into a port of its own or a powered hub"
BOOT_FIX = (
    "unplug the stick and plug it in again, into a port of its own or a powered hub; see that the udev rule names "
    "f63b too, which it becomes when it boots"
)


def check(options: Dict[str, Any], model: Dict[str, Any], network: bytes) -> None:
    """See that a network's file can be run as the options say, before anything is started or touched.

    Raises:
        ValueError: it cannot; the text says why and what to do.
    """
    on_stick, _ = preflight.wanted_id(options["device"])
    role = ROLES[options["network"]]
    header = onnx_header.read(network)
    refused = onnx_header.refusal(header, MAX_OPSET, (1, model["channels"], model["height"], model["width"]))
    if refused:
        raise ValueError(f"OpenVINO 2021.4 cannot run the bundle's {role}: {refused}")
    if on_stick and options["network"] == "dense" and set(header.elements) - {"float16", "int64"}:
        kinds = ", ".join(sorted(header.elements))
        raise ValueError(f"the stick computes in half precision, and the bundle's {role} holds {kinds}: write it anew")
    _ = header.potential_unit


def probe(options: Dict[str, Any]) -> List[Dict[str, Any]]:
    """Each stick on the bus, or one entry that says why there is none; with `device = "CPU"` that."""
    on_stick, wanted = preflight.wanted_id(options["device"])
    entry: Dict[str, Any] = {"device": options["device"], "present": False, "state": "no-sdk"}
    sdk_reason = sdk_fix = ""
    try:
        sdk = openvino.find(options["archive"])
        entry["openvino"], entry["api"] = sdk.version, sdk.api
        if on_stick:
            openvino.check_files(sdk)
    except AbsentError as error:
        sdk_reason, sdk_fix = error.reason, error.fix
    if not on_stick:
        return [dict(entry, present=not sdk_reason, state="ready", reason=sdk_reason, fix=sdk_fix)]
    entry["tried"] = TRIED
    found = []
    for finding in preflight.look_at_all(wanted):
        device = f"MYRIAD.{finding.stick.id}" if finding.stick else options["device"]
        found.append(
            dict(
                entry,
                device=device,
                present=finding.well and not sdk_reason,
                state="no-sdk" if finding.well and sdk_reason else finding.state,
                reason="; ".join(filter(None, (finding.reason, sdk_reason))),
                fix="; ".join(filter(None, (finding.fix, sdk_fix))),
            )
        )
    return found


class Driver:
    """See `backends/_template_worker.py`."""

    def __init__(self, options: Dict[str, Any], model: Dict[str, Any], network: bytes) -> None:
        check(options, model, network)
        self.device, self.connect_s = options["device"], options["connect_s"]
        self.on_stick, self.wanted = preflight.wanted_id(self.device)
        if self.on_stick:  # before OpenVINO is imported: a stick that is not there is looked for every few seconds
            finding = preflight.look(self.wanted)
            if not finding.well:
                raise AbsentError(finding.reason, finding.fix)
        self.sdk = openvino.find(options["archive"])
        if self.on_stick:
            openvino.check_files(self.sdk)
        self._load(network)
        self.steps, self.scale = model["steps"], np.float32(model["scale"])
        self.unit = np.float32(onnx_header.read(network).potential_unit)
        self.values = np.zeros((1, model["channels"], model["height"], model["width"]), np.float32)
        self.about = {"device": self.device, "openvino": self.sdk.version, "api": self.sdk.api}
        if self.on_stick:
            self.about.update(tried=TRIED, temperature_c=self.temperature())

    def _load(self, network: bytes) -> None:
        parsed = self.sdk.read(network)
        if self.on_stick:
            left_out = self.sdk.unsupported(parsed, "MYRIAD")
            if left_out:
                raise ValueError(f"the stick does not take these operations: {', '.join(left_out):.300}")
        try:
            self.sdk.compile(parsed, self.device, self.connect_s)
        except RuntimeError as error:
            if not self.on_stick:
                raise
            raise self._why(str(error)) from error

    def _why(self, text: str) -> Exception:
        """What OpenVINO's text means when a network could not be put onto the stick."""
        finding = preflight.look(self.wanted)
        if not finding.well and finding.state != "stale":  # it went, or another process was quicker
            return AbsentError(finding.reason, finding.fix)
        if "NC_ERROR" in text:
            return AbsentError(
                f"the stick was seen but did not boot within {self.connect_s:g} s: {_first_line(text)}", BOOT_FIX
            )
        if "not found" in text:
            return AbsentError(f"OpenVINO sees no {self.device}: {_first_line(text)}", BOOT_FIX)
        return RuntimeError(text)

    def infer(self, times: Any) -> Dict[str, Any]:
        """Run one window; see `check` for what was made sure of."""
        np.subtract(np.float32(self.steps), times, out=self.values[0])
        if self.scale != 1:
            self.values *= self.scale
        try:
            output = self.sdk.infer(self.values)
        except RuntimeError as error:
            if self.on_stick and re.search("NC_ERROR|Failed to (queue|read)", str(error)):
                raise AbsentError(f"the stick was unplugged or reset: {_first_line(str(error))}", LOST_FIX) from error
            raise
        return {"output": output.reshape(-1).astype(np.float32) * self.unit}

    def temperature(self) -> Any:
        """Of the stick, in °C; None where it does not say."""
        try:
            return self.sdk.temperature()
        except (RuntimeError, TypeError, ValueError):
            return None

    def close(self) -> None:
        """Nothing to do: the plug-in's clean-up may hang for ever, so the worker ends without it."""


def _first_line(text: str) -> str:
    return (text.strip().splitlines() or ["no text"])[-1][:200]

"""`[backend.template_worker]`: a start for a back end with a vendor's SDK: copy it to `<kind>.py` beside it.

It works as it stands: a device that is never there. This file is read by two Pythons. The daemon imports it for its
tables and never runs the rest; a worker, under the Python that the SDK needs, is sent its text and runs it. So:

* no import of the SDK outside a function, and none of firstspike but `worker.shim` and the files in `SIBLINGS`;
* syntax and library of Python 3.6 if the SDK's Python is that old (quoted annotations are never looked at).

The first line of this text is what `firstspike workers list` says of it.
"""

from typing import Any

import numpy as np

from firstspike.worker.shim import AbsentError, Option

SIBLINGS = ()
"""Names of files beside this one that it imports, such as `_cuda`; they are sent along and obey the same rules."""

ENVIRONMENT = {
    "python": ["3"],  # versions that the SDK runs on, best first: ["3.9", "3.8"]; "3": any from 3.6
    "packages": [
        "numpy"
    ],  # exact versions: "numpy==1.19.5", "vendor-sdk==2021.4.2"; worker/pins/<kind>.txt has the rest
    "system": [],  # Debian packages that pip cannot install: "libusb-1.0-0"
    "imports": [],  # modules that must be importable once it is installed: "vendor_sdk"
    "system_site": False,  # whether the SDK came with the system's Python (JetPack), and is not pip's to install
}
"""What `firstspike workers install <kind>` makes."""

NETWORK = "dense"
"""Which form of the network the driver is given: "dense" (ONNX), "ttfs" (the integer network's file) or "none"."""

TRIED = "nothing: a skeleton"
"""What this has really run on, in words; `firstspike doctor` shows it. Say so if it never ran on hardware."""

OPTIONS = {
    "device": Option("any", "which device, as the vendor names it"),
    "threads": Option(1, "threads of the device's CPU part", low=1, high=256),
    "precision": Option("f32", "what it computes in", choices=("f32", "f16")),
}
"""The keys of `[backend.<kind>]`: each with default, help and limits; another key is an error that names it."""


def probe(options: "dict[str, Any]") -> "list[dict[str, Any]]":
    """What is attached: one entry for each device that is there, or one that says why none is.

    A device that is missing is an answer, not an exception, and takes no longer than it must: `firstspike doctor` waits
    for it. Look with the kernel's own means first (/sys, /dev): an SDK may take seconds, or the process with it.
    """
    return [_absent(options)]


def _absent(options: "dict[str, Any]") -> "dict[str, Any]":
    return {
        "device": str(options["device"]), "present": False,
        "reason": "this skeleton has no device",  # one sentence: what is missing
        "fix": "write a driver: docs/workers.md",  # one sentence: what the user can do
    }  # fmt: skip


class Driver:
    """One network on one device.

    Args:
        options: as `OPTIONS`, complete.
        model: name, version, digest, classes; channels, height, width and steps of the input; form and scale.
        network: the file that `NETWORK` names.

    Raises:
        AbsentError: the device or its SDK is not there; it is looked for again after a while. Any other exception is
            a failure, which the daemon publishes with its text.
    """

    def __init__(self, options: "dict[str, Any]", model: "dict[str, Any]", network: bytes) -> None:
        absent = _absent(options)
        if not absent["present"]:
            raise AbsentError(str(absent["reason"]), str(absent["fix"]))
        self.network = network  # an SDK would compile it here
        self.steps, self.classes = model["steps"], model["classes"]
        self.about = {"device": options["device"]}
        """What `firstspike doctor` and health say of it: device, versions."""

    def infer(self, times: "np.ndarray[Any, Any]") -> "dict[str, np.ndarray[Any, Any]]":
        """Answer one window.

        Args:
            times: spike times, uint8 (channels, height, width); the input's value is (steps − times) · scale.

        Returns:
            `output`: float32 (classes,). For "dense" these are potentials, integers in floating point. For "ttfs"
            instead `potential` and `first_spike`, int32 (classes,), as in `types.Inference`.
        """
        activations = (self.steps - times.astype(np.float32))[np.newaxis]
        del activations  # an SDK would run it here
        return {"output": np.zeros(self.classes, np.float32)}

    def close(self) -> None:
        """Give the device back; the process ends afterwards in any case, and at once."""

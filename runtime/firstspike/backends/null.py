"""`[backend.null]`: a worker without a device, which answers late, wrongly or not at all, as asked: for tests.

Its answer depends on the window alone: potential k is the sum of all activations with index ≡ k modulo the classes.
"""

import ctypes
import os
import signal
import sys
import time

import numpy as np

from firstspike.worker.shim import AbsentError, Option

ENVIRONMENT = {"python": ["3"], "packages": ["numpy"], "system": []}
NETWORK = "none"
TRIED = "no device: it is its own"
FOR_TESTS = True
OPTIONS = {
    "latency_ms": Option(0.0, "each answer takes so long, ms", low=0, high=3_600_000),
    "load_s": Option(0.0, "loading takes so long, s", low=0, high=3600),
    "fault": Option(
        "none",
        "what happens at every `every`-th window, or when loading (absent, refuse)",
        choices=(
            "none", "raise", "hang", "stop", "exit", "kill", "segfault", "garbage", "oversize", "half", "shape", "dtype",
            "number", "flood", "print", "absent", "refuse",
        ),
    ),
    "every": Option(1, "a fault at every so many windows", low=1, high=1_000_000_000),
    "after": Option(0, "no fault before so many windows", low=0, high=1_000_000_000),
}  # fmt: skip


def probe(options):
    """What is there: always itself."""
    absent = options["fault"] == "absent"
    return [
        {"device": "null", "present": not absent, "reason": "it was told to be absent" if absent else "",
         "fix": "set backend.null.fault to none" if absent else ""}
    ]  # fmt: skip


class Driver:
    """See `backends/_template.py`."""

    def __init__(self, options, model, network):
        del network
        self.options, self.classes, self.steps = options, model["classes"], model["steps"]
        self.windows = 0
        time.sleep(options["load_s"])
        if options["fault"] == "absent":
            raise AbsentError("it was told to be absent", "set backend.null.fault to none")
        if options["fault"] == "refuse":
            raise ValueError("it was told to refuse the network")
        self.about = {"device": "null"}

    def infer(self, times):
        """Answer, or do what was asked for."""
        self.windows += 1
        time.sleep(self.options["latency_ms"] / 1e3)
        due = self.windows > self.options["after"] and self.windows % self.options["every"] == 0
        fault = self.options["fault"] if due else "none"
        activations = (self.steps - times.astype(np.int64)).reshape(-1)
        potential = np.bincount(np.arange(activations.size) % self.classes, activations, self.classes)
        answer = {"output": potential.astype(np.float32)}
        return FAULTS[fault](answer) if fault in FAULTS else answer

    def close(self):
        """Nothing is held."""


def _raise(_):
    raise RuntimeError("it was told to fail")


def _write(data):
    """Past the shim, straight onto the link: the highest descriptor that is a socket or pipe other than 0 to 2."""
    for fd in range(3, 64):
        try:
            os.write(fd, data)
        except OSError:
            continue
        return


def _garbage(answer):
    _write(b"Hello, I am a library that prints on any descriptor!\n" * 4)
    return answer


def _oversize(answer):
    _write(b"FSW1" + bytes([5, 0, 0, 0]) + (1).to_bytes(4, "little") + b"\0\0\0\0" + b"\xff\xff\xff\x7f")
    return answer


def _half(_):
    _write(b"FSW1" + bytes([5, 0, 0, 0]))
    os._exit(3)


def _flood(answer):
    for _ in range(200):
        os.write(2, b"E: a line that nobody reads, over and over again\n" * 1000)
    return answer


def _print(answer):
    print("a library that prints to standard output")
    sys.stdout.flush()
    os.write(1, b"and one that writes to descriptor 1\n")
    return answer


FAULTS = {
    "raise": _raise,
    "hang": lambda answer: time.sleep(3600),
    "stop": lambda answer: os.kill(os.getpid(), signal.SIGSTOP) or answer,
    "exit": lambda answer: os._exit(3),
    "kill": lambda answer: os.kill(os.getpid(), signal.SIGKILL),
    "segfault": lambda answer: ctypes.string_at(0),
    "garbage": _garbage,
    "oversize": _oversize,
    "half": _half,
    "shape": lambda answer: {"output": answer["output"][:-1]},
    "dtype": lambda answer: {"output": answer["output"].astype(np.complex64)},
    "number": lambda answer: {"output": answer["output"] * np.float32("nan")},
    "flood": _flood,
    "print": _print,
}

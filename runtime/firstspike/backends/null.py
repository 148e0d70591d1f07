"""`[backend.null]`: a worker without a device, which answers late, wrongly or not at all, as asked: for tests.

Its answer depends on the window alone: potential k is the sum of all activations with index ≡ k modulo the classes.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Dict, List

import numpy as np

from firstspike.worker import shim
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
        "what happens at every `every`-th window; with `when`, at another time",
        choices=(
            "none", "raise", "hang", "stop", "exit", "kill", "segfault", "garbage", "oversize", "half", "shape",
            "dtype",
            "number", "other", "twice", "late", "spin", "flood", "print", "child", "absent", "refuse", "silent",
            "memory",
        ),
    ),
    "when": Option("infer", "when the fault happens", choices=("infer", "load", "idle")),
    "every": Option(1, "a fault at every so many windows", low=1, high=1_000_000_000),
    "after": Option(0, "no fault before so many windows", low=0, high=1_000_000_000),
    "late_ms": Option(200.0, "the answer of fault = late takes so long, ms", low=0, high=3_600_000),
    "once": Option("", "a file that the first fault makes; while it is there, there are no more"),
    "let_go": Option("", "a file that is made when the driver is closed in good order"),
    "absent_while": Option("", "the device is absent while this file is there"),
}  # fmt: skip


def probe(options: Dict[str, Any]) -> List[Dict[str, Any]]:
    """What is there: always itself."""
    absent = options["fault"] == "absent"
    return [
        {"device": "null", "present": not absent, "reason": "it was told to be absent" if absent else "",
         "fix": "set backend.null.fault to none" if absent else ""}
    ]  # fmt: skip


class Driver:
    """See `backends/_template_worker.py`."""

    def __init__(self, options: Dict[str, Any], model: Dict[str, Any], network: bytes) -> None:
        del network
        defaults: Dict[str, Any] = {key: option.default for key, option in OPTIONS.items()}
        self.options, self.classes, self.steps = dict(defaults, **options), model["classes"], model["steps"]
        self.windows = 0
        time.sleep(self.options["load_s"])
        fault = self.options["fault"]
        if fault == "absent" and self.options["when"] == "infer" and self.options["every"] == 1:
            raise AbsentError("it was told to be absent", "set backend.null.fault to none")
        if self.options["absent_while"] and Path(self.options["absent_while"]).exists():
            raise AbsentError("the device is not plugged in", "plug it in")
        if fault == "refuse":
            raise ValueError("it was told to refuse the network")
        if self.options["when"] == "load" and self.due():
            FAULTS[fault](self, {"output": np.zeros(self.classes, np.float32)})
        self.about = {"device": "null"}

    def due(self) -> bool:
        """Whether it is time for the fault."""
        if self.options["when"] == "infer":
            number = self.windows
            if number <= self.options["after"] or number % self.options["every"]:
                return False
        if self.options["once"]:
            try:
                os.close(os.open(self.options["once"], os.O_CREAT | os.O_EXCL))
            except OSError:
                return False
        return self.options["fault"] in FAULTS

    def infer(self, times: Any) -> Dict[str, Any]:
        """Answer, or do what was asked for."""
        self.windows += 1
        if self.options["latency_ms"]:
            time.sleep(self.options["latency_ms"] / 1e3)
        activations = np.zeros(-(-times.size // self.classes) * self.classes, np.int64)
        np.subtract(self.steps, times.reshape(-1), out=activations[: times.size], dtype=np.int64)
        answer = {"output": activations.reshape(-1, self.classes).sum(0).astype(np.float32)}
        if self.options["when"] != "load" and self.due():
            if self.options["when"] == "idle":
                return in_a_moment(self, answer)
            answer = FAULTS[self.options["fault"]](self, answer)
        return answer

    def close(self) -> None:
        """Nothing is held."""
        if self.options["let_go"]:
            os.close(os.open(self.options["let_go"], os.O_CREAT))


def in_a_moment(driver: Driver, answer: Dict[str, Any]) -> Dict[str, Any]:
    """The fault, once this answer has gone."""

    def later() -> None:
        time.sleep(0.05)
        FAULTS[driver.options["fault"]](driver, answer)

    threading.Thread(target=later, daemon=True).start()
    return answer


def _write(data: bytes) -> None:
    """Past the shim, straight onto the link: the first descriptor beyond 2 that takes it."""
    for fd in range(3, 64):
        try:
            os.write(fd, data)
        except OSError:
            continue
        return


def _frame(number: int, size: int) -> bytes:
    return shim.HEADER.pack(shim.MAGIC, shim.ANSWER, number, 0, size, 0)


def _raise(*_: Any) -> Any:
    raise RuntimeError("it was told to fail")


def _kill(driver: Driver, answer: Any) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def _stop(driver: Driver, answer: Any) -> Any:
    os.kill(os.getpid(), signal.SIGSTOP)
    return answer


def _garbage(driver: Driver, answer: Any) -> Any:
    _write(b"Hello, I am a library that prints on any descriptor!\n" * 4)
    return answer


def _oversize(driver: Driver, answer: Any) -> Any:
    _write(_frame(1, 0x7FFFFFFF))
    return answer


def _half(driver: Driver, answer: Any) -> Any:
    _write(_frame(1, 0)[:8])
    os._exit(3)


def _other(driver: Driver, answer: Any) -> Any:
    _write(_frame(3_000_000_000, 0))
    return answer


def _twice(driver: Driver, answer: Any) -> Any:
    """As if the answer before were sent again, after this one."""
    text = json.dumps({"arrays": shim.describe(answer)}).encode()
    body = answer["output"].tobytes()
    _write(shim.HEADER.pack(shim.MAGIC, shim.ANSWER, driver.windows - 1, len(text), len(body), 0) + text + body)
    return answer


def _late(driver: Driver, answer: Any) -> Any:
    time.sleep(driver.options["late_ms"] / 1e3)
    return answer


def _spin(driver: Driver, answer: Any) -> Any:
    """In C, and without letting another thread of Python run."""
    ctypes.PyDLL(None).sleep(3600)
    return answer


def _silent(driver: Driver, answer: Any) -> Any:
    """Closes the link and lives on."""
    os.closerange(3, 64)
    time.sleep(3600)


def _flood(driver: Driver, answer: Any) -> Any:
    for _ in range(200):
        os.write(2, b"E: a line that nobody reads, over and over again\n" * 1000)
    return answer


def _print(driver: Driver, answer: Any) -> Any:
    print("a library that prints to standard output")
    sys.stdout.flush()
    os.write(1, b"and one that writes to descriptor 1\n")
    return answer


def _child(driver: Driver, answer: Any) -> Any:
    """A process that holds this one's descriptors on, and then this one's death."""
    subprocess.Popen(["sleep", "3600"], close_fds=False)  # noqa: S607 (whichever)
    if os.fork() == 0:
        time.sleep(3600)
    os.kill(os.getpid(), signal.SIGKILL)


def _memory(driver: Driver, answer: Any) -> Any:
    """Takes memory until a limit ends that: a refusal, or this process's end."""
    held = [b"x" * (16 << 20)]
    while len(held) < 256:  # 4 GiB: the machine is not to die of a limit that was forgotten
        held.append(b"x" * (16 << 20))
    raise RuntimeError("no limit on memory was met")


def _absent(driver: Driver, answer: Any) -> Any:
    raise AbsentError("the device was unplugged", "plug it in again")


FAULTS: Dict[str, Any] = {
    "raise": _raise,
    "hang": lambda driver, answer: time.sleep(3600),
    "spin": _spin,
    "stop": _stop,
    "exit": lambda driver, answer: os._exit(3),
    "kill": _kill,
    "segfault": lambda driver, answer: ctypes.string_at(0),
    "garbage": _garbage,
    "oversize": _oversize,
    "half": _half,
    "other": _other,
    "twice": _twice,
    "memory": _memory,
    "late": _late,
    "silent": _silent,
    "shape": lambda driver, answer: {"output": answer["output"][:-1]},
    "dtype": lambda driver, answer: {"output": answer["output"].astype(np.complex64)},
    "number": lambda driver, answer: {"output": answer["output"] * np.float32("nan")},
    "flood": _flood,
    "print": _print,
    "child": _child,
    "absent": _absent,
}

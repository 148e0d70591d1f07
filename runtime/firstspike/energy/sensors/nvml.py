"""NVIDIA's graphics cards, by the driver's own library (libnvidia-ml.so.1), loaded when they are looked for.

    nvmlDeviceGetTotalEnergyConsumption   mJ since the driver was loaded; Volta and newer
    nvmlDeviceGetPowerUsage               mW; Ampere (without GA100) and newer: the mean of the last second

(NVML API reference, "Device Queries".) Both are of the card: GPU, its memory and regulators. The counter is taken
where there is one. Jetson's own GPUs are not among NVML's: `ina3221`. Accuracy: NVIDIA states ±5 W for the power
(nvidia-smi's manual), no fraction: not known. The tests drive it with a library of their
own; it has not been run on a card.
"""

from __future__ import annotations

import ctypes
import time
from pathlib import Path

from firstspike.energy import Kind, Meter, Reading, Scope, Unavailable
from firstspike.energy.sensors import LeftOut, Offer

KIND = "nvml"
LIBRARY = "libnvidia-ml.so.1"
NOT_SUPPORTED, NO_PERMISSION, GPU_IS_LOST = 3, 4, 15
FIX = "load NVIDIA's driver (nvidia-smi shows whether it works)"


class NvmlMeter:
    """One card's counter of energy, or its power."""

    scope: Scope = "chip"
    u95_fraction: float | None = None
    resolution = 1e-3

    def __init__(self, library: ctypes.CDLL, handle: ctypes.c_void_p, name: str, what: str, kind: Kind) -> None:
        self.name, self.what, self.kind = name, what, kind
        self._library, self._handle = library, handle
        counter = kind == "counter"
        self._call = library.nvmlDeviceGetTotalEnergyConsumption if counter else library.nvmlDeviceGetPowerUsage
        self._value: ctypes.c_ulonglong | ctypes.c_uint = ctypes.c_ulonglong() if counter else ctypes.c_uint()
        self._highest, self._base = 0, 0

    def read(self) -> Reading | Unavailable:
        """See `Meter`."""
        before = time.monotonic_ns()
        code = self._call(self._handle, ctypes.byref(self._value))
        after = time.monotonic_ns()
        if code:
            return Unavailable(f"{self.name}: {_said(self._library, code)}", FIX)
        value = self._value.value
        if self.kind == "counter":
            if value < self._highest:
                self._base, last, self._highest = self._base + self._highest - value, self._highest, value
                return Unavailable(f"{self.name}: the counter was set back, from {last} to {value} mJ")
            self._highest = value
        return Reading((before + after) // 2, (self._base + value) * 1e-3)

    def close(self) -> None:
        """See `Meter`. The library stays loaded, for other meters too."""


def find(root: Path) -> Offer:
    """See `sensors`."""
    if root.resolve() != Path("/"):
        return Offer(
            (), (LeftOut(KIND, "", f"{root} is a copy of another machine's files: its cards cannot be asked"),)
        )
    try:
        library = ctypes.CDLL(LIBRARY)
        started = library.nvmlInit_v2()
        count = ctypes.c_uint()
        code = started or library.nvmlDeviceGetCount_v2(ctypes.byref(count))
        if code:
            return Offer((), (LeftOut(KIND, "", f"{LIBRARY}: {_said(library, code)}", FIX),))
        meters: list[Meter] = []
        left_out: list[LeftOut] = []
        for index in range(count.value):
            _card(library, index, meters, left_out)
    except OSError:
        return Offer((), (LeftOut(KIND, "", f"{LIBRARY} was not found: there is no driver of NVIDIA's here", FIX),))
    except AttributeError as error:
        return Offer((), (LeftOut(KIND, "", f"{LIBRARY}: not NVIDIA's, or too old: {error}", FIX),))
    if not meters and not left_out:
        left_out.append(LeftOut(KIND, "", f"{LIBRARY}: no card", FIX))
    return Offer(tuple(meters), tuple(left_out))


def _card(library: ctypes.CDLL, index: int, meters: list[Meter], left_out: list[LeftOut]) -> None:
    handle, name = ctypes.c_void_p(), f"{KIND}:{index}"
    code = library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle))
    if code:
        left_out.append(LeftOut(KIND, name, _said(library, code), FIX))
        return
    title = ctypes.create_string_buffer(96)
    model = title.value.decode("utf-8", "replace") if not library.nvmlDeviceGetName(handle, title, 96) else "card"
    what = f"{model}: the whole card, GPU, memory and regulators"
    counter = NvmlMeter(library, handle, name, what, "counter")
    power = NvmlMeter(library, handle, f"{name}:power", f"{what}; on most cards the mean of the last second", "power")
    works, refuses = counter.read(), power.read()
    if isinstance(works, Reading):
        meters.append(counter)
        if isinstance(refuses, Reading):
            left_out.append(LeftOut(KIND, power.name, f"the counter {name} counts the same", meter=power))
    elif isinstance(refuses, Reading):
        meters.append(power)
    else:
        left_out.append(LeftOut(KIND, name, refuses.reason, refuses.fix))


def _said(library: ctypes.CDLL, code: int) -> str:
    """NVML's own words for an error."""
    library.nvmlErrorString.restype = ctypes.c_char_p
    return f"{(library.nvmlErrorString(code) or b'').decode('utf-8', 'replace') or 'error'} ({code})"

"""Stands in for `neuromorphic_drivers` in the camera's child: its interface and types, and a camera of our making.

The folder `FAKE_CAMERA` holds what is the case: a file `plugged` with the camera's serial number, and faults as further
files (`hang`, `crash`, `delay`, `overflow`, `denied`, `usb`, `silent`). What was set is written to `configured.json`.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
import time
from pathlib import Path

import neuromorphic_drivers as real
import numpy as np
from neuromorphic_drivers import status as statuses
from neuromorphic_drivers.generated.enums import Connection, Name

FOLDER = Path(os.environ["FAKE_CAMERA"])
POLARITY = np.dtype([("t", "<u8"), ("x", "<u2"), ("y", "<u2"), ("on", "?")])
PACKET_S = 0.005

prophesee_evk4 = real.prophesee_evk4
inivation_davis346 = real.inivation_davis346
inivation_dvxplorer = real.inivation_dvxplorer


def said(name):
    try:
        return (FOLDER / name).read_text().strip()
    except FileNotFoundError:
        return None


def kind():
    return Name[said("kind") or "PROPHESEE_EVK4"]


def list_devices():
    if (fault := said("usb")) is not None:
        raise RuntimeError(fault)
    serial = said("plugged")
    if serial is None:
        return []
    return [real.ListedDevice(kind(), Connection.USB_SUPER, "1-1", serial, said("denied"))]


class Packet:
    def __init__(self, events, overflows):
        self.polarity_events = events
        self.polarity_events_overflow_indices = overflows


class Device:
    def __init__(self, configuration, serial):
        self.module = getattr(real, configuration.type())
        self._serial = serial
        self._start = self._due = time.monotonic()
        self._cut = False
        print("a driver that prints on standard output")
        sys.stdout.flush()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def serial(self):
        return self._serial

    def properties(self):
        return self.module.Properties()

    def connection(self):
        return Connection.USB_SUPER

    def biases_bounds(self):
        names = [field.name for field in dataclasses.fields(self.module.BiasesBounds)]
        return self.module.BiasesBounds(**dict.fromkeys(names, self.module.Bounds(-25, 23)))

    def update_configuration(self, configuration):
        assert configuration.serialize()  # the real package's bytes
        told = dataclasses.asdict(configuration)
        rate = told.get("rate_limiter")
        readout = getattr(configuration, "readout_frames_per_second", None)
        (FOLDER / "configured.json").write_text(
            json.dumps({"biases": told["biases"], "rate": rate, "readout": readout and readout.name})
        )

    def backlog(self):
        return 7 if said("delay") and not self._cut else 0

    def clear_backlog(self, until):
        assert until == 0
        self._cut = True

    def __iter__(self):
        return self

    def __next__(self):
        if said("crash") is not None:
            os.kill(os.getpid(), signal.SIGSEGV)
        while said("hang") is not None:
            time.sleep(0.05)
        if said("plugged") != self._serial:
            raise RuntimeError("Device disconnected")
        self._due += PACKET_S
        time.sleep(max(0.0, self._due - time.monotonic()))
        now = time.time()
        if said("silent") is not None:
            return statuses.Status(now, None), None
        end_us = round((self._due - self._start) * 1e6)
        events = np.zeros(50, POLARITY)
        events["t"] = np.linspace(end_us - PACKET_S * 1e6, end_us - 1, 50).astype(np.uint64)
        events["x"], events["y"] = np.arange(50) % 34, np.arange(50) // 2
        events["on"] = np.arange(50) % 2 == 0
        delay = float(said("delay") or 0) if not self._cut else 0.0
        overflows = np.array([3, 9]) if said("overflow") is not None else None
        (FOLDER / "overflow").unlink(missing_ok=True)
        ring = statuses.RingStatus(now - delay, 0, 1, False, end_us, 0)
        return statuses.Status(now, ring), Packet(events, overflows)


def open(configuration=None, iterator_timeout=None, raw=False, serial=None, **_):  # noqa: A001 (the package's name)
    assert configuration.serialize() == getattr(real, configuration.type()).Configuration().serialize()
    assert 0 < iterator_timeout <= 0.5
    assert not raw
    return Device(configuration, serial)

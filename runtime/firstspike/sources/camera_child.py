"""The camera's child process: finds a camera, sets it up, and writes its events as frames to standard output.

Started by `firstspike.sources.camera` only. A driver that hangs, crashes or is pulled out from under its feet does so
here, in a process that may be killed. It speaks through `neuromorphic_drivers` 0.18 (or what `OVERRIDE` names).
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import importlib
import importlib.util
import json
import os
import sys
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firstspike.errors import ConfigError, FirstspikeError, UnavailableError
from firstspike.sources import _decode_frames as frames
from firstspike.sources._child import Output, begin
from firstspike.sources.formats._stream import MAX_EVENTS
from firstspike.types import EVENT, Events, RecordingInfo

OVERRIDE = "FIRSTSPIKE_CAMERA_DRIVER"
"""Environment variable that names a Python file with the interface of `neuromorphic_drivers`, for tests."""
ITERATOR_TIMEOUT_S = 0.1
RATE_PERIOD_US = 1000
"""Over which Prophesee's limiter counts."""


def driver() -> Any:
    """The drivers' package.

    Raises:
        UnavailableError: it is not installed.
    """
    if given := os.environ.get(OVERRIDE):
        spec = importlib.util.spec_from_file_location("camera_driver", given)
        if spec is None or spec.loader is None:
            raise UnavailableError(f"{OVERRIDE}: {given} is no Python file")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    try:
        return importlib.import_module("neuromorphic_drivers")
    except ImportError as error:
        raise UnavailableError(
            f"the camera drivers cannot be imported: {error}: install them: pip install 'firstspike[camera]'"
        ) from None


def find(nd: Any, serial: str | None, model: str | None) -> Any:
    """The camera that is attached and wanted.

    Args:
        nd: the drivers.
        serial: its serial number; None: any.
        model: its kind, as `evk4`; None: any.

    Raises:
        UnavailableError: none is; the text says what to do.
    """
    try:
        found = list(nd.list_devices())
    except Exception as error:  # noqa: BLE001 (whatever the drivers raise: it is told)
        raise UnavailableError(
            f"no camera: USB cannot be looked at: {error}: is there a USB bus, and may this user read it?"
        ) from None
    wanted = [
        one for one in found
        if (serial is None or one.serial == serial) and (model is None or one.name.name.lower().endswith(f"_{model}"))
    ]  # fmt: skip
    for one in wanted:
        if one.error is None:
            return one
    if wanted:
        raise UnavailableError(
            f"camera {wanted[0].name.value} cannot be opened: {wanted[0].error}: may this user use it? "
            "Install the udev rules, docs/cameras.md"
        )
    others = ", ".join(f"{one.name.value} (serial {one.serial or 'unreadable'})" for one in found)
    what = " ".join(["camera", *([model] if model else []), *([f"with serial {serial}"] if serial else [])])
    hint = f"there is {others}: see source.camera.serial and model" if others else "plug one in"
    raise UnavailableError(f"no {what} is attached: {hint}")


def configure(module: Any, wanted: dict[str, Any]) -> Any:
    """The camera's configuration with what is wanted of it.

    Args:
        module: of the camera's kind, as `neuromorphic_drivers.prophesee_evk4`.
        wanted: `biases`, `max_events_per_s` and `readout`, as in `[source.camera]`.

    Raises:
        ConfigError: this camera has no such thing.
    """
    kind = module.__name__.rpartition(".")[2]
    configuration = module.Configuration()
    known = {field.name for field in dataclasses.fields(configuration.biases)}
    if unknown := sorted(wanted["biases"].keys() - known):
        raise ConfigError(
            f"source.camera.biases.{unknown[0]}: {kind} has none of this name: {', '.join(sorted(known))}"
        )
    configuration.biases = dataclasses.replace(
        configuration.biases,
        **{name: type(getattr(configuration.biases, name))(value) for name, value in wanted["biases"].items()},
    )
    if (rate := wanted["max_events_per_s"]) is not None:
        if not hasattr(module, "RateLimiter"):
            raise ConfigError(f"source.camera.max_events_per_s: {kind} cannot limit its events: see readout, or biases")
        most = max(1, round(rate * RATE_PERIOD_US / 1e6))
        configuration.rate_limiter = module.RateLimiter(RATE_PERIOD_US, most)
    if (readout := wanted["readout"]) is not None:
        kinds: Any = getattr(module, "ReadoutFramesPerSecond", None)
        if kinds is None or readout.upper() not in kinds.__members__:
            there = "has none" if kinds is None else f"has {', '.join(name.lower() for name in kinds.__members__)}"
            raise ConfigError(f"source.camera.readout = {readout!r}: {kind} {there}")
        configuration.readout_frames_per_second = kinds[readout.upper()]
    return configuration


def check_bounds(device: Any, biases: dict[str, int]) -> None:
    """Refuse biases that the camera cannot have.

    Raises:
        ConfigError: one is out of its bounds.
    """
    bounds = device.biases_bounds()
    for name, value in biases.items():
        bound = getattr(bounds, name, None)
        if bound is not None and not bound.minimum <= value <= bound.maximum:
            raise ConfigError(f"source.camera.biases.{name} = {value}: must be from {bound.minimum} to {bound.maximum}")


def converted(raw: NDArray[np.void]) -> Events:
    """The driver's events as ours."""
    events = np.empty(len(raw), EVENT)
    events["t"], events["x"], events["y"] = raw["t"], raw["x"], raw["y"]
    events["p"] = raw["on"] if "on" in (raw.dtype.names or ()) else raw["p"]
    return events


class Reader:
    """Sends a camera's events until it is lost.

    Args:
        device: open.
        backlog_s: events that are older when they are read are thrown away, with all that wait behind them.
        output: where to.
    """

    def __init__(self, device: Any, backlog_s: float, output: Output) -> None:
        self._device = device
        self._backlog_s = backlog_s
        self._output = output
        self._overflows = self._cuts = self._cut_packets = 0

    def run(self) -> None:
        """Read until the driver raises or ends."""
        for status, packet in self._device:
            now_ns = time.monotonic_ns()
            ring = status.ring
            if ring is None or packet is None:
                self._send(np.empty(0, EVENT), now_ns, -1)
                continue
            delay_s = max(0.0, status.system_time - ring.system_time)
            self._count(packet)
            if delay_s > self._backlog_s:
                # What waits behind it is as old: the freshest is what counts.
                self._cut_packets += 1 + int(self._device.backlog())
                self._device.clear_backlog(until=0)
                self._cuts += 1
                continue
            events = packet.polarity_events
            arrived_ns = now_ns - round(min(delay_s, 10.0) * 1e9)
            empty = events is None or len(events) == 0
            self._send(np.empty(0, EVENT) if empty else converted(events), arrived_ns, int(ring.current_t))

    def _count(self, packet: Any) -> None:
        lost = packet.polarity_events_overflow_indices
        self._overflows += 0 if lost is None else len(lost)

    def _send(self, events: Events, arrived_ns: int, reached_us: int) -> None:
        for start in range(0, max(1, len(events)), MAX_EVENTS):
            part = events[start : start + MAX_EVENTS]
            last = start + MAX_EVENTS >= len(events)
            reached = reached_us if last else -1  # before the last part, the sensor's time is that of its events
            head = frames.BATCH.pack(arrived_ns, reached, self._overflows, self._cuts, self._cut_packets)
            self._overflows = self._cuts = self._cut_packets = 0
            self._output.send(frames.CAMERA, head, part.view(np.uint8).data)


def serve(request: dict[str, Any], output: Output) -> None:
    """Wait for the camera, and send its events until it is lost."""
    nd = driver()
    while True:
        try:
            listed = find(nd, request["serial"], request["model"])
            break
        except UnavailableError as error:
            output.send_json(frames.WAITING, {"reason": str(error)})
            time.sleep(request["look_s"])
    module = getattr(nd, listed.name.name.lower())
    configuration = configure(module, request)
    # Opened with the configuration's defaults: what is out of bounds must not reach the sensor.
    device = nd.open(configuration=module.Configuration(), iterator_timeout=ITERATOR_TIMEOUT_S, serial=listed.serial)
    with device:
        check_bounds(device, request["biases"])
        device.update_configuration(configuration)
        properties = device.properties()
        connection = device.connection()
        speed = connection.value if isinstance(connection, enum.Enum) else str(connection)
        name = f"{listed.name.value} {device.serial()}"
        info = RecordingInfo("camera", int(properties.width), int(properties.height), "sensor", name, (speed,))
        output.send_json(frames.INFO, dataclasses.asdict(info))
        Reader(device, request["backlog_s"], output).run()
    raise UnavailableError("the driver ended")


def main() -> None:
    """Serve one request."""
    output = begin()
    # BrokenPipeError: the parent closed its end and wants nothing more.
    with contextlib.suppress(BrokenPipeError):
        request = json.loads(sys.stdin.buffer.readline() or b"null")
        if request is None:
            return
        try:
            serve(request, output)
        except BrokenPipeError:
            raise
        except FirstspikeError as error:
            output.send_json(frames.FAILURE, {"kind": type(error).__name__, "text": str(error)})
        except Exception as error:  # noqa: BLE001 (a driver raises what it likes: the camera is gone)
            output.send_json(frames.FAILURE, {"kind": "UnavailableError", "text": f"the camera was lost: {error}"})


if __name__ == "__main__":
    main()

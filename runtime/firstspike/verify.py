"""Does a back end compute the network's very spikes? Those of every layer beside the emulator's, window by window.

A back end can be asked if it runs the spiking network itself and can show all spikes: `definition`, and drivers with an
option `trace`, which then answer with `spikes_<n>`, one array for each layer, beside their answer (`verify_network`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firstspike import plugins
from firstspike.bundle import Bundle
from firstspike.config_plugins import BackendChoice
from firstspike.errors import FirstspikeError, UnavailableError, UsageError
from firstspike.verify_network import Difference, Shown, SpikingNetwork, first_difference, network_of
from firstspike.worker.backend import WorkerBackend, WorkerModule
from firstspike.worker.front import WorkerFront
from firstspike.worker.options import WorkerOptions
from firstspike.worker.shim import AbsentError
from firstspike.worker.supervisor import WorkerError

WINDOW_S = 600.0
"""A window's answer is awaited for so long: whoever shows all spikes is slow."""

Ask = Callable[[NDArray[np.uint8]], Shown]


@dataclass(frozen=True, slots=True)
class Verified:
    """What came of it."""

    windows: int
    """Compared, the one that differs included."""
    spikes: int
    """Compared."""
    difference: Difference | None
    seconds: tuple[float, ...]
    """What the back end took for each window."""
    emulator_s: tuple[float, ...]
    """What the emulator took for the same window when nothing but its answer was asked for."""
    wraps: int | None = None
    """How often a current left 24 bits in the emulator, in a network of CUBA LIF neurons."""


def verify(
    network: SpikingNetwork, ask: Ask, windows: Iterable[NDArray[np.uint8]], told: Callable[[int], None]
) -> Verified:
    """Compare until the first difference.

    Args:
        network: of the bundle.
        ask: runs a window on the back end.
        windows: what the network takes (`SpikingNetwork.taken`).
        told: called after each window, with how many there were.

    Raises:
        UnavailableError: the back end gives no answer.
    """
    spikes, seconds, emulator_s = 0, [], []
    wraps: int | None = None
    difference, number = None, -1
    for number, window in enumerate(windows):
        expected = network.emulate(window)
        started = time.perf_counter()
        network.answer(window)
        answered = time.perf_counter()
        found = ask(window)
        seconds.append(time.perf_counter() - answered)
        emulator_s.append(answered - started)
        spikes += network.spikes(expected)
        if "wraps" in expected.answer:
            wraps = (wraps or 0) + int(expected.answer["wraps"][0])
        difference = first_difference(network, number, expected, found)
        told(number + 1)
        if difference is not None:
            break
    return Verified(number + 1, spikes, difference, tuple(seconds), tuple(emulator_s), wraps)


class Verifiable:
    """A back end that shows all spikes, started for a bundle.

    Args:
        choice: of the configuration.
        bundle: the model.
        start_s: how long it may take to get ready.

    Raises:
        UsageError: it is none that shows all spikes.
        UnavailableError: it cannot run here.
        BundleError: it cannot run this bundle.
    """

    def __init__(self, choice: BackendChoice, bundle: Bundle, start_s: float) -> None:
        self.network = network_of(bundle)
        self.name = choice.name
        self._backend: WorkerBackend | WorkerFront | None = None
        self.about: dict[str, Any] = {}
        if choice.kind == "definition":
            return
        module = plugins.load("backends", choice.kind)
        if not isinstance(module, WorkerModule) or "trace" not in module.driver.OPTIONS:
            able = " or ".join(kinds())
            raise UsageError(f"--on {choice.name}: it does not show the spikes of all layers: use {able}")
        assert isinstance(choice.options, WorkerOptions)  # noqa: S101 (narrows the type: a WorkerModule's)
        options = choice.options.model_copy(update={"trace": True})
        if bundle.manifest.parts is None:
            self._backend = module.create(options, bundle, choice.name)
        elif hasattr(module, "front"):
            self._backend = module.front(options, bundle, choice.name)
        else:
            raise UsageError(f"--on {choice.name}: it runs no front of a hybrid: use definition")
        supervisor = self._backend.supervisor
        condition = supervisor.wait_ready(start_s)
        if condition.state != "ready":
            self.close()
            fix = f": {condition.fix}" if condition.fix else ""
            raise UnavailableError(f"{choice.name}: {condition.reason or f'not ready within {start_s:g} s'}{fix}")
        self.about = supervisor.about

    def ask(self, window: NDArray[np.uint8]) -> Shown:
        """Run a window; see `verify`."""
        if self._backend is None:
            return self.network.define(window)
        try:
            arrays = self._backend.supervisor.infer(window, time.monotonic() + WINDOW_S).arrays
            return self.network.read(arrays)
        except WorkerError as error:
            raise UnavailableError(str(error)) from None
        except ValueError as error:
            raise UnavailableError(f"{self.name}: {error}") from None

    def close(self) -> None:
        """End it."""
        if self._backend is not None:
            self._backend.close()


def kinds() -> Iterator[str]:
    """Kinds of back ends that can be asked."""
    for kind in plugins.names("backends"):
        try:
            module = plugins.load("backends", kind)
        except (FirstspikeError, AbsentError):  # one that somebody is writing
            continue
        if kind == "definition" or (isinstance(module, WorkerModule) and "trace" in module.driver.OPTIONS):
            yield kind

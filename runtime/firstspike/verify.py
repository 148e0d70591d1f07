"""Does a back end compute the network's very spikes? Those of every layer beside the emulator's, window by window.

A back end can be asked if it runs the TTFS network itself and can show all spikes: `definition`, and drivers with an
option `trace`, which then answer with `spikes_<n>`, one array for each layer, beside `potential` and `first_spike`.
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
from firstspike.errors import BundleError, FirstspikeError, UnavailableError, UsageError
from firstspike.ttfs import definition
from firstspike.ttfs.definition import Result
from firstspike.ttfs.emulator import Emulator
from firstspike.ttfs.file import load
from firstspike.ttfs.limits import name as name_of
from firstspike.ttfs.network import Network
from firstspike.worker.backend import WorkerBackend, WorkerModule
from firstspike.worker.options import WorkerOptions
from firstspike.worker.shim import AbsentError
from firstspike.worker.supervisor import WorkerError

WINDOW_S = 600.0
"""A window's answer is awaited for so long: whoever shows all spikes is slow."""

Ask = Callable[[NDArray[np.uint8]], Result]


@dataclass(frozen=True, slots=True)
class Difference:
    """The first value in which two runs of one window differ, in the network's order."""

    window: int
    where: str
    """`layer 2 (Conv)`, or `potential of the output`."""
    neuron: tuple[int, ...]
    """(channel, row, column), or (class,)."""
    expected: int
    """The emulator's: a global step, or a potential."""
    found: int

    def __str__(self) -> str:
        """One sentence."""
        place = ", ".join(map(str, self.neuron))
        if self.where.startswith("layer"):
            return (
                f"window {self.window}: {self.where}, neuron ({place}) spikes at step {self.found}, in the emulator at "
                f"step {self.expected}"
            )
        return f"window {self.window}: {self.where} {place} is {self.found}, in the emulator {self.expected}"


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


def first_difference(network: Network, window: int, expected: Result, found: Result) -> Difference | None:
    """Compare two runs of a window; None if they are equal in every spike and potential."""
    for number, (layer, here, there) in enumerate(
        zip(network.layers, expected.spike_steps, found.spike_steps, strict=True)
    ):
        if (difference := _differs(window, f"layer {number} ({type(layer).__name__})", here, there)) is not None:
            return difference
    for where, here, there in (
        ("potential of output", expected.potential, found.potential),
        (f"{name_of(len(network.layers) - 1, network.layers[-1])} as the answer tells it", expected.first_spike,
         found.first_spike),
    ):  # fmt: skip
        if (difference := _differs(window, where, here, there)) is not None:
            return difference
    return None


def _differs(window: int, where: str, expected: NDArray[np.int32], found: NDArray[np.int32]) -> Difference | None:
    different = np.argwhere(expected != found)
    if not len(different):
        return None
    neuron = tuple(int(index) for index in different[0])
    return Difference(window, where, neuron, int(expected[neuron]), int(found[neuron]))


def verify(network: Network, ask: Ask, windows: Iterable[NDArray[np.uint8]], told: Callable[[int], None]) -> Verified:
    """Compare until the first difference.

    Args:
        network: of the bundle.
        ask: runs a window on the back end.
        windows: spike times of the input.
        told: called after each window, with how many there were.

    Raises:
        UnavailableError: the back end gives no answer.
    """
    emulator = Emulator(network)
    spikes, seconds, emulator_s = 0, [], []
    difference, number = None, -1
    for number, times in enumerate(windows):
        expected = emulator.trace(times)
        started = time.perf_counter()
        emulator.run(times)
        answered = time.perf_counter()
        found = ask(times)
        seconds.append(time.perf_counter() - answered)
        emulator_s.append(answered - started)
        spikes += sum(layer.size for layer in expected.spike_steps)
        difference = first_difference(network, number, expected, found)
        told(number + 1)
        if difference is not None:
            break
    return Verified(number + 1, spikes, difference, tuple(seconds), tuple(emulator_s))


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
        self.network = load(bundle.path("ttfs"))
        if self.network.neuron == "rate":
            raise BundleError(f"{bundle.folder}: codes values as numbers of spikes: nothing here has their times")
        self.name = choice.name
        self._backend: WorkerBackend | None = None
        self.about: dict[str, Any] = {}
        if choice.kind == "definition":
            return
        module = plugins.load("backends", choice.kind)
        if not isinstance(module, WorkerModule) or "trace" not in module.driver.OPTIONS:
            able = " or ".join(kinds())
            raise UsageError(f"--on {choice.name}: it does not show the spikes of all layers: use {able}")
        assert isinstance(choice.options, WorkerOptions)  # noqa: S101 (narrows the type: a WorkerModule's)
        options = choice.options.model_copy(update={"trace": True})
        self._backend = module.create(options, bundle, choice.name)
        supervisor = self._backend.supervisor
        condition = supervisor.wait_ready(start_s)
        if condition.state != "ready":
            self.close()
            fix = f": {condition.fix}" if condition.fix else ""
            raise UnavailableError(f"{choice.name}: {condition.reason or f'not ready within {start_s:g} s'}{fix}")
        self.about = supervisor.about

    def ask(self, times: NDArray[np.uint8]) -> Result:
        """Run a window; see `verify`."""
        if self._backend is None:
            return definition.run(self.network, times)
        try:
            arrays = self._backend.supervisor.infer(times, time.monotonic() + WINDOW_S).arrays
        except WorkerError as error:
            raise UnavailableError(str(error)) from None
        return _result(self.name, self.network, arrays)

    def close(self) -> None:
        """End it."""
        if self._backend is not None:
            self._backend.close()


def _result(name: str, network: Network, arrays: dict[str, NDArray[Any]]) -> Result:
    """A traced answer, checked for its form."""
    shapes = network.shapes()
    classes = int(np.prod(shapes[-1]))
    wanted = {f"spikes_{number}": shape for number, shape in enumerate(shapes)}
    for key, shape in {**wanted, "potential": (classes,), "first_spike": (classes,)}.items():
        found = arrays.get(key)
        if found is None or found.shape != shape or found.dtype != np.int32:
            form = "missing" if found is None else f"{found.dtype} of shape {found.shape}"
            raise UnavailableError(f"{name}: its answer's '{key}' is {form}, must be int32 of {shape}")
    return Result(tuple(arrays[key] for key in wanted), arrays["potential"], arrays["first_spike"])


def kinds() -> Iterator[str]:
    """Kinds of back ends that can be asked."""
    for kind in plugins.names("backends"):
        try:
            module = plugins.load("backends", kind)
        except (FirstspikeError, AbsentError):  # one that somebody is writing
            continue
        if kind == "definition" or (isinstance(module, WorkerModule) and "trace" in module.driver.OPTIONS):
            yield kind

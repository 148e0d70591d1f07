"""Spiking networks as `verify` compares them: by spike times, by numbers of spikes, or by every spike of every step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from firstspike.bundle import Bundle
from firstspike.cuba import definition as cuba_definition
from firstspike.cuba.emulator import Emulator as CubaEmulator
from firstspike.cuba.network import Network as CubaNetwork
from firstspike.hybrid.front import network_of as front_of
from firstspike.ttfs import definition, rate
from firstspike.ttfs.emulator import Emulator
from firstspike.ttfs.file import load
from firstspike.ttfs.network import Network
from firstspike.ttfs.rate_emulator import RateEmulator
from firstspike.types import Spikes

Window = NDArray[np.uint8]
"""Spike times, or frames."""


class Shown(NamedTuple):
    """One window, with all spikes."""

    layers: tuple[NDArray[Any], ...]
    """One array for each layer; what it holds is the network's own."""
    answer: dict[str, NDArray[Any]]
    """What else was told, by name; one value for each class, or one alone."""


@dataclass(frozen=True, slots=True)
class Difference:
    """The first value in which two runs of one window differ, in the network's order."""

    window: int
    where: str
    """`layer 2 (Conv)`, or the name of an answer."""
    neuron: tuple[int, ...]
    """(channel, row, column), or (class,)."""
    expected: int
    """The emulator's."""
    found: int
    text: str
    """What differs, as a sentence without its beginning."""
    step: int | None = None
    """Where each step is compared."""

    def __str__(self) -> str:
        """One sentence."""
        place = ", ".join(map(str, self.neuron))
        if self.where.startswith("layer"):
            return f"window {self.window}: {self.where}, neuron ({place}) {self.text}"
        return f"window {self.window}: {self.where} {place} {self.text}"


@dataclass(frozen=True, slots=True)
class SpikingNetwork:
    """A bundle's network that spikes."""

    names: tuple[str, ...]
    """Of the layers: `layer 2 (Conv)`."""
    taken: Callable[[Spikes], Window]
    """What of an encoded window it takes."""
    emulate: Callable[[Window], Shown]
    """Runs it on the emulator."""
    answer: Callable[[Window], object]
    """The same for nothing but the answer, as the daemon does."""
    define: Callable[[Window], Shown]
    """Runs its specification."""
    read: Callable[[dict[str, NDArray[Any]]], Shown]
    """A worker's answer, checked for its form (ValueError)."""
    spikes: Callable[[Shown], int]
    """How many spikes there are."""
    say: Callable[[int, int, int | None], str]
    """How a neuron differs: the emulator's value, the other's, the step."""


def first_difference(network: SpikingNetwork, window: int, expected: Shown, found: Shown) -> Difference | None:
    """Compare two runs of a window; None if they are equal in every spike, and in what both tell beside."""
    for where, here, there in zip(network.names, expected.layers, found.layers, strict=True):
        different = np.argwhere(here != there)
        if len(different):
            place = tuple(int(index) for index in different[0])
            step, neuron = (place[0], place[1:]) if here.ndim == 4 else (None, place)
            values = int(here[place]), int(there[place])
            return Difference(window, where, neuron, *values, network.say(*values, step), step)
    for where, values_here in expected.answer.items():
        if where in found.answer and len(places := np.flatnonzero(values_here != found.answer[where])):
            at = int(places[0])
            values = int(values_here[at]), int(found.answer[where][at])
            text = f"is {values[1]}, in the emulator {values[0]}"
            return Difference(window, where.replace("_", " ") + " of output", (at,), *values, text)
    return None


def times(network: Network) -> SpikingNetwork:
    """A TTFS network: layers hold the global step of each neuron's spike, int32."""
    emulator = Emulator(network)
    return SpikingNetwork(
        names=_names(network),
        taken=lambda spikes: spikes.times,
        emulate=lambda window: shown_times(emulator.trace(window)),
        answer=emulator.run,
        define=lambda window: shown_times(definition.run(network, window)),
        read=lambda arrays: _read(arrays, network.shapes(), np.int32, ("potential", "first_spike")),
        spikes=lambda shown: sum(layer.size for layer in shown.layers),
        say=lambda expected, found, _: f"spikes at step {found}, in the emulator at step {expected}",
    )


def shown_times(result: definition.Result) -> Shown:
    """A run of the emulator or the definition."""
    return Shown(result.spike_steps, {"potential": result.potential, "first_spike": result.first_spike})


def rates(network: Network) -> SpikingNetwork:
    """A rate-coded network: layers hold each neuron's number of spikes, int32."""
    emulator = RateEmulator(network)
    return SpikingNetwork(
        names=_names(network),
        taken=lambda spikes: spikes.times,
        emulate=lambda window: shown_rates(emulator.trace(window)),
        answer=emulator.run,
        define=lambda window: shown_rates(rate.run(network, window)),
        read=lambda arrays: _read(arrays, network.shapes(), np.int32, ("potential", "first_spike")),
        spikes=_sum,
        say=lambda expected, found, _: f"spikes {found} times, in the emulator {expected} times",
    )


def shown_rates(result: rate.RateResult) -> Shown:
    """A run of the emulator or the definition."""
    return Shown(result.counts, {"potential": result.potential, "first_spike": result.first_spike})


def front(network: CubaNetwork, steps: int) -> SpikingNetwork:
    """A network of CUBA LIF neurons: layers hold 0 or 1 for each step, uint8 (steps, channels, height, width)."""
    emulator = CubaEmulator(network)
    shapes = [(steps, *shape) for shape in network.shapes()]
    return SpikingNetwork(
        names=_names(network),
        taken=_frames,
        emulate=lambda window: shown_front(emulator.trace(window)),
        answer=emulator.run,
        define=lambda window: shown_front(cuba_definition.run(network, window)),
        read=lambda arrays: _read(arrays, shapes, np.uint8, ()),
        spikes=_sum,
        say=lambda _, found, step: (
            f"spikes at step {step}, in the emulator it is silent"
            if found
            else f"is silent at step {step}, in the emulator it spikes"
        ),
    )


def shown_front(result: cuba_definition.Result) -> Shown:
    """A run of the emulator or the definition."""
    return Shown(result.spikes, {"wraps": np.array([result.wraps])})


def _frames(spikes: Spikes) -> Window:
    assert spikes.frames is not None  # noqa: S101 (a hybrid's windows are encoded as frames)
    return spikes.frames


def _sum(shown: Shown) -> int:
    return sum(int(layer.sum()) for layer in shown.layers)


def network_of(bundle: Bundle) -> SpikingNetwork:
    """The bundle's network, of a hybrid the front.

    Raises:
        BundleError: its file is damaged.
    """
    if bundle.manifest.parts is not None:
        return front(front_of(bundle), bundle.manifest.input.steps)
    network = load(bundle.path("ttfs"))
    return rates(network) if network.neuron == "rate" else times(network)


def _names(network: Network | CubaNetwork) -> tuple[str, ...]:
    return tuple(f"layer {number} ({type(layer).__name__})" for number, layer in enumerate(network.layers))


def _read(
    arrays: dict[str, NDArray[Any]], shapes: list[Any], dtype: type[np.generic], answers: tuple[str, ...]
) -> Shown:
    wanted = {f"spikes_{number}": shape for number, shape in enumerate(shapes)}
    for key, shape in {**wanted, **dict.fromkeys(answers, (prod(shapes[-1]),))}.items():
        found = arrays.get(key)
        if found is None or found.shape != shape or found.dtype != dtype:
            form = "missing" if found is None else f"{found.dtype} of shape {found.shape}"
            raise ValueError(f"its answer's '{key}' is {form}, must be {np.dtype(dtype)} of {shape}")
    return Shown(tuple(arrays[key] for key in wanted), {key: arrays[key] for key in answers})

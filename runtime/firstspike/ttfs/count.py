"""What a network costs: neurons, spikes, steps and operations, for any network and for what it was shown.

What is counted:

- **Neurons** are those of the weighted layers. Pooling and flatten pass spikes on and have none; the input has none.
- **Spikes**: every neuron spikes exactly once an inference, so there are as many as neurons. **Informative** are those
  before the end of the readout: the others stand for an activation of 0, and readout and spike cancel.
- **Synaptic operations (effective)**, by NeuroBench's rule (Yik et al. 2025, "effective ACs"): for each informative
  spike that enters a weighted layer, pooled ones once, its connections with a weight that is not 0. Borders are
  respected: a zero of the padding is no input. Biases, readout and pooling are not counted. The input layer counts
  likewise, as its pixels are spikes at a time; the rule calls operations on values that are not binary MACs, so whoever
  takes the input for numbers reads that layer's operations as MACs, and finds them apart in its line.
- **σ (dense)**: the same with every spike informative and every weight not 0. **Eq. 9** of Quartz as printed,
  Ω = σ + 2νT with this σ: with per-layer steps, 2T is a layer's T_in + T, its steps of integration and readout.
- **Updates** of potentials: a neuron's steps of integration and readout. They and σ are Eq. 9.
- **Rate-coded** networks (`rate`): a neuron spikes as often as it does, and every spike is informative and costs its
  connections, so that operations grow with the duration. The input is a constant current, whose MACs are done once.
  Every neuron is updated at each step. Eq. 9 does not apply.
- **MACs** of the ANN, as fvcore counts them: output positions times fan-in, padding included. Averages that were folded
  into a layer at conversion count as that layer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firstspike.ttfs.definition import Result
from firstspike.ttfs.network import Conv, Dense, Layer, Network, Shape
from firstspike.ttfs.rate import RateResult, pass_on
from firstspike.ttfs.rate_emulator import emulator

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class LayerCount:
    """One weighted layer, before anything is shown to it."""

    number: int
    """Of the layer in the network."""
    kind: str
    """`conv` or `dense`."""
    shape: Shape
    neurons: int
    parameters: int
    """Weights and biases."""
    zero_weights: int
    steps: int
    """T of its readout; `rate`: the duration D."""
    macs: int
    synapses: int
    """σ (dense): connections, borders respected."""
    updates: int
    """Of potentials: ν·(T_in + T); `rate`: ν·D."""
    eq9: int | None
    """σ + ν·(T_in + T); None for `rate`."""


@dataclass(frozen=True, slots=True)
class Activity:
    """One weighted layer, mean of the inferences that were shown."""

    spikes: float
    informative: float
    early: float
    """Spikes before the readout (`quartz`)."""
    inputs: float
    """Informative spikes that enter the layer."""
    effective: float
    """Synaptic operations by NeuroBench's rule."""


@dataclass(frozen=True, slots=True)
class Count:
    """A network's count; `activity` is None if nothing was shown."""

    neuron: str
    layers: tuple[LayerCount, ...]
    steps: int
    """Until every neuron has spiked; the input's steps included."""
    steps_to_answer: int
    """Until the potentials of the last layer, which decide, are complete."""
    input_pixels: int
    inferences: int = 0
    activity: tuple[Activity, ...] | None = None
    input_informative: float | None = None
    """Informative input spikes, mean."""
    first_output_step: float | None = None
    """Step of the first output spike, mean."""

    def total(self, name: str) -> int:
        """Sum over the layers of a field of `LayerCount`."""
        return sum(getattr(layer, name) or 0 for layer in self.layers)

    def total_activity(self, name: str) -> float:
        """Sum over the layers of a field of `Activity`; only where something was shown."""
        return float(sum(getattr(layer, name) for layer in self.activity or ()))

    def plain(self) -> dict[str, Any]:
        """As JSON takes it, with totals."""
        names = ("neurons", "parameters", "zero_weights", "macs", "synapses", "updates", "eq9")
        total: dict[str, float | None] = {name: self.total(name) for name in names}
        if self.neuron == "rate":
            total["eq9"] = None
        else:
            total["spikes"] = total["neurons"]
        if self.activity is not None:
            total |= {
                name: self.total_activity(name) for name in ("spikes", "informative", "early", "inputs", "effective")
            }
        return {**asdict(self), "total": total}


def static(network: Network) -> Count:
    """Count what does not depend on the input."""
    layers: list[LayerCount] = []
    shape, frames = network.input_shape, network.frames()
    for number, (layer, after) in enumerate(zip(network.layers, network.shapes(), strict=True)):
        if isinstance(layer, Conv | Dense):
            fan_in, neurons = prod(layer.weights.shape[1:]), prod(after)
            synapses = int(fan_out(layer, shape, dense=True).sum())
            updates = neurons * (frames[number].last - frames[number].start)
            counted = LayerCount(
                number, type(layer).__name__.lower(), after, neurons, layer.weights.size + layer.bias.size,
                int((layer.weights == 0).sum()), network.duration or layer.readout.steps, neurons * fan_in, synapses,
                updates, None if network.neuron == "rate" else synapses + updates,
            )  # fmt: skip
            layers.append(counted)
        shape = after
    return Count(network.neuron, tuple(layers), frames[-1].last, frames[-1].end, prod(network.input_shape))


def fan_out(layer: Conv | Dense, shape: Shape, *, dense: bool) -> Ints:
    """Connections of each input of a layer.

    Args:
        layer: the layer.
        shape: of its input, (channels, height, width).
        dense: count weights of 0 as well.

    Returns:
        `shape`, int64.
    """
    counted: Ints = np.full(layer.weights.shape[1:], len(layer.weights), np.int64)
    if not dense:
        counted = (layer.weights != 0).sum(0, dtype=np.int64)
    if isinstance(layer, Dense):
        return counted.reshape(shape)
    return spread(counted, shape, layer.stride, layer.padding)


def spread(counted: Ints, shape: Shape, stride: tuple[int, int], padding: tuple[int, int]) -> Ints:
    """Connections of each input of a convolution, from those of each tap.

    Args:
        counted: (channels, kernel height, kernel width): connections of that tap, at every place.
        shape: of the input, (channels, height, width).
        stride: down and along.
        padding: above and below, left and right.

    Returns:
        `shape`, int64.
    """
    (py, px), (sy, sx) = padding, stride
    _, height, width = shape
    kernel_height, kernel_width = counted.shape[1:]
    padded = np.zeros((shape[0], height + 2 * py, width + 2 * px), np.int64)
    rows = (height + 2 * py - kernel_height) // sy + 1
    columns = (width + 2 * px - kernel_width) // sx + 1
    for y in range(kernel_height):
        for x in range(kernel_width):
            padded[:, y : y + rows * sy : sy, x : x + columns * sx : sx] += counted[:, y, x, None, None]
    return padded[:, py : py + height, px : px + width]


@dataclass(slots=True)
class _Sums:
    """Of one weighted layer, over all inferences."""

    reach: Ints
    """`fan_out` without zero weights."""
    spikes: int = 0
    informative: int = 0
    early: int = 0
    inputs: int = 0
    effective: int = 0


@dataclass(slots=True)
class Counter:
    """Counts a network's activity, inference by inference."""

    network: Network
    inferences: int = 0
    _sums: dict[int, _Sums] = field(default_factory=dict)
    _input: int = 0
    _first: int = 0

    def __post_init__(self) -> None:
        shapes = [self.network.input_shape, *self.network.shapes()]
        for number, layer in enumerate(self.network.layers):
            if isinstance(layer, Conv | Dense):
                self._sums[number] = _Sums(fan_out(layer, shapes[number], dense=False))

    def add(self, times: NDArray[np.uint8], result: Result | RateResult) -> None:
        """Take one inference: its input spikes and every neuron's spike, or number of spikes."""
        entering: NDArray[Any] = times < self.network.input_steps
        self._input += int(entering.sum())
        for number, frame in enumerate(self.network.frames()):
            sums = self._sums.get(number)
            if sums is not None:
                sums.inputs += int(entering.sum())
                sums.effective += int((sums.reach * entering.reshape(sums.reach.shape)).sum())
            if isinstance(result, RateResult):
                # Before the first weighted layer, pooling passes on values, which stay the input's.
                coded = number >= min(self._sums)
                leaving = result.counts[number] if coded else _passed(self.network.layers[number], entering)
                fired = leaving
            else:
                leaving = result.spike_steps[number] < frame.last
                fired = np.ones_like(leaving)
            if sums is not None:
                sums.spikes += int(fired.sum())
                sums.informative += int(leaving.sum())
                if not isinstance(result, RateResult):
                    sums.early += int((result.spike_steps[number] < frame.end).sum())
            entering = leaving
        self._first += int(result.first_spike.min())
        self.inferences += 1

    @property
    def effective(self) -> int:
        """Synaptic operations so far, all layers and inferences."""
        return sum(sums.effective for sums in self._sums.values())

    def count(self) -> Count:
        """The count so far; without activity if nothing was shown."""
        found, n = static(self.network), self.inferences
        if n == 0:
            return found
        activity = tuple(
            Activity(sums.spikes / n, sums.informative / n, sums.early / n, sums.inputs / n, sums.effective / n)
            for sums in self._sums.values()
        )
        return Count(
            found.neuron, found.layers, found.steps, found.steps_to_answer, found.input_pixels, n, activity,
            self._input / n, self._first / n,
        )  # fmt: skip


def count(network: Network, inputs: Iterable[NDArray[np.uint8]]) -> Count:
    """Run the network on inputs (spike times, as `Emulator.run` takes them) and count."""
    runs, counter = emulator(network), Counter(network)
    for times in inputs:
        counter.add(times, runs.trace(times))
    return counter.count()


def _passed(layer: Layer, entering: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which outputs of a pool or a flatten have an input that is not 0."""
    return np.asarray(pass_on(layer, entering.astype(np.int64)) > 0)

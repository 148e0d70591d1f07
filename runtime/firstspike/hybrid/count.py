"""What a model with a spiking front costs, part by part: the front's spikes and operations, the link, the back's MACs.

Counted as in `ttfs.count`, whose rule for synaptic operations holds here too: every spike of a CUBA LIF neuron is
informative and costs its connections with a weight that is not 0, borders respected; biases are not counted. A neuron
is updated at every step, whether anything comes in or not. Energy is modelled, an inference, dynamic only: 23.6 pJ a
synaptic operation and 81 pJ an update (Loihi 1, Davies et al. 2018), 4.6 pJ a MAC of 32 bits (45 nm, Horowitz 2014).
The link's and memory's energy are not modelled; the link's bytes are given instead.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firstspike.bundle import Bundle
from firstspike.cuba.emulator import Emulator
from firstspike.cuba.network import Conv, Dense, Flatten, Network, Pool, Shape
from firstspike.energy.constants import LOIHI_SYNAPTIC_PJ, LOIHI_UPDATE_PJ, MAC_FLOAT32_PJ
from firstspike.errors import BundleError
from firstspike.hybrid.accumulate import accumulated_shape, interval_of
from firstspike.hybrid.back import bytes_of
from firstspike.hybrid.front import network_of
from firstspike.hybrid.onnx_run import Chain, Measured
from firstspike.ttfs.count import Ints, spread

EVENT_BYTES = 4
"""Of a spike in a list of them: its neuron and step."""


@dataclass(frozen=True, slots=True)
class FrontLayer:
    """One layer of neurons; activity is the mean of the windows that were shown, None if there were none."""

    number: int
    kind: str
    shape: Shape
    neurons: int
    parameters: int
    synapses: int
    """Connections, borders respected, weights of 0 too."""
    updates: int
    """A window: neurons times steps."""
    inputs: float | None = None
    """Spikes that enter it."""
    spikes: float | None = None
    """All informative."""
    synaptic: float | None = None
    """Operations."""

    @property
    def modelled_nj(self) -> float | None:
        """Energy on Loihi 1."""
        if self.synaptic is None:
            return None
        return (self.synaptic * LOIHI_SYNAPTIC_PJ + self.updates * LOIHI_UPDATE_PJ) / 1e3


@dataclass(frozen=True, slots=True)
class PartsCount:
    """A model's count."""

    steps: int
    interval: int | None
    front: tuple[FrontLayer, ...]
    link_shape: Shape | None
    """Of the counts; None: there is no back."""
    back: tuple[Measured, ...] | None
    """None: there is none, or its operators are not known here, and `back_reason` says so."""
    back_reason: str | None
    windows: int = 0
    wraps: float | None = None
    """Currents that left 24 bits, a window: above 0, weights or decays are too strong for Loihi."""

    @property
    def link_bytes(self) -> int | None:
        """A window, a byte a count."""
        return None if self.link_shape is None else prod(self.link_shape)

    @property
    def event_bytes(self) -> float | None:
        """A window, as a list of spikes."""
        spikes = self.front[-1].spikes
        return None if self.link_shape is None or spikes is None else spikes * EVENT_BYTES

    @property
    def macs(self) -> int | None:
        """Of the back."""
        return None if self.back is None else sum(layer.macs for layer in self.back)

    def total(self, name: str) -> Any:
        """Sum over the front's layers; None where nothing was shown."""
        values = [getattr(layer, name) for layer in self.front]
        return None if None in values else sum(values)

    @property
    def front_nj(self) -> float | None:
        """Modelled energy of the front."""
        found: float | None = self.total("modelled_nj")
        return found

    @property
    def back_nj(self) -> float | None:
        """Modelled energy of the back."""
        return None if self.macs is None else self.macs * MAC_FLOAT32_PJ / 1e3

    def plain(self) -> dict[str, Any]:
        """As JSON takes it."""
        names = ("neurons", "parameters", "synapses", "updates", "inputs", "spikes", "synaptic")
        front = {"layers": [asdict(one) | {"modelled_nj": one.modelled_nj} for one in self.front]}
        known = [nj for nj in (self.front_nj, self.back_nj) if nj is not None]
        whole = self.front_nj is not None and (self.link_shape is None or self.back_nj is not None)
        return {
            "steps": self.steps, "interval": self.interval, "windows": self.windows, "wraps": self.wraps,
            "front": front | {"total": {name: self.total(name) for name in names}, "modelled_nj": self.front_nj},
            "link": None if self.link_shape is None else {
                "shape": self.link_shape, "bytes": self.link_bytes, "bytes_as_events": self.event_bytes,
            },
            "back": None if self.link_shape is None else {
                "layers": None if self.back is None else [asdict(one) for one in self.back], "macs": self.macs,
                "modelled_nj": self.back_nj, "reason": self.back_reason,
            },
            "modelled_nj": sum(known) if whole else None,
        }  # fmt: skip


def count(bundle: Bundle, shown: Iterable[NDArray[np.uint8]]) -> PartsCount:
    """Run the front on windows and count.

    Args:
        bundle: with parts.
        shown: frames (steps, channels, height, width) of each window.

    Raises:
        BundleError: a file is damaged, or the parts do not fit.
    """
    network, steps = network_of(bundle), bundle.manifest.input.steps
    emulator, reaches = Emulator(network), reaches_of(network, dense=False)
    sums = {number: np.zeros(3, np.int64) for number in reaches}
    windows = wraps = 0
    for frames in shown:
        traced = emulator.trace(frames)
        windows, wraps = windows + 1, wraps + traced.wraps
        entering = frames
        for number, leaving in enumerate(traced.spikes):
            if number in reaches:
                each = entering.sum(0, dtype=np.int64)
                met = (each.reshape(reaches[number].shape) * reaches[number]).sum()
                sums[number] += np.array([each.sum(), leaving.sum(dtype=np.int64), met])
            entering = leaving
    back, reason, link = None, None, None
    interval = bundle.manifest.parts.interval if bundle.manifest.parts else None
    if interval is not None:
        link = accumulated_shape(network.shapes()[-1], steps, interval_of(bundle))
        data = bytes_of(bundle, link)
        try:
            back = Chain(data).layers
        except ValueError as error:
            reason = f"{bundle.path('back')}: {error}"
    return PartsCount(
        steps, interval, tuple(_layers(network, steps, sums, windows)), link, back, reason, windows,
        wraps / windows if windows else None,
    )  # fmt: skip


def _layers(network: Network, steps: int, sums: dict[int, Ints], windows: int) -> list[FrontLayer]:
    found, reaches = [], reaches_of(network, dense=True)
    for number, reach in reaches.items():
        layer, shape = network.layers[number], network.shapes()[number]
        if isinstance(layer, Flatten):
            raise BundleError(f"layer {number} has no neurons")
        parameters = layer.weights.size + (0 if isinstance(layer, Pool) else layer.bias.size)
        mean = (sums[number] / windows).tolist() if windows else (None, None, None)
        found.append(
            FrontLayer(
                number,
                type(layer).__name__.lower(),
                shape,
                prod(shape),
                parameters,
                int(reach.sum()),
                prod(shape) * steps,
                *mean,
            )
        )
    return found


def synaptic(reaches: dict[int, Ints], frames: NDArray[np.uint8], spikes: Iterable[NDArray[np.uint8]]) -> int:
    """Operations of one window, all layers.

    Args:
        reaches: as `reaches_of` gives them, weights of 0 not counted.
        frames: the input, (steps, channels, height, width).
        spikes: every layer's, the same way (`cuba.definition.Result`).
    """
    total, entering = 0, frames
    for number, leaving in enumerate(spikes):
        if number in reaches:
            total += int((entering.sum(0, dtype=np.int64).reshape(reaches[number].shape) * reaches[number]).sum())
        entering = leaving
    return total


def reaches_of(network: Network, *, dense: bool) -> dict[int, Ints]:
    """Connections of each input, for the layers of neurons; shapes as the layers' inputs."""
    found, before = {}, network.input_shape
    for number, (layer, after) in enumerate(zip(network.layers, network.shapes(), strict=True)):
        if not isinstance(layer, Flatten):
            there = np.ones(layer.weights.shape, np.int64) if dense else (layer.weights != 0).astype(np.int64)
            match layer:
                case Dense():
                    found[number] = there.sum(0).reshape(before)
                case Conv():
                    found[number] = spread(there.sum(0), before, layer.stride, layer.padding)
                case Pool():
                    taps = np.broadcast_to(there, (before[0], *there.shape))
                    found[number] = spread(taps, before, layer.stride, (0, 0))
        before = after
    return found

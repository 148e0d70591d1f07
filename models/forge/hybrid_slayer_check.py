"""SLAYER's blocks, our neuron and the daemon's emulator beside each other: every spike, the gradient, the time."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from firstspike.cuba.emulator import Emulator
from firstspike.cuba.hdf5 import read
from firstspike.cuba.network import Flatten
from models.forge import hybrid_store as frames
from models.forge import objects_store as data
from models.forge.hybrid_lif import LARGEST_WEIGHT, UNIT
from models.forge.hybrid_net import LAYERS, HybridNet, Split
from models.forge.hybrid_slayer import SlayerNet
from models.forge.hybrid_write import front_of

SLAYERS_SURROGATE = {"tau_grad": 1.0, "scale_grad": 1.0}
"""Its default."""
WINDOWS = 200
TIMED = 32
"""Windows of a batch whose gradient is taken and timed, if there are as many."""


@dataclass(frozen=True, slots=True)
class Check:
    """What was found, of one network and some windows."""

    windows: int
    spikes: tuple[int, ...]
    """Of each spiking layer, in all windows."""
    slayer: int
    """Places and steps, in all layers, at which SLAYER's blocks say other than our neuron."""
    emulator: int
    """The same of the daemon's emulator with the front that we write."""
    exported: int
    """The same of the daemon's emulator with the front that SLAYER's exporter writes."""
    beyond: int
    """Weights that our limit clamps, which SLAYER's would not."""
    cosine: float
    """Between the gradients of the loss for the spiking layers' weights: ours, and SLAYER's with our surrogate."""
    length: float
    """Of SLAYER's gradient; ours is 1."""
    cosine_default: float
    """As `cosine`, with SLAYER's own surrogate."""
    own_s: float
    """Forward and backward of the first TIMED windows as a batch, median of five."""
    slayer_s: float


def real(store: data.Store, count: int = WINDOWS) -> frames.Sample:
    """Windows of the recordings that no network is trained on, evenly spread over them."""
    found = frames.windows(store, [store.whole(name) for name in frames.HELD_OUT])
    chosen = np.linspace(0, len(found.labels) - 1, min(count, len(found.labels))).astype(np.intp)
    return frames.Sample(found.frames[chosen], found.labels[chosen], found.part[chosen])


def check(net: HybridNet, sample: frames.Sample) -> Check:
    """Compare them on these windows.

    Raises:
        ValueError: the network has no spiking layer.
        ModuleNotFoundError: SLAYER is not installed.
    """
    split = net.split
    if not split.spiking:
        raise ValueError(f"{split.name} has no spiking layer: nothing of it is SLAYER's")
    shown, labels = torch.from_numpy(sample.frames), torch.from_numpy(sample.labels)
    theirs = given(SlayerNet(split), net)
    with TemporaryDirectory() as folder:
        theirs.export(Path(folder) / "front.net")
        exported = Emulator(read(Path(folder) / "front.net"))
    emulators = (Emulator(front_of(net)), exported)
    traces = [traced(emulator, sample.frames) for emulator in emulators]
    counts, slayer, differing = [], 0, [0, 0]
    for layer in range(split.spiking):
        until = Split(layer + 1, 1)  # an interval of one step: its counts are the spikes
        ours = every_spike(given(HybridNet(until), net), shown)
        counts.append(int(ours.sum()))
        slayer += int((ours != every_spike(given(SlayerNet(until), net), shown)).sum())
        for number, trace in enumerate(traces):
            differing[number] += int((ours != trace[layer]).sum())
    own, same, default = (
        gradient(one, shown[:TIMED], labels[:TIMED])
        for one in (net, theirs, given(SlayerNet(split, **SLAYERS_SURROGATE), net))
    )
    return Check(
        windows=len(shown),
        spikes=tuple(counts),
        slayer=slayer,
        emulator=differing[0],
        exported=differing[1],
        beyond=sum(
            int(((one * (UNIT / 2)).round().abs() > LARGEST_WEIGHT / 2).sum()) for one in net.weights[: split.spiking]
        ),
        cosine=float(functional.cosine_similarity(own, same, dim=0)),
        length=float(same.norm() / own.norm()),
        cosine_default=float(functional.cosine_similarity(own, default, dim=0)),
        own_s=seconds(net, shown[:TIMED], labels[:TIMED]),
        slayer_s=seconds(theirs, shown[:TIMED], labels[:TIMED]),
    )


def given(net: HybridNet, source: HybridNet) -> HybridNet:
    """The first with the weights of the second, of as many layers as they have alike."""
    with torch.no_grad():
        for to, of in zip([*net.weights, *net.biases], [*source.weights, *source.biases], strict=True):
            if to.shape == of.shape:
                to.copy_(of)
    return net


@torch.no_grad()
def every_spike(net: HybridNet, shown: Tensor) -> NDArray[np.uint8]:
    """Spikes (windows, steps · channels, …) of the last spiking layer of a net of interval 1."""
    return torch.cat([net.front(part) for part in shown.split(TIMED)]).to(torch.uint8).numpy()


def traced(emulator: Emulator, shown: NDArray[np.bool_]) -> list[NDArray[np.uint8]]:
    """The emulator's spikes of each layer, as `every_spike` gives them."""
    kept = [number for number, layer in enumerate(emulator.network.layers) if not isinstance(layer, Flatten)]
    found = [emulator.trace(one.view(np.uint8)).spikes for one in shown]
    stacked = [np.stack([one[number] for one in found]) for number in kept]
    whole = [one.reshape(len(one), -1, *one.shape[3:]) for one in stacked]
    return [one.reshape(len(one), -1) if layer == LAYERS - 1 else one for layer, one in enumerate(whole)]


def gradient(net: HybridNet, shown: Tensor, labels: Tensor) -> Tensor:
    """The loss's gradient for the weights of the spiking layers, as one vector."""
    wanted = list(net.weights[: net.split.spiking])
    found = torch.autograd.grad(functional.cross_entropy(net(shown), labels), wanted)
    return torch.cat([one.flatten() for one in found])


def seconds(net: HybridNet, shown: Tensor, labels: Tensor) -> float:
    """Forward and backward of a batch."""
    parameters, spent = [one for one in net.parameters() if one.numel()], []
    for _ in range(5):
        began = time.perf_counter()
        torch.autograd.grad(functional.cross_entropy(net(shown), labels), parameters)
        spent.append(time.perf_counter() - began)
    return statistics.median(spent)

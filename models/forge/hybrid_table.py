"""What each split costs and how good it is: the rows of the table in models/dvs128-hybrid/CARD.md.

Modelled energy, an inference, dynamic only: 23.6 pJ a synaptic operation and 81 pJ an update of a neuron (Loihi 1,
Davies et al. 2018) for the layers that spike, 4.6 pJ a multiply-accumulate of 32 bits (45 nm, Horowitz 2014) for those
that do not. Neither counts memory, an idle chip, nor the link, whose bytes are given instead.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from firstspike.cuba.emulator import Emulator
from firstspike.hybrid.accumulate import accumulate
from firstspike.hybrid.onnx_run import Chain
from firstspike.ttfs.energy import LOIHI_SYNAPTIC_PJ, LOIHI_UPDATE_PJ
from models.forge import hybrid_store as frames
from models.forge.hybrid_net import KERNELS, LAYERS, STRIDE, HybridNet
from models.forge.hybrid_train import logits
from models.forge.hybrid_write import back_of, front_of
from models.forge.score import log_softmax

MAC_PJ = 4.6
EVIDENCE = 6
"""Windows in a row, about a second, whose log-probabilities are summed."""


@dataclass(frozen=True, slots=True)
class Row:
    """One split."""

    name: str
    right: dict[str, float]
    """% of the windows of each test."""
    evidence: float
    """% of runs of six windows of other recordings."""
    spikes: float
    """An inference, in all spiking layers."""
    synaptic: float
    """Synaptic operations of the spiking layers: weights that a spike meets."""
    updates: int
    macs: int
    """Of the ANN's layers."""
    link_bytes: int
    """One byte a count; of an ANN its input's counts, of an SNN its answer's."""
    event_bytes: float
    """The same as a list of spikes, four bytes each."""
    energy_uj: float
    front_us: float
    back_us: float

    def plain(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


def row(net: HybridNet, tests: dict[str, frames.Sample]) -> Row:
    """Judge one network."""
    right, evidence = {}, 0.0
    for name, sample in tests.items():
        values = logits(net, sample.frames)
        right[name] = 100 * float((values.argmax(1) == sample.labels).mean())
        if name == "other recordings":
            evidence = 100 * _evidence(values, sample)
            spikes, synaptic = _activity(net, sample.frames)
    updates, macs = _dense(net)
    energy = (synaptic * LOIHI_SYNAPTIC_PJ + updates * LOIHI_UPDATE_PJ + macs * MAC_PJ) / 1e6
    sample = tests["other recordings"].frames
    with torch.no_grad():
        counts = net.front(torch.from_numpy(sample[:32]))
    front_us, back_us = _times(net, sample)
    link = counts[0].numel()
    sent = float(counts.sum()) / len(counts) * 4
    return Row(
        net.split.name,
        right,
        evidence,
        float(sum(spikes)),
        synaptic,
        updates,
        macs,
        link,
        sent,
        energy,
        front_us,
        back_us,
    )


def _evidence(values: NDArray[np.float64], sample: frames.Sample) -> float:
    log = log_softmax(values)
    found = []
    for part in np.unique(sample.part):
        mine = np.flatnonzero(sample.part == part)
        sums = np.cumsum(np.concatenate([np.zeros((1, log.shape[1])), log[mine]]), 0)
        found += list((sums[EVIDENCE:] - sums[:-EVIDENCE]).argmax(1) == sample.labels[mine[0]])
    return float(np.mean(found))


@torch.no_grad()
def _activity(net: HybridNet, shown: NDArray[np.bool_]) -> tuple[list[float], float]:
    """Spikes a window of each spiking layer, and synaptic operations of all, without those that padding eats."""
    totals, operations = np.zeros(net.split.spiking), 0.0
    for begin in range(0, len(shown), 64):
        part = shown[begin : begin + 64]
        net.front(torch.from_numpy(part))
        rates = [float(rate) for rate in net.rates]
        totals += np.array(rates) * len(part)
        before = [float(part.sum()) / len(part), *rates][: net.split.spiking]
        operations += len(part) * sum(count * _fan_out(net, layer) for layer, count in enumerate(before))
    return list(totals / len(shown)), operations / len(shown)


def _fan_out(net: HybridNet, layer: int) -> float:
    """Weights that a spike into this layer meets, on average over places."""
    weight = net.weights[layer]
    if weight.dim() == 2:
        return float(weight.shape[0])
    return float(weight.shape[0]) * KERNELS[layer] ** 2 / STRIDE**2


def _dense(net: HybridNet) -> tuple[int, int]:
    """Updates of spiking neurons and MACs of the others, an inference."""
    updates, macs, side = 0, 0, frames.SIDE
    for layer in range(LAYERS):
        weight = net.weights[layer]
        side = 1 if weight.dim() == 2 else side // STRIDE
        if layer < net.split.spiking:
            updates += weight.shape[0] * side * side * frames.STEPS
        else:
            macs += weight.numel() * side * side
    return updates, macs


def _times(net: HybridNet, shown: NDArray[np.bool_]) -> tuple[float, float]:
    """Median µs of front and back as the daemon runs them on this machine's CPU."""
    front = Emulator(front_of(net)) if net.split.spiking else None
    back = Chain(back_of(net, 1.0).SerializeToString()) if net.split.spiking < LAYERS else None
    spent: list[tuple[float, float]] = []
    for one in shown[:100]:
        began = time.perf_counter()
        spikes = front.run(one.view(np.uint8)).spikes if front else one.view(np.uint8)
        counts = accumulate(spikes, net.split.interval)
        between = time.perf_counter()
        if back is not None:
            back.run(counts.astype(np.float32))
        spent.append((between - began, time.perf_counter() - between))
    front_us, back_us = np.median(np.array(spent), 0) * 1e6
    return float(front_us), float(back_us)

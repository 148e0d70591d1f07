"""How good a trained network is, and how busy its neurons are: what `hybrid_table` averages over seeds."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from models.forge import hybrid_store as frames
from models.forge.hybrid_net import KERNELS, STRIDE, HybridNet
from models.forge.score import log_softmax

EVIDENCE = 6
"""Windows in a row, about a second, whose log-probabilities are summed."""
BATCH = 64


@dataclass(frozen=True, slots=True)
class Judged:
    """One network."""

    split: str
    seed: int
    right: dict[str, float]
    """% of the windows of each of `hybrid_store.tests`."""
    evidence: float
    """% of runs of six windows of other recordings."""
    spikes: float
    """A window of other recordings, in all spiking layers."""
    synaptic: float
    """Synaptic operations of the spiking layers, a window: weights that a spike meets."""
    sent: float
    """Spikes a window that the accumulator counts; of an ANN its input's, of an SNN its answer's."""

    def plain(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


@torch.no_grad()
def logits(net: HybridNet, shown: NDArray[np.bool_], device: str = "cpu") -> NDArray[np.float64]:
    """Logits (n, classes) of frames (n, 16, 2, 64, 64)."""
    net = net.eval().to(device)
    parts = [net(torch.from_numpy(shown[at : at + BATCH]).to(device)).cpu() for at in range(0, len(shown), BATCH)]
    return torch.cat(parts).double().numpy()


def judge(net: HybridNet, seed: int, tests: dict[str, frames.Sample], device: str = "cpu") -> Judged:
    """Show a network all windows that it is judged on."""
    right, evidence = {}, 0.0
    for name, sample in tests.items():
        values = logits(net, sample.frames, device)
        right[name] = 100 * float((values.argmax(1) == sample.labels).mean())
        if name == frames.OTHER:
            evidence = 100 * _evidence(values, sample)
    spikes, synaptic, sent = _activity(net, tests[frames.OTHER].frames, device)
    return Judged(net.split.name, seed, right, evidence, spikes, synaptic, sent)


def _evidence(values: NDArray[np.float64], sample: frames.Sample) -> float:
    log = log_softmax(values)
    found = []
    for part in np.unique(sample.part):
        mine = np.flatnonzero(sample.part == part)
        sums = np.cumsum(np.concatenate([np.zeros((1, log.shape[1])), log[mine]]), 0)
        found += list((sums[EVIDENCE:] - sums[:-EVIDENCE]).argmax(1) == sample.labels[mine[0]])
    return float(np.mean(found))


@torch.no_grad()
def _activity(net: HybridNet, shown: NDArray[np.bool_], device: str) -> tuple[float, float, float]:
    """Spikes, synaptic operations without those that padding eats, and what is counted, each a window."""
    spikes, operations, sent = 0.0, 0.0, 0.0
    for begin in range(0, len(shown), BATCH):
        part = torch.from_numpy(shown[begin : begin + BATCH]).to(device)
        sent += float(net.front(part).sum())
        rates = [float(rate) * len(part) for rate in net.rates]
        spikes += sum(rates)
        before = [float(part.sum()), *rates][: net.split.spiking]
        operations += sum(count * _fan_out(net, layer) for layer, count in enumerate(before))
    return spikes / len(shown), operations / len(shown), sent / len(shown)


def _fan_out(net: HybridNet, layer: int) -> float:
    """Weights that a spike into this layer meets, on average over places."""
    weight = net.weights[layer]
    if weight.dim() == 2:
        return float(weight.shape[0])
    return float(weight.shape[0]) * KERNELS[layer] ** 2 / STRIDE**2

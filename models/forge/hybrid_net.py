"""One network for ANN, SNN and the hybrids between them: its first `spiking` convolutions are CUBA LIF over 16 steps.

After the last spiking layer each neuron's spikes are counted over `interval` steps; the 16/interval count frames go
side by side, as channels, into the layers that are left, which are an ANN. `spiking = 0` counts the input's own frames.
`spiking = 5` is an SNN to the end: the output neurons' spikes over all 16 steps are the answer.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.forge.hybrid_lif import cuba, integers
from models.forge.hybrid_store import SIDE, STEPS

CHANNELS = (8, 16, 32, 48)
KERNELS = (5, 3, 3, 3)
STRIDE = 2
CLASSES = 7
LAYERS = len(CHANNELS) + 1
LOGIT_PER_SPIKE = 0.7
"""Of an SNN's output neurons."""


@dataclass(frozen=True, slots=True)
class Split:
    """Where the spikes end."""

    spiking: int
    """Layers: 0 is an ANN, 5 an SNN."""
    interval: int
    """I: steps that one count frame sums up."""

    @property
    def name(self) -> str:
        """`ANN/16`, `SNN`, `S1A4/4`: layers, and after the stroke the interval."""
        if self.spiking == LAYERS:
            return "SNN"
        return f"{f'S{self.spiking}A{LAYERS - self.spiking}' if self.spiking else 'ANN'}/{self.interval}"

    @property
    def frames(self) -> int:
        """Count frames of a window."""
        return STEPS // self.interval

    @classmethod
    def of(cls, name: str) -> Split:
        """The split of that name.

        Raises:
            ValueError: no split is called so.
        """
        for spiking in range(LAYERS + 1):
            for interval in (16, 8, 4, 2, 1):
                if cls(spiking, interval).name == name:
                    return cls(spiking, interval)
        raise ValueError(f"no split is called {name!r}: ANN/16, S1A4/4, S2A3/8, SNN …")


SPLITS = (
    *(Split(0, interval) for interval in (2, 4, 8, 16)),
    *(Split(spiking, interval) for spiking in (1, 2, 3) for interval in (2, 4, 8)),
    Split(LAYERS, 16),
)
"""Of the table: ANNs on the input's own count frames, one to three spiking layers, and an SNN."""


class HybridNet(nn.Module):
    """See the module. Input: binary frames (batch, 16, 2, 64, 64); output: logits (batch, 7)."""

    def __init__(self, split: Split) -> None:
        super().__init__()
        self.split = split
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        channels, side = 2, SIDE
        for layer in range(LAYERS):
            if layer == split.spiking:
                channels *= split.frames
            last = layer == LAYERS - 1
            out = CLASSES if last else CHANNELS[layer]
            kernel = side if last else KERNELS[layer]
            weight = torch.empty(out, channels, kernel, kernel)
            if last and layer < split.spiking:
                nn.init.kaiming_normal_(weight)  # larger ones make every output spike at every step: nothing is learnt
            elif layer < split.spiking:
                # Few inputs spike: weights have to be large, and more of them positive, for a neuron to reach 1.
                nn.init.normal_(weight, 0.05, 0.8 * (2 / weight[0].numel()) ** 0.5 + 0.1)
            else:
                nn.init.kaiming_normal_(weight, nonlinearity="relu")
                if layer == split.spiking:
                    weight.data *= 2.0  # counts are small
            self.weights.append(nn.Parameter(weight if not last else weight.flatten(1)))
            self.biases.append(nn.Parameter(torch.zeros(out if layer >= split.spiking else 0)))
            channels, side = out, side if last else side // STRIDE
        self.rates: list[Tensor] = []
        """Of the last forward pass: spikes a window of each spiking layer, with gradient."""

    def front(self, frames: Tensor) -> Tensor:
        """Counts (batch, 16/I · channels, height, width) of the frames: the spiking layers and the accumulator.

        Channel f·C + c is neuron channel c in count frame f.
        """
        batch = len(frames)
        spikes = frames.transpose(0, 1).float()
        self.rates = []
        for layer in range(self.split.spiking):
            whole = integers(self.weights[layer])
            flat = spikes.flatten(0, 1)
            if layer == LAYERS - 1:
                sums = functional.linear(flat.flatten(1), whole)
            else:
                sums = functional.conv2d(flat, whole, stride=STRIDE, padding=KERNELS[layer] // 2)
            spikes = cuba(sums.unflatten(0, (STEPS, batch)))
            self.rates.append(spikes.sum() / batch)
        counts = spikes.unflatten(0, (self.split.frames, self.split.interval)).sum(1)
        return counts.transpose(0, 1).flatten(1, 2)

    def back(self, counts: Tensor) -> Tensor:
        """Logits of counts: the layers that do not spike."""
        x = counts
        for layer in range(self.split.spiking, LAYERS - 1):
            weight, bias = self.weights[layer], self.biases[layer]
            x = functional.relu(functional.conv2d(x, weight, bias, stride=STRIDE, padding=KERNELS[layer] // 2))
        return functional.linear(x.flatten(1), self.weights[-1], self.biases[-1])

    def forward(self, frames: Tensor) -> Tensor:
        """Logits."""
        if self.split.spiking == LAYERS:
            batch = len(frames)
            counts = self.front(frames).reshape(batch, self.split.frames, CLASSES)
            return LOGIT_PER_SPIKE * counts.sum(1)
        return self.back(self.front(frames))

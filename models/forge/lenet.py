"""Quartz's LeNet for training: `net.Net` with a bias a layer, pruning and a price on activity.

conv 6 k5, pool, conv 12 k5, pool, conv 120 k4, dense 10: 26,338 parameters with all biases (Lenz, Orchard, Sheik 2023,
Table 1). The gated neuron's quantiser never falls, so pooling before it gives what pooling after it gives, in a quarter
of the time.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from models.forge import blocked
from models.forge.net import Net, Plan


def plan(steps: int) -> Plan:
    """The architecture at T = `steps`; a pixel's value is a count out of 255."""
    return Plan((6, 12, 120), (5, 5, 4), (True, True, False), 28, 10, steps, 255, inputs=1)


class LeNet(Net):
    """The network; `biased` gives the convolutions biases too.

    Input (n, 1, 28, 28), or blocked as `blocked.block` gives it, which is faster; output logits (n, 10).
    """

    def __init__(self, steps: int, *, biased: bool) -> None:
        super().__init__(plan(steps))
        self.biased = biased
        self.cost = False
        """Whether `priced` works out the price, which takes time."""
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(n)) for n in self.plan.channels if biased)
        for layer, weight in enumerate(self.weights):
            self.register_buffer(f"mask{layer}", torch.ones_like(weight))

    def mask(self, layer: int) -> Tensor:
        """0 where a weight of that layer is pruned, else 1."""
        return getattr(self, f"mask{layer}")  # type: ignore[no-any-return]  # buffers have no static type

    def forward(self, x: Tensor) -> Tensor:
        """Logits of input activations a/T."""
        return self.priced(x)[0]

    def priced(self, x: Tensor, counts: list[float] | None = None) -> tuple[Tensor, Tensor]:
        """(logits, price); each layer's effective accumulations an image are appended to `counts` where it is given.

        The price is Σ activation × fan-out over the hidden layers, activations as a share of their range, whose
        gradient to the scale is cut: through it the scale would only grow. Its unit is accumulations an image.
        """
        top, price = torch.ones(()), torch.zeros(())
        images = len(x) * (blocked.LANES if x.dim() == 5 else 1)
        for layer in range(len(self.weights)):
            mask = self.mask(layer)
            used, unit = self._weight(self.weights[layer] * mask, top)
            if counts is not None:
                counts.append(accumulations(blocked.unblock(x) if x.dim() == 5 else x, used))
            if layer == len(self.weights) - 1:
                break
            bias = self._current(self.biases[layer], unit) if self.biased else None
            z = self._pooled(x, used, bias, layer) if self.plan.pooled[layer] else dense(x, used, bias)
            if self.quantised:
                x, top = self._spike(z, unit, self.ranges[layer])
            else:
                x = functional.relu(z)
            if self.cost:
                # Accumulations of the next layer an activation of this one.
                fan_out = self.mask(layer + 1).sum() * self._places(layer + 1) * images / x.numel()
                price = price + fan_out * (functional.relu(z) / top.detach()).clamp(0, 1).sum() / images
            if layer == 1 and x.dim() == 5:
                x = blocked.unblock(x)
        return functional.linear(x.flatten(1), used, self._current(self.bias, unit)), price

    def _spike(self, z: Tensor, unit: Tensor, log_range: Tensor) -> tuple[Tensor, Tensor]:
        """As `Net._spike`, in one pass."""
        steps, ramp = self.plan.steps, self.ramp(unit, log_range)
        learned = torch.exp(log_range) / steps
        return blocked.spiked(z, learned, float(unit.detach()), float(ramp), steps), (ramp * unit).detach()

    def _pooled(self, x: Tensor, used: Tensor, bias: Tensor | None, layer: int) -> Tensor:
        if x.dim() == 5:
            return blocked.pooled(x, used, bias, layer)
        return functional.max_pool2d(functional.conv2d(x, used, bias), 2)

    def _places(self, layer: int) -> int:
        return (8 * 8, 1, 1)[layer - 1]

    def _current(self, bias: Tensor, unit: Tensor) -> Tensor:
        if not self.quantised:
            return bias
        whole = torch.clamp(torch.round(bias.detach() / unit), -254, 254)
        return bias + (whole * unit - bias).detach()

    @torch.no_grad()
    def centre(self) -> None:
        """Take from the last layer what all classes share, which no answer depends on and the optimiser lets drift.

        It wastes the range of the integers (nine tenths of it, in the first stages of this recipe), and shared below
        zero it leaves no class a first spike.
        """
        self.weights[-1].sub_(self.weights[-1].mean(0))
        self.bias.sub_(self.bias.mean())

    @torch.no_grad()
    def calibrate(self, x: Tensor, percentile: float = 99.5) -> None:
        """As `Net.calibrate`."""
        for layer in range(len(self.ranges)):
            bias = self.biases[layer] if self.biased else None
            z = functional.conv2d(x, self.weights[layer], bias)
            x = functional.relu(functional.max_pool2d(z, 2) if self.plan.pooled[layer] else z)
            self.ranges[layer] = float(np.log(np.percentile(x[x > 0].numpy(), percentile)))
        self.quantised = True

    @torch.no_grad()
    def prune(self, layer: int, share: float) -> None:
        """Set the smallest `share` of a layer's weights to zero for good."""
        weight = self.weights[layer].abs() * self.mask(layer)
        cut = torch.quantile(weight.flatten(), share)
        self.mask(layer).copy_((weight > cut).float())

    @torch.no_grad()
    def currents(self) -> list[NDArray[np.int64]]:
        """What ships as the convolutions' biases: whole currents, zeros where there are none."""
        top, out = torch.ones(()), []
        for layer, channels in enumerate(self.plan.channels):
            _, unit = self.weight_integers(self.weights[layer] * self.mask(layer))
            unit = unit * top
            whole = torch.zeros(channels)
            if self.biased:
                whole = torch.clamp(torch.round(self.biases[layer] / unit), -254, 254)
            out.append(whole.numpy().astype(np.int64))
            top = self.ramp(unit, self.ranges[layer]) * unit
        return out


def dense(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A convolution as large as its input (n, channels, k, k): (n, outputs, 1, 1), by one product of matrices."""
    return functional.linear(x.flatten(1), weight.flatten(1), bias)[:, :, None, None]


@torch.no_grad()
def accumulations(x: Tensor, weights: Tensor) -> float:
    """Effective ACs an image by NeuroBench's rule: non-zero inputs × non-zero weights, without bias and pooling."""
    active, live = (x != 0).float(), (weights != 0).float()
    if weights.dim() == 2:
        return float((active.flatten(1) @ live.t()).sum()) / len(x)
    return float(functional.conv2d(active, live.sum(0, keepdim=True)).sum()) / len(x)

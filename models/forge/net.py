"""The network for training: floating point first, then with the integers of the gated TTFS neuron in the loop.

Quantisation-aware training computes, in the forward pass, exactly what `firstspike.ttfs.definition` says of a gated
network, so what is trained is what ships. Backward, rounding is the identity (straight-through, Bengio et al. 2013)
and the scale of each activation is learned (LSQ, Esser et al. 2020, "Learned Step Size Quantization").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

MAX_WEIGHT = 63
"""Weights are twice a whole number of at most this: Loihi's mixed-sign weights have 8 bits with a step of 2."""
MAX_BIAS = 254


@dataclass(frozen=True)
class Plan:
    """The architecture: convolutions (each followed by a rectifier), where to pool 2×2 after them, classes."""

    channels: tuple[int, ...] = (12, 32, 64)
    kernels: tuple[int, ...] = (5, 3, 3)
    pooled: tuple[bool, ...] = (True, True, False)
    side: int = 34
    classes: int = 10
    steps: int = 8
    count_scale: int = 8
    inputs: int = 2
    """Channels of the input."""


class Net(nn.Module):
    """Convolutions without bias, so that where there are no events nothing spikes, and a dense layer with one."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan
        ins, side = (plan.inputs, *plan.channels[:-1]), plan.side
        for kernel, pool in zip(plan.kernels, plan.pooled, strict=True):
            side = (side - kernel + 1) // (2 if pool else 1)
        shapes = [(out, inp, k, k) for out, inp, k in zip(plan.channels, ins, plan.kernels, strict=True)]
        shapes.append((plan.classes, plan.channels[-1] * side * side))
        self.weights = nn.ParameterList(nn.Parameter(torch.empty(shape)) for shape in shapes)
        for weight in self.weights:
            nn.init.kaiming_normal_(weight)
        with torch.no_grad():
            self.weights[-1].mul_(0.5)
        self.bias = nn.Parameter(torch.zeros(plan.classes))
        # Log of the activation that T stands for, one a hidden layer; set by `calibrate`, learned afterwards.
        self.ranges = nn.Parameter(torch.zeros(len(plan.channels)))
        self.quantised = False

    def encode(self, counts: Tensor) -> Tensor:
        """Input activations a/T of count images: s = ⌊T(1 − p)⌋ makes a = ⌈T·p⌉ with p = min(count / scale, 1)."""
        steps, scale = self.plan.steps, self.plan.count_scale
        return torch.clamp(torch.ceil(counts * (steps / scale)), max=steps) / steps

    def forward(self, x: Tensor) -> Tensor:
        """Logits (batch, classes) of input activations a/T (batch, 2, side, side)."""
        top = torch.ones(())
        for layer, weight in enumerate(self.weights[:-1]):
            used, unit = self._weight(weight, top)
            z = functional.conv2d(x, used)
            if self.quantised:
                x, top = self._spike(z, unit, self.ranges[layer])
            else:
                x = functional.relu(z)
            if self.plan.pooled[layer]:
                x = functional.max_pool2d(x, 2)
        used, unit = self._weight(self.weights[-1], top)
        bias = self.bias
        if self.quantised:
            bias = bias + (self.bias_integers(unit) * unit - bias).detach()
        return functional.linear(x.flatten(1), used, bias)

    def weight_integers(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """(integers, size of one): even integers within ±2·MAX_WEIGHT."""
        unit = weight.detach().abs().max() / (2 * MAX_WEIGHT)
        return 2 * torch.round(weight.detach() / (2 * unit)), unit

    def bias_integers(self, unit: Tensor) -> Tensor:
        """The last layer's currents; `unit` is what a current of 1 adds to the logits over the input phase."""
        return torch.clamp(torch.round(self.bias.detach() / unit), -MAX_BIAS, MAX_BIAS)

    def ramp(self, unit: Tensor, log_range: Tensor) -> Tensor:
        """S: the integer ramp that makes T steps of readout span the range."""
        return torch.clamp(torch.round(torch.exp(log_range.detach()) / unit), min=2.0)

    def _weight(self, weight: Tensor, top: Tensor) -> tuple[Tensor, Tensor]:
        if not self.quantised:
            return weight, top
        integers, unit = self.weight_integers(weight)
        # `unit · top` is what one step of current through a weight of 1 adds, times T: see `_spike`.
        return weight + (integers * unit - weight).detach(), (unit * top).detach()

    def _spike(self, z: Tensor, unit: Tensor, log_range: Tensor) -> tuple[Tensor, Tensor]:
        """The gated neuron: a = clip(⌊(u + ⌊S/2⌋) / S⌋, 0, T) with u = z·T/unit; gives a·step and the range T·step."""
        steps, ramp = self.plan.steps, self.ramp(unit, log_range)
        learned = torch.exp(log_range) / steps
        step = learned + (ramp * unit / steps - learned).detach()
        # LSQ's gradient scale: without it the many activations overwhelm the one range they share.
        damp = 1.0 / (z[0].numel() * z.shape[0] * steps) ** 0.5
        step = (step * damp) + (step - step * damp).detach()
        with torch.no_grad():
            u = torch.round(z * (steps / unit))
            a = torch.clamp(torch.floor((u + torch.floor(ramp / 2)) / ramp), 0, steps)
        v = torch.clamp(z / step, 0, steps)
        return step * (v + (a - v).detach()), (step * steps).detach()

    @torch.no_grad()
    def integers(self) -> tuple[list[np.ndarray[Any, Any]], list[int], np.ndarray[Any, Any], float]:
        """What ships: (weights of every layer, S of every hidden layer, currents of the last, logits a potential).

        The last number times a potential of the last layer is a logit of the forward pass.
        """
        top, weights, ramps = torch.ones(()), [], []
        for layer, weight in enumerate(self.weights):
            whole, unit = self.weight_integers(weight)
            unit = unit * top
            weights.append(whole.numpy().astype(np.int64))
            if layer < len(self.ranges):
                ramp = self.ramp(unit, self.ranges[layer])
                top = ramp * unit
                ramps.append(int(ramp))
        bias = self.bias_integers(unit).numpy().astype(np.int64)
        return weights, ramps, bias, float(unit) / self.plan.steps

    @torch.no_grad()
    def calibrate(self, x: Tensor, percentile: float = 99.5) -> None:
        """Set each layer's range to a percentile of its positive activations on these inputs; quantise from now on."""
        for layer, weight in enumerate(self.weights[:-1]):
            x = functional.relu(functional.conv2d(x, weight))
            self.ranges[layer] = float(np.log(np.percentile(x[x > 0].numpy(), percentile)))
            if self.plan.pooled[layer]:
                x = functional.max_pool2d(x, 2)
        self.quantised = True

"""The network of models/dvs128-objects: the forge's `Net` with dropout and a price on activity."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from models.forge.net import Net, Plan

PLAN = Plan(
    channels=(16, 32, 32, 64), kernels=(5, 3, 3, 3), pooled=(True, True, True, False), side=64, classes=7, steps=8,
    count_scale=4,
)  # fmt: skip


class ObjectsNet(Net):
    """As `Net`; pools before it rectifies or spikes, which commutes (both are monotonic) and costs a quarter."""

    def __init__(self, plan: Plan = PLAN) -> None:
        super().__init__(plan)
        self.dropout = 0.0
        """Of the dense layer's inputs, in training."""
        self.activity = torch.zeros(())
        """Of the last forward pass: synaptic operations a window, relaxed, in millions; with gradient."""

    def forward(self, x: Tensor) -> Tensor:
        """Logits (batch, classes) of input activations a/T (batch, 2, side, side)."""
        top, activity = torch.ones(()), torch.zeros(())
        for layer, weight in enumerate(self.weights[:-1]):
            used, unit = self._weight(weight, top)
            z = functional.conv2d(x, used)
            if self.plan.pooled[layer]:
                z = functional.max_pool2d(z, 2)
            if self.quantised:
                x, top = self._spike(z, unit, self.ranges[layer])
                if self.training:
                    # The step is detached (in `top`): widening it would silence neurons on paper only.
                    fan_out = self._fan_out(layer)
                    activity = activity + fan_out * torch.clamp(z / top, 0, 1).sum() / len(z)
            else:
                x = functional.relu(z)
        self.activity = activity / 1e6
        if self.training and self.dropout:
            x = functional.dropout(x, self.dropout)
        used, unit = self._weight(self.weights[-1], top)
        bias = self.bias
        if self.quantised:
            bias = bias + (self.bias_integers(unit) * unit - bias).detach()
        return functional.linear(x.flatten(1), used, bias)

    def _fan_out(self, layer: int) -> float:
        following = self.weights[layer + 1]
        return float(following.shape[0] * (following[0, 0].numel() if following.dim() == 4 else 1))

"""CUBA LIF neurons of Loihi in torch, in whole numbers, trainable: what lava-dl's SLAYER calls `neuron.cuba`.

It is written from that neuron's equations, equal to it in every spike (`hybrid_slayer_check`), about twice as fast, and
has kernels for a GPU. A step, all in integers, truncating towards zero, with potentials in units of 1/64 of a weight's:

    u ← trunc(u·(4096 − current_decay) / 4096) + 64·Σ w·s
    v ← trunc(v·(4096 − voltage_decay) / 4096) + u
    spike if v > 64·threshold, and then v ← 0

Both decays here are multiples of 256, so that float32 computes them exactly as long as |u| and |v| stay below 2²⁰;
`hybrid_write` checks on real windows that the daemon's emulator, which computes in integers, gives the same spikes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

UNIT = 64
"""Of a potential: 1 of a weight."""
CURRENT_DECAY, VOLTAGE_DECAY = 2048, 256
THRESHOLD = 64
KEEP_CURRENT, KEEP_VOLTAGE = 1 - CURRENT_DECAY / 4096, 1 - VOLTAGE_DECAY / 4096
LARGEST_WEIGHT = 126
"""Loihi's weights of mixed sign are even."""
SHARPNESS = 2.0
"""Of the surrogate gradient exp(−sharpness·|v − threshold|/threshold), as SLAYER's."""


class _Cuba(torch.autograd.Function):
    """Spikes of inputs over time; one node of the graph for all steps, which is what makes it quick on a CPU."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        spikes, before = _kernels(x).forward(x)
        ctx.save_for_backward(before, spikes)
        return spikes

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        before, spikes = ctx.saved_tensors
        (gradient,) = gradients
        return _kernels(gradient).backward(before, spikes, gradient)


class Loops:
    """Forward and backward step by step, on any device: what `hybrid_lif_gpu` has to equal."""

    @staticmethod
    def forward(x: Tensor) -> tuple[Tensor, Tensor]:
        """Spikes, and potentials before the reset, both (steps, …), of whole weighted sums (steps, …)."""
        u, v = torch.zeros_like(x[0]), torch.zeros_like(x[0])
        level = float(UNIT * THRESHOLD)
        spikes, before = torch.empty_like(x), torch.empty_like(x)
        for step in range(len(x)):
            u = u.mul_(KEEP_CURRENT).trunc_().add_(x[step], alpha=UNIT)
            v = v.mul_(KEEP_VOLTAGE).trunc_().add_(u)
            before[step] = v
            fired = spikes[step].copy_(v > level)
            v.mul_(1 - fired)
        return spikes, before

    @staticmethod
    def backward(before: Tensor, spikes: Tensor, gradient: Tensor) -> Tensor:
        """The gradient of x, of that of the spikes."""
        level = float(UNIT * THRESHOLD)
        near = before.sub(level).abs_().mul_(-SHARPNESS / level).exp_().mul_(gradient)
        keep = (1 - spikes).mul_(KEEP_VOLTAGE)
        to_v, to_u = torch.zeros_like(gradient[0]), torch.zeros_like(gradient[0])
        result = torch.empty_like(gradient)
        for step in reversed(range(len(gradient))):
            to_v = to_v.mul_(keep[step]).add_(near[step])
            to_u = to_u.mul_(KEEP_CURRENT).add_(to_v)
            result[step] = to_u
        return result.mul_(1 / THRESHOLD)


def _kernels(x: Tensor) -> Any:
    if x.is_cuda:
        from models.forge import hybrid_lif_gpu

        return hybrid_lif_gpu
    return Loops


def cuba(x: Tensor) -> Tensor:
    """Spikes 0 or 1 (steps, …) of whole weighted sums (steps, …); the gradient is the surrogate's, of x/threshold."""
    spikes: Tensor = _Cuba.apply(x)
    return spikes


def integers(weight: Tensor) -> Tensor:
    """Even whole weights of real ones (1 is the threshold), with the gradient passed through, in units of 1/64."""
    scaled = weight * UNIT
    whole = (2 * torch.round(scaled / 2)).clamp(-LARGEST_WEIGHT, LARGEST_WEIGHT)
    return scaled + (whole - scaled).detach()

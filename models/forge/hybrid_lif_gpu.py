"""`hybrid_lif`'s neuron as two kernels for a GPU: the same arithmetic in float32, one thread a neuron, all steps.

Imported only where there is a GPU: PyTorch's packages for one bring Triton, those for a CPU alone do not. Never run on
a GPU, as none was at hand; in Triton's interpreter (TRITON_INTERPRET=1, 3.9.0) no spike of 1,017 and no gradient is
another than `hybrid_lif`'s.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from models.forge.hybrid_lif import KEEP_CURRENT, KEEP_VOLTAGE, SHARPNESS, THRESHOLD, UNIT

BLOCK = 512


# ruff: noqa: ANN001, ANN202 - Triton reads its kernels' arguments its own way
@triton.jit
def _forward(x, spikes, before, size, steps: tl.constexpr, keep_u: tl.constexpr, keep_v: tl.constexpr,
             unit: tl.constexpr, level: tl.constexpr, block: tl.constexpr):  # type: ignore[no-untyped-def] # fmt: skip
    at = tl.program_id(0) * block + tl.arange(0, block)
    inside = at < size
    u = tl.zeros((block,), tl.float32)
    v = tl.zeros((block,), tl.float32)
    for step in range(steps):
        charge = tl.load(x + step * size + at, inside, 0.0)
        u = (u * keep_u).to(tl.int32).to(tl.float32) + charge * unit  # to int32 and back truncates towards zero
        v = (v * keep_v).to(tl.int32).to(tl.float32) + u
        tl.store(before + step * size + at, v, inside)
        fired = v > level
        tl.store(spikes + step * size + at, fired.to(tl.float32), inside)
        v = tl.where(fired, 0.0, v)


@triton.jit
def _backward(before, spikes, gradient, result, size, steps: tl.constexpr, keep_u: tl.constexpr,
              keep_v: tl.constexpr, level: tl.constexpr, sharp: tl.constexpr, scale: tl.constexpr,
              block: tl.constexpr):  # type: ignore[no-untyped-def] # fmt: skip
    at = tl.program_id(0) * block + tl.arange(0, block)
    inside = at < size
    to_u = tl.zeros((block,), tl.float32)
    to_v = tl.zeros((block,), tl.float32)
    for back in range(steps):
        here = (steps - 1 - back) * size + at
        v = tl.load(before + here, inside, 0.0)
        fired = tl.load(spikes + here, inside, 0.0)
        near = tl.exp(-sharp / level * tl.abs(v - level)) * tl.load(gradient + here, inside, 0.0)
        to_v = to_v * ((1.0 - fired) * keep_v) + near
        to_u = to_u * keep_u + to_v
        tl.store(result + here, to_u * scale, inside)


def forward(x: Tensor) -> tuple[Tensor, Tensor]:
    """Spikes, and potentials before the reset, both (steps, …) float32, of whole weighted sums (steps, …)."""
    x = x.contiguous()
    spikes, before = torch.empty_like(x), torch.empty_like(x)
    size = x[0].numel()
    _forward[(triton.cdiv(size, BLOCK),)](
        x, spikes, before, size, len(x), KEEP_CURRENT, KEEP_VOLTAGE, UNIT, float(UNIT * THRESHOLD), BLOCK
    )
    return spikes, before


def backward(before: Tensor, spikes: Tensor, gradient: Tensor) -> Tensor:
    """The gradient of x, of that of the spikes."""
    gradient = gradient.contiguous()
    result = torch.empty_like(gradient)
    size = gradient[0].numel()
    _backward[(triton.cdiv(size, BLOCK),)](
        before, spikes, gradient, result, size, len(gradient), KEEP_CURRENT, KEEP_VOLTAGE, float(UNIT * THRESHOLD),
        SHARPNESS, 1 / THRESHOLD, BLOCK,
    )  # fmt: skip
    return result

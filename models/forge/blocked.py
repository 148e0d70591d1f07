"""LeNet's training in fewer cycles: `blocked.cpp`, sixteen images to a vector, built on first use.

A blocked tensor is (n / 16, channels, height, width, 16). A step of training takes a third of what it takes with
PyTorch's own kernels, which leave most of a register idle at 6 and 12 channels. `-march=native` is right here: what is
built never leaves the machine, and training is not reproducible to the bit across machines in any case.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import subprocess
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.forge import sets

LANES = 16
SHAPES = ((1, 6, 28), (6, 12, 12))
"""Of the two layers: input channels, output channels, input side."""


def block(x: Tensor) -> Tensor:
    """(n, channels, height, width) to blocked; n must be a multiple of 16."""
    return x.view(-1, LANES, *x.shape[1:]).permute(0, 2, 3, 4, 1).contiguous()


def unblock(x: Tensor) -> Tensor:
    """Blocked to (n, channels, height, width)."""
    return x.permute(0, 4, 1, 2, 3).flatten(0, 1)


@functools.cache
def library() -> ctypes.CDLL:
    """The compiled kernels, in `build/forge` under the digest of their source."""
    source = Path(__file__).with_suffix(".cpp")
    folder = sets.ROOT / "build" / "forge"
    folder.mkdir(parents=True, exist_ok=True)
    built = folder / f"blocked-{hashlib.sha256(source.read_bytes()).hexdigest()[:16]}.so"
    if not built.exists():
        part = built.with_suffix(f".{os.getpid()}")
        flags = ["-std=c++17", "-O3", "-march=native", "-ffp-contract=fast", "-shared", "-fPIC"]
        flags += ["-fno-math-errno", "-fno-trapping-math"]  # without these, rounding is a call for each value
        subprocess.run([os.environ.get("CXX", "g++"), *flags, str(source), "-o", str(part)], check=True)
        part.rename(built)
    made = ctypes.CDLL(str(built))
    made.forge_spike_back.restype = ctypes.c_float
    return made


class _Pooled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, layer: int) -> Tensor:
        ins, outs, side = SHAPES[layer]
        if x.shape[1:] != (ins, side, side, LANES) or weight.shape != (outs, ins, 5, 5):
            raise ValueError(f"{tuple(x.shape)} and {tuple(weight.shape)} are not the shapes of layer {layer}")
        x, weight = x.contiguous(), weight.contiguous()
        half = (side - 4) // 2
        pooled = torch.empty(len(x), outs, half, half, LANES)
        where = torch.empty(pooled.shape, dtype=torch.int32)
        library().forge_forward(
            layer, ctypes.c_long(len(x)), _at(x), _at(weight), _at(bias), _at(pooled), _at(where)
        )  # fmt: skip
        ctx.save_for_backward(x, weight, where)
        ctx.layer, ctx.biased = layer, bias is not None
        return pooled

    @staticmethod
    def backward(ctx: Any, *given: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, where = ctx.saved_tensors
        to_x = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        to_weight, to_bias = torch.zeros(*weight.shape, LANES), torch.zeros(len(weight), LANES)
        incoming = given[0].contiguous()
        library().forge_backward(
            ctx.layer, ctypes.c_long(len(x)), _at(x), _at(weight), _at(incoming), _at(where),
            _at(to_weight), _at(to_bias), _at(to_x),
        )  # fmt: skip
        return to_x, to_weight.sum(-1), to_bias.sum(-1) if ctx.biased else None, None


class _Spiked(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, _learned: Tensor, neuron: tuple[float, float, float, float]) -> Tensor:
        if z.numel() % LANES:
            raise ValueError(f"{z.numel()} activations: the number of images must be a multiple of {LANES}")
        z = z.contiguous()
        out = torch.empty_like(z)
        ctx.neuron = (ctypes.c_float * 4)(*neuron)
        library().forge_spike(ctypes.c_long(z.numel()), ctx.neuron, _at(z), _at(out))
        ctx.save_for_backward(z)
        return out

    @staticmethod
    def backward(ctx: Any, *given: Tensor) -> tuple[Tensor | None, ...]:
        (z,) = ctx.saved_tensors
        to_z, incoming = torch.empty_like(z), given[0].contiguous()
        total = library().forge_spike_back(
            ctypes.c_long(z.numel()), ctx.neuron, _at(z), _at(incoming), _at(to_z)
        )  # fmt: skip
        # LSQ's gradient scale: without it the many activations overwhelm the one range they share.
        return to_z, torch.tensor(total / (z.numel() * ctx.neuron[2]) ** 0.5), None


def spiked(z: Tensor, learned: Tensor, unit: float, ramp: float, steps: int) -> Tensor:
    """The gated neuron's activations of pre-activations z, as `Net._spike` computes them.

    `learned` is the learned size of a step, to which the gradient goes; `unit` times T is what a potential of 1 is
    worth, `ramp` is S. The step that counts forward is the one that whole numbers can make, `ramp · unit / steps`.
    """
    out: Tensor = _Spiked.apply(  # type: ignore[no-untyped-call]  # torch gives it no type
        z, learned, (steps / unit, ramp, float(steps), ramp * unit / steps)
    )
    return out


def _at(tensor: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr() if tensor is not None else None)


def pooled(x: Tensor, weight: Tensor, bias: Tensor | None, layer: int) -> Tensor:
    """max_pool2d(conv2d(x, weight, bias), 2) of a blocked tensor, for layer 0 or 1; blocked as well."""
    out: Tensor = _Pooled.apply(x, weight, bias, layer)  # type: ignore[no-untyped-call]  # torch gives it no type
    return out

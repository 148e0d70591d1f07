"""lava-dl's SLAYER in the forge's environment, and a HybridNet whose spiking layers are SLAYER's own blocks.

lava-dl 0.6.0 asks for Python 3.10, torch < 2.4, numpy < 2 and much that SLAYER's blocks do not use. They run unchanged
with the forge's versions; the Makefile installs the wheel without what it asks for, into a folder of its own, since it
also holds a package `tests`.

With the settings here SLAYER's blocks compute `hybrid_lif`'s neuron, spike for spike (`hybrid_slayer_check`):

* `scale` 64 (its default), so that 1 is the threshold, 64 in a chip's units, and weights are rounded to multiples of
  2/64 (`quantize_8bit`, its default). It clamps them to −256 … 254, ours to ±126, so they come clamped.
* `delay_shift` off: otherwise each block passes its spikes on a step later, and those of the last step are lost.
* `persistent_state` off (its default): each window starts from rest.
* `requires_grad` off (its default): decays stay the multiples of 1/4096 that they are given as.
* `tau_grad` and `scale_grad` such that its surrogate gradient is ours. (Its own, 1 and 1, is hardly a peak: it falls to
  1/e a hundred thresholds away.) One difference stays: SLAYER's gradient passes through the reset, ours ends there.
"""

from __future__ import annotations

import importlib
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import torch
from torch import Tensor
from torch.func import functional_call

from models.forge.hybrid_lif import CURRENT_DECAY, LARGEST_WEIGHT, SHARPNESS, THRESHOLD, UNIT, VOLTAGE_DECAY
from models.forge.hybrid_net import CHANNELS, CLASSES, KERNELS, LAYERS, STRIDE, HybridNet, Split
from models.forge.hybrid_store import SIDE, STEPS

PLACE = Path(sys.prefix) / "slayer"
"""Where the Makefile puts lava-dl."""
_LEFT_OUT = (
    "matplotlib", "matplotlib.pyplot", "matplotlib.animation",  # plots of events and of losses
    "lava.lib.dl.slayer.object_detection",  # YOLO: needs torchvision, cv2 and pillow
)  # fmt: skip
"""What `import slayer` imports and its blocks do not use: an empty module stands for each meanwhile."""
NEURON = {
    "threshold": THRESHOLD / UNIT,
    "current_decay": CURRENT_DECAY / 4096,
    "voltage_decay": VOLTAGE_DECAY / 4096,
    "scale": UNIT,
    # SLAYER's surrogate is 0.1·scale_grad / (2·τ) · exp(−|v − threshold|/τ) with τ = 100·tau_grad·threshold.
    "tau_grad": 1 / (100 * SHARPNESS),
    "scale_grad": 20 * THRESHOLD / UNIT / SHARPNESS,
    "persistent_state": False,
    "requires_grad": False,
}


@cache
def slayer() -> ModuleType:
    """`lava.lib.dl.slayer`.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    if not (PLACE / "lava").is_dir():
        raise ModuleNotFoundError(
            f"{PLACE}: SLAYER is not there: remove {Path(sys.prefix) / '.done'} and make it again"
        )
    before = {name: sys.modules.get(name) for name in _LEFT_OUT}
    sys.path.append(str(PLACE))
    try:
        for name in _LEFT_OUT:
            parent, _, last = name.rpartition(".")
            sys.modules[name] = module = ModuleType(name)
            if parent in before:
                setattr(sys.modules[parent], last, module)
        return importlib.import_module("lava.lib.dl.slayer")
    finally:
        sys.path.remove(str(PLACE))
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


class SlayerNet(HybridNet):
    """A HybridNet with the same weights, file and back, whose spiking layers are `slayer.block.cuba`'s."""

    def __init__(self, split: Split, **surrogate: float) -> None:
        """A net of this split; `tau_grad` and `scale_grad` replace those of NEURON."""
        super().__init__(split)
        self._blocks = [block(layer, {**NEURON, **surrogate}) for layer in range(split.spiking)]

    def front(self, frames: Tensor) -> Tensor:
        """As HybridNet's."""
        spikes = frames.float().movedim(1, -1)  # SLAYER's time comes last
        self.rates = []
        for layer, made in enumerate(self._blocks):
            weight = limited(self.weights[layer])
            if layer == LAYERS - 1:
                spikes = spikes.flatten(1, -2)
            weight = weight.reshape(*weight.shape, *[1] * (5 - weight.dim()))
            spikes = functional_call(made.to(frames.device), {"synapse.weight": weight}, (spikes,))
            self.rates.append(spikes.sum() / len(frames))
        counts = spikes.unflatten(-1, (self.split.frames, self.split.interval)).sum(-1)
        return counts.movedim(-1, 1).flatten(1, 2)

    @torch.no_grad()
    def export(self, path: Path) -> None:
        """Write the front as SLAYER exports networks, by SLAYER's own exporter: HDF5."""
        import h5py  # only an export needs it

        cuba = slayer().block.cuba
        blocks = [cuba.Input(delay_shift=False), *self._blocks]
        if self.split.spiking == LAYERS:
            blocks.insert(LAYERS, cuba.Flatten())
        for made, weight in zip(self._blocks, self.weights, strict=False):
            made.synapse.weight.copy_(limited(weight).view_as(made.synapse.weight))
        spikes = torch.zeros(1, 2, SIDE, SIDE, STEPS)
        with h5py.File(path, "w") as file:
            for number, made in enumerate(blocks):
                spikes = made.cpu()(spikes)  # a block knows its shape once it has run
                made.export_hdf5(file.create_group(f"layer/{number}"))


def block(layer: int, neuron: dict[str, Any]) -> torch.nn.Module:
    """SLAYER's block of a layer, with weights of its own."""
    cuba = slayer().block.cuba
    ins = (2, *CHANNELS)[layer]
    if layer == LAYERS - 1:
        side = SIDE // STRIDE**layer
        made = cuba.Dense(neuron, ins * side * side, CLASSES, delay_shift=False)
    else:
        size = KERNELS[layer]
        made = cuba.Conv(neuron, ins, CHANNELS[layer], size, stride=STRIDE, padding=size // 2, delay_shift=False)
    made.synapse.register_forward_hook(_steps_apart)
    return cast("torch.nn.Module", made)


def _steps_apart(_synapse: torch.nn.Module, _given: tuple[Tensor], sums: Tensor) -> Tensor:
    """The same sums, each step's together in memory: SLAYER's neuron goes step by step and takes half the time so."""
    return sums.movedim(-1, 0).contiguous().movedim(0, -1)


def limited(weight: Tensor) -> Tensor:
    """Weights within `hybrid_lif`'s limits, with the gradient passed through."""
    largest = LARGEST_WEIGHT / UNIT
    return weight + (weight.clamp(-largest, largest) - weight).detach()

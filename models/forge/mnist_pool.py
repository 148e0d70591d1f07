"""MNIST for training: the split, and a pool of distorted images that every run shares.

The pool is written once (`build/forge/mnist`): distorting once, and asking the teacher once, leaves the time of a run
to the network that is trained. Of each training image it has one version as it is and `VERSIONS − 1` distorted ones.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from models.forge import sets

WORK = sets.ROOT / "build" / "forge" / "mnist"
SEED = 28_028
VALIDATION = 5_000
"""Training images that no run trains on: everything is chosen by them, nothing by the test images."""
VERSIONS = 12
SIDE = 28


def split() -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Indices of the 60,000 training images: (55,000 to train on, 5,000 to choose by)."""
    order = np.random.default_rng(SEED).permutation(60_000)
    return order[VALIDATION:], order[:VALIDATION]


def validation() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images (5000, 28, 28) and labels (5000,)."""
    images, labels = sets.mnist()
    held = split()[1]
    return images[held], labels[held]


def build() -> None:
    """Write images.npy (VERSIONS, 55000, 28, 28) uint8 and labels.npy (55000,) int64."""
    WORK.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(SEED)
    images, labels = sets.mnist()
    chosen = split()[0]
    images, labels = images[chosen], labels[chosen]
    np.save(WORK / "labels.npy", labels.astype(np.int64))
    pool = np.lib.format.open_memmap(  # type: ignore[no-untyped-call]  # numpy ships no type for it
        WORK / "images.npy", mode="w+", dtype=np.uint8, shape=(VERSIONS, *images.shape)
    )
    pool[0] = images
    for version in range(1, VERSIONS):
        for begin in range(0, len(images), 1000):
            part = torch.from_numpy(images[begin : begin + 1000].astype(np.float32))
            pool[version, begin : begin + 1000] = distort(part).round().clamp(0, 255).byte().numpy()
    pool.flush()


def distort(images: Tensor) -> Tensor:
    """Random affine and elastic distortion (Simard, Steinkraus, Platt 2003) of images (n, 28, 28), 0 to 255.

    Rotation and shear within ±12° and ±0.2, scale within ±14 %, shift within ±2 pixels; displacements are white noise
    smoothed by a Gaussian of 4 pixels, up to about 1.5 pixels in root mean square.
    """
    n = len(images)

    def uniform(limit: float) -> Tensor:
        return (torch.rand(n) * 2 - 1) * limit

    angle, shear = uniform(0.21), uniform(0.2)
    wide, high = 1 + uniform(0.14), 1 + uniform(0.14)
    cos, sin = torch.cos(angle), torch.sin(angle)
    shift = 4 / SIDE
    affine = torch.stack([
        torch.stack([wide * cos, wide * (shear * cos - sin), uniform(shift)], 1),
        torch.stack([high * sin, high * (shear * sin + cos), uniform(shift)], 1),
    ], 1)  # fmt: skip
    grid = functional.affine_grid(affine, [n, 1, SIDE, SIDE], align_corners=False)
    at = torch.arange(-8, 9, dtype=torch.float32)
    kernel = torch.exp(-(at**2) / (2 * 4.0**2))
    kernel = kernel / kernel.sum()
    field = torch.randn(2 * n, 1, SIDE, SIDE)
    field = functional.conv2d(field, kernel.view(1, 1, 1, -1), padding=(0, 8))
    field = functional.conv2d(field, kernel.view(1, 1, -1, 1), padding=(8, 0)).view(n, 2, SIDE, SIDE)
    size = torch.rand(n, 1, 1, 1) * 1.5 * 2 / SIDE / field.std()
    grid = grid + (field * size).permute(0, 2, 3, 1)
    return functional.grid_sample(images[:, None], grid, align_corners=False)[:, 0]

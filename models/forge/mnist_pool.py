"""MNIST for training: the split, and a pool of distorted images that every run shares.

The pool is written once (`build/forge/mnist`): distorting once, and asking the teachers once, leaves the time of a run
to the network that is trained. Of each of the 60,000 training images it has one version as it is and `VERSIONS − 1`
distorted ones. What is chosen by the validation images trains on the other 55,000; the final fit trains on all.
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
"""Training images that the recipe is chosen by: no run of the search trains on them."""
VERSIONS = 16
"""Of each image, the first as it is."""
KEPT = VERSIONS - 1
"""The version of the pool that no LeNet trains on: fresh distortions to look at the fit by."""
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


def fresh() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The validation images in the distortion that no LeNet trains on: images (4992, 28, 28) and labels (4992,).

    What remains to look at a LeNet by that was trained on all images: teachers never saw these in any form. There are
    8 less than 5,000, for whole blocks of 16.
    """
    held = np.sort(split()[1])[:4992]
    images = np.load(WORK / "images.npy", mmap_mode="r")
    return np.array(images[KEPT, held]), sets.mnist()[1][held]


def build() -> None:
    """Write images.npy (VERSIONS, 60000, 28, 28) uint8."""
    WORK.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(SEED)
    images = sets.mnist()[0]
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

    Rotation and shear within ±10° and ±0.15, scale within ±10 %, shift within ±1.5 pixels; displacements are white
    noise smoothed by a Gaussian of 4 pixels, up to about 1.2 pixels in root mean square.
    """
    n = len(images)

    def uniform(limit: float) -> Tensor:
        return (torch.rand(n) * 2 - 1) * limit

    angle, shear = uniform(0.175), uniform(0.15)
    wide, high = 1 + uniform(0.1), 1 + uniform(0.1)
    cos, sin = torch.cos(angle), torch.sin(angle)
    shift = 3 / SIDE
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
    size = torch.rand(n, 1, 1, 1) * 1.2 * 2 / SIDE / field.std()
    grid = grid + (field * size).permute(0, 2, 3, 1)
    return functional.grid_sample(images[:, None], grid, align_corners=False)[:, 0]

"""The tables of docs/conversion.md: models/mnist-lenet's ANN converted in every code, on the MNIST test images.

    .venv/bin/python bench/conversion.py            # about six minutes on one core

Calibrates on 2,000 of the images that the ANN was trained on and measures on the 10,000 test images, by
`firstspike sweep`. MNIST is looked for in ../shared/data/mnist, or $FIRSTSPIKE_DATA/mnist.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inputs import idx

ROOT = Path(__file__).resolve().parents[1]
SEED, VALIDATION, CALIBRATION = 28_028, 5_000, 2_000  # the split of models/forge/mnist_pool.py
RUNS = (("gated,quartz", "4,8,16,32"), ("rate", "8,16,32,64,128,256"))


def written(path: Path, images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> str:
    np.savez(path, x=(images.astype(np.float32) / 255)[:, None], labels=labels.astype(np.int64))
    return str(path)


def main() -> None:
    work = ROOT / "build" / "bench"
    work.mkdir(parents=True, exist_ok=True)
    chosen = np.random.default_rng(SEED).permutation(60_000)[VALIDATION : VALIDATION + CALIBRATION]
    images, labels = idx("train-images-idx3-ubyte"), idx("train-labels-idx1-ubyte")
    given = written(work / "mnist-calibration.npz", images[chosen], labels[chosen])
    test = written(work / "mnist-test.npz", idx("t10k-images-idx3-ubyte"), idx("t10k-labels-idx1-ubyte"))
    for coding, steps in RUNS:
        subprocess.run(
            [sys.executable, "-m", "firstspike", "sweep", str(ROOT / "models" / "mnist-lenet" / "ann.onnx"),
             "--calibration", given, "--data", test, "--coding", coding, "--steps", steps, *sys.argv[1:]], check=True,
        )  # fmt: skip


if __name__ == "__main__":
    main()

"""Inputs of the shipped networks from real data: MNIST's test images, and recordings that training did not see."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from firstspike.bundle import Bundle
from firstspike.encode import Encoder
from firstspike.sources.formats import open_recording
from firstspike.sources.formats._stream import Options, Stats
from firstspike.window import Windower

DATA = Path(os.environ.get("FIRSTSPIKE_DATA", Path(__file__).parents[2] / "shared" / "data"))
INPUTS = 30
Times = NDArray[np.uint8]


def inputs_of(bundle: Bundle) -> tuple[list[Times], str]:
    """Spike times of some inputs, and where they come from. Without the data: drawn, which is said."""
    spec = bundle.manifest.input
    name = bundle.folder.name
    if name.startswith("mnist") and (DATA / "mnist").is_dir():
        return _images(spec.steps), f"the first {INPUTS} test images of MNIST"
    patterns = {"nmnist": "nmnist/Train/*/0089*.bin", "dvs128-objects": "dvs128_objects/2018-10-06/*.aedat"}
    files = sorted(DATA.glob(patterns.get(name, "nothing")))
    if files:
        found = [times for file in files for times in _windows(bundle, file)]
        chosen = np.linspace(0, len(found) - 1, INPUTS).astype(int)
        return [found[i] for i in chosen], f"{INPUTS} windows of {len(files)} real recordings"
    random, shape = np.random.default_rng(0), (spec.channels, spec.height, spec.width)
    drawn = [random.integers(0, spec.steps, shape) for _ in range(INPUTS)]
    sparse = [np.where(random.random(shape) < 0.1, times, spec.steps).astype(np.uint8) for times in drawn]
    return sparse, "drawn, as the data is not here: a tenth of the pixels"


def idx(name: str) -> NDArray[np.uint8]:
    """An array of MNIST, in the format of Yann LeCun's page."""
    raw = gzip.decompress((DATA / "mnist" / f"{name}.gz").read_bytes())
    shape = [int.from_bytes(raw[4 + 4 * i : 8 + 4 * i], "big") for i in range(raw[3])]
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(shape)


def _images(steps: int) -> list[Times]:
    pixels = idx("t10k-images-idx3-ubyte")[:INPUTS, None]
    return list((steps * (255 - pixels.astype(np.int64)) // 255).astype(np.uint8))


def _windows(bundle: Bundle, file: Path) -> list[Times]:
    """The windows of a recording's last 30 %, encoded."""
    info, batches = open_recording(file, Options(), Stats())
    encoder = Encoder(bundle.manifest.input, info.width, info.height)
    windower = Windower(bundle.manifest.window)
    windows = [window for batch in batches for window in windower.push(batch)]
    windows = [window for window in windows if len(window.events) >= bundle.manifest.decide.min_events]
    return [
        encoder.encode(window.events, window.t_start_us, window.t_end_us).times
        for window in windows[len(windows) * 7 // 10 :]
    ]

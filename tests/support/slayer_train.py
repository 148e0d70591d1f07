"""Made `slayer_trained/`: a small network that lava-dl 0.6.0's SLAYER trained, and the spikes that SLAYER says it has.

    python slayer_train.py FOLDER

Ran under torch 2.13.0 on Python 3.11 with lava-dl, without its imports of matplotlib and OpenCV (object detection),
which training does not need. The network tells which way an edge moves: right, left, down, up.
"""

import sys
from pathlib import Path

import h5py
import numpy as np
import torch
from lava.lib.dl import slayer

NEURON = {"threshold": 1.25, "current_decay": 0.25, "voltage_decay": 0.03, "tau_grad": 0.03, "scale_grad": 3}
SHAPE, STEPS = (2, 12, 12), 16


def edges(rng, n):
    """(n, 2, 12, 12, 16) float32 frames, and which of the four ways each edge moves."""
    ways, frames = rng.integers(0, 4, n), np.zeros((n, *SHAPE, STEPS), np.float32)
    for frame, way in zip(frames, ways, strict=True):
        for t in range(STEPS):
            at = (t if way % 2 == 0 else STEPS - 1 - t) * SHAPE[1] // STEPS
            for channel, place in ((0, at), (1, max(at - 1, 0))):
                line = frame[channel, :, place, t] if way < 2 else frame[channel, place, :, t]
                line[:] = rng.random(SHAPE[1]) < 0.7
    return torch.tensor(frames), torch.tensor(ways)


def main(folder):
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rng, cuba = np.random.default_rng(0), slayer.block.cuba
    blocks = torch.nn.ModuleList([
        cuba.Conv(NEURON, 2, 6, 3, padding=1, weight_scale=2), cuba.Pool(NEURON, 2),
        cuba.Conv(NEURON, 6, 8, 3, stride=2, weight_scale=2), cuba.Flatten(),
        cuba.Dense(NEURON, 8 * 2 * 2, 4, weight_scale=2),
    ])  # fmt: skip

    def spikes(x):
        return [x := block(x) for block in blocks]

    spikes(edges(rng, 2)[0])
    optimizer = torch.optim.Adam(blocks.parameters(), lr=3e-3)
    for _ in range(400):
        x, ways = edges(rng, 32)
        rates = spikes(x)[-1].mean(-1).flatten(1)
        loss = torch.nn.functional.cross_entropy(rates * 8, ways)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    x, ways = edges(rng, 6)
    with torch.no_grad():
        found = [layer.numpy() for layer in spikes(x)]
    with h5py.File(folder / "trained.net", "w") as file:
        first = file.create_group("layer/0")
        first.create_dataset("type", (1,), "S10", [b"input"])
        first.create_dataset("shape", data=np.array(SHAPE))
        for number, block in enumerate(blocks, start=1):
            block.export_hdf5(file.create_group(f"layer/{number}"))
    in_steps = [np.moveaxis(values, -1, 1).astype(np.uint8) for values in (x.numpy(), *found)]
    layers = {f"layer{number}": values for number, values in enumerate(in_steps[1:])}
    np.savez_compressed(folder / "samples.npz", frames=in_steps[0], labels=ways.numpy().astype(np.uint8), **layers)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""How the network of models/nmnist is trained; every number of the recipe stands here.

1. `base`: floating point, on simulated recordings of MNIST images 901 to 60000 and of drawn digits only.
2. `fine`: the same with the real N-MNIST samples that may be trained on.
3. From there two ways of the same length: `twin` goes on in floating point, `ttfs` with the integer neuron in the loop.

The simulation leaves out MNIST images 1 to 900 altogether, since sample k of N-MNIST shows image k: `base` then serves
every fold of a cross-validation.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch

from models.forge import sets, store, synth, train
from models.forge.net import Net, Plan
from models.forge.train import Phase

SIMULATED = 30_000
DRAWN = 6_000
SEED = 20_150
"""Of everything drawn in training. The demo, the simulated source and the check use others."""
BASE = Phase("base", batches=3_000, rate=4e-3, mixture=(0.8, 0.2))
FINE = Phase("fine", batches=1_500, rate=2e-3, mixture=(0.4, 0.15, 0.45))
LAST = Phase("last", batches=1_500, rate=1.5e-3, mixture=(0.4, 0.15, 0.45))


@dataclass(frozen=True)
class Pair:
    """The network that ships and the floating-point one that it is held against."""

    ttfs: Net
    twin: Net


def simulated() -> list[store.Store]:
    """The two simulated sets: MNIST images, drawn digits."""
    mnist, hands = (np.random.default_rng(child) for child in np.random.SeedSequence(SEED).spawn(2))
    images, labels = sets.mnist()
    which = sets.REAL + mnist.choice(len(images) - sets.REAL, SIMULATED, replace=False)
    ink = images[which].astype(np.float32) / np.float32(255)
    return [
        synth.simulate(ink, labels[which].tolist(), mnist),
        synth.simulate(*synth.drawn(DRAWN, hands), hands),
    ]


def base(stores: list[store.Store], plan: Plan) -> Net:
    """Stage 1."""
    torch.manual_seed(SEED)
    return train.run(Net(plan), stores, BASE, SEED)


def finish(start: Net, stores: list[store.Store], real: store.Store) -> Pair:
    """Stages 2 and 3 with these real recordings."""
    stores = [*stores, real]
    fine = train.run(start, stores, FINE, SEED + 1)
    spiking = copy.deepcopy(fine)
    sample, _ = store.draw(stores[0], 1024, np.random.default_rng(SEED + 2), BASE.augment)
    spiking.calibrate(spiking.encode(torch.from_numpy(sample.astype(np.float32))))
    return Pair(
        ttfs=train.run(spiking, stores, LAST, SEED + 3),
        twin=train.run(fine, stores, LAST, SEED + 3),
    )

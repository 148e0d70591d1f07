"""How the network of models/dvs128-objects is trained; every number of the recipe stands here."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from models.forge import objects_store as data
from models.forge import objects_train as train
from models.forge.objects_net import ObjectsNet

SEED = 20_181
FOLDS = (("box_0", "mouse_0", "mouse_2", "scissors_0"), ("box_1", "mouse_1", "scissors_1"))
"""Recordings held out together: every recording of an object that has another one is judged once, by networks that
saw neither it nor, in the first fold, more than one recording of its object."""
BASE = train.Phase("base", batches=5_000, rate=8e-3)
LAST = train.Phase("last", batches=1_600, rate=4e-3, dropout=0.1)
SPIKING = train.Phase("spiking", batches=1_600, rate=4e-3, dropout=0.1, price=0.8)


@dataclass(frozen=True)
class Pair:
    """The network that ships and the floating-point one of the same training that it is held against."""

    ttfs: ObjectsNet
    twin: ObjectsNet


def pair(store: data.Store, parts: Sequence[data.Part], seed: int = SEED) -> Pair:
    """Train on these parts: in floating point, and from there on with the integer neuron in the loop."""
    torch.manual_seed(seed)
    base = train.run(ObjectsNet(), store, parts, BASE, seed)
    twin = train.run(base, store, parts, LAST, seed + 2)
    spiking = copy.deepcopy(twin)
    sample, _ = data.draw(store, parts, 512, np.random.default_rng(seed + 1), BASE.augment)
    spiking.calibrate(spiking.encode(torch.from_numpy(sample)))
    return Pair(ttfs=train.run(spiking, store, parts, SPIKING, seed + 2), twin=twin)

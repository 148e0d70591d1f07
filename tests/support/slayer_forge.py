"""Runs in the forge's environment: SLAYER's blocks beside our neuron on drawn frames. Prints what it finds as JSON."""

from __future__ import annotations

import copy
import json
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from models.forge import hybrid_slayer, hybrid_slayer_check
from models.forge.hybrid_net import HybridNet, Split
from models.forge.hybrid_store import Sample


def main():
    torch.set_num_threads(1)
    place, hybrid_slayer.PLACE = hybrid_slayer.PLACE, Path("/nowhere")
    found = {"absent": refused(lambda: hybrid_slayer.slayer())}
    hybrid_slayer.PLACE = place
    hybrid_slayer.slayer()
    found["left_out"] = [name for name in sys.modules if name.startswith(("matplotlib", "cv2", "torchvision"))]
    found["on_path"] = str(place) in sys.path

    rng = np.random.default_rng(7)
    sample = Sample(rng.random((6, 16, 2, 64, 64)) < 0.04, rng.integers(0, 7, 6), np.arange(6))
    shown = torch.from_numpy(sample.frames)
    for name in ("S1A4/4", "S2A3/8", "SNN"):
        torch.manual_seed(5)
        found[name] = asdict(hybrid_slayer_check.check(HybridNet(Split.of(name)), sample))
    found["ann"] = refused(lambda: hybrid_slayer_check.check(HybridNet(Split.of("ANN/16")), sample))

    split = Split.of("S1A4/4")
    torch.manual_seed(5)
    net = HybridNet(split)
    with torch.no_grad():
        net.weights[0].mul_(20)
    found["strong"] = asdict(hybrid_slayer_check.check(net, sample))
    with torch.no_grad():
        net.weights[0].mul_(0.05 / 20)
        for bias in net.biases:
            bias.fill_(0.1)  # or no gradient would come as far as the silent neurons
    found["silent"] = asdict(hybrid_slayer_check.check(net, sample))

    torch.manual_seed(5)
    net = HybridNet(split)
    counts = net.front(shown)
    for key, other in {"threshold": 1.25, "current_decay": 0.25, "voltage_decay": 0.25}.items():
        theirs = hybrid_slayer_check.given(hybrid_slayer.SlayerNet(split, **{key: other}), net)
        found[f"other {key}"] = int((theirs.front(shown) != counts).sum())

    theirs = hybrid_slayer.SlayerNet(split)
    theirs.load_state_dict(net.state_dict())
    theirs = copy.deepcopy(theirs)
    theirs(shown).logsumexp(1).sum().backward()
    found["gradients"] = [float(one.grad.norm()) for one in theirs.parameters() if one.numel()]
    found["same_file"] = list(theirs.state_dict()) == list(net.state_dict())
    found["same_rates"] = [float(one.detach()) for one in theirs.rates] == [float(one.detach()) for one in net.rates]
    print(json.dumps(found))


def refused(call):
    try:
        call()
    except (ModuleNotFoundError, ValueError) as error:
        return str(error)
    return None


main()

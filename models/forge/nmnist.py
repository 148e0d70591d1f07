"""Train the network of models/nmnist, estimate how good it is, and write the bundle.

    python -m models.forge.nmnist base       # stage 1 into build/forge (about 5 minutes on one core)
    python -m models.forge.nmnist develop    # train on samples 1-600, validate on 601-800
    python -m models.forge.nmnist folds      # 4-fold cross-validation over samples 1-800
    python -m models.forge.nmnist final      # train on samples 1-800, write models/nmnist
    python -m models.forge.nmnist seal       # write the manifest again, after the card was edited

Samples 801 to 900 are read by none of these: `models/forge/check.py` measures on them what was written.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.forge import export, recipe, score, sets, store, synth, train
from models.forge.net import Net, Plan

WORK = sets.ROOT / "build" / "forge"
BUNDLE = sets.ROOT / "models" / "nmnist"
FOLDS = 4
DECAY = 0.7
"""Of the evidence, a window of 50 ms: older than half a second it has gone."""
TRAINABLE = sets.CHECK[0] - 1


def main() -> None:
    """Run one command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["base", "develop", "folds", "final", "seal"])
    command = parser.parse_args().command
    torch.set_num_threads(1)
    WORK.mkdir(parents=True, exist_ok=True)
    {"base": make_base, "develop": develop, "folds": folds, "final": final, "seal": seal}[command]()


def make_base() -> None:
    """Stage 1: the simulated sets and the network trained on them alone."""
    stores = recipe.simulated()
    for name, one in zip(("mnist", "drawn"), stores, strict=True):
        np.savez(WORK / f"{name}.npz", events=one.events, begins=one.begins, labels=one.labels)
    net = recipe.base(stores, Plan())
    torch.save(net.state_dict(), WORK / "base.pt")
    _report("base", net, {"real": _real(1, TRAINABLE), "drawn": held_out_digits()})


def develop() -> None:
    """Train on 1 to 600, validate on 601 to 800."""
    start, stores = _start()
    held = _real(601, TRAINABLE)
    pair = recipe.finish(start, stores, _real(1, 600))
    for name, net in (("twin", pair.twin), ("ttfs", pair.ttfs)):
        torch.save(net.state_dict(), WORK / f"develop_{name}.pt")
        _report(f"develop {name}", net, {"real": held, "drawn": held_out_digits()})
    cut = score.windows(held)
    scale = score.fit_scale(cut, train.logits(pair.ttfs, cut.counts))
    (WORK / "temperature.json").write_text(json.dumps(scale) + "\n")


def folds() -> None:
    """Cross-validate the recipe: each sample is judged by networks that saw neither it nor its image."""
    start, stores = _start()
    number = np.arange(1, TRAINABLE + 1)
    real = _real(1, TRAINABLE)
    right: dict[str, list[np.ndarray[Any, Any]]] = {}
    for fold in range(FOLDS):
        held = (number - 1) * FOLDS // TRAINABLE == fold
        pair = recipe.finish(start, stores, real.select(~held))
        cut = score.windows(real.select(held))
        for name, net in (("twin", pair.twin), ("ttfs", pair.ttfs)):
            values = train.logits(net, cut.counts)
            result = score.judge(cut, values)
            print(f"fold {fold} {name}: {result}", flush=True)
            right.setdefault(f"{name} recordings", []).append(result.answers == cut.labels)
            right.setdefault(f"{name} windows", []).append(values.argmax(1) == cut.labels[cut.recording])
    figures = {name: {"accuracy": float(np.concatenate(parts).mean()), "n": sum(map(len, parts))}
               for name, parts in right.items()}  # fmt: skip
    summary = {"folds": FOLDS, **figures}
    (WORK / "folds.json").write_text(json.dumps(summary, indent=1) + "\n")
    print(json.dumps(summary, indent=1))


def final() -> None:
    """Train on all of 1 to 800 and write the bundle; the temperature is the one that `develop` fitted on 601 to 800."""
    temperature = json.loads((WORK / "temperature.json").read_text())
    start, stores = _start()
    pair = recipe.finish(start, stores, _real(1, TRAINABLE))
    torch.save(pair.ttfs.state_dict(), WORK / "ttfs.pt")
    torch.save(pair.twin.state_dict(), WORK / "twin.pt")
    write(pair, temperature)


def write(pair: recipe.Pair, temperature: float) -> None:
    """Write the bundle's networks, and its manifest if the card is there; `temperature` is the factor on the logits."""
    plan = pair.ttfs.plan
    weights, ramps, bias, unit = pair.ttfs.integers()
    # The last layer's first spike is a by-product: its ramp makes T steps span the potentials that win.
    cut = score.windows(held_out_digits())
    winning = train.logits(pair.ttfs, cut.counts).max(1) / unit
    ramps.append(max(2, round(float(np.percentile(winning, 99)) / plan.steps)))
    trained = export.Integers(weights, ramps, bias, list(plan.pooled), plan.side, plan.steps)
    twin = [weight.detach().numpy() for weight in pair.twin.weights]
    export.write_networks(
        BUNDLE,
        export.network(trained),
        export.onnx_model(twin, pair.twin.bias.detach().numpy(), plan.pooled, plan.side),
    )
    (WORK / "logit_scale.json").write_text(json.dumps(float(f"{temperature * unit:.6g}")) + "\n")
    seal()


def seal() -> None:
    """Write bundle.json over the files as they are now."""
    plan = Plan()
    manifest = {
        "schema": "firstspike.bundle/1",
        "name": "nmnist",
        "version": "1.0.0",
        "labels": [str(digit) for digit in range(plan.classes)],
        "input": {
            "channels": 2, "height": plan.side, "width": plan.side, "encoding": "count", "steps": plan.steps,
            "count_scale": plan.count_scale, "fit": "stretch",
        },
        "window": {"kind": "time", "size": 50_000, "hop": 50_000},
        "decide": {
            "min_events": score.MIN_EVENTS, "decay": DECAY, "min_evidence": 0.5,
            "logit_scale": json.loads((WORK / "logit_scale.json").read_text()),
        },
        "licence": "Apache-2.0 (trained on data under CC BY-SA: see the card)",
        "trained_on": [
            "simulated DVS recordings of MNIST training images 901-60000 (MNIST: CC BY-SA 3.0 by common attribution)",
            "simulated DVS recordings of digits drawn by firstspike.simulate (ours)",
            "N-MNIST training samples 1-800 (CC BY-SA 4.0)",
        ],
    }  # fmt: skip
    export.seal(BUNDLE, manifest, export.FILES)


def held_out_digits() -> store.Store:
    """Drawn digits of a seed that training does not use, in front of the default scene."""
    rng = np.random.default_rng(recipe.SEED + 1000)
    return synth.simulate(*synth.drawn(400, rng), rng)


def _start() -> tuple[Net, list[store.Store]]:
    if not (WORK / "base.pt").exists():
        sys.exit(f"{WORK / 'base.pt'} is missing: run the command 'base' first")
    stores = []
    for name in ("mnist", "drawn"):
        with np.load(WORK / f"{name}.npz") as file:
            stores.append(store.Store(file["events"], file["begins"], file["labels"]))
    return load(Plan(), WORK / "base.pt"), stores


def load(plan: Plan, path: Path, *, quantised: bool = False) -> Net:
    """A network from its saved parameters."""
    net = Net(plan)
    net.load_state_dict(torch.load(path, weights_only=True))
    net.quantised = quantised
    return net


def _real(first: int, last: int) -> store.Store:
    """N-MNIST samples by number, both inclusive."""
    if last >= sets.CHECK[0]:
        raise ValueError(f"samples {sets.CHECK[0]} to {sets.CHECK[1]} are for the final check only")
    number = np.arange(1, sets.REAL + 1)
    return sets.nmnist().select((number >= first) & (number <= last))


def _report(name: str, net: Net, recordings: dict[str, store.Store]) -> None:
    for what, one in recordings.items():
        cut = score.windows(one)
        values = train.logits(net, cut.counts)
        print(f"{name} on {what}: {score.judge(cut, values)}, scale {score.fit_scale(cut, values):.3f}", flush=True)


if __name__ == "__main__":
    main()

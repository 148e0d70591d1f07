"""Train the network of models/dvs128-objects, estimate how good it is on another session, and write the bundle.

    python -m models.forge.objects folds      # leave recordings out: how well other sessions are recognised
    python -m models.forge.objects final      # train on the first 70 % of every recording, write models/dvs128-objects
    python -m models.forge.objects seal       # write the manifest again, after the card was edited

The last 30 % of each recording is not trained on by `final`: `models/forge/objects_check.py` measures on it what was
written.
"""

from __future__ import annotations

import argparse
import json

import numpy as np
import torch
from numpy.typing import NDArray

from firstspike.ttfs.definition import closed_form
from firstspike.ttfs.network import Network
from models.forge import export, objects_recipe, objects_score, sets
from models.forge import objects_shift as shift
from models.forge import objects_store as data
from models.forge import objects_train as train
from models.forge.objects_net import PLAN, ObjectsNet
from models.forge.score import log_softmax

WORK = sets.ROOT / "build" / "forge"
BUNDLE = sets.ROOT / "models" / "dvs128-objects"


def main() -> None:
    """Run one command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["folds", "final", "seal"])
    command = parser.parse_args().command
    torch.set_num_threads(1)
    WORK.mkdir(parents=True, exist_ok=True)
    {"folds": folds, "final": final, "seal": seal}[command]()


def folds() -> None:
    """Judge every recording whose object has another one by networks that never saw it; fit the temperature there."""
    store = data.load()
    judged: dict[str, list[objects_score.Judged]] = {}
    logits, labels = [], []
    for number, held in enumerate(objects_recipe.FOLDS):
        pair = objects_recipe.pair(store, [store.whole(name) for name in data.NAMES if name not in held])
        parts = [store.whole(name) for name in held]
        sets_of = {"as recorded": (data.windows(store, parts), parts), "drawn sessions": shift.windows(store, parts)}
        for name, net in (("ttfs", pair.ttfs), ("twin", pair.twin)):
            torch.save(net.state_dict(), WORK / f"objects_fold{number}_{name}.pt")
            for what, (cut, shown) in sets_of.items():
                values = train.logits(net, cut.counts)
                judged.setdefault(f"{what}, {name}", []).extend(objects_score.judge(values, cut, shown))
                if name == "ttfs" and what == "drawn sessions":
                    logits.append(values)
                    labels.append(cut.labels)
    text = "".join(f"{name}: {objects_score.summary(result)}\n" for name, result in judged.items())
    (WORK / "objects_folds.txt").write_text(text)
    print(text, end="", flush=True)
    # On drawn sessions: on the recordings as they are hardly any window is wrong, which would fit certainty.
    temperature = fit(np.concatenate(logits), np.concatenate(labels))
    (WORK / "objects_temperature.json").write_text(json.dumps(temperature) + "\n")


def fit(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """The factor on the logits that makes the log-softmax most likely (temperature; Guo et al. 2017)."""
    factors = np.exp(np.linspace(-2, 2, 401))
    costs = [-log_softmax(logits * factor)[np.arange(len(labels)), labels].mean() for factor in factors]
    return float(factors[int(np.argmin(costs))])


def final() -> None:
    """Train on the first 70 % of every recording and write the bundle; the temperature is the one of the folds."""
    store = data.load()
    parts = [store.split(name)[0] for name in data.NAMES]
    pair = objects_recipe.pair(store, parts)
    torch.save(pair.ttfs.state_dict(), WORK / "objects_ttfs.pt")
    torch.save(pair.twin.state_dict(), WORK / "objects_twin.pt")
    write(pair, data.windows(store, parts))


def write(pair: objects_recipe.Pair, seen: data.Windows) -> None:
    """Write the networks, and the manifest if the card is there; `seen` are windows of training."""
    weights, ramps, bias, unit = pair.ttfs.integers()
    # The last layer's first spike is a by-product: its ramp makes T steps span the potentials that win.
    winning = train.logits(pair.ttfs, seen.counts).max(1) / unit
    ramps.append(max(2, round(float(np.percentile(winning, 99)) / PLAN.steps)))
    trained = export.Integers(weights, ramps, bias, list(PLAN.pooled), PLAN.side, PLAN.steps)
    twin = [weight.detach().numpy() for weight in pair.twin.weights]
    network = export.network(trained)
    _same(network, pair.ttfs, seen.counts[:: len(seen.counts) // 20], unit)
    export.write_networks(
        BUNDLE,
        network,
        export.onnx_model(twin, pair.twin.bias.detach().numpy(), PLAN.pooled, PLAN.side),
    )
    (WORK / "objects_unit.json").write_text(json.dumps(unit) + "\n")
    seal()


def _same(network: Network, net: ObjectsNet, counts: NDArray[np.float32], unit: float) -> None:
    """Fail unless the integers that ship compute what was trained.

    Raises:
        RuntimeError: a potential differs by half a unit or more from the trained logit.
    """
    logits = train.logits(net, counts) / unit
    for image, expected in zip(counts, logits, strict=True):
        whole = np.minimum(image, PLAN.count_scale).astype(np.int64)
        times = (PLAN.steps * (PLAN.count_scale - whole) // PLAN.count_scale).astype(np.uint8)
        off = float(np.abs(closed_form(network, times).potential - expected).max())
        if off >= 0.5:
            raise RuntimeError(f"the integer network's potentials differ by {off:.3g} from those trained")


def seal() -> None:
    """Write bundle.json over the files as they are now."""
    temperature, unit = (json.loads((WORK / f"objects_{name}.json").read_text()) for name in ("temperature", "unit"))
    manifest: dict[str, object] = {
        "schema": "firstspike.bundle/1",
        "name": "dvs128-objects",
        "version": "1.0.0",
        "labels": list(data.LABELS),
        "input": {
            "channels": 2, "height": PLAN.side, "width": PLAN.side, "encoding": "count", "steps": PLAN.steps,
            "count_scale": PLAN.count_scale, "fit": "crop",
        },
        "window": {"kind": "time", "size": data.WINDOW_US, "hop": data.WINDOW_US},
        "decide": {
            "min_events": 200, "decay": 0.85, "min_evidence": 0.9, "min_confidence": 0.5,
            "logit_scale": float(f"{temperature * unit:.6g}"),
        },
        "licence": "Apache-2.0 (trained on recordings whose licence is not stated: see the card)",
        "trained_on": ["the first 70 % of each of eleven DVS128 recordings of 2018-10-06 (licence not stated)"],
    }  # fmt: skip
    export.seal(BUNDLE, manifest, export.FILES)


if __name__ == "__main__":
    main()

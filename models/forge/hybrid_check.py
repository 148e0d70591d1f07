"""Measure models/dvs128-hybrid by the runtime's own parts. Needs no torch.

    PYTHONPATH=. .venv/bin/python -m models.forge.hybrid_check

The windows are those that `firstspike.window` cuts, from each recording's first event on: in the last 30 % of the eight
recordings whose first 60 % was trained on, and in all of the three that no network saw.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from firstspike.backends import Backend
from firstspike.backends.emulator import Options
from firstspike.bundle import Bundle, open_bundle
from firstspike.config_plugins import BackendChoice
from firstspike.cuba.definition import run
from firstspike.cuba.emulator import Emulator
from firstspike.hybrid import place
from firstspike.hybrid.count import count
from firstspike.hybrid.front import network_of
from firstspike.types import Spikes
from models.forge import hybrid_store as frames
from models.forge import objects_store as data
from models.forge import sets
from models.forge.objects_check import Seen, encoded, judged, total

BUNDLE = sets.ROOT / "models" / "dvs128-hybrid"
EXACT = 5
"""Windows whose every spike is compared with the definition's, which is slow."""


def chain(bundle: Bundle) -> Backend:
    """Both parts on the emulator."""
    return place.make(BackendChoice("emulator", "emulator", Options()), bundle)


def answer(bundle: Bundle, parts: Sequence[data.Part]) -> tuple[dict[str, object], list[NDArray[np.uint8]]]:
    """What the model makes of these parts of recordings, and the windows' frames."""
    backend, results, shown = chain(bundle), [], []
    for part in parts:
        index, spikes = zip(*encoded(bundle, part), strict=True)
        potentials = np.array([_potential(backend, one) for one in spikes])
        seen = Seen(part, list(index), [one.n_events for one in spikes], np.empty((0, 0, 0), np.uint8))
        results.append(judged(bundle, seen, potentials))
        shown += [one.frames for one in spikes]
    return total(results), shown


def _potential(backend: Backend, spikes: Spikes) -> NDArray[np.int32]:
    found = backend.infer(spikes, 60.0)
    if found.potential is None:
        raise RuntimeError(found.failure)
    return found.potential


def differing(bundle: Bundle, shown: Sequence[NDArray[np.uint8]]) -> int:
    """Spikes of all layers in which emulator and definition differ."""
    network = network_of(bundle)
    emulator = Emulator(network)
    return sum(
        int((one != two).sum())
        for window in shown
        for one, two in zip(run(network, window).spikes, emulator.trace(window).spikes, strict=True)
    )


def main() -> None:
    """Measure and print.

    Raises:
        RuntimeError: a spike of the emulator is not the definition's.
    """
    bundle, store = open_bundle(BUNDLE), data.load()
    last, _ = answer(bundle, [store.split(name)[1] for name in frames.seen()])
    other, shown = answer(bundle, [store.whole(name) for name in frames.HELD_OUT])
    if found := differing(bundle, shown[:: max(1, len(shown) // EXACT)]):
        raise RuntimeError(f"{found} spikes of the emulator are not the definition's")
    counted = count(bundle, shown)
    report = {
        "last 30 %": last,
        "other recordings": other,
        "a window of other recordings": {
            "spikes": round(counted.total("spikes")), "synaptic operations": round(counted.total("synaptic")),
            "updates": counted.total("updates"), "macs": counted.macs, "link bytes": counted.link_bytes,
            "link bytes as events": round(counted.event_bytes or 0), "currents that left 24 bits": counted.wraps,
            "modelled uJ": round(((counted.front_nj or 0) + (counted.back_nj or 0)) / 1e3, 1),
        },
    }  # fmt: skip
    json.dump(report, sys.stdout, indent=1, ensure_ascii=False)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()

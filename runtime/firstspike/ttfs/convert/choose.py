"""Which scales and which refit: many conversions are made, and the one is kept that answers most like the ANN.

The measure is the divergence KL(ANN ‖ TTFS) of the class probabilities, mean over calibration samples on which nothing
was fitted: it needs no labels, and moves with every sample where an accuracy moves with few. First the scales are
tried, in multiples of those of `normalise.closest`, then refits with the best multiple and those beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from firstspike.errors import BundleError, DataError
from firstspike.ttfs.convert.ann import Ann, logits
from firstspike.ttfs.convert.calibration import encode
from firstspike.ttfs.convert.normalise import Normalised, closest, gather, rescaled
from firstspike.ttfs.convert.quantise import Plan, Quantised, quantise
from firstspike.ttfs.convert.refit import Refit
from firstspike.ttfs.convert.targets import look
from firstspike.ttfs.emulator import Emulator

MULTIPLES = (0.6, 0.75, 0.9, 1.0, 1.15, 1.3)
"""Of the closest scales. `quartz` neurons say more than T by spiking early, and want smaller ones."""
JUDGED = 2048
"""Samples on which tries are judged, at most."""


@dataclass(frozen=True, slots=True)
class Try:
    """One conversion that was tried."""

    multiple: float
    """λ of every layer but the last, in multiples of the closest."""
    refit: Refit
    divergence: float
    """KL(ANN ‖ TTFS), nats, mean over the samples it was judged on."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """The best conversion."""

    normalised: Normalised
    quantised: Quantised
    best: Try
    tries: tuple[Try, ...]
    """All that were made, in their order; those that no integers could express are not among them."""


def choose(ann: Ann, x: NDArray[np.float32], plan: Plan, progress: Callable[[str], None]) -> Chosen:
    """Try scales and refits.

    Args:
        ann: the network.
        x: calibration samples (n, channels, height, width): every second one is fitted to, the others judge.
        plan: its `refit` is ignored.
        progress: told what is being tried.

    Raises:
        DataError, BundleError: no try could be made; the text is the first one's (see `quantise`).
    """
    targets, judged = look(ann, x[::2]), (x[1::2] if len(x) > 1 else x)[:JUDGED]
    seen = gather(ann, x)
    scales = closest(seen, plan.steps)
    truth = log_softmax(logits(ann.layers, judged))
    times = encode(judged, plan.input_steps)
    made: dict[tuple[float, Refit], Chosen] = {}
    faults: list[DataError | BundleError] = []

    def attempt(multiple: float, refit: Refit) -> None:
        if (multiple, refit) in made:
            return
        progress(f"trying scales ×{multiple:g}, refit {refit}")
        try:
            normalised = rescaled(ann, [*(one * multiple for one in scales[:-1]), scales[-1]], "the closest scale")
            quantised = quantise(normalised, targets, replace(plan, refit=refit))
        except (DataError, BundleError) as fault:
            faults.append(fault)
            return
        emulator = Emulator(quantised.network)
        potential = np.stack([emulator.run(one).potential for one in times])
        one = Try(multiple, refit, divergence(truth, potential * (quantised.logit * normalised.scales[-1])))
        made[multiple, refit] = Chosen(normalised, quantised, one, ())

    for multiple in MULTIPLES:
        attempt(multiple, "none")
    if not made:
        raise faults[0]
    near = MULTIPLES.index(_best(made).best.multiple)
    for multiple in MULTIPLES[max(0, near - 1) : near + 2]:
        attempt(multiple, "bias")
        attempt(multiple, "weights")
    return replace(_best(made), tries=tuple(one.best for one in made.values()))


def _best(made: dict[tuple[float, Refit], Chosen]) -> Chosen:
    return min(made.values(), key=lambda one: one.best.divergence)


def divergence(truth: NDArray[np.float64], answers: NDArray[np.floating]) -> float:
    """KL(ANN ‖ network), nats, mean over samples; of the ANN's log-probabilities, the network's logits (n, classes)."""
    return float((np.exp(truth) * (truth - log_softmax(answers))).sum(1).mean())


def log_softmax(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Log-probabilities of logits (n, classes)."""
    shifted = values.astype(np.float64) - values.max(1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(1, keepdims=True)))

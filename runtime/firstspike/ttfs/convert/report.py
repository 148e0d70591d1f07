"""The self-check: layer by layer, what the ANN says and what the TTFS network says, on the calibration data.

Accuracy is followed through the network by hybrids: TTFS up to and including a layer, its activations a/T handed to the
rest of the ANN in floating point. Where the agreement falls, accuracy goes.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firstspike.ttfs.convert.ann import BATCH, Weighted, logits, step
from firstspike.ttfs.convert.calibration import Samples, encode
from firstspike.ttfs.convert.normalise import Normalised
from firstspike.ttfs.convert.quantise import Quantised
from firstspike.ttfs.definition import Result
from firstspike.ttfs.limits import Bound, check
from firstspike.ttfs.network import Conv, Dense, Frame
from firstspike.ttfs.rate import RateResult
from firstspike.ttfs.rate_emulator import emulator

INT16 = 1 << 15
LANE = 254
"""The largest current of one control line on Loihi: larger biases need several."""


@dataclass(slots=True)
class LayerCheck:
    """One weighted layer, TTFS beside the ANN; all shares and means are over neurons and samples."""

    name: str
    number: int
    """Of the layer in the integer network."""
    steps: int
    """T, or the duration of a rate-coded network."""
    ramp: int
    rounding: int
    scale: float
    """λ: the ANN's activation (logit) that T steps (the normalised 1) stand for."""
    max_weight: int
    zero_weights: float
    max_bias: int
    bias_lines: int
    """Control lines that the largest bias needs on Loihi."""
    lowest: int
    highest: int
    """What the potential can reach, over all inputs (`limits.Bound`)."""
    accumulator: str
    """`int16` or `int32`: the narrowest that this bound allows. What an emulator uses is its own choice."""
    mean_error: float = 0.0
    """Mean of |a − T·y/λ| in steps; for the last layer of the logits' errors, in units of the ANN's logits."""
    max_error: float = 0.0
    active: float = 0.0
    """Share of activations above 0."""
    saturated: float = 0.0
    """Share of the ANN's positive activations that are above λ: more than T steps can say."""
    early: float = 0.0
    """Share of spikes before the readout (`quartz`)."""
    agreement: float = 0.0
    """Share of samples whose answer is the ANN's, with TTFS up to here and floating point after it."""
    accuracy: float | None = None
    """Of that hybrid, where labels are known."""


@dataclass(frozen=True, slots=True)
class Report:
    """What the self-check found."""

    samples: int
    agreement: float
    """Share of samples on which both networks give the same answer (by the membrane)."""
    ann_accuracy: float | None
    snn_accuracy: float | None
    input_agreement: float
    """Agreement of the ANN with itself, given the encoded input."""
    input_accuracy: float | None
    layers: tuple[LayerCheck, ...]
    notes: tuple[str, ...]

    def plain(self) -> dict[str, Any]:
        """As JSON takes it."""
        return asdict(self)


@dataclass(slots=True)
class _Answers:
    """Right and equal answers of one network or hybrid."""

    equal: int = 0
    right: int = 0

    def add(self, answer: NDArray[np.intp], ann: NDArray[np.intp], truth: NDArray[np.int64] | None) -> None:
        self.equal += int((answer == ann).sum())
        self.right += int((answer == truth).sum()) if truth is not None else 0


def compare(normalised: Normalised, quantised: Quantised, samples: Samples) -> Report:
    """Run both networks on all samples."""
    network, layers = quantised.network, normalised.ann.layers
    bounds, runs, frames = check(network), emulator(network), network.frames()
    weighted = [number for number, layer in enumerate(layers) if isinstance(layer, Weighted)]
    checks = {
        number: _static(normalised, quantised, number, place, bounds[number]) for place, number in enumerate(weighted)
    }
    answers = {place: _Answers() for place in (-2, -1, *weighted)}  # −2: the ANN itself, −1: its input encoded
    totals = dict.fromkeys(weighted, 0)
    positive = dict.fromkeys(weighted, 0)
    for start in range(0, len(samples.x), BATCH):
        x = samples.x[start : start + BATCH]
        truth = None if samples.labels is None else samples.labels[start : start + BATCH]
        times = encode(x, network.input_steps)
        traces = [runs.trace(one) for one in times]
        ann = logits(layers, x).argmax(1)
        answers[-2].add(ann, ann, truth)
        encoded = (1 - times / np.float32(network.input_steps)).astype(np.float32)
        answers[-1].add(logits(layers, encoded).argmax(1), ann, truth)
        for number, layer in enumerate(layers):
            last = number == len(layers) - 1
            x = step(layer, x, last=last)
            if number not in checks:
                continue
            one = checks[number]
            if last:
                potential = np.stack([trace.potential for trace in traces])
                off = np.abs(potential * quantised.logit - x.reshape(potential.shape)) * one.scale
                answers[number].add(potential.argmax(1), ann, truth)
            else:
                a = np.stack([_activation(trace, number, frames[number]) for trace in traces]).astype(np.float32)
                off = np.abs(a - one.steps * x)
                after = logits(layers[number + 1 :], a / np.float32(one.steps))
                answers[number].add(after.argmax(1), ann, truth)
            said = np.stack([_activation(trace, number, frames[number]) for trace in traces])
            totals[number] += said.size
            positive[number] += int((x > 0).sum())
            one.mean_error += float(off.sum(dtype=np.float64))
            one.max_error = max(one.max_error, float(off.max()))
            one.active += int((said > 0).sum())
            one.saturated += int((x > 1).sum())
            one.early += int((said > frames[number].last - frames[number].end).sum()) if network.duration == 0 else 0
    n = len(samples.x)

    def share(place: int) -> float | None:
        return None if samples.labels is None else answers[place].right / n

    for number, one in checks.items():
        one.mean_error, one.active, one.early = (
            value / totals[number] for value in (one.mean_error, one.active, one.early)
        )
        one.saturated /= max(1, positive[number])
        one.agreement, one.accuracy = answers[number].equal / n, share(number)
    final = weighted[-1]
    return Report(
        n, answers[final].equal / n, share(-2), share(final), answers[-1].equal / n, share(-1),
        tuple(checks.values()), normalised.ann.notes,
    )  # fmt: skip


def _activation(trace: Result | RateResult, number: int, frame: Frame) -> NDArray[np.int32]:
    """What the neurons of a layer said, in steps of time or in spikes."""
    if isinstance(trace, RateResult):
        return trace.counts[number]
    return np.asarray(frame.last - trace.spike_steps[number], np.int32)


def _static(normalised: Normalised, quantised: Quantised, number: int, place: int, bound: Bound) -> LayerCheck:
    layer, ann = quantised.network.layers[number], normalised.ann.layers[number]
    assert isinstance(layer, Conv | Dense)  # noqa: S101 (narrows the types: both networks have the same layers)
    assert isinstance(ann, Weighted)  # noqa: S101
    bias = int(np.abs(layer.bias.astype(np.int64)).max())
    fits = bound.lowest >= -INT16 and bound.highest < INT16
    return LayerCheck(
        ann.name, number, quantised.network.duration or layer.readout.steps, layer.readout.ramp,
        layer.readout.rounding, normalised.scales[place],
        int(np.abs(layer.weights.astype(np.int64)).max()), float((layer.weights == 0).mean()), bias, ceil(bias / LANE),
        bound.lowest, bound.highest, "int16" if fits else "int32",
    )  # fmt: skip

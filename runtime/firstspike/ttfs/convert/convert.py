"""The conversion from end to end: ONNX and calibration data in, a bundle and a report out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from firstspike.bundle import Bundle, DecideSpec, InputSpec, WindowSpec
from firstspike.errors import DataError, UsageError
from firstspike.ttfs.convert import bundle, calibration
from firstspike.ttfs.convert.ann import Ann
from firstspike.ttfs.convert.card import card
from firstspike.ttfs.convert.choose import Try, choose
from firstspike.ttfs.convert.normalise import Normalised, normalise
from firstspike.ttfs.convert.onnx_graph import load_ann
from firstspike.ttfs.convert.quantise import Plan, Quantised, quantise
from firstspike.ttfs.convert.rate import RatePlan, RateTry, choose_rate, quantise_rate
from firstspike.ttfs.convert.report import Report, compare
from firstspike.ttfs.convert.targets import look
from firstspike.ttfs.network import MAX_DURATION, MAX_STEPS, Neuron

Percentile = float | None
"""None: chosen by what the network answers."""


@dataclass(frozen=True, slots=True)
class Options:
    """How to convert; the command's arguments."""

    steps: int
    """T of the input, and of every layer unless `steps_per_layer` says otherwise; `rate`: the duration."""
    neuron: Neuron = "gated"
    input_steps: int | None = None
    """T of the input's code where it is another; `rate`: 255 unless told, since the input is a current."""
    percentile: Percentile = None
    """P of Algorithm 1, the ANN's weights as they are; None: scales (and refit) are chosen by their answers."""
    bits: int = 8
    steps_per_layer: tuple[int, ...] | None = None
    labels: tuple[str, ...] | None = None
    """Default: 0, 1, 2 …"""
    name: str | None = None
    """Default: the folder's."""
    encoding: str = "count"
    count_scale: int | None = None
    """Default: see `usual_count_scale`."""
    fit: str = "stretch"
    window: dict[str, Any] = field(default_factory=lambda: {"kind": "time", "size": 50_000, "hop": 50_000})
    decide: dict[str, Any] = field(default_factory=dict)

    def usual_count_scale(self) -> int:
        """Events a pixel that make p = 1, unless told: as many as the code has steps, so that each event is one."""
        return min(self.steps, MAX_STEPS) if self.neuron == "rate" else self.checked_input_steps()

    def checked_input_steps(self) -> int:
        """T of the input's code."""
        return self.input_steps or (MAX_STEPS if self.neuron == "rate" else self.steps)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A conversion that succeeded."""

    bundle: Bundle
    report: Report
    chosen: Try | RateTry | None
    """The scales and the refit that were chosen; None where a percentile was given."""
    tries: tuple[Try, ...] | tuple[RateTry, ...]
    """What was tried for it."""


def convert(
    onnx: Path, samples: Path, options: Options, out: Path, progress: Callable[[str], None] = lambda _: None
) -> Outcome:
    """Convert a network.

    Args:
        onnx: the trained network.
        samples: calibration data: see `calibration.read`.
        options: see there.
        out: the bundle's folder, new or empty.
        progress: told what is being done.

    Raises:
        UsageError: an option does not make sense, for itself or for this network.
        UnavailableError, NoInputError, DataError, BundleError, OutputError: see the steps.
    """
    check_options(options)
    bundle.vacant(out)
    progress("reading the network")
    ann = load_ann(onnx)
    steps = _steps(options, ann)
    labels = _labels(options, len(ann.weighted[-1].bias))
    specs = _specs(options, ann)
    data = calibration.read(samples, ann.input_shape, len(labels))
    made = network(ann, data.x, options, steps, progress)
    progress("comparing the networks")
    report = compare(made.normalised, made.quantised, data)
    manifest = _manifest(options, out, labels, specs, onnx)
    manifest["decide"]["logit_scale"] = made.logit_scale
    text = card(
        manifest, report, f"{scaling(options.percentile, made.chosen)}; weights of {options.bits} bits", onnx.name
    )
    return Outcome(bundle.write(out, made.quantised.network, onnx, text, manifest), report, made.chosen, made.tries)


@dataclass(frozen=True, slots=True)
class Made:
    """An integer network, and how it was made."""

    normalised: Normalised
    quantised: Quantised
    chosen: Try | RateTry | None = None
    tries: tuple[Try, ...] | tuple[RateTry, ...] = ()

    @property
    def logit_scale(self) -> float:
        """ANN logits a unit of potential: log_softmax(potential · logit_scale) has the ANN's temperature."""
        return self.quantised.logit * self.normalised.scales[-1]


def network(
    ann: Ann, x: NDArray[np.float32], options: Options, steps: tuple[int, ...], progress: Callable[[str], None]
) -> Made:
    """Make the integer network.

    Args:
        ann: the network.
        x: calibration samples (n, channels, height, width).
        options: see there.
        steps: T of each weighted layer; `rate` does not use it.
        progress: told what is being done.

    Raises:
        DataError, BundleError: see the steps.
    """
    if options.neuron == "rate":
        rated = RatePlan(options.checked_input_steps(), options.steps, options.bits)
        if options.percentile is None:
            best = choose_rate(ann, x, rated, progress)
            return Made(best.normalised, best.quantised, best.best, best.tries)
        progress("normalising")
        normalised = normalise(ann, x, options.percentile)
        return Made(normalised, quantise_rate(normalised, rated))
    plan = Plan(options.neuron, options.checked_input_steps(), steps, options.bits)
    if options.percentile is None:
        chosen = choose(ann, x, plan, progress)
        return Made(chosen.normalised, chosen.quantised, chosen.best, chosen.tries)
    progress("normalising")
    normalised = normalise(ann, x, options.percentile)
    return Made(normalised, quantise(normalised, look(ann, x), plan))


def scaling(percentile: float | None, chosen: Try | RateTry | None) -> str:
    """How the scales were found, in words."""
    if isinstance(chosen, Try):
        how = {"none": "nothing refitted", "bias": "biases refitted", "weights": "weights and biases refitted"}
        return f"scales: {chosen.multiple:g} × the closest, {how[chosen.refit]}"
    if chosen is not None:
        return f"scales: percentile {chosen.percentile:g} of the positive activations, chosen"
    return f"scales: percentile {percentile:g} of the positive activations"


def check_options(options: Options) -> None:
    """Refuse steps, percentile or bits that make no sense (UsageError)."""
    timed = [("steps-per-layer", one) for one in options.steps_per_layer or ()]
    timed += [] if options.input_steps is None else [("input-steps", options.input_steps)]
    timed += [] if options.neuron == "rate" else [("steps", options.steps)]
    for name, steps in timed:
        if not 1 <= steps <= MAX_STEPS:
            raise UsageError(f"--{name} {steps}: T must be 1 to {MAX_STEPS}: spike times travel as one byte")
    if options.neuron == "rate" and not 1 <= options.steps <= MAX_DURATION:
        raise UsageError(f"--steps {options.steps}: a rate-coded inference takes 1 to {MAX_DURATION} steps")
    if options.neuron == "rate" and options.steps_per_layer is not None:
        raise UsageError("--steps-per-layer: with rate coding all layers work all the time: use --steps alone")
    if options.percentile is not None and not 0 < options.percentile <= 100:
        raise UsageError(f"--percentile {options.percentile:g}: must be above 0 and at most 100")
    if not 3 <= options.bits <= 8:
        raise UsageError(f"--bits {options.bits}: weights have 3 to 8 bits, the least of which Loihi keeps at 0")


def _steps(options: Options, ann: Ann) -> tuple[int, ...]:
    weighted = ann.weighted
    if options.steps_per_layer is None:
        return (options.steps,) * len(weighted)
    if len(options.steps_per_layer) != len(weighted):
        names = ", ".join(layer.name for layer in weighted)
        raise UsageError(
            f"--steps-per-layer has {len(options.steps_per_layer)} numbers, the network has {len(weighted)} layers "
            f"with weights: {names}"
        )
    return options.steps_per_layer


def _labels(options: Options, classes: int) -> list[str]:
    labels = list(options.labels) if options.labels is not None else [str(number) for number in range(classes)]
    if len(labels) != classes or len(set(labels)) != classes or "" in labels:
        raise UsageError(f"--labels: {len(labels)} names, must be {classes} different ones, one for each output")
    return labels


def _specs(options: Options, ann: Ann) -> dict[str, dict[str, Any]]:
    channels, height, width = ann.input_shape
    if channels > 2:
        raise DataError(
            f"the network's input has {channels} channels: events give 1 (both polarities) or 2 (OFF and ON): train it "
            "on event images"
        )
    given = {
        "channels": channels, "height": height, "width": width, "encoding": options.encoding,
        "steps": options.checked_input_steps(),
        "fit": options.fit,
    }  # fmt: skip
    if options.encoding == "count":
        given["count_scale"] = options.count_scale or options.usual_count_scale()
    try:
        return {
            "input": InputSpec.model_validate(given).model_dump(),
            "window": WindowSpec.model_validate(options.window).model_dump(),
            "decide": DecideSpec.model_validate(options.decide).model_dump(),
        }
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UsageError(f"the bundle's {where or 'window'}: {first['msg']} (found {first['input']!r:.80})") from None


def _manifest(
    options: Options, out: Path, labels: list[str], specs: dict[str, dict[str, Any]], onnx: Path
) -> dict[str, Any]:
    digest = hashlib.sha256(onnx.read_bytes()).hexdigest()
    return {
        "schema": "firstspike.bundle/1",
        "name": (options.name or out.resolve().name)[:100],
        "version": "0.1.0",
        "labels": labels,
        **specs,
        "licence": "not stated",
        "trained_on": [f"not stated (converted from {onnx.name}, sha256 {digest})"],
    }

"""The conversion from end to end: ONNX and calibration data in, a bundle and a report out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from firstspike.bundle import Bundle, DecideSpec, InputSpec, WindowSpec
from firstspike.errors import DataError, UsageError
from firstspike.ttfs.convert import bundle, calibration
from firstspike.ttfs.convert.ann import Ann
from firstspike.ttfs.convert.card import card
from firstspike.ttfs.convert.choose import Try, choose
from firstspike.ttfs.convert.normalise import normalise
from firstspike.ttfs.convert.onnx_graph import load_ann
from firstspike.ttfs.convert.quantise import Plan, Quantised, quantise
from firstspike.ttfs.convert.report import Report, compare
from firstspike.ttfs.convert.targets import look
from firstspike.ttfs.network import MAX_STEPS, Neuron


@dataclass(frozen=True, slots=True)
class Options:
    """How to convert; the command's arguments."""

    steps: int
    """T of the input, and of every layer unless `steps_per_layer` says otherwise."""
    neuron: Neuron = "gated"
    percentile: float | None = None
    """P of Algorithm 1, the ANN's weights as they are; None: scales and refit are chosen (`choose`)."""
    bits: int = 8
    steps_per_layer: tuple[int, ...] | None = None
    labels: tuple[str, ...] | None = None
    """Default: 0, 1, 2 …"""
    name: str | None = None
    """Default: the folder's."""
    encoding: str = "count"
    count_scale: int | None = None
    """Default: `steps`, so that each event is a step."""
    fit: str = "stretch"
    window: dict[str, Any] = field(default_factory=lambda: {"kind": "time", "size": 50_000, "hop": 50_000})
    decide: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A conversion that succeeded."""

    bundle: Bundle
    report: Report
    chosen: Try | None
    """The scales and the refit that were chosen; None where a percentile was given."""
    tries: tuple[Try, ...]
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
    _check(options)
    bundle.vacant(out)
    progress("reading the network")
    ann = load_ann(onnx)
    steps = _steps(options, ann)
    labels = _labels(options, len(ann.weighted[-1].bias))
    specs = _specs(options, ann)
    data = calibration.read(samples, ann.input_shape, len(labels))
    plan = Plan(options.neuron, options.steps, steps, options.bits)
    best: Try | None = None
    tries: tuple[Try, ...] = ()
    if options.percentile is None:
        chosen = choose(ann, data.x, plan, progress)
        normalised, quantised, best, tries = chosen.normalised, chosen.quantised, chosen.best, chosen.tries
    else:
        progress("normalising")
        normalised = normalise(ann, data.x, options.percentile)
        quantised = quantise(normalised, look(ann, data.x), plan)
    progress("comparing the networks")
    report = compare(normalised, quantised, data)
    manifest = _manifest(options, out, labels, specs, onnx)
    manifest["decide"]["logit_scale"] = _logit_scale(quantised, normalised.scales[-1])
    text = card(manifest, report, f"{scaling(options.percentile, best)}; weights of {options.bits} bits", onnx.name)
    return Outcome(bundle.write(out, quantised.network, onnx, text, manifest), report, best, tries)


def scaling(percentile: float | None, chosen: Try | None) -> str:
    """How the scales were found, in words."""
    if chosen is None:
        return f"scales: percentile {percentile:g} of the positive activations"
    how = {"none": "nothing refitted", "bias": "biases refitted", "weights": "weights and biases refitted"}
    return f"scales: {chosen.multiple:g} × the closest, {how[chosen.refit]}"


def _logit_scale(quantised: Quantised, scale: float) -> float:
    """ANN logits a unit of potential, so that log_softmax(potential · logit_scale) has the ANN's temperature."""
    return quantised.logit * scale


def _check(options: Options) -> None:
    for name, steps in [("steps", options.steps)] + [("steps-per-layer", one) for one in options.steps_per_layer or ()]:
        if not 1 <= steps <= MAX_STEPS:
            raise UsageError(f"--{name} {steps}: T must be 1 to {MAX_STEPS}: spike times travel as one byte")
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
        "channels": channels, "height": height, "width": width, "encoding": options.encoding, "steps": options.steps,
        "fit": options.fit,
    }  # fmt: skip
    if options.encoding == "count":
        given["count_scale"] = options.count_scale or options.steps
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

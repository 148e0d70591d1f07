"""CARD.md of a converted bundle: what the conversion knows, and what its maker must add."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from firstspike.ttfs.convert.report import Report


def card(manifest: Mapping[str, Any], report: Report, settings: str, source: str) -> str:
    """The card's text; `settings` says how it was converted."""
    given = manifest["input"]
    lines = [
        f"# {manifest['name']}",
        "",
        f"Converted from `{source}` by `firstspike convert`. What is marked TODO nobody but its maker knows.",
        "",
        "## Use",
        "",
        f"- Answers: {', '.join(manifest['labels'][:20])}{' …' if len(manifest['labels']) > 20 else ''}",
        f"- Input: {given['channels']}×{given['height']}×{given['width']}, encoding `{given['encoding']}`, "
        f"{given['steps']} steps",
        "- TODO: what it is for, and what it is not for",
        "",
        "## Data",
        "",
        "- TODO: what it was trained on, with licences; also `trained_on` and `licence` in bundle.json",
        "- TODO: accuracy on data that neither training nor calibration has seen",
        "",
        "## Conversion",
        "",
        f"- {settings.capitalize()}",
        f"- Calibration: {report.samples} samples; the figures below are on these",
        f"- Same answer as the ANN: {report.agreement:.2%}",
    ]
    if report.ann_accuracy is not None and report.snn_accuracy is not None:
        lines.append(f"- Accuracy: ANN {report.ann_accuracy:.2%}, spiking {report.snn_accuracy:.2%}")
    lines += [f"- {note}" for note in report.notes]
    lines += ["", "```", *table(report), "```", ""]
    return "\n".join(lines)


def table(report: Report) -> list[str]:
    """The self-check as lines of text: a layer a line."""
    known = report.ann_accuracy is not None
    width = max(len("input, encoded"), *(len(one.name) for one in report.layers))
    head = f"{'layer':<{width}}    T      S  |w|   |b| lines  potential reaches      fits    mean err  max err  active"
    lines = [head + "  saturated   early   agrees" + ("  accuracy" if known else "")]

    def end(agreement: float, accuracy: float | None) -> str:
        return f"{agreement:9.2%}" + (f" {accuracy:9.2%}" if accuracy is not None else "")

    blank = len(lines[0]) - width - 9 - (10 if known else 0)
    lines.append(f"{'input, encoded':<{width}}{'':{blank}}{end(report.input_agreement, report.input_accuracy)}")
    lines += [
        f"{one.name:<{width}} {one.steps:4d} {one.ramp:6d} {one.max_weight:4d} {one.max_bias:5d} {one.bias_lines:5d} "
        f"{one.lowest:9d}..{one.highest:<9d} {one.accumulator:>6} {one.mean_error:9.3f} {one.max_error:8.2f} "
        f"{one.active:7.1%} {one.saturated:9.2%} {one.early:8.3%}{end(one.agreement, one.accuracy)}"
        for one in report.layers
    ]
    return [
        *lines,
        "errors in steps, of the last layer in logits; agrees, accuracy: spikes up to here, floating point after it",
    ]

"""`firstspike evaluate`: accuracy and latency on labelled recordings."""

from __future__ import annotations

import argparse
import logging
import os
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from firstspike.bundle import open_bundle
from firstspike.cli.common import (
    add_config_arguments,
    add_plan_argument,
    apply_settings,
    layers_for_files,
    stop_on_signal,
)
from firstspike.cli.output import Progress, emit, emit_json
from firstspike.errors import NoInputError, UnavailableError
from firstspike.evaluation import ABSTAINED, Evaluation, labelled
from firstspike.messages import Decision
from firstspike.rooms import rooms
from firstspike.sources.recording import printable_name


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Arguments of `evaluate`."""
    command = commands.add_parser(
        "evaluate",
        help="accuracy on labelled recordings",
        description="Replay every recording below DIR, which has a sub-folder for each label, as fast as possible. A "
        "recording's answer is the evidence summed over all its windows (decide.decay = 1 unless set).",
    )
    command.add_argument("folder", type=Path, metavar="DIR")
    command.add_argument("--model", metavar="DIR", help="bundle, by folder or name (default: nmnist)")
    command.add_argument("--json", action="store_true", help="one JSON object")
    command.add_argument(
        "--only", metavar="FIRST-LAST", type=_numbers, help="only files named by a number in this range"
    )
    add_plan_argument(command)
    add_config_arguments(command)
    command.set_defaults(run=run)


def _numbers(text: str) -> range:
    first, _, last = text.partition("-")
    if not (first.isdecimal() and last.isdecimal() and int(first) <= int(last)):
        raise argparse.ArgumentTypeError(f"{text!r} is not FIRST-LAST, such as 801-900")
    return range(int(first), int(last) + 1)


def run(args: argparse.Namespace) -> int:
    """Evaluate; 65 if a recording could not be read."""
    layers = layers_for_files(args)
    layers.put(("decide", "decay"), 1.0, "evaluate")
    layers.put(("source", "recording", "speed"), "max", "evaluate")
    # A deadline is for live streams: here every window is wanted.
    layers.put(("schedule", "deadline_ms"), 3_600_000.0, "evaluate")
    labels = open_bundle(apply_settings(layers, args.set).model_path).manifest.labels
    truths = labelled(args.folder, labels)
    if args.only is not None:
        truths = {path: label for path, label in truths.items() if _number(path) in args.only}
        if not truths:
            raise NoInputError(
                f"{args.folder}: no recording is named by a number in --only {args.only[0]}-{args.only[-1]}"
            )
    layers.put(("source", "recording", "paths"), [str(Path(path).absolute()) for path in truths], "command line")
    # Latencies are measured, not virtual.
    loaded = apply_settings(layers, [*args.set, "clock.kind=monotonic"], args.plan)
    evaluation = Evaluation(labels, {printable_name(Path(path).absolute()): label for path, label in truths.items()})
    stopping = stop_on_signal()
    progress = Progress("evaluate")
    logging.getLogger("firstspike.pipeline").setLevel(logging.CRITICAL)  # failures are listed in the report

    def take(decision: Decision) -> None:
        evaluation.add(decision)
        progress.show(f"{len(evaluation.tallies)} of {len(truths)} recordings")

    with rooms(loaded, take, stopping.is_set) as made, made.account or nullcontext():
        made.await_plans()
        if not made.runner.first_is_ready():
            raise UnavailableError(f"{made.runner.out()[0]}: nothing was evaluated: mend that, or name another --plan")
        made.pipeline.run()
    progress.done()
    if stopping.is_set():
        raise UnavailableError(f"stopped after {len(evaluation.tallies)} of {len(truths)} recordings: no figures")
    report = evaluation.report({name: str(error) for name, error in made.pipeline.failures})
    report["truncated"] = made.pipeline.truncated
    counts = made.pipeline.totals.counts
    report["events"] = counts["events"]
    report["filtered"] = {
        name.removeprefix("filtered_"): count
        for name, count in counts.items()
        if name.startswith("filtered_") and count
    }
    emit_json(report) if args.json else _print(report, labels)
    return os.EX_DATAERR if report["failed"] else 0


def _number(path: str) -> int | None:
    stem = Path(path).stem
    return int(stem) if stem.isdecimal() else None


def _print_first_spike(found: dict[str, Any]) -> None:
    emit(
        f"spikes     {found['accuracy']:7.2%} of {found['windows']} windows right by their first output spike, "
        f"{found['membrane_accuracy']:.2%} by the membrane"
    )
    emit(
        f"           ties {found['ties']:.2%}, decided by the membrane (by the lowest index: "
        f"{found['accuracy_ties_by_index']:.2%} right), silent {found['silent']:.2%}"
    )
    if found["known_step"] is None:
        return
    emit(f"           agrees with the membrane in {found['agreement']:.2%} of those that spiked")
    for name, key in (("known at network step", "known_step"), ("spike at step of the output layer", "step")):
        spread = found[key]
        emit(
            f"           {name} {spread['mean']:.1f} of {spread['of']} on average, p50 {spread['p50']:g}, "
            f"p90 {spread['p90']:g}"
        )


def _print(report: dict[str, Any], labels: list[str]) -> None:
    if report["accuracy"] is None:
        emit("no recording could be read")
    else:
        emit(f"recordings {report['accuracy']:7.2%} of {report['n']} right, {report['abstained']} abstained")
    if report["window_accuracy"] is not None:
        emit(f"windows    {report['window_accuracy']:7.2%} of {report['windows']} right (those with enough events)")
    for name, count in report["filtered"].items():
        share = count / report["events"]
        emit(f"filtered   {share:7.2%} of {report['events']} events: {name.replace('_', ' ')}")
    if report["first_spike"]:
        _print_first_spike(report["first_spike"])
    for name, count in report["answered_by"].items():
        emit(f"answered   {count} windows by {name}")
    if report["unanswered"]:
        emit(f"unanswered {report['unanswered']} windows: {report['unanswered_because']}")
    if report["latency_us"]:
        emit("latency    " + ", ".join(f"{name} {value:g} µs" for name, value in report["latency_us"].items()))
    columns = [*labels, ABSTAINED]
    used = [name for name in columns if any(name in row for row in report["confusion"].values())]
    width = max(5, *(len(name) + 1 for name in labels))
    emit("\ntruth \\ answer" + "".join(f"{name[:width]:>{width + 1}}" for name in used))
    for truth, row in report["confusion"].items():
        emit(f"{truth:>14}" + "".join(f"{row.get(name, 0) or '·':>{width + 1}}" for name in used))
    for name, answer in report["wrong"].items():
        emit(f"wrong: {name}: {answer if answer is not None else ABSTAINED}")
    for name, cut in report["truncated"].items():
        emit(f"cut off: {name}: the last {cut} bytes are no whole event; judged by what there is")
    for name, reason in report["failed"].items():
        emit(f"failed: {name}: {reason}")

"""`firstspike convert`: a trained ANN becomes a TTFS bundle."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from firstspike.cli.output import Progress, emit, emit_json
from firstspike.errors import UsageError
from firstspike.ttfs.convert.card import table
from firstspike.ttfs.convert.convert import Options, Outcome, convert, scaling


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Arguments of `convert`."""
    command = commands.add_parser(
        "convert",
        help="make a TTFS bundle of a trained ANN",
        description="Convert an ONNX network to time-to-first-spike neurons, check it against the ANN layer by layer, "
        "and write it as a bundle. See docs/conversion.md.",
    )
    command.add_argument("network", type=Path, metavar="NET.onnx")
    command.add_argument(
        "--calibration", type=Path, required=True, metavar="DATA.npz",
        help="training samples: array x (n, channels, height, width) in 0..1, perhaps labels (n,)",
    )  # fmt: skip
    command.add_argument(
        "--steps", type=int, required=True, metavar="T",
        help="time steps a layer, 1 to 255; with --coding rate of an inference, 1 to 4096",
    )  # fmt: skip
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="the bundle's folder, new or empty")
    command.add_argument(
        "--coding",
        choices=("ttfs", "rate"),
        default="ttfs",
        help="times, or numbers of spikes: the baseline (default: ttfs)",
    )
    command.add_argument("--neuron", choices=("gated", "quartz"), help="of --coding ttfs (default: gated)")
    command.add_argument(
        "--percentile", type=percentile, metavar="P",
        help="of the positive activations that T stands for, as in Quartz (98.5 there); auto tries scales and keeps "
        "those whose answers come closest to the ANN's (default: auto)",
    )  # fmt: skip
    command.add_argument("--bits", type=int, default=8, help="of a weight, 3 to 8 (default: 8)")
    command.add_argument(
        "--steps-per-layer", type=numbers, metavar="T,T,…", help="T of each layer with weights; --steps is the input's"
    )
    command.add_argument(
        "--input-steps", type=int, metavar="T", help="of the input's code (default: --steps; with --coding rate 255)"
    )
    command.add_argument("--labels", type=_names, metavar="NAME,NAME,…", help="of the outputs (default: 0,1,2,…)")
    command.add_argument("--name", help="the model's name (default: the folder's)")
    command.add_argument("--json", action="store_true", help="the report as one JSON object")
    _input_arguments(command.add_argument_group("how the runtime feeds it"))
    command.set_defaults(run=run)


def _input_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--encoding", choices=("count", "first"), default="count", help="(default: count)")
    group.add_argument(
        "--count-scale",
        type=natural,
        metavar="C",
        help="events a pixel that make an input of 1 (default: --input-steps; with --coding rate --steps)",
    )
    group.add_argument("--fit", choices=("stretch", "crop", "centre"), default="stretch", help="(default: stretch)")
    group.add_argument("--window-us", type=natural, default=50_000, metavar="N", help="(default: 50000)")
    group.add_argument("--window-events", type=natural, metavar="N", help="windows of so many events instead")
    group.add_argument("--hop", type=natural, metavar="N", help="from one window to the next (default: its size)")
    group.add_argument("--min-events", type=int, default=1, metavar="N", help="fewer say nothing (default: 1)")


def percentile(text: str) -> float | None:
    """A percentile, None for `auto`; an argument's type."""
    if text == "auto":
        return None
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number, such as 99.9, nor 'auto'") from None


def numbers(text: str) -> tuple[int, ...]:
    """Whole numbers with commas between them; an argument's type."""
    parts = text.split(",")
    if not all(part.strip().isdecimal() and len(part) < 10 for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not a row of numbers, such as 16,8,8")
    return tuple(int(part) for part in parts)


def natural(text: str) -> int:
    """A whole number above 0; an argument's type."""
    if not text.isdecimal() or len(text) > 12 or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(","))


def options(args: argparse.Namespace) -> Options:
    """The arguments as the conversion takes them."""
    if args.coding == "rate" and args.neuron is not None:
        raise UsageError(f"--neuron {args.neuron}: is for --coding ttfs: leave it out")
    kind, size = ("count", args.window_events) if args.window_events else ("time", args.window_us)
    return Options(
        steps=args.steps, neuron="rate" if args.coding == "rate" else args.neuron or "gated",
        input_steps=args.input_steps, percentile=args.percentile, bits=args.bits,
        steps_per_layer=args.steps_per_layer, labels=args.labels, name=args.name, encoding=args.encoding,
        count_scale=args.count_scale, fit=args.fit,
        window={"kind": kind, "size": size, "hop": args.hop or size}, decide={"min_events": args.min_events},
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Convert, check and write."""
    progress = Progress("convert")
    outcome = convert(args.network, args.calibration, options(args), args.out, progress.show)
    progress.done()
    if args.json:
        emit_json({
            "bundle": str(args.out), "digest": outcome.bundle.digest,
            "chosen": None if outcome.chosen is None else asdict(outcome.chosen),
            "tries": [asdict(one) for one in outcome.tries], **outcome.report.plain(),
        })  # fmt: skip
    else:
        _print(outcome, args)
    return 0


def _code(args: argparse.Namespace) -> str:
    return "rate" if args.coding == "rate" else "TTFS"


def _print(outcome: Outcome, args: argparse.Namespace) -> None:
    report = outcome.report
    for line in table(report):
        emit(line)
    tried = f" (of {len(outcome.tries)} tries; --json lists them)" if outcome.tries else ""
    emit(scaling(args.percentile, outcome.chosen) + tried)
    for note in report.notes:
        emit(f"note: {note}")
    emit(f"same answer as the ANN on {report.agreement:.2%} of {report.samples} calibration samples")
    if report.ann_accuracy is not None and report.snn_accuracy is not None:
        emit(f"accuracy there: ANN {report.ann_accuracy:.2%}, {_code(args)} {report.snn_accuracy:.2%}")
    emit(f"{args.out}: written; see CARD.md for what is left to say")

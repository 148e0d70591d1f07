"""`firstspike sweep`: what a network's accuracy costs in each code, in steps, spikes and modelled energy."""

from __future__ import annotations

import argparse
from itertools import product
from pathlib import Path

from firstspike.cli.convert import natural, numbers, percentile
from firstspike.cli.output import Progress, emit, emit_json, say
from firstspike.ttfs.convert.calibration import read
from firstspike.ttfs.convert.convert import Options
from firstspike.ttfs.convert.onnx_graph import load_ann
from firstspike.ttfs.convert.sweep import Sweep, sweep
from firstspike.ttfs.network import Neuron

CODINGS: tuple[Neuron, ...] = ("gated", "quartz", "rate")


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Arguments of `sweep`."""
    command = commands.add_parser(
        "sweep",
        help="what accuracy costs: codes, steps and scales compared",
        description="Convert an ONNX network with every setting, run it on labelled samples, and print accuracy beside "
        "steps, spikes, operations and modelled energy; * marks what nothing else beats. See docs/conversion.md.",
    )
    command.add_argument("network", type=Path, metavar="NET.onnx")
    command.add_argument("--calibration", type=Path, required=True, metavar="DATA.npz", help="as `convert` takes it")
    command.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="DATA.npz",
        help="other samples, with labels, to measure on",
    )
    command.add_argument(
        "--coding", type=_codings, default=("rate",), metavar="CODE,…",
        help="of gated and quartz (times) and rate (default: rate)",
    )  # fmt: skip
    command.add_argument("--steps", type=numbers, required=True, metavar="T,T,…", help="as `convert` takes each")
    command.add_argument(
        "--percentiles", type=_percentiles, default=(None,), metavar="P,P,…",
        help="of the activations; auto chooses on the calibration data (default: auto)",
    )  # fmt: skip
    command.add_argument("--bits", type=int, default=8, help="of a weight, 3 to 8 (default: 8)")
    command.add_argument("--samples", type=natural, metavar="N", help="of --data, the first N (default: all)")
    command.add_argument("--json", action="store_true", help="one JSON object")
    command.set_defaults(run=run)


def _codings(text: str) -> tuple[Neuron, ...]:
    parts = tuple(part.strip() for part in text.split(","))
    found = tuple(coding for coding in CODINGS if coding in parts)
    if len(found) != len(parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not a row of {', '.join(CODINGS)}")
    return found


def _percentiles(text: str) -> tuple[float | None, ...]:
    return tuple(percentile(part.strip()) for part in text.split(","))


def run(args: argparse.Namespace) -> int:
    """Convert, measure and print."""
    progress = Progress("sweep")
    ann = load_ann(args.network)
    classes = len(ann.weighted[-1].bias)
    calibration = read(args.calibration, ann.input_shape, classes)
    data = read(args.data, ann.input_shape, classes).first(args.samples)
    grid = list(product(args.coding, args.steps, args.percentiles))
    found = sweep(ann, calibration.x, data, grid, Options(args.steps[0], bits=args.bits), progress.show)
    progress.done()
    for reason in found.refused:
        say(f"firstspike: left out: {reason}")
    if args.json:
        emit_json(found.plain())
    else:
        _print(found)
    return 0


def _print(found: Sweep) -> None:
    emit(f"{found.samples} samples; the ANN errs on {found.ann_error:.2%}")
    emit(
        "code    setting   error    drop  agrees  steps    spikes  inform.  eff. ACs    updates  M bit ops  Loihi µJ  "
        "scales"
    )
    for one in found.points:
        emit(
            f"{one.neuron:<7}{'*' if one.front else ' '}{one.parameter:>7} {one.error:>7.2%} "
            f"{100 * (one.error - found.ann_error):>+7.2f} {one.agreement:>7.2%} {one.steps:>6} {one.spikes:>9.0f} "
            f"{one.informative:>8.0f} {one.effective:>9.0f} {one.updates:>10} {one.bit_operations / 1e6:>10.2f} "
            f"{one.loihi_nj / 1e3:>9.2f}  {one.scales.removeprefix('scales: ')}"
        )
    emit("* no other has less of error, steps, informative spikes or bit operations without more of another")
    emit("energy is modelled, not measured (operations × constants): bit operations as Quartz §3.4, µJ as Davies 2018")
    emit(
        f"the ANN: {found.ann_bit_operations_fp32 / 1e6:.2f} M bit operations with 32 bits, "
        f"{found.ann_bit_operations_int8 / 1e6:.2f} M with 8"
    )

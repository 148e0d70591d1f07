"""`firstspike convert-slayer`: a spiking network that lava-dl's SLAYER exported, as the emulator runs it."""

from __future__ import annotations

import argparse
from pathlib import Path

from firstspike.cli.hybrid import add_bundle_arguments, positive, tell, wanted, whole_number
from firstspike.cli.output import emit
from firstspike.cuba.file import save
from firstspike.cuba.hdf5 import read
from firstspike.cuba.network import Flatten, Network, Shape
from firstspike.errors import OutputError, UsageError
from firstspike.hybrid.assemble import alone


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Arguments of `convert-slayer`."""
    command = commands.add_parser(
        "convert-slayer",
        help="turn a network of SLAYER's (HDF5) into ours",
        description="Read a network of CUBA LIF neurons that lava-dl's SLAYER exported (HDF5, what netx reads), check "
        "it against Loihi's limits, and write it as NumPy archive for the emulator. Layers: conv, pool, flatten, "
        "dense. What cannot be run as trained is refused by name. With --labels it becomes a bundle, which the daemon "
        "runs: the class whose output neuron spikes most often. Needs h5py (pip install 'firstspike[hybrid]').",
    )
    command.add_argument("network", type=Path, metavar="NET.net", help="the file that SLAYER's export_hdf5 wrote")
    command.add_argument(
        "--out", type=Path, metavar="FILE.npz|DIR",
        help="where to write it; default: beside it, as .npz; with --labels a new folder",
    )  # fmt: skip
    command.add_argument("--steps", type=whole_number, metavar="T", help="of a window, with --labels")
    command.add_argument(
        "--logit-per-spike", type=positive, metavar="L", help="what an output spike adds to its class (default: 1)"
    )
    add_bundle_arguments(command, required=False)
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Convert one network and say what it is."""
    if args.labels is not None:
        return _bundle(args)
    for name in ("steps", "logit_per_spike", "window_ms", "fit", "min_events", "licence"):
        if getattr(args, name) is not None:
            raise UsageError(f"--{name.replace('_', '-')} is for a bundle: give --labels too")
    out: Path = args.out or args.network.with_suffix(".npz")
    if out == args.network:
        raise UsageError(f"{out}: is the network to be read: name another file with --out")
    network = read(args.network)
    try:
        save(network, out)
    except OSError as error:
        raise OutputError(f"{out}: cannot be written: {error.strerror or error}") from None
    for line in _describe(network):
        emit(line)
    emit(f"{out}: {out.stat().st_size} B")
    return 0


def _bundle(args: argparse.Namespace) -> int:
    """A network that decides by itself."""
    if args.out is None or args.steps is None:
        missing = "--out DIR" if args.out is None else "--steps T, how many steps a window had in training"
        raise UsageError(f"a bundle needs {missing}")
    scale = 1.0 if args.logit_per_spike is None else args.logit_per_spike
    tell(alone(args.out, read(args.network), args.network, args.steps, wanted(args, scale)))
    return 0


def _describe(network: Network) -> list[str]:
    lines = [f"input: {_sides(network.input_shape)}"]
    for number, (layer, shape) in enumerate(zip(network.layers, network.shapes(), strict=True)):
        text = f"layer {number}: {type(layer).__name__.lower()} to {_sides(shape)}"
        if not isinstance(layer, Flatten):
            neuron = layer.neuron
            text += (
                f", {layer.weights.size} weights, threshold {neuron.threshold}, decays {neuron.current_decay} and "
                f"{neuron.voltage_decay} of 4096"
            )
        lines.append(text)
    return lines


def _sides(shape: Shape) -> str:
    return "×".join(map(str, shape))

"""`firstspike inspect`: what a bundle's network costs, layer by layer."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import asdict
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from firstspike.backends.emulator import EmulatorBackend
from firstspike.bundle import Bundle, find, open_bundle
from firstspike.cli.output import Progress, emit, emit_json
from firstspike.encode_frames import encoder_for
from firstspike.errors import DataError, UsageError
from firstspike.hybrid import count as parts
from firstspike.hybrid.table import lines
from firstspike.sources.decoding import DecoderProcess
from firstspike.ttfs.convert.calibration import encode, read
from firstspike.ttfs.count import Activity, Count, LayerCount, count
from firstspike.ttfs.energy import modelled
from firstspike.ttfs.file import load
from firstspike.window import Windower


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Arguments of `inspect`."""
    command = commands.add_parser(
        "inspect",
        help="what a bundle's network costs",
        description="Print neurons, spikes, steps and operations of a bundle's network, layer by layer: what is known "
        "from the network alone, and with samples or recordings what they make it do. See docs/conversion.md.",
    )
    command.add_argument("bundle", metavar="DIR", help="bundle, by folder or name")
    shown = command.add_mutually_exclusive_group()
    shown.add_argument("--data", type=Path, metavar="DATA.npz", help="samples: array x (n, channels, height, width)")
    shown.add_argument("--recordings", type=Path, nargs="+", metavar="FILE", help="windows as the bundle cuts them")
    command.add_argument("--json", action="store_true", help="one JSON object")
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Count and print."""
    bundle = open_bundle(find(args.bundle, Path.cwd()))
    if bundle.manifest.parts is not None:
        return _run_parts(args, bundle)
    EmulatorBackend(bundle).close()  # refuses a network that does not fit its manifest
    network = load(bundle.path("ttfs"))
    progress = Progress("inspect")
    inputs: Iterator[NDArray[np.uint8]] = iter(())
    if args.data is not None:
        samples = read(args.data, network.input_shape, len(bundle.manifest.labels))
        inputs = iter(encode(samples.x, network.input_steps))
    elif args.recordings is not None:
        inputs = _windows(bundle, args.recordings)
    found = count(network, _shown(inputs, progress))
    progress.done()
    _require_any(args, bundle, found.inferences)
    if args.json:
        energy = modelled(found)
        shown = {"modelled_energy": None if energy is None else asdict(energy)}
        emit_json({"bundle": bundle.manifest.name, "digest": bundle.digest, **found.plain(), **shown})
    else:
        _print(bundle, found)
    return 0


def _run_parts(args: argparse.Namespace, bundle: Bundle) -> int:
    """The same for a model with a spiking front."""
    if args.data is not None:
        raise UsageError(f"--data: the front of {bundle.manifest.name} takes frames of events: give --recordings")
    progress = Progress("inspect")
    inputs = _windows(bundle, args.recordings) if args.recordings is not None else iter(())
    found = parts.count(bundle, _shown(inputs, progress))
    progress.done()
    _require_any(args, bundle, found.windows)
    if args.json:
        emit_json({"bundle": bundle.manifest.name, "digest": bundle.digest, **found.plain()})
    else:
        for line in lines(bundle, found):
            emit(line)
    return 0


def _require_any(args: argparse.Namespace, bundle: Bundle, windows: int) -> None:
    if args.recordings is not None and windows == 0:
        raise DataError(
            f"no window of the recordings has the bundle's {bundle.manifest.decide.min_events} events: nothing to count"
        )


def _shown(inputs: Iterator[NDArray[np.uint8]], progress: Progress) -> Iterator[NDArray[np.uint8]]:
    for number, times in enumerate(inputs, 1):
        progress.show(f"{number} inferences")
        yield times


def _windows(bundle: Bundle, files: list[Path]) -> Iterator[NDArray[np.uint8]]:
    """Windows that say something (`decide.min_events`), encoded as the runtime does."""
    manifest = bundle.manifest
    decoder = DecoderProcess()
    try:
        for path in files:
            with decoder.open(path) as recording:
                encoder = encoder_for(manifest.input, recording.info.width, recording.info.height)
                windower = Windower(manifest.window)
                cut = (window for events in recording for window in windower.push(events))
                for window in chain(cut, windower.flush()):
                    spikes = encoder.encode(window.events, window.t_start_us, window.t_end_us)
                    if spikes.n_events >= manifest.decide.min_events:
                        yield spikes.times if spikes.frames is None else spikes.frames
    finally:
        decoder.close()


_STATIC = (
    ("neurons", "neurons"), ("parameters", "parameters"), ("0 weights", "zero_weights"), ("MACs", "macs"),
    ("σ dense", "synapses"), ("Eq. 9", "eq9"),
)  # fmt: skip
_SHOWN = (("spikes in", "inputs"), ("spikes out", "informative"), ("early", "early"), ("eff. ACs", "effective"))


def _print(bundle: Bundle, found: Count) -> None:
    manifest = bundle.manifest
    emit(f"{manifest.name} {manifest.version}: {found.neuron} neurons, {len(manifest.labels)} classes")
    emit(f"steps      {found.steps_to_answer} to the answer (membrane), {found.steps} until the last spike")
    activity = found.activity
    head = f"\n{'layer':<10} {'shape':<13} {'T':>4}" + "".join(f"{title:>11}" for title, _ in _STATIC)
    emit(head + ("".join(f"{title:>11}" for title, _ in _SHOWN) if activity else ""))
    for place, layer in enumerate(found.layers):
        shape = "×".join(map(str, layer.shape))
        emit(f"{layer.number:>2} {layer.kind:<7} {shape:<13} {layer.steps:>4}" + _row(layer, activity, place))
    static = [None if name == "eq9" and found.neuron == "rate" else found.total(name) for _, name in _STATIC]
    total = "".join(f"{_shown_number(number):>11}" for number in static)
    if activity is not None:
        total += "".join(f"{found.total_activity(name):>11.1f}" for _, name in _SHOWN)
    emit(f"{'total':<29}" + total)
    emit("")
    if found.neuron != "rate":
        emit(f"spikes     {found.total('neurons')} an inference, one a neuron (and {found.input_pixels} of the input)")
    emit(f"updates    {found.total('updates')} of potentials an inference")
    if activity is None:
        emit("shown      nothing: name --data or --recordings to count what activity makes of it")
        return
    informative = found.total_activity("informative")
    emit(f"shown      {found.inferences} inferences; the means of these:")
    emit(f"  informative spikes  {informative:.1f} ({informative / found.total('neurons'):.3f} a neuron)")
    emit(f"  input spikes        {found.input_informative:.1f} of {found.input_pixels}")
    emit(f"  first output spike  at step {found.first_output_step:.2f}")
    emit(f"  synaptic operations {found.total_activity('effective'):.0f} effective ACs (NeuroBench), of which")
    emit(f"                      {activity[0].effective:.0f} by the input (MACs to whoever reads it as numbers)")
    energy = modelled(found)
    assert energy is not None  # noqa: S101 (narrows the type: there is activity)
    bits, dense = energy.bit_operations / 1e6, energy.ann_bit_operations_int8 / 1e6
    emit(f"  modelled energy     {bits:.2f} M bit operations (Quartz §3.4; the ANN with 8 bits {dense:.2f} M),")
    emit(f"                      {energy.loihi_nj / 1e3:.2f} µJ (Davies 2018): by counting, not by a meter")


def _shown_number(number: int | None) -> str:
    return "–" if number is None else str(number)


def _row(layer: LayerCount, activity: tuple[Activity, ...] | None, place: int) -> str:
    row = "".join(f"{_shown_number(getattr(layer, name)):>11}" for _, name in _STATIC)
    if activity is not None:
        row += "".join(f"{getattr(activity[place], name):>11.1f}" for _, name in _SHOWN)
    return row

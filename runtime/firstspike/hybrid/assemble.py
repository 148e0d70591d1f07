"""Makes a bundle of a spiking front and, if there is one, an ANN back: checked as the daemon would check it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from firstspike.bundle import Bundle, Role, open_bundle
from firstspike.cuba import hdf5
from firstspike.cuba.definition import MAX_STEPS
from firstspike.cuba.file import load, save
from firstspike.cuba.network import Network
from firstspike.errors import BundleError, NoInputError, UsageError
from firstspike.hybrid.accumulate import MAX_INTERVAL, accumulated_shape
from firstspike.hybrid.back import check
from firstspike.hybrid.onnx_run import Chain
from firstspike.onnx_header import read
from firstspike.ttfs.convert.bundle import seal, vacant, whole

LOGIT_SCALE = 2.0**-10
"""Of a bundle with a back: potentials are whole numbers of this many nats."""
STEP_MS = 10.0
"""Of a window whose length is not given."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the manifest says besides the networks."""

    labels: tuple[str, ...]
    window_ms: float | None = None
    """Length of a window; None: 10 ms a step."""
    fit: Literal["stretch", "crop", "centre"] = "stretch"
    min_events: int = 1
    logit_scale: float = LOGIT_SCALE
    licence: str = "not stated"


@dataclass(frozen=True, slots=True)
class Made:
    """The bundle, and what its maker should know."""

    bundle: Bundle
    notes: tuple[str, ...]


def read_front(path: Path) -> Network:
    """A front from our file (.npz) or SLAYER's (HDF5); errors as `cuba.file.load` and `cuba.hdf5.read`."""
    return load(path) if path.suffix == ".npz" else hdf5.read(path)


def alone(out: Path, front: Network, source: Path, steps: int, wanted: Wanted) -> Made:
    """A bundle whose front decides by how often its output neurons spike.

    Args:
        out: a new folder.
        front: with an output neuron for each label.
        source: the front's file, as errors call it.
        steps: T of a window.
        wanted: the rest.

    Raises:
        BundleError: it does not fit; nothing is left.
        UsageError: a value makes no sense.
        OutputError: the folder cannot be written, or is not empty.
    """
    shape, classes = front.shapes()[-1], len(wanted.labels)
    if shape != (classes, 1, 1):
        raise BundleError(
            f"{source}: its output is {_sides(shape)}: without a back it decides, and needs an output neuron for each "
            f"of {classes} labels ({classes}×1×1)"
        )
    return _write(out, front, source, None, steps, {}, wanted)


def hybrid(out: Path, front: Network, source: Path, interval: int, back: Path, wanted: Wanted) -> Made:
    """A bundle of front, accumulator and back; arguments and errors as `alone`.

    The steps of a window follow from the back: it takes steps / interval count frames of the front's channels.

    Args:
        out: a new folder.
        front: the spiking part.
        source: its file, as errors call it.
        interval: I, 1 to 255 steps that a count sums up.
        back: an ONNX file, opset at most 13, float32, (1, channels, height, width) to (1, classes).
        wanted: the rest.
    """
    if not 1 <= interval <= MAX_INTERVAL:
        raise UsageError(f"--interval {interval}: must be 1 to {MAX_INTERVAL} steps")
    try:
        data = back.read_bytes()
    except OSError as error:
        raise NoInputError(f"{back}: cannot be read: {error.strerror}") from None
    try:
        inputs = read(data).inputs
    except ValueError as error:
        raise BundleError(f"{back}: {error}") from None
    channels, height, width = front.shapes()[-1]
    given = inputs[0].shape if len(inputs) == 1 else None
    if given is None or len(given) != 4 or not given[1] or given[1] % channels:
        raise BundleError(
            f"{back}: its input is {[one.shape for one in inputs]}: must be one of (1, n·{channels}, {height}, "
            f"{width}), n count frames of what {source} gives"
        )
    steps = interval * (given[1] // channels)
    check(back, data, accumulated_shape(front.shapes()[-1], steps, interval), len(wanted.labels))
    return _write(out, front, source, data, steps, {"interval": interval}, wanted)


def _write(
    out: Path, front: Network, source: Path, back: bytes | None, steps: int, parts: dict[str, int], wanted: Wanted
) -> Made:
    channels, height, width = front.input_shape
    if channels not in (1, 2):
        raise BundleError(f"{source}: it takes {channels} channels, and events give 1 or 2 (OFF and ON)")
    if not 1 <= steps <= MAX_STEPS:
        raise UsageError(f"{steps} steps: a window has 1 to {MAX_STEPS}")
    _check_labels(wanted.labels)
    window_ms = STEP_MS * steps if wanted.window_ms is None else wanted.window_ms
    window_us = round(window_ms * 1000)
    if window_us < steps:
        raise UsageError(f"--window-ms {window_ms:g}: shorter than {steps} steps of 1 µs")
    vacant(out)
    manifest = {
        "schema": "firstspike.bundle/1", "name": out.resolve().name, "version": "1.0.0", "labels": list(wanted.labels),
        "input": {
            "channels": channels, "height": height, "width": width, "encoding": "frames", "steps": steps,
            "fit": wanted.fit,
        },
        "parts": parts, "window": {"kind": "time", "size": window_us, "hop": window_us},
        "decide": {"min_events": wanted.min_events, "logit_scale": wanted.logit_scale},
        "licence": wanted.licence, "trained_on": [],
    }  # fmt: skip
    files: dict[Role, str] = {"front": "front.npz", "card": "CARD.md"}
    notes = []
    if wanted.window_ms is None:
        notes.append(f"a window is {window_ms:g} ms, {STEP_MS:g} a step: give --window-ms if it was trained otherwise")
    with whole(out) as partial:
        save(front, partial / files["front"])
        if back is not None:
            files["back"] = "back.onnx"
            (partial / files["back"]).write_bytes(back)
            if reason := _not_here(back):
                notes.append(f"the emulator cannot run this back ({reason}): name another back end in plans")
        (partial / files["card"]).write_text(_card(manifest), encoding="utf-8")
        seal(partial, manifest, files)
        open_bundle(partial)
    return Made(open_bundle(out), tuple(notes))


def _check_labels(labels: Sequence[str]) -> None:
    if len(labels) < 2 or len(set(labels)) != len(labels) or not all(labels):
        raise UsageError(f"--labels {','.join(labels)}: must be two or more different names")


def _not_here(back: bytes) -> str:
    """Why the NumPy back cannot run it, or ''."""
    try:
        Chain(back)
    except ValueError as error:
        return str(error)
    return ""


def _card(manifest: dict[str, Any]) -> str:
    return (
        f"# {manifest['name']}\n\nA spiking front{' and an ANN back' if manifest['parts'] else ''}, put together by "
        f"firstspike; what it was trained on and how good it is, its maker has to say.\n\nLicence: "
        f"{manifest['licence']}. Labels: {', '.join(manifest['labels'])}.\n"
    )


def _sides(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))

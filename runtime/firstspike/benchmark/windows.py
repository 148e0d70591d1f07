"""Windows to compare back ends on: of recordings, or of digits that a simulated sensor watches."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from firstspike.bundle import Bundle
from firstspike.encode_frames import WindowEncoder, encoder_for
from firstspike.errors import DataError, NoInputError
from firstspike.evaluation import labelled, recordings
from firstspike.simulate.scene import Scene, digit_sequence
from firstspike.sources.decoding import DecoderProcess
from firstspike.types import Events, Spikes, Window
from firstspike.window import Windower

T = TypeVar("T")

SEED = 802_000
"""Of the simulated digits: no seed that training used."""
LEAST_SIDE = 8
"""Of a simulated sensor, pixels."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One window, encoded for the model."""

    spikes: Spikes
    label: str | None
    """What it shows, where that is known."""


@dataclass(frozen=True, slots=True)
class Windows:
    """Samples, and where they come from."""

    samples: tuple[Sample, ...]
    origin: str
    skipped: dict[str, str] = field(default_factory=dict)
    """Recordings that could not be read to their end, with the reason."""


def simulated(bundle: Bundle, count: int) -> Windows:
    """Windows of drawn digits, on a sensor of the model's own size; labels where the model has digits.

    Raises:
        NoInputError: the simulated sensor never sees a window with enough events for this model.
    """
    spec = bundle.manifest.input
    scene = Scene(height=max(spec.height, LEAST_SIDE), width=max(spec.width, LEAST_SIDE))
    encoder = encoder_for(spec, scene.width, scene.height)
    found: list[Sample] = []
    for shown, (digit, events) in enumerate(digit_sequence((number % 10 for number in itertools.count()), SEED, scene)):
        name = str(digit) if str(digit) in bundle.manifest.labels else None
        found += [Sample(spikes, name) for spikes in _encoded(bundle, encoder, [events])]
        if len(found) >= count:
            break
        if shown >= 10 and not found:
            raise NoInputError(
                f"{bundle.folder}: no simulated window has the {bundle.manifest.decide.min_events} events that the "
                "model asks for: give recordings: --recordings DIR"
            )
    return Windows(tuple(found[:count]), "simulated: drawn digits before a modelled DVS")


def recorded(bundle: Bundle, place: Path, count: int) -> Windows:
    """Windows of recordings, as many from each file.

    Args:
        bundle: whose windows.
        place: a recording, a folder of recordings, or a folder with a sub-folder for each label.
        count: at most so many.

    Raises:
        NoInputError: there are no recordings, or no window in them has enough events.
    """
    files = _files(place, bundle.manifest.labels)
    chosen = _spread(list(files), min(len(files), count))
    each = -(-count // len(chosen))
    found: list[Sample] = []
    skipped: dict[str, str] = {}
    decoder = DecoderProcess()
    try:
        for path in chosen:
            try:
                with decoder.open(path) as recording:
                    encoder = encoder_for(bundle.manifest.input, recording.info.width, recording.info.height)
                    spikes = list(_encoded(bundle, encoder, recording))
            except DataError as error:
                skipped[str(path)] = str(error)
                continue
            found += [Sample(one, files[path]) for one in _spread(spikes, min(each, len(spikes)))]
    finally:
        decoder.close()
    if not found:
        why = f": {next(iter(skipped.values()))}" if skipped else ": they have too few events for this model"
        raise NoInputError(f"{place}: no window of these recordings can be used{why}")
    return Windows(tuple(found[:count]), f"{len(chosen) - len(skipped)} recordings of {place}", skipped)


def _encoded(bundle: Bundle, encoder: WindowEncoder, batches: Iterable[Events]) -> Iterator[Spikes]:
    windower = Windower(bundle.manifest.window)
    least = max(1, bundle.manifest.decide.min_events)
    for window in _windows(windower, batches):
        if len(window.events) >= least:
            yield encoder.encode(window.events, window.t_start_us, window.t_end_us)


def _windows(windower: Windower, batches: Iterable[Events]) -> Iterator[Window]:
    for events in batches:
        yield from windower.push(events)
    yield from windower.flush()


def _files(place: Path, labels: Sequence[str]) -> dict[Path, str | None]:
    """Recordings with their labels, where the sub-folders are labels."""
    if not place.exists():
        raise NoInputError(f"{place}: no such file or folder: name recordings, or leave --recordings out")
    if not place.is_dir() or (place / "metadata.yaml").exists():
        return {place: None}
    inside = [path for path in place.iterdir() if path.is_dir() and not path.name.startswith(".")]
    if inside and all(path.name in labels for path in inside):
        return {Path(path): label for path, label in labelled(place, labels).items()}
    found: dict[Path, str | None] = dict.fromkeys(recordings(place))
    if not found:
        raise NoInputError(f"{place}: no recordings in this folder: name another, or leave --recordings out")
    return found


def _spread(things: Sequence[T], count: int) -> list[T]:
    """So many of them, evenly spaced."""
    return [things[i * len(things) // count] for i in range(count)]

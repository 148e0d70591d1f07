"""Many conversions of one network, on labelled data: what accuracy costs in steps, spikes and modelled energy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firstspike.errors import BundleError, DataError, UsageError
from firstspike.ttfs.convert.ann import Ann, logits
from firstspike.ttfs.convert.calibration import Samples, encode
from firstspike.ttfs.convert.convert import Options, Percentile, check_options, network, scaling
from firstspike.ttfs.count import Counter
from firstspike.ttfs.energy import modelled
from firstspike.ttfs.network import Neuron
from firstspike.ttfs.rate_emulator import emulator

COSTS = ("error", "steps", "informative", "bit_operations")
"""What a point of the front may be better in than every other: less is better."""


@dataclass(frozen=True, slots=True)
class Point:
    """One conversion, on all samples; spikes and operations are means of an inference."""

    neuron: Neuron
    parameter: int
    """T of each layer; `rate`: the duration."""
    scales: str
    """How they were found."""
    error: float
    """Share of samples that it gets wrong."""
    agreement: float
    """Share of samples with the ANN's answer."""
    steps: int
    """Until the potentials that answer are complete, the input's steps included."""
    spikes: float
    informative: float
    """Spikes that stand for something: of times, those of activations above 0; of rates, all."""
    effective: float
    """Synaptic operations by NeuroBench's rule (see `count`)."""
    updates: int
    """Of potentials."""
    bit_operations: float
    """Modelled energy (see `energy`)."""
    loihi_nj: float
    """Modelled energy (see `energy`)."""
    front: bool = False
    """No other point is better in one of `COSTS` and not worse in any."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """What a sweep found."""

    samples: int
    ann_error: float
    ann_bit_operations_fp32: float
    ann_bit_operations_int8: float
    points: tuple[Point, ...]
    refused: tuple[str, ...]
    """Conversions that could not be made, each with its reason."""

    def plain(self) -> dict[str, Any]:
        """As JSON takes it."""
        return asdict(self)


def sweep(
    ann: Ann, calibration: NDArray[np.float32], data: Samples, grid: Sequence[tuple[Neuron, int, Percentile]],
    options: Options, progress: Callable[[str], None],
) -> Sweep:  # fmt: skip
    """Convert with every setting and count what it does.

    Args:
        ann: the network.
        calibration: samples (n, channels, height, width) that conversion may use.
        data: labelled samples that it must not use.
        grid: neuron, steps and percentile of each conversion.
        options: everything else.
        progress: told what is being done.

    Raises:
        UsageError: a setting does not make sense.
        DataError: `data` has no labels, or no conversion could be made.
    """
    if data.labels is None:
        raise DataError("the data has no array 'labels': a sweep needs to know what is right")
    settings = [replace(options, neuron=neuron, steps=steps, percentile=p) for neuron, steps, p in grid]
    if not settings:
        raise UsageError("nothing to try: name at least one coding and one number of steps")
    for one in settings:
        check_options(one)
    progress("the ANN")
    truth = logits(ann.layers, data.x).argmax(1)
    points: list[Point] = []
    refused: list[str] = []
    dense = (0.0, 0.0)
    for one in settings:
        name = f"{one.neuron}, {one.steps} steps"
        try:
            made = network(ann, calibration, one, (one.steps,) * len(ann.weighted), progress)
        except (DataError, BundleError) as fault:
            refused.append(f"{name}, {scaling(one.percentile, None) if one.percentile else 'auto'}: {fault}")
            continue
        counter, runs, answers = Counter(made.quantised.network), emulator(made.quantised.network), []
        for times in _shown(encode(data.x, one.checked_input_steps()), name, progress):
            result = runs.trace(times)
            counter.add(times, result)
            answers.append(int(result.potential.argmax()))
        count = counter.count()
        energy = modelled(count)
        assert energy is not None  # noqa: S101 (narrows the type: samples are never empty)
        dense = (energy.ann_bit_operations_fp32, energy.ann_bit_operations_int8)
        said = np.array(answers)
        points.append(Point(
            one.neuron, one.steps, scaling(one.percentile, made.chosen), float((said != data.labels).mean()),
            float((said == truth).mean()), count.steps_to_answer, count.total_activity("spikes"),
            count.total_activity("informative"), count.total_activity("effective"), count.total("updates"),
            energy.bit_operations, energy.loihi_nj,
        ))  # fmt: skip
    if not points:
        raise DataError(f"no conversion could be made; the first: {refused[0]}")
    return Sweep(
        len(data.x), float((truth != data.labels).mean()), *dense, tuple(front(points)), tuple(refused),
    )  # fmt: skip


def _shown(samples: NDArray[np.uint8], name: str, progress: Callable[[str], None]) -> Iterator[NDArray[np.uint8]]:
    for number, times in enumerate(samples):
        if number % 100 == 0:
            progress(f"{name}: sample {number} of {len(samples)}")
        yield times


def front(points: Sequence[Point]) -> Iterator[Point]:
    """The same points, those marked that no other one beats."""
    costs = np.array([[getattr(point, name) for name in COSTS] for point in points])
    for point, own in zip(points, costs, strict=True):
        beaten = ((costs <= own).all(1) & (costs < own).any(1)).any()
        yield replace(point, front=not beaten)

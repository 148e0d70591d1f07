"""The any-time decision: which class the first output spike names, and from which step on it is known.

A TTFS network decides as early as it is sure: the stronger the answer, the sooner its neuron spikes (Quartz: Lenz,
Orchard, Sheik 2023). Steps are the definition's (`ttfs.definition`): a spike at global step s comes when s steps of the
whole network's time have passed, and at step s − `start` of the output layer's own frame.

- **The first spike** is the earliest of the output layer before `last`. At `last` the rectifier makes everyone spike
  who has not: such a spike says nothing, and a network in which no other came is *silent*.
- **Ties.** Several neurons often spike at the same step. Among them the highest membrane potential at the end of the
  input phase decides, then the lowest index.
- **When it is known.** At the spike's step. Only a tie among early spikes (`quartz` neurons, before the readout) waits
  for the end of the input phase, when the membranes are complete.

What follows for `gated` neurons: nobody spikes before the readout, and there the activation grows with the potential.
So the class with the highest potential is always among those that spike first, and the first spike never disagrees with
the membrane. Early spikes can: they come before all inputs have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from firstspike.messages import FirstSpike
from firstspike.types import Frame, Inference


@dataclass(frozen=True, slots=True)
class Reading:
    """The first output spike: global steps, and indices of output neurons."""

    step: int
    candidates: tuple[int, ...]
    """Who spiked at `step`, ascending; more than one is a tie."""
    winner: int
    known: int
    """The step from which `winner` is known, at least `step`."""


def read(first_spike: NDArray[np.int32], potential: NDArray[np.int32], frame: Frame) -> Reading | None:
    """Read the output layer's first spike.

    Args:
        first_spike: shape (classes,), global steps; `frame.last` and beyond for whoever has not spiked by itself.
        potential: shape (classes,), at the end of the layer's input phase.
        frame: the output layer's.

    Returns:
        The reading, or None of a silent layer.
    """
    # Lists, not arrays: of a few classes they take a fifth of the time, and this is on each decision's way.
    steps = first_spike.tolist()
    step = min(steps)
    if step >= frame.last:
        return None
    candidates = tuple(index for index, one in enumerate(steps) if one == step)
    winner, known = candidates[0], step
    if len(candidates) > 1:
        winner, known = max(candidates, key=potential.tolist().__getitem__), max(step, frame.end)
    return Reading(step, candidates, winner, known)


def report(
    inference: Inference, labels: Sequence[str], *, speaks: bool = True, window_label: str | None = None
) -> FirstSpike | None:
    """What a message says of an inference's first spike.

    Args:
        inference: any.
        labels: one for each output neuron.
        speaks: whether the window has enough events to say anything; if not, steps are reported and no class.
        window_label: the membrane's decision, None where it is not known.

    Returns:
        None if the inference has no spikes: it failed, or its back end has none to give.
    """
    frame = inference.frame
    if frame is None or inference.first_spike is None or inference.potential is None:
        return None
    reading = read(inference.first_spike, inference.potential, frame)
    lengths = {"frame_steps": frame.last - frame.start, "network_steps": frame.last}
    if reading is None:
        return FirstSpike(
            step=None, network_step=None, known_step=None, label=None, candidates=[], agrees=None, **lengths
        )
    label = labels[reading.winner] if speaks else None
    return FirstSpike(
        step=reading.step - frame.start, network_step=reading.step, known_step=reading.known, label=label,
        candidates=[labels[index] for index in reading.candidates] if speaks else [],
        agrees=label == window_label if speaks and window_label is not None else None, **lengths,
    )  # fmt: skip

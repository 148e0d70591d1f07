"""The operation model: what an inference would cost by its operations, where no meter tells what it does cost.

Energy is operations times a constant each (`constants`): synaptic operations and updates of potentials at Loihi 1's
cost, and MACs of a hybrid's back at that of 32-bit floats, whoever really computes them. It is dynamic only. Static
power, memory, the input's way into the chip, and a hybrid's link are not modelled. So it compares models, not machines.

Counting every spike of a window takes longer than the window's inference (`exact`). So some windows are counted (the
first ones, then ever fewer), and synaptic operations of the others are read off a straight line through these, from
the number of input spikes, which is exact and quick. Updates and MACs do not depend on the window. A figure says
whether it was counted, and else how far the line was off windows that were counted later: `u95_fraction`, which is of
the line alone. The same windows in the same order give the same figures.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from firstspike.backends._network import network_of
from firstspike.bundle import Bundle
from firstspike.cuba import emulator as cuba
from firstspike.energy.constants import LOIHI_SYNAPTIC_PJ, LOIHI_UPDATE_PJ, MAC_FLOAT32_PJ, MAC_PJ
from firstspike.errors import DataError
from firstspike.hybrid import count as parts
from firstspike.hybrid.front import network_of as front_of
from firstspike.ttfs.count import Counter, static
from firstspike.ttfs.rate_emulator import emulator
from firstspike.types import Inference, Spikes

FIRST = 16
"""So many windows are counted one after the other."""
LEAST, MISSES = 8, 24
"""A line takes so many windows before it has a slope and its misses count. Of these so many at least, and the last so
many at most, tell how far it is off."""
KEPT = 0.97
"""How much of the older windows' weight stays when one is added: what the camera sees may change."""
BEYOND = 1.25
"""A window with so many times more, or fewer, input spikes than any before is counted too."""
UPDATES_A_WINDOW, UPDATES_A_WINDOW_CUBA = 4096, 512
"""In the end, one window in so many is counted as its network has times this many updates: some 4 µs a window, by mean.
Before, one in a sixteenth of those that went by."""
COUNTED = "every spike of this window counted"
ESTIMATED = "synaptic operations by this window's input spikes, from windows whose every spike was counted"
INCLUDED = "dynamic, Loihi 1 (Davies 2018); no static power, no memory, no link"
SAID = {how: f"{how}; {INCLUDED}" for how in (COUNTED, ESTIMATED)}
SAID_OF_PARTS = {how: f"{said}; the back as 32-bit MACs (Horowitz 2014)" for how, said in SAID.items()}


class Modelled(NamedTuple):
    """A modelled energy. It was not measured. A tuple, since one is made for every decision."""

    dynamic_j: float | None
    """J an inference; None: there was no answer, or the back's operations are not known, and `what` says so."""
    front_j: float | None
    """Of a hybrid's front; None for other models."""
    back_j: float | None
    """Of a hybrid's back; None for other models, and if it is not known."""
    what: str
    """How it came about and what is in it."""
    exact: bool
    """Every operation was counted."""
    u95_fraction: float | None
    """How far the estimate of the operations may be off (95 %); 0 if they were counted, None if that is not known. What
    the constants are off is in none of it."""


@dataclass(slots=True)
class _Line:
    """Least squares: operations by input spikes."""

    n: int = 0
    weight: float = 0.0
    least: float = math.inf
    most: float = -math.inf
    x: float = 0.0
    y: float = 0.0
    xx: float = 0.0
    xy: float = 0.0
    slope: float = 0.0
    offset: float = 0.0
    off: float | None = None
    """What 95 % of the last windows were off the line that was there before them, at most; None: too few."""
    _misses: deque[float] = field(default_factory=lambda: deque(maxlen=MISSES))

    def at(self, x: float) -> float:
        """Operations of a window with so many input spikes."""
        return self.offset + self.slope * x

    def beyond(self, x: float) -> bool:
        """Whether a window is unlike all that the line was drawn through."""
        return not self.least / BEYOND <= x <= self.most * BEYOND

    def add(self, x: float, y: float) -> None:
        """One window that was counted."""
        if self.n >= LEAST:
            self._misses.append(abs(self.at(x) - y))
            if len(self._misses) >= LEAST:
                # Of n misses and one to come each is as likely the largest: conformal prediction, no distribution.
                rank = math.ceil(0.95 * (len(self._misses) + 1))
                self.off = sorted(self._misses)[min(rank, len(self._misses)) - 1]
        self.n += 1
        self.weight = self.weight * KEPT + 1.0
        self.least, self.most = min(self.least, x), max(self.most, x)
        # Means and sums of squares about them: no cancellation, however long it runs.
        dx, dy = x - self.x, y - self.y
        self.x += dx / self.weight
        self.y += dy / self.weight
        self.xx = self.xx * KEPT + dx * (x - self.x)
        self.xy = self.xy * KEPT + dx * (y - self.y)
        # As long as there is no slope: in proportion, since a window without a spike costs next to no operations.
        in_proportion = self.y / self.x if self.x > 0 else 0.0
        self.slope = self.xy / self.xx if self.n >= LEAST and self.xx > 0 else in_proportion
        self.offset = self.y - self.slope * self.x


class Model:
    """The operation model of one bundle. For one thread at a time.

    Args:
        bundle: any.
        learn_within: `inference` counts a window itself when one is due, and takes 0.2 to 2 ms longer for it. False:
            whoever calls it calls `learn` afterwards, when nobody waits.

    Raises:
        BundleError: a network of the bundle is damaged.
    """

    def __init__(self, bundle: Bundle, *, learn_within: bool = True) -> None:
        self._learn_within = learn_within
        self._back_j: float | None = None
        self._macs: int | None
        self._unknown = ""
        self._count: Callable[[Spikes], int]
        if bundle.manifest.parts is None:
            network = network_of(bundle)
            found = static(network)
            self.updates, self.most, self._macs = found.total("updates"), found.total("synapses"), found.total("macs")
            self.most *= network.duration or 1
            self._steps = network.input_steps
            a_window = UPDATES_A_WINDOW
            run, counter = emulator(network), Counter(network)

            def counted(spikes: Spikes) -> int:
                before = counter.effective
                counter.add(spikes.times, run.trace(spikes.times))
                return counter.effective - before

            self._count = counted
        else:
            front, steps = front_of(bundle), bundle.manifest.input.steps
            reaches, trace = parts.reaches_of(front, dense=False), cuba.Emulator(front).trace
            total = parts.count(bundle, ())
            self.updates, self.most = total.total("updates"), total.total("synapses") * steps
            self._macs = None
            a_window = UPDATES_A_WINDOW_CUBA
            if total.link_shape is None:
                self._back_j = 0.0
            elif total.macs is None:
                self._unknown = f"the back's operations are not known: {total.back_reason}"
            else:
                self._back_j = total.macs * MAC_FLOAT32_PJ * 1e-12
            self._count = lambda spikes: parts.synaptic(reaches, _frames(spikes), trace(_frames(spikes)).spikes)
        self.parts = bundle.manifest.parts is not None
        self.every = 1 << max(4, math.ceil(math.log2(max(1, self.updates) / a_window)))
        self._line = _Line()
        self._seen = self._next = 0
        self._asked: Spikes | None = None
        self._asked_inputs = 0

    def inference(self, spikes: Spikes, inference: Inference | None = None) -> Modelled:
        """The modelled energy of one window's inference, in about 5 µs, unless it counts.

        Args:
            spikes: its input, as the model takes it.
            inference: its answer, if it is there; of one that failed nothing is known.
        """
        if inference is not None and inference.failure is not None:
            return Modelled(None, None, None, f"no answer: {inference.failure}", exact=False, u95_fraction=None)
        line, inputs = self._line, self._inputs(spikes)
        if line.n == 0 or (self._learn_within and self._due(inputs)):
            counted = self._learn(spikes, inputs)
            self._seen += self._learn_within
            return self._modelled(counted, COUNTED, exact=True, u95=0.0)
        self._seen += self._learn_within
        operations = min(max(0.0, line.at(inputs)), float(self.most))
        u95 = None
        if line.off is not None and not line.beyond(inputs):
            u95 = line.off * LOIHI_SYNAPTIC_PJ / self._picojoules(operations)
        return self._modelled(operations, ESTIMATED, exact=False, u95=u95)

    def learn(self, spikes: Spikes) -> None:
        """Count a window's operations if it is one that is due (`learn_within` False)."""
        inputs = self._inputs(spikes)
        if self._due(inputs):
            self._learn(spikes, inputs)
        self._seen += 1

    @property
    def counted(self) -> int:
        """Windows that it has learnt from."""
        return self._line.n

    def exact(self, spikes: Spikes) -> Modelled:
        """Count every spike of this window; nothing is learnt from it."""
        return self._modelled(self._count(spikes), COUNTED, exact=True, u95=0.0)

    def ann(self, bits: int) -> Modelled | None:
        """The ANN that the network came from, computed densely: its MACs.

        Args:
            bits: 32, 16 or 8.

        Returns:
            None for a model of parts, which comes from no one ANN.
        """
        if self._macs is None:
            return None
        what = f"{self._macs} MACs of {bits} bits (Horowitz 2014, 45 nm); no static power, no memory"
        return Modelled(self._macs * MAC_PJ[bits] * 1e-12, None, None, what, exact=True, u95_fraction=0.0)

    def _due(self, inputs: int) -> bool:
        return self._seen >= self._next or self._line.beyond(inputs)

    def _learn(self, spikes: Spikes, inputs: int) -> int:
        operations = self._count(spikes)
        self._next = self._seen + min(self.every, max(1, self._seen // FIRST))
        self._line.add(inputs, operations)
        return operations

    def _inputs(self, spikes: Spikes) -> int:
        """Input spikes that say something: what the encoder counted, or else counted here, once a window."""
        if spikes.active is not None:
            return spikes.active
        if spikes is not self._asked:
            there = _frames(spikes) if self.parts else spikes.times < self._steps
            self._asked, self._asked_inputs = spikes, int(np.count_nonzero(there))
        return self._asked_inputs

    def _picojoules(self, operations: float) -> float:
        return operations * LOIHI_SYNAPTIC_PJ + self.updates * LOIHI_UPDATE_PJ

    def _modelled(self, operations: float, how: str, *, exact: bool, u95: float | None) -> Modelled:
        front = self._picojoules(operations) * 1e-12
        if not self.parts:
            return Modelled(front, None, None, SAID[how], exact, u95)
        if self._back_j is None:
            return Modelled(None, front, None, self._unknown, exact, u95)
        if u95 is not None:
            u95 *= front / (front + self._back_j)
        return Modelled(front + self._back_j, front, self._back_j, SAID_OF_PARTS[how], exact, u95)


def _frames(spikes: Spikes) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    if spikes.frames is None:
        raise DataError("the window is encoded as times, and the model's front takes frames")
    return spikes.frames

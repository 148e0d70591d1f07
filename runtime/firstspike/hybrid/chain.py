"""A plan of two parts as one back end: front, accumulator, back, one window at a time."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from firstspike.hybrid.accumulate import accumulate
from firstspike.hybrid.part import Back, Front, Part, PartError, ran
from firstspike.types import READY, Condition, Inference, Spikes


class ChainBackend:
    """See `backends.Backend`.

    Args:
        name: the plan's.
        front: who runs the spiking part.
        back: who runs the ANN.
        interval: I, steps that one count sums up.
        scale: a potential is a logit over this (the manifest's `decide.logit_scale`).
        classes: how many logits there are.
        close: lets go of the parts, which other chains may have too.
    """

    def __init__(
        self, name: str, front: Front, back: Back, interval: int, scale: float, classes: int,
        close: Callable[[], None],
    ) -> None:  # fmt: skip
        self.name, self.close = name, close
        self._front, self._back = front, back
        self._interval, self._scale, self._classes = interval, scale, classes

    @property
    def parts(self) -> tuple[Part, ...]:
        """Who runs them."""
        return self._front, self._back

    def infer(self, spikes: Spikes, within_s: float) -> Inference:
        """See `Backend.infer`; what the front leaves of the time is the back's."""
        began = time.monotonic()
        deadline = began + within_s
        if spikes.frames is None:
            return Inference(self.name, None, None, failure=f"{self.name}: the window was not encoded as frames")
        try:
            counts = accumulate(self._front.run(spikes.frames, within_s), self._interval)
            between = time.monotonic()
            logits = self._back.run(counts, deadline - between)
        except PartError as error:
            return Inference(self.name, None, None, failure=str(error))
        ended = time.monotonic()
        potential = np.rint(logits.astype(np.float64) / self._scale)
        # A NaN is caught by the comparison too.
        if potential.shape != (self._classes,) or not (np.abs(potential) < 2**31).all():
            wanted = f"no finite number of 32 bits for each of {self._classes} classes"
            return Inference(self.name, None, None, failure=f"{self._back.name}: its answer is {wanted}")
        parts = (
            ran("front", self._front, between - began, counts.nbytes, int(counts.sum())),
            ran("back", self._back, ended - between, None, None),
        )
        return Inference(self.name, potential.astype(np.int32), None, parts=parts)

    def condition(self) -> Condition:
        """See `Backend.condition`: that of the first part that cannot work, said by its name."""
        for part in self.parts:
            condition = part.condition()
            if condition.state != "ready":
                reason = f"{part.name}: {condition.reason}" if condition.reason else part.name
                return Condition(condition.state, reason, condition.fix, condition.restarts, condition.pid)
        conditions = [part.condition() for part in self.parts]
        pid = next((one.pid for one in conditions if one.pid), None)
        return READY if pid is None else Condition("ready", pid=pid, restarts=sum(one.restarts for one in conditions))

"""A sensor before a load whose power is known, at a time of its own, with its rate, noise, steps and delay."""

from __future__ import annotations

import numpy as np

from firstspike.energy import Reading, Unavailable
from firstspike.energy.samples import Track

STEP_S = 0.001
"""Of the load's power."""


class SimulatedMeter:
    """Shows `power` (W at each ms) as a sensor would.

    Args:
        power: true W, one a `step`.
        hz: new values a second.
        noise: W, standard deviation of a value.
        resolution: W, or J of a counter.
        gain: what the sensor makes of 1 W; its data sheet allows 1 ± `u95_fraction`.
        delay: periods that a value comes late, beside the mean over one.
        step: seconds between two values of `power`.
        averages: shows the mean over its period; else the moment's power.
    """

    def __init__(
        self, power, *, kind="power", hz=20.0, noise=0.0, resolution=0.0, gain=1.0, u95_fraction=0.01, delay=0.0,
        averages=True, seed=0, name="sim:0",
        step=STEP_S,
    ):  # fmt: skip
        self.name, self.what, self.scope, self.kind = name, "a simulated load", "board", kind
        self.resolution, self.u95_fraction = resolution, u95_fraction
        rng = np.random.default_rng(seed)
        self.period = 1 / hz
        before = round(1 / step)  # as at the start: the first values are of a time before it
        padded = np.concatenate([np.full(before, power[0]), power])
        joules = np.concatenate([[0], np.cumsum(padded)]) * step
        at = (np.arange(len(joules)) - before) * step
        self.updates = np.arange(rng.random() * self.period, at[-1], self.period)
        behind = self.updates - delay * self.period
        if kind == "counter":
            self.values = np.interp(behind, at, joules) * gain
        elif averages:
            mean = np.interp(behind, at, joules) - np.interp(behind - self.period, at, joules)
            self.values = mean / self.period * gain
        else:
            self.values = power[np.clip((behind / step).astype(int), 0, len(power) - 1)] * gain
        self.values = self.values + rng.normal(0, noise, len(self.values)) * (kind == "power")
        if resolution:
            rounded = np.floor if kind == "counter" else np.round
            self.values = rounded(self.values / resolution) * resolution
        self.broken: dict[float, str] = {}
        """Readings that fail: the time to 10 ms, and why."""

    def read_at(self, t_s):
        for at, reason in self.broken.items():
            if at <= t_s < at + 0.01:
                return Unavailable(reason)
        place = int(np.searchsorted(self.updates, t_s, "right")) - 1
        return Reading(round(t_s * 1e9), float(self.values[max(0, place)]))

    def read(self):
        raise AssertionError("a simulated meter is asked for a time")

    def close(self):
        pass


def polled(meter, start_s, end_s, hz=100.0, jitter=0.1, seed=0):
    """A track of the meter, read from one time to another as the sampler does."""
    track, rng, t = Track(meter), np.random.default_rng(seed), start_s
    while t < end_s:
        track.take(meter.read_at(t), round(t * 1e9))
        t += (1 + jitter * (2 * rng.random() - 1)) / hz
    return track

"""The energy of an interval, from samples of a meter, with its uncertainty: pure functions.

What can be wrong with such a figure, all of it for 95 %, and how it adds up from one interval to the next:

* `gain`: the sensor's accuracy by its data sheet, a fraction of the energy; always the same way (adds up linearly).
  Where the data sheet is not known it is not in the figure, and the figure says so.
* `bias`: a value that does not move hides where it stands between two steps of the sensor, up to half a step; the more
  noise moves it over the steps, the less. Always the same way.
* `base`: of the idle power that is taken off (`baseline`). Always the same way.
* `random`, drawn anew for each interval, its terms in quadrature: the samples' noise, by the differences of
  neighbours (von Neumann), which sees noise and bursts between samples, but not a slow change; what idle power does by
  itself; the delay of the sensor, which is not known: the interval is moved by 0 to 2 of its periods, one of them in
  the figure, the others in its uncertainty; times without readings; for a counter its steps, and how the energy lies
  between the two readings at either end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import exp, hypot, pi, sqrt
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from firstspike.energy import Meter
from firstspike.energy.samples import Samples

Method = Literal["counter", "integrated", "modelled", "unavailable"]
T = TypeVar("T", np.int64, np.float64)
LEAST_UPDATES = 4
"""New values of a sensor within an interval: with fewer, nothing can be said of the noise."""
LEAST_STEPS = 10
"""Of a counter within an interval."""
DELAYS = (0.0, 0.5, 1.0, 1.5, 2.0)
"""Periods of the sensor by which its values may come late: half a one that a value is held for, half a one where it is
the mean over one, and up to one more."""
LONGEST_DELAY = DELAYS[-1]
LARGEST_HOLE = 0.1
"""Of the interval, without readings."""
OLD_S = 900.0
"""Idle power that was not seen for longer is said to be old."""
WHOLE = ("board", "battery")
"""Scopes that may have other meters' energy in them."""
NO_ACCURACY = "the sensor's accuracy is not known and not in the uncertainty"


@dataclass(frozen=True, slots=True)
class Idle:
    """Power while nothing is inferred."""

    w: float
    u95_w: float
    """Of the mean."""
    spread_w: float
    """Standard deviation of the power's mean over one second, while idle."""
    quiet_s: float
    """Idle time that it is of."""
    until_ns: int | None = None
    """When that ended; None: not known."""


@dataclass(frozen=True, slots=True)
class Figure:
    """The energy of an interval; None, and a reason, for what is not known."""

    method: Method
    start_ns: int
    end_ns: int
    meter: str | None = None
    scope: str | None = None
    n_samples: int = 0
    """Readings in the interval."""
    effective_hz: float | None = None
    """New values of the sensor a second."""
    idle: Idle | None = None
    total_j: float | None = None
    dynamic_j: float | None = None
    """Above idle; below 0 where the idle power was higher. It is not clamped."""
    gain: float = 0.0
    """Fraction."""
    bias_j: float = 0.0
    base_j: float = 0.0
    random_j: float = 0.0
    reason: str | None = None

    @property
    def window_s(self) -> float:
        """Length of the interval."""
        return (self.end_ns - self.start_ns) / 1e9

    @property
    def total_u95_j(self) -> float | None:
        """Of the total energy."""
        if self.total_j is None:
            return None
        return hypot(self.gain * self.total_j, self.bias_j, self.random_j)

    @property
    def u95_j(self) -> float | None:
        """Of the dynamic energy."""
        if self.dynamic_j is None:
            return None
        return hypot(self.gain * self.dynamic_j, self.bias_j, self.base_j, self.random_j)


def unavailable(reason: str, start_ns: int, end_ns: int, meter: Meter | None = None) -> Figure:
    """No figure, and why."""
    return Figure(
        "unavailable", start_ns, end_ns, meter=meter.name if meter else None, scope=meter.scope if meter else None,
        reason=reason,
    )  # fmt: skip


def coverage(count: float) -> float:
    """Student's t for 95 % with so many degrees of freedom, within 1 % from 4 on."""
    return 1.96 + 2.37 / count + 2.8 / count**2 if count >= 1 else 12.7


def stuck(step: float, noise: float) -> float:
    """What a value that is rounded to steps hides, at most: half a step, and less where noise moves it over them.

    Args:
        step: of the sensor.
        noise: standard deviation of the rounded values: the rounding's own variance is taken off it.
    """
    return step / 2 * exp(-2 * max(0.0, (pi * noise / step) ** 2 - pi**2 / 12)) if step > 0 else 0.0


def energy(meter: Meter, samples: Samples, start_ns: int, end_ns: int, idle: Idle | None, why: str) -> Figure:
    """The energy between two times.

    Args:
        meter: whose samples they are.
        samples: from before the start until `LONGEST_DELAY` periods after the end.
        start_ns: of time.monotonic_ns.
        end_ns: of the same.
        idle: the idle power; None: dynamic energy is not known.
        why: there is no idle power.
    """
    none = unavailable("", start_ns, end_ns, meter)
    inside = (samples.t_ns >= start_ns) & (samples.t_ns <= end_ns)
    none = replace(none, n_samples=int(inside.sum()))
    period = samples.period_s
    late_ns = end_ns + round((period or 0.0) * 1e9 * (LONGEST_DELAY if meter.kind == "power" else 1.0))
    t_ns, values = _around(samples, start_ns, late_ns)
    if np.isnan(values).any():
        return replace(none, reason=samples.reason(int(t_ns[0]), int(t_ns[-1])))
    if len(t_ns) < 2 or t_ns[0] > start_ns or t_ns[-1] < late_ns:
        return replace(none, reason="there are no readings of the whole window")
    if period is None:
        return replace(none, reason="the sensor's value has hardly changed so far: how often it measures is not known")
    none = replace(none, effective_hz=round(1 / period, 3))
    t = (t_ns - start_ns) / 1e9
    length = (end_ns - start_ns) / 1e9
    measure = _of_counter if meter.kind == "counter" else _of_power
    found = measure(t, values, length, period, meter, none, idle)
    if found.total_j is None:
        return found
    reasons = [] if meter.u95_fraction is not None else [NO_ACCURACY]
    total = found.total_j
    found = replace(found, gain=meter.u95_fraction or 0.0, idle=idle)
    if idle is None:
        return replace(found, reason="; ".join([f"no dynamic energy: {why}", *reasons]))
    if idle.until_ns is not None and (age_s := (start_ns - idle.until_ns) / 1e9) > OLD_S:
        reasons.append(f"idle power was last seen {age_s / 60:.0f} min before: how it drifts is not in the uncertainty")
    return replace(
        found, dynamic_j=total - idle.w * length, base_j=idle.u95_w * length, reason="; ".join(reasons) or None
    )


def _around(samples: Samples, start_ns: int, end_ns: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The samples between two times, and the next one on either side."""
    first = max(0, int(np.searchsorted(samples.t_ns, start_ns, "right")) - 1)
    last = int(np.searchsorted(samples.t_ns, end_ns, "left")) + 1
    return samples.t_ns[first:last], samples.values[first:last]


def _of_power(
    t: NDArray[np.float64], watts: NDArray[np.float64], length: float, period: float, meter: Meter, none: Figure,
    idle: Idle | None,
) -> Figure:  # fmt: skip
    gaps = np.diff(t)
    usual = max(period, float(np.median(gaps)))
    hole = float((gaps[gaps > 3 * usual] - usual).sum())
    if hole > LARGEST_HOLE * length:
        return replace(none, reason=f"there are no readings of {hole:.3g} s of the window")
    moved = [_trapezoid(t, watts, delay * period, length + delay * period) for delay in DELAYS]
    middle = moved[len(DELAYS) // 2]
    slots = np.arange(period, length + period, period)
    new = watts[np.searchsorted(t, slots, "right") - 1]
    if len(new) < LEAST_UPDATES:
        return replace(
            none,
            reason=f"too short: {length:.3g} s of a sensor that measures {1 / period:.3g} times a second: set "
            f"energy.window_s to {LEAST_UPDATES * period:.2g} or more",
        )
    noise = sqrt(float((np.diff(new) ** 2).mean()) / 2)
    random = [
        # What idle power does by itself the samples' noise holds already, unless it is slower.
        max(coverage(2 * (len(new) - 1) / 3) * noise * length / sqrt(len(new)), _stirring(idle, length)),
        max(abs(one - middle) for one in moved),
        2 * float(new.std()) * hole,
    ]
    return replace(
        none, method="integrated", total_j=middle, bias_j=stuck(meter.resolution, noise) * length,
        random_j=sqrt(sum(one * one for one in random)),
    )  # fmt: skip


def _stirring(idle: Idle | None, length: float) -> float:
    """Energy by which idle power may differ from its mean within so long a time."""
    return 2 * idle.spread_w * sqrt(length) if idle else 0.0


def _trapezoid(t: NDArray[np.float64], watts: NDArray[np.float64], start: float, end: float) -> float:
    inside = (t > start) & (t < end)
    ends = np.interp([start, end], t, watts)
    times = np.concatenate([[start], t[inside], [end]])
    return float(np.trapezoid(np.concatenate([ends[:1], watts[inside], ends[1:]]), times))


def _of_counter(
    t: NDArray[np.float64], joules: NDArray[np.float64], length: float, period: float, meter: Meter, none: Figure,
    idle: Idle | None,
) -> Figure:  # fmt: skip
    # A counter that is behind by up to a period is so at both ends: the interval is moved by half of that.
    t, joules = steps(t, joules)
    middle = period / 2
    found = np.interp([0.0, middle, period, length, length + middle, length + period], t, joules)
    moved = found[3:] - found[:3]
    total = float(moved[1])
    if total < LEAST_STEPS * meter.resolution:
        return replace(none, reason=f"too short: the counter went on by {total:.3g} J, {meter.resolution:.3g} a step")
    random = [float(np.abs(moved - total).max()), 0.78 * meter.resolution, _stirring(idle, length)]
    mean_w = total / length
    random += [
        max(_within(t, joules, end + late, idle, mean_w) for late in (0.0, middle, period)) for end in (0.0, length)
    ]
    return replace(none, method="counter", total_j=total, random_j=sqrt(sum(one * one for one in random)))


def steps(t: NDArray[T], joules: NDArray[np.float64]) -> tuple[NDArray[T], NDArray[np.float64]]:
    """A counter's new values, each when it was first seen, and the ends: in between it stands still, power does not."""
    new = np.append(True, np.diff(joules) != 0)
    new[-1] = True
    return t[new], joules[new]


def _within(t: NDArray[np.float64], joules: NDArray[np.float64], end: float, idle: Idle | None, mean_w: float) -> float:
    """How far the energy before `end` may be from the straight line between the readings on either side."""
    after = min(len(t) - 1, max(1, int(np.searchsorted(t, end))))
    long = float(t[after] - t[after - 1])
    part = min(1.0, max(0.0, float(end - t[after - 1]) / long))
    burst = abs(float(joules[after] - joules[after - 1]) - (idle.w if idle else mean_w) * long)
    return min(1.0, 2 * sqrt(part * (1 - part))) * burst


def combined(figures: Sequence[Figure]) -> Figure:
    """The sum of meters that have nothing in common; what is not known of one is not known of the sum.

    Their faults are taken to be the same way: two sensors of one kind are often off alike.
    """
    first = figures[0]
    if len(figures) == 1:
        return first
    missing = next((one for one in figures if one.total_j is None), None)
    names = " + ".join(one.meter for one in figures if one.meter) or None
    if missing is not None:
        return replace(missing, meter=names, reason=": ".join(filter(None, (missing.meter, missing.reason))))
    idles = [one.idle for one in figures if one.idle is not None]
    idle = Idle(
        sum(one.w for one in idles), sum(one.u95_w for one in idles), hypot(*(one.spread_w for one in idles)),
        min(one.quiet_s for one in idles), min((one.until_ns for one in idles if one.until_ns), default=None),
    ) if len(idles) == len(figures) else None  # fmt: skip
    dynamic = [one.dynamic_j for one in figures if one.dynamic_j is not None]
    scopes = {str(one.scope) for one in figures}
    methods = {one.method for one in figures}
    reasons = [one.reason for one in figures if one.reason]
    if whole := next((one.meter for one in figures if one.scope in WHOLE), None):
        reasons.append(f"if {whole} feeds what the others measure, that is in the sum twice")
    return replace(
        first, method="counter" if methods == {"counter"} else "integrated", meter=names,
        scope=scopes.pop() if len(scopes) == 1 else " + ".join(sorted(scopes)),
        n_samples=min(one.n_samples for one in figures),
        effective_hz=min((one.effective_hz for one in figures if one.effective_hz), default=None), idle=idle,
        total_j=sum(one.total_j or 0.0 for one in figures),
        dynamic_j=sum(dynamic) if len(dynamic) == len(figures) else None,
        gain=max(one.gain for one in figures), bias_j=sum(one.bias_j for one in figures),
        base_j=sum(one.base_j for one in figures), random_j=hypot(*(one.random_j for one in figures)),
        reason="; ".join(dict.fromkeys(reasons)) or None,
    )  # fmt: skip

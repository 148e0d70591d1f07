"""Idle power: what a meter shows while nothing is inferred, robustly, with its spread, and anew in every idle time.

Idle times are cut into blocks; the figure is the median of the blocks' means, so that a program that stirs for a moment
does not move it. Its uncertainty is the median's, wider where neighbouring blocks resemble each other (then they tell
less than their number), and by how far the idle times differ from each other: a machine warms up.
"""

from __future__ import annotations

from collections import deque
from math import hypot, sqrt

import numpy as np

from firstspike.energy import Meter
from firstspike.energy.interval import Idle, coverage, steps, stuck
from firstspike.energy.samples import Samples

BLOCK_S = 0.1
"""Shortest block."""
BLOCK_PERIODS = 4
"""A block holds so many new values of the sensor at least."""
LEAST_BLOCKS = 6
KEPT = 240
"""Blocks."""
LONGEST_S = 900.0
"""A block that is older gives way when there are newer ones."""
SETTLE_S = 0.2
"""After an inference, beside the sensor's own delay, before a machine is idle."""
SETTLE_PERIODS = 3


class Baseline:
    """Learns one meter's idle power.

    Args:
        meter: whose.
    """

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._blocks: deque[tuple[int, int, float]] = deque(maxlen=KEPT)
        """End, ns; number of the idle time; mean W."""
        self._block_s = BLOCK_S
        self._noises: deque[float] = deque(maxlen=KEPT)
        """Variances of the sensor's values, by the differences of neighbours."""
        self._idle: Idle | None = None
        self.reached_ns = 0
        """Idle time is taken in until then."""
        self._number = 0

    def feed(self, samples: Samples, start_ns: int, end_ns: int) -> None:
        """Take in that nothing was inferred between two times; call it again as an idle time goes on.

        Args:
            samples: of that time.
            start_ns: when the idle time began: the same in each call of one idle time.
            end_ns: until when it lasts so far.
        """
        period = samples.period_s
        if period is None:
            return
        block_s = max(BLOCK_S, BLOCK_PERIODS * period)
        if block_s > 1.5 * self._block_s or block_s < self._block_s / 1.5:
            self._blocks.clear()  # another rate was found: means over other times do not mix
            self._block_s = block_s
        block_ns = round(self._block_s * 1e9)
        settled = start_ns + round((SETTLE_S + SETTLE_PERIODS * period) * 1e9)
        if self.reached_ns < settled:
            self.reached_ns, self._number = settled, self._number + 1
        before = len(self._blocks), self.reached_ns
        while self.reached_ns + block_ns <= end_ns:
            mean = self._mean(samples, self.reached_ns, self.reached_ns + block_ns)
            self.reached_ns += block_ns
            if mean is not None:
                self._blocks.append((self.reached_ns, self._number, mean))
        if before != (len(self._blocks), self.reached_ns):
            newest = self._blocks[-1][0] if self._blocks else 0
            while len(self._blocks) > LEAST_BLOCKS and self._blocks[0][0] < newest - LONGEST_S * 1e9:
                self._blocks.popleft()
            self._idle = self._estimate()

    def idle(self) -> tuple[Idle | None, str]:
        """The idle power, or why it is not known."""
        if self._idle is not None:
            return self._idle, ""
        seen, wanted = len(self._blocks) * self._block_s, LEAST_BLOCKS * self._block_s
        return None, f"idle power is not known: {seen:.2g} s without inference were seen, it takes {wanted:.2g} s"

    def _mean(self, samples: Samples, start_ns: int, end_ns: int) -> float | None:
        first, last = np.searchsorted(samples.t_ns, [start_ns, end_ns])
        values = samples.values[first:last]
        if len(values) < 2 or np.isnan(values).any():
            return None
        if self._meter.kind == "counter":
            t_ns, joules = steps(samples.t_ns, samples.values)
            begin, end = np.interp([start_ns, end_ns], t_ns, joules)
            return float(end - begin) * 1e9 / (end_ns - start_ns)
        slots = np.arange(start_ns, end_ns, (samples.period_s or self._block_s) * 1e9)
        new = samples.values[np.searchsorted(samples.t_ns, slots, "right") - 1]
        self._noises.append(float((np.diff(new) ** 2).mean()) / 2 if len(new) > 1 else 0.0)
        return float(values.mean())

    def _estimate(self) -> Idle | None:
        count = len(self._blocks)
        if count < LEAST_BLOCKS:
            return None
        means = np.array([mean for _, _, mean in self._blocks])
        times = np.array([number for _, number, _ in self._blocks])
        middle = float(np.median(means))
        off = means - middle
        # The median deviation is robust, but small by chance now and then, of few blocks above all.
        spread = 1.4826 * float(np.median(np.abs(off)))
        clipped = np.clip(off, -3 * spread, 3 * spread)
        spread = max(spread, float((off if count < 4 * LEAST_BLOCKS else clipped).std(ddof=1)))
        power = float((clipped**2).sum())
        like = float((clipped[1:] * clipped[:-1]).sum()) / power if power > 0 else 0.0
        wider = sqrt((1 + max(0.0, min(0.9, like))) / (1 - max(0.0, min(0.9, like))))
        of_mean = 1.253 * coverage(count - 1) * spread / sqrt(count) * wider
        each = [float(np.median(means[times == number])) for number in np.unique(times)]
        own = (1.253 * spread * wider) ** 2 * len(each) / count
        drift = sqrt(max(0.0, float(np.var(each, ddof=1)) - own)) if len(each) > 2 else 0.0
        noise = sqrt(sum(self._noises) / len(self._noises)) if self._noises else 0.0
        step = 0.0 if self._meter.kind == "counter" else stuck(self._meter.resolution, noise)
        by_itself = spread * wider * sqrt(self._block_s)
        u95_w, until_ns = hypot(of_mean, 2 * drift, step), self._blocks[-1][0]
        return Idle(middle, u95_w, by_itself, count * self._block_s, until_ns)

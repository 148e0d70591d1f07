"""Loihi's fixed point in NumPy, written from Lava's documentation of it: what a plan of `_lava_layout` does.

Currents of 24 bits wrap, potentials of 24 bits stop at their ends; both hold 6 bits below the unit of weights and vth.
A synapse takes one step. It knows nothing of TTFS or SLAYER: it is what plans are checked against where Lava is not
installed. The two models of `_lava_models` are here a second time, without those 6 bits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from firstspike.backends import _lava_layout as layout

HALF = 1 << 23
SHIFT = 6


Raster = dict[str, NDArray[np.bool_]]


def decay(x, amount):
    return np.sign(x) * (np.abs(x) * (4096 - amount) >> 12)


def _soft(population, arrived, u, v, held):
    """Integrate and fire with soft reset; `u` adds up the current."""
    name = population.name
    if population.du < 0:
        held[name] = arrived = held[name] + arrived
    current = arrived + population.bias
    u[name] = u[name] + current
    v[name] = np.clip(v[name] + current, 1 - HALF, HALF - 1)
    fired = v[name] > population.vth
    v[name] = v[name] - fired * (population.vth + 1)
    return fired


def _pool(population, arrived, u, v, counts):
    """Spikes when the greatest number of spikes of its inputs, each one bit, rises."""
    del u
    name = population.name
    counts[name] = counts[name] + np.stack([arrived >> bit & 1 for bit in range(30)])
    most = counts[name].max(0)
    risen = most > v[name]
    v[name] = most
    return risen


def run(plan: layout.Plan, windows: list[NDArray[np.bool_]]) -> list[tuple[Raster, NDArray[np.int64]]]:
    """One window after another, without a pause; a window is what the inputs send, (steps, inputs).

    Returns:
        For each window the raster (period, neurons) of every population, and the state that the plan reads.
    """
    sizes = {population.name: population.size for population in plan.populations}
    u = {name: np.zeros(size, np.int64) for name, size in sizes.items()}
    v = {name: np.zeros(size, np.int64) for name, size in sizes.items()}
    spikes = {name: np.zeros(size, bool) for name, size in {**sizes, layout.INPUT: plan.input_size}.items()}
    spikes[layout.CONTROL] = np.zeros(len(plan.control), bool)
    for group in plan.synapses:
        low, high, even = {"mixed": (-256, 254, True), "excitatory": (0, 255, False), "inhibitory": (-255, 0, False)}[
            group.sign
        ]
        assert np.all((low <= group.weights) & (group.weights <= high))
        assert not (even and np.any(group.weights % 2))
    counts = dict.fromkeys(sizes, 0)
    late = [np.zeros((64, sizes[group.target]), np.int64) for group in plan.synapses]
    answers = []
    for window in windows:
        raster = {name: np.zeros((plan.period, size), bool) for name, size in sizes.items()}
        state = None
        for step in range(plan.period):
            arriving = {name: np.zeros(size, np.int64) for name, size in sizes.items()}
            for group, waiting in zip(plan.synapses, late, strict=True):
                sent = np.where(spikes[group.source][group.columns], group.weights, 0)
                np.add.at(waiting, (0 if group.delays is None else group.delays, group.rows), sent)
                scaled = waiting[0] << SHIFT
                arriving[group.target] += scaled >> 1 if group.exponent < 0 else scaled << group.exponent
                waiting[:-1], waiting[-1] = waiting[1:].copy(), 0
            sent = window[step] if step < len(window) else np.zeros(plan.input_size, bool)
            now = {layout.INPUT: sent.astype(bool), layout.CONTROL: plan.control[:, step]}
            for population in plan.populations:
                name = population.name
                if step == population.reset:
                    u[name][:], v[name][:], counts[name] = 0, population.start, 0
                if population.model != layout.LIF:
                    own = _soft if population.model == layout.SOFT else _pool
                    now[name] = own(population, arriving[name] >> SHIFT, u, v, counts)
                    raster[name][step] = now[name]
                    continue
                current = arriving[name] + decay(u[name], population.du + 1)
                u[name] = current - 2 * HALF * (current > HALF) + 2 * HALF * (current <= -HALF)
                bias = np.int64(population.bias) << SHIFT
                v[name] = np.clip(decay(v[name], population.dv) + u[name] + bias, 1 - HALF, HALF - 1)
                now[name] = v[name] > population.vth << SHIFT
                v[name][now[name]] = 0
                raster[name][step] = now[name]
            if step == plan.read_at:
                name, which = plan.read
                state = (u if which == "u" else v)[name].copy()
            spikes = now
        answers.append((raster, state))
    return answers

"""Loihi's fixed point in NumPy, written from Lava's documentation of it: what a plan of `_lava_plan` does.

Currents of 24 bits wrap, potentials of 24 bits stop at their ends; both hold 6 bits below the unit of weights and vth.
A synapse takes one step. It knows nothing of TTFS: it is what the plan is checked against where Lava is not installed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from firstspike.backends import _lava_plan as plans

HALF = 1 << 23
SHIFT = 6


Raster = dict[str, NDArray[np.bool_]]


def run(plan: plans.Plan, windows: list[NDArray[np.uint8]]) -> list[tuple[Raster, NDArray[np.int64]]]:
    """One window after another, without a pause.

    Returns:
        For each window the raster (neurons, period) of every population, and the membrane's potentials at `read_at`.
    """
    sizes = {population.name: population.size for population in plan.populations}
    u = {name: np.zeros(size, np.int64) for name, size in sizes.items()}
    v = {name: np.zeros(size, np.int64) for name, size in sizes.items()}
    spikes = {name: np.zeros(size, bool) for name, size in {**sizes, plans.INPUT: plan.input_size}.items()}
    spikes[plans.CONTROL] = np.zeros(len(plan.control), bool)
    for group in plan.synapses:
        assert group.weights.min() >= -256
        assert group.weights.max() <= 254
        assert not np.any(group.weights % 2)
    answers = []
    for times in windows:
        raster = {name: np.zeros((size, plan.period), bool) for name, size in sizes.items()}
        for step in range(plan.period):
            arriving = {name: np.zeros(size, np.int64) for name, size in sizes.items()}
            for group in plan.synapses:
                sent = np.bincount(group.rows, group.weights * spikes[group.source][group.columns], sizes[group.target])
                scaled = sent.astype(np.int64) << SHIFT
                arriving[group.target] += scaled >> 1 if group.exponent < 0 else scaled << group.exponent
            now = {plans.INPUT: times.reshape(-1) == step, plans.CONTROL: plan.control[:, step]}
            for population in plan.populations:
                name = population.name
                if step == 0:
                    u[name][:] = v[name][:] = 0
                current = arriving[name] + (0 if population.leak else u[name])
                u[name] = (current + HALF) % (2 * HALF) - HALF
                v[name] = np.clip(v[name] + u[name], 1 - HALF, HALF - 1)
                now[name] = v[name] > population.vth << SHIFT
                if name == plans.MEMBRANE and step == plan.read_at:
                    potential = v[name] >> SHIFT
                v[name][now[name]] = 0
                raster[name][:, step] = now[name]
            spikes = now
        answers.append((raster, potential))
    return answers

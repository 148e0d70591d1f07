"""What an operation costs: the one table behind every modelled figure, with where each constant comes from.

They are dynamic energies: what a chip draws while it does nothing is in none of them. Loihi's are those of Loihi 1 as
its makers measured them; the others are of logic at 45 nm without the memory that feeds it, which often costs more.
"""

from __future__ import annotations

from dataclasses import dataclass

DAVIES = "Davies et al. 2018, IEEE Micro 38(1): Loihi 1, 14 nm, 0.75 V, measured"
HOROWITZ = "Horowitz 2014, ISSCC, figure 1.1.9: 45 nm, 0.9 V, without memory"


@dataclass(frozen=True, slots=True)
class Constant:
    """One row of the table."""

    picojoules: float
    what: str
    source: str


TABLE = {
    "synaptic": Constant(23.6, "a spike meets a synapse (least)", DAVIES),
    "update": Constant(81.0, "an active neuron is updated", DAVIES),
    "mac32": Constant(4.6, "multiply (3.7) and add (0.9), float of 32 bits", HOROWITZ),
    "mac16": Constant(1.5, "multiply (1.1) and add (0.4), float of 16 bits", HOROWITZ),
    "mac8": Constant(0.23, "multiply (0.2) and add (0.03), integers of 8 bits", HOROWITZ),
}
"""pJ an operation."""

LOIHI_SYNAPTIC_PJ = TABLE["synaptic"].picojoules
LOIHI_UPDATE_PJ = TABLE["update"].picojoules
MAC_FLOAT32_PJ = TABLE["mac32"].picojoules
MAC_PJ = {32: MAC_FLOAT32_PJ, 16: TABLE["mac16"].picojoules, 8: TABLE["mac8"].picojoules}
"""By bits."""

WEIGHT_BITS = 8
POTENTIAL_BITS = 24
"""Loihi's membrane, and what `ttfs.limits` holds every potential to."""


def addition(first: int, second: int) -> float:
    """Relative cost of adding numbers of so many bits: Quartz (Lenz et al. 2023) §3.4, after Rueckauer and Liu 2021."""
    return max(first, second) + abs(first - second) / 2


def mac(first: int, second: int) -> float:
    """Relative cost of multiplying numbers of so many bits and adding the product up: Quartz §3.4."""
    return first * second

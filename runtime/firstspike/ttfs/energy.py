"""Modelled energy of an inference: operations times a constant each. No meter is read, and every use says so.

| model | synaptic operation | update of a potential | MAC |
|---|---|---|---|
| `bit_operations`, Quartz (Lenz et al. 2023) §3.4 | 24-bit current + 8-bit weight: 32 | 24 + 24 bits: 24 | b₁·b₂ |
| `loihi_nj`, Davies et al. 2018 (Loihi 1) | 23.6 pJ | 81 pJ | not modelled: as a synaptic operation |

Quartz weighs an addition of b₁ and b₂ bits by max(b₁, b₂) + |b₁ − b₂|/2 and a multiply-accumulate by b₁·b₂,
following Rueckauer and Liu 2021. The numbers are relative. A rate-coded network's input is a current of 8 bits: its
first layer's operations are MACs, done once. The constants stand in `energy.constants`.
"""

from __future__ import annotations

from dataclasses import dataclass

from firstspike.energy.constants import (
    LOIHI_SYNAPTIC_PJ,
    LOIHI_UPDATE_PJ,
    POTENTIAL_BITS,
    WEIGHT_BITS,
    addition,
    mac,
)
from firstspike.ttfs.count import Count


@dataclass(frozen=True, slots=True)
class Energy:
    """Modelled, an inference, mean of those that were counted."""

    bit_operations: float
    loihi_nj: float
    """Dynamic energy only, nJ: what an idle chip draws is not in it."""
    ann_bit_operations_fp32: float
    """The ANN's MACs, dense, of 32 bits."""
    ann_bit_operations_int8: float


def modelled(count: Count) -> Energy | None:
    """The modelled energy of what was counted; None where nothing was shown to the network."""
    if count.activity is None:
        return None
    operations, updates = count.total_activity("effective"), count.total("updates")
    macs = count.activity[0].effective if count.neuron == "rate" else 0.0
    bits = (
        (operations - macs) * addition(POTENTIAL_BITS, WEIGHT_BITS)
        + macs * mac(WEIGHT_BITS, WEIGHT_BITS)
        + updates * addition(POTENTIAL_BITS, POTENTIAL_BITS)
    )
    loihi = operations * LOIHI_SYNAPTIC_PJ + updates * LOIHI_UPDATE_PJ
    dense = count.total("macs")
    return Energy(bits, loihi / 1000, dense * mac(32, 32), dense * mac(WEIGHT_BITS, WEIGHT_BITS))

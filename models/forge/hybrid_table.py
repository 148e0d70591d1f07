"""What each split costs and how good it is: the rows of the table in models/dvs128-hybrid/CARD.md.

Modelled energy, an inference, dynamic only: 23.6 pJ a synaptic operation and 81 pJ an update of a neuron (Loihi 1,
Davies et al. 2018) for the layers that spike, 4.6 pJ a multiply-accumulate of 32 bits (45 nm, Horowitz 2014) for those
that do not. Neither counts memory, an idle chip, nor the link, whose bytes are given instead.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from firstspike.cuba.emulator import Emulator
from firstspike.energy.constants import LOIHI_SYNAPTIC_PJ, LOIHI_UPDATE_PJ, MAC_FLOAT32_PJ
from firstspike.hybrid.accumulate import accumulate
from firstspike.hybrid.onnx_run import Chain
from models.forge import hybrid_store as frames
from models.forge.hybrid_judge import Judged
from models.forge.hybrid_net import CLASSES, LAYERS, STRIDE, HybridNet
from models.forge.hybrid_write import back_of, front_of

EVENT_BYTES = 4


@dataclass(frozen=True, slots=True)
class Row:
    """One split, over its seeds: (mean, standard deviation)."""

    name: str
    seeds: int
    right: dict[str, tuple[float, float]]
    evidence: tuple[float, float]
    spikes: float
    synaptic: float
    updates: int
    """Of spiking neurons, an inference."""
    macs: int
    """Of the ANN's layers, an inference."""
    link_bytes: int
    """One byte a count; of an ANN its input's counts, of an SNN its answer's."""
    event_bytes: float
    """The same as a list of spikes."""
    energy_uj: float
    front_us: float
    back_us: float

    @property
    def operations(self) -> float:
        """Synaptic operations, updates and MACs: of different kinds, so their sum is only a first look."""
        return self.synaptic + self.updates + self.macs

    def plain(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


def row(judged: Sequence[Judged], net: HybridNet, shown: NDArray[np.bool_]) -> Row:
    """One split's.

    Args:
        judged: its networks, one a seed.
        net: one of them, for sizes and times.
        shown: windows to take the time of.
    """
    updates, macs = _dense(net)
    spikes, synaptic, sent = (
        float(np.mean([getattr(one, k) for one in judged])) for k in ("spikes", "synaptic", "sent")
    )
    front_us, back_us = _times(net, shown)
    return Row(
        name=net.split.name,
        seeds=len(judged),
        right={name: _spread([one.right[name] for one in judged]) for name in judged[0].right},
        evidence=_spread([one.evidence for one in judged]),
        spikes=spikes,
        synaptic=synaptic,
        updates=updates,
        macs=macs,
        link_bytes=_link(net),
        event_bytes=sent * EVENT_BYTES,
        energy_uj=(synaptic * LOIHI_SYNAPTIC_PJ + updates * LOIHI_UPDATE_PJ + macs * MAC_FLOAT32_PJ) / 1e6,
        front_us=front_us,
        back_us=back_us,
    )


def markdown(rows: Sequence[Row]) -> str:
    """The table as it stands in the card."""
    heads = (
        "", "seeds", "choice", "last 30 %", "other recordings", "1 s of them", "the same, varied", "spikes",
        "synaptic operations", "updates", "MACs", "link, bytes (as events)", "modelled µJ", "CPU, µs: front + back",
    )  # fmt: skip
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for one in rows:
        right = [_told(one.right[name]) for name in (frames.CHOICE, frames.LAST, frames.OTHER, frames.VARIED)]
        cells = [
            one.name, str(one.seeds), *right[:3], _told(one.evidence), right[3],
            f"{one.spikes:,.0f}", f"{one.synaptic / 1e3:.0f} k", f"{one.updates / 1e3:.0f} k",
            f"{one.macs / 1e6:.2f} M", f"{one.link_bytes:,} ({one.event_bytes:,.0f})",
            f"{one.energy_uj:.1f}", f"{one.front_us:.0f} + {one.back_us:.0f}",
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _told(value: tuple[float, float]) -> str:
    return f"{value[0]:.1f}" if np.isnan(value[1]) else f"{value[0]:.1f} ± {value[1]:.1f}"


def _spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation; of one value there is no deviation to be known."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


def _dense(net: HybridNet) -> tuple[int, int]:
    """Updates of spiking neurons and MACs of the others, an inference."""
    updates, macs, side = 0, 0, frames.SIDE
    for layer in range(LAYERS):
        weight = net.weights[layer]
        side = 1 if weight.dim() == 2 else side // STRIDE
        if layer < net.split.spiking:
            updates += weight.shape[0] * side * side * frames.STEPS
        else:
            macs += weight.numel() * side * side
    return updates, macs


def _link(net: HybridNet) -> int:
    """Bytes that go from front to back."""
    if net.split.spiking == LAYERS:
        return CLASSES
    weight, side = net.weights[net.split.spiking], frames.SIDE // STRIDE**net.split.spiking
    return int(weight.shape[1]) * (side * side if weight.dim() == 4 else 1)


def _times(net: HybridNet, shown: NDArray[np.bool_]) -> tuple[float, float]:
    """Median µs of front and back as the daemon runs them on this machine's CPU."""
    front = Emulator(front_of(net)) if net.split.spiking else None
    back = Chain(back_of(net, 1.0).SerializeToString()) if net.split.spiking < LAYERS else None
    spent: list[tuple[float, float]] = []
    for one in shown[:100]:
        began = time.perf_counter()
        spikes = front.run(one.view(np.uint8)).spikes if front else one.view(np.uint8)
        counts = accumulate(spikes, net.split.interval)
        between = time.perf_counter()
        if back is not None:
            back.run(counts.astype(np.float32))
        spent.append((between - began, time.perf_counter() - between))
    front_us, back_us = np.median(np.array(spent), 0) * 1e6
    return float(front_us), float(back_us)

"""What a plan of `_lava_layout` needs of a Loihi chip: an estimate from published limits, before anything is built.

| | Loihi 1 | Loihi 2 | source |
|---|---|---|---|
| neuron cores a chip | 128 | 128 | Davies et al., IEEE Micro 38 (2018); Intel, technology brief of Loihi 2 (2021) |
| neurons a core | 1,024 | 8,192 | the same |
| synaptic memory a core | 128 KiB | 128 KiB | the same |
| synapses a chip | | 120 million | technology brief |

A synapse is taken as 16 bits, 8 for its weight and 8 for the way to its neuron. Each population begins on a core of its
own. Not counted, since Intel publishes too little of it: axon tables, and what weights shared by a convolution save. So
this is neither a lower nor an upper bound; Quartz's LeNet took 11 cores of a Loihi 1 by its authors' own account.
"""

from typing import Any, Dict, List, NamedTuple

from firstspike.backends._lava_layout import CONTROL, LIF, Plan

SYNAPSE_BITS = 16


class Chip(NamedTuple):
    """Limits of one chip."""

    name: str
    cores: int
    neurons: int
    """Of a core."""
    memory: int
    """Bytes for a core's synapses."""


CHIPS: Dict[str, Chip] = {
    "loihi1": Chip("Loihi 1", 128, 1024, 128 << 10),
    "loihi2": Chip("Loihi 2", 128, 8192, 128 << 10),
}


def needs(plan: Plan) -> List[Dict[str, Any]]:
    """For each chip: name, cores, chips, neurons and synapses."""
    groups: Dict[str, int] = {}
    for group in plan.synapses:
        groups[group.target] = groups.get(group.target, 0) + len(group.rows)
    sizes = {population.name: population.size for population in plan.populations}
    if any(group.source == CONTROL for group in plan.synapses):
        sizes[CONTROL] = len(plan.control)
    found = []
    for key, chip in CHIPS.items():
        cores = 0
        for name, size in sizes.items():
            memory = groups.get(name, 0) * SYNAPSE_BITS // 8
            cores += max(-(-size // chip.neurons), -(-memory // chip.memory))
        found.append(
            {"key": key, "chip": chip.name, "cores": cores, "chips": -(-cores // chip.cores),
             "cores_a_chip": chip.cores, "neurons": sum(sizes.values()), "synapses": sum(groups.values())}
        )  # fmt: skip
    return found


def describe(need: Dict[str, Any]) -> str:
    """A chip's line for a person."""
    chips = "" if need["chips"] == 1 else ", %d chips" % need["chips"]
    return "%s: about %d cores of %d%s; %d neurons, %d synapses" % (
        need["chip"], need["cores"], need["cores_a_chip"], chips, need["neurons"], need["synapses"]
    )  # fmt: skip


def check(plan: Plan, hardware: str, chips: int) -> None:
    """Refuse what does not fit the chips that there are.

    Args:
        plan: what is to run.
        hardware: `loihi1` or `loihi2`.
        chips: how many of them.

    Raises:
        ValueError: it needs more, or neurons that Loihi has not.
    """
    if any(population.model != LIF for population in plan.populations):
        raise ValueError(
            "a rate-coded network runs on Lava's simulation alone: a spike sets Loihi's neurons to 0, and a reset by "
            "subtraction takes two compartments or microcode of one's own: set hardware = 'sim'"
        )
    need = next(need for need in needs(plan) if need["key"] == hardware)
    if need["chips"] > chips:
        raise ValueError(
            "it needs about %d cores of %s, which is %d chips, and there are %d: use a smaller network, or set `chips`"
            % (need["cores"], need["chip"], need["chips"], chips)
        )

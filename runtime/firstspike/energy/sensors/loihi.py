"""Loihi: its power can be read by Lava's profiler only, in the process that runs the network, on Intel's boards.

`lava.utils.profiler.Profiler` gives static and dynamic power of cores and x86 processors of a run on hardware, and
raises NotImplementedError in the simulation. The figures come from the board's supplies: dynamic ones can be negative.
It has not been run here: no Loihi was at hand, and lava-nc has no hardware code in it (`lava-loihi` is Intel's, for its
research community). So there is no meter yet: what a Loihi spends is modelled (`operations`) and marked as such.
"""

from __future__ import annotations

from pathlib import Path

from firstspike.energy.sensors import LeftOut, Offer

KIND = "loihi"


def find(_: Path) -> Offer:
    """See `sensors`."""
    reason = "a Loihi's power can be read by Lava's profiler only, on hardware with Intel's lava-loihi"
    return Offer((), (LeftOut(KIND, "", reason, "use the modelled energy, which is marked so"),))

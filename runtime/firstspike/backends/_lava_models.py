"""Models of ours for Lava's process of LIF neurons: for rate-coded networks, in the simulation alone.

Both take what is sent to them as it is, without the 6 bits that Loihi's neurons keep below the unit of weights, and so
have all of the 24 bits of the definition's potentials.
"""

from typing import Any, Dict

import numpy as np

from firstspike.backends._lava_layout import POOL, SOFT

HIGHEST = (1 << 23) - 1


def models() -> Dict[str, Any]:
    """The model of each kind of population that is not Lava's own; Lava is imported now."""
    from lava.magma.core.decorator import implements, requires, tag
    from lava.magma.core.resources import CPU
    from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
    from lava.proc.lif.models import PyLifResetModelBitAcc
    from lava.proc.lif.process import LIFReset

    class Own(PyLifResetModelBitAcc):  # type: ignore[misc] # (Lava has no types here)
        """A neuron that is put to rest when Lava's is, and has another arithmetic."""

        def run_spk(self) -> None:
            """One step."""
            arrived = self.a_in.recv().astype(np.int64)
            if self.time_step % self.reset_interval == self.reset_offset:
                self.rest()
            self.s_out.send(self.spikes(arrived))

    @implements(proc=LIFReset, protocol=LoihiProtocol)
    @requires(CPU)
    @tag("fixed_pt")
    class Soft(Own):
        """A spike takes the threshold from the potential. `u` adds up all that came in, which is the answer."""

        def rest(self) -> None:
            self.held: Any = 0
            self.u[:] = 0
            self.v[:] = self.proc_params["start"]

        def spikes(self, arrived: Any) -> Any:
            if self.proc_params["holds"]:
                self.held = self.held + arrived
                arrived = self.held
            current = arrived + self.proc_params["current"]
            self.u[:] += current.astype(np.int32)
            self.v[:] = np.clip(self.v + current, -HIGHEST, HIGHEST)
            fired = self.v > self.vth
            self.v[fired] -= self.vth + 1
            return fired

        held = 0

    @implements(proc=LIFReset, protocol=LoihiProtocol)
    @requires(CPU)
    @tag("fixed_pt")
    class Pool(Own):
        """Bit k of what comes in is a spike of input k: it spikes when the greatest number of spikes rises."""

        counts: Any = None

        def rest(self) -> None:
            self.counts = np.zeros((30, len(self.v)), np.int32)
            self.v[:] = 0

        def spikes(self, arrived: Any) -> Any:
            if self.counts is None:
                self.rest()
            self.counts += (arrived >> np.arange(30)[:, None]) & 1
            most = self.counts.max(0)
            risen = most > self.v
            self.v[:] = most
            return risen

    return {SOFT: Soft, POOL: Pool}

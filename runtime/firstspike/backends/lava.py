"""`[backend.lava]`: networks in Loihi's fixed point, on Lava: its simulation, or Loihi itself.

It runs TTFS networks, rate-coded ones, and the fronts of hybrids (networks of CUBA LIF neurons).

The simulation is there to check networks against: equal to the emulator in every spike, and tens of thousands of times
slower.
"""

import importlib.util
import sys
from typing import Any, Dict, List

from firstspike.backends import _lava_chip, _lava_forms, _lava_run
from firstspike.worker.shim import AbsentError, Option

NETWORK = "ttfs"
FRONT = True
SIBLINGS = (
    "_lava_layout", "_lava_network", "_lava_plan", "_lava_rate", "_lava_cuba", "_lava_forms", "_lava_chip",
    "_lava_guard", "_lava_models", "_lava_run",
)  # fmt: skip
ENVIRONMENT = {
    "python": ["3.10"],
    "packages": ["lava-nc==0.10.0", "numpy==1.24.4", "scipy==1.15.3", "networkx==2.8.7"],
    "imports": ["lava.proc.lif.process", "lava.proc.sparse.process"],
    "system": [],
}
TRIED = "on Lava's simulation in Loihi's fixed point; never on a Loihi chip, as none was at hand"
OPTIONS = {
    "hardware": Option(
        "sim",
        "Lava's simulation, or a chip, which needs Intel's extension of Lava",
        choices=("sim", "loihi1", "loihi2"),
    ),
    "chips": Option(1, "chips that a network may take", low=1, high=10000),
    "profile_windows": Option(
        0, "on a chip: after so many windows log the energy that Lava's profiler measured; 0: never", low=0, high=100000
    ),
    "trace": Option(
        False,  # noqa: FBT003 (its default)
        "whether an answer holds the spikes of all layers (firstspike verify)",
    ),
}
MOST_SYNAPSES = 50_000_000
"""Of a simulation: each takes about 50 bytes while it is built."""
EXTENSION = "lava.utils.loihi2_profiler"
"""The module by which Lava itself tells whether Intel's extension is there."""


def probe(options: Dict[str, Any]) -> List[Dict[str, Any]]:
    """Lava's simulation, or the chip that `options` ask for."""
    try:
        _check_device(options["hardware"])
    except AbsentError as error:
        return [{"device": options["hardware"], "present": False, "reason": error.reason, "fix": error.fix}]
    return [{"device": options["hardware"], "present": True, "reason": "", "fix": "", "lava": _lava_run.VERSION}]


def check(options: Dict[str, Any], model: Dict[str, Any], network: bytes) -> None:
    """Refuse what leaves Loihi's fixed point, or fits neither the chips nor a simulation; the daemon asks.

    Raises:
        ValueError: see there.
    """
    _planned(options, model, network)


def _planned(options: Dict[str, Any], model: Dict[str, Any], network: bytes) -> _lava_forms.Form:
    form = _lava_forms.of(model, network)
    if options["hardware"] != "sim":
        _lava_chip.check(form.plan, options["hardware"], options["chips"])
    synapses = sum(len(group.rows) for group in form.plan.synapses)
    if synapses > MOST_SYNAPSES:
        raise ValueError("it has %d synapses, and Lava on a CPU holds at most %d: use a smaller network" % (
            synapses, MOST_SYNAPSES))  # fmt: skip
    return form


def _check_device(hardware: str) -> None:
    """That Lava is there, and Intel's extension where a chip is asked for.

    Raises:
        AbsentError: they are not.
    """
    if sys.version_info[:2] != (3, 10):
        raise AbsentError(
            "lava-nc %s runs on Python 3.10 alone, and this is %d.%d" % (_lava_run.VERSION, *sys.version_info[:2]),
            "install Python 3.10 (uv python install 3.10 or pyenv install 3.10), then: firstspike workers install lava",
        )
    _lava_run.check_installed()
    if hardware != "sim" and importlib.util.find_spec(EXTENSION) is None:
        raise AbsentError(
            "Intel's extension of Lava for Loihi (lava-loihi) is not installed",
            "it is given to members of Intel's neuromorphic research community; until then set hardware = 'sim'",
        )


class Driver:
    """One network on Lava; see `backends/_template_worker.py`.

    Raises:
        AbsentError: Lava, or what a chip needs, is not there.
        ValueError: the network does not fit.
    """

    def __init__(self, options: Dict[str, Any], model: Dict[str, Any], network: bytes) -> None:
        _check_device(options["hardware"])
        self._form = _planned(options, model, network)
        self._trace = options["trace"]
        plan, hardware = self._form.plan, options["hardware"]
        places = plan.places if self._trace else plan.places[-1:]
        # Flatten shares the neurons of the layer before: read out once.
        read = [name for name in dict.fromkeys(place.population for place in places) if name]
        self._running = _lava_run.Running(
            plan, read, hardware, options["profile_windows"] if hardware != "sim" else 0
        )  # fmt: skip
        names = {"sim": "Lava's simulation of Loihi", "loihi1": "Loihi 1", "loihi2": "Loihi 2"}
        self.about = {
            "device": options["hardware"],
            "name": names[options["hardware"]],
            "lava": _lava_run.VERSION,
            "exact": True,
            "steps": plan.period,
            "processes": self._running.processes,
            "needs": [_lava_chip.describe(need) for need in _lava_chip.needs(plan)],
        }

    def infer(self, times: Any) -> Dict[str, Any]:
        """Answer a window.

        Args:
            times: spike times (channels, height, width), uint8; a front's frames (steps, channels, height, width).

        Returns:
            `potential` and `first_spike`: int32 (classes,), as in `types.Inference`; of a front `spikes`. With `trace`
            also `spikes_<n>`, all of layer n: see `_lava_forms`.

        Raises:
            ValueError: `times` has another shape, or holds what the network does not take.
        """
        spikes, state = self._running.run(self._form.inject(times))
        return self._form.answer(spikes, state, trace=self._trace)

    def close(self) -> None:
        """End Lava's processes."""
        self._running.close()

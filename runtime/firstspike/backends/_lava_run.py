"""A plan of `_lava_plan` on Lava's stock processes: built once, then one window after another."""

import logging
import sys
from typing import Any, Dict, List, NamedTuple

import numpy as np

from firstspike.backends import _lava_guard as guard
from firstspike.backends import _lava_plan as plans
from firstspike.worker.shim import AbsentError

VERSION = "0.10.0"
"""Of lava-nc, the only one that this was tried with."""


class Answer(NamedTuple):
    """One window's."""

    spikes: List[Any]
    """For each place asked for: int32 (neurons,), the definition's step of each neuron's spike."""
    potential: Any
    """int64 (classes,)."""


class Running:
    """A network that runs.

    Args:
        plan: what to build.
        places: whose spikes are read out.
        hardware: `sim`, `loihi1` or `loihi2`.
        profile_windows: after so many windows, what Lava's profiler measured is written to standard error; 0: never.
    """

    def __init__(self, plan: plans.Plan, places: List[plans.Place], hardware: str, profile_windows: int = 0) -> None:
        guard.guard_forks()
        lava = _Lava()
        self._plan, self._places, self._lava = plan, places, lava
        self._closing = False
        self._injector = lava.Injector(shape=(plan.input_size,), buffer_size=plan.period + 1)
        outs: Dict[str, Any] = {plans.INPUT: self._injector.out_port}
        control = lava.RingBuffer(data=plan.control.astype(np.int32))
        outs[plans.CONTROL] = control.s_out
        neurons: Dict[str, Any] = {}
        for population in plan.populations:
            neurons[population.name] = lava.neurons(population, plan.period)
            outs[population.name] = neurons[population.name].s_out
        synapses = [lava.connect(group, outs[group.source], neurons[group.target].a_in) for group in plan.synapses]
        self._extractors = []
        for place in places:
            extractor = lava.Extractor(shape=outs[place.population].shape, buffer_size=plan.period + 1)
            outs[place.population].connect(extractor.in_port)
            self._extractors.append(extractor)
        self._membrane = neurons[plans.MEMBRANE]
        self._root = control
        # Those that nothing connects are not run, and need no model.
        processes = [self._injector, control, *neurons.values(), *synapses, *self._extractors]
        config = lava.config(hardware, processes)
        self._meter = _Meter(config, profile_windows, plan.period) if profile_windows else None
        self._root.create_runtime(run_cfg=config)
        # A Process that is collected stops the runtime, and waits without end for what may have been killed.
        self._root.runtime.stop = lambda: None
        logging.getLogger().handlers.clear()  # each Process has added one
        # Lava has no public way to its processes.
        self._actors = list(self._root.runtime._messaging_infrastructure.actors)  # noqa: SLF001 (see above)
        guard.watch(self._actors, lambda: self._closing)

    @property
    def processes(self) -> int:
        """How many processes Lava has made."""
        return len(self._actors)

    def infer(self, times: Any) -> Answer:
        """Run one window. What fails in the middle of one ends the process: Lava's would go on with half of it.

        Args:
            times: uint8, the step of each input's spike.
        """
        try:
            return self._run(times)
        except Exception as error:
            guard.end("Lava failed during a window: %s: %s" % (type(error).__name__, error))
            raise

    def _run(self, times: Any) -> Answer:
        """See `infer`.

        Raises:
            RuntimeError: a neuron did not spike exactly once: no network of this kind does that.
        """
        plan, steps = self._plan, self._lava.RunSteps
        flat = times.reshape(-1)
        for step in range(plan.period):
            self._injector.send((flat == step).astype(float))
        self._root.run(steps(num_steps=plan.read_at + 1))
        # Loihi's potentials have 6 bits below the unit of weights.
        potential = self._membrane.v.get().astype(np.int64) >> 6
        self._root.run(steps(num_steps=plan.period - plan.read_at - 1))
        if self._meter is not None:
            self._meter.note_window()
        return Answer([self._spikes(*pair) for pair in zip(self._places, self._extractors)], potential)

    def _spikes(self, place: plans.Place, extractor: Any) -> Any:
        first = np.full(extractor.in_port.shape, -1, np.int32)
        for step in range(self._plan.period):
            now = extractor.receive() > 0
            if np.any(first[now] >= 0):
                raise RuntimeError("a neuron of %s has spiked twice" % place.population)
            first[now] = step - place.shift
        if np.any(first < 0):
            raise RuntimeError("%d neurons of %s have not spiked" % (int((first < 0).sum()), place.population))
        return first

    def close(self) -> None:
        """End Lava's processes."""
        self._closing = True
        for actor in self._actors:
            actor.kill()


class _Meter:
    """Lava's profiler of a chip's energy, through its public interface. Never run here, as no chip was at hand.

    Args:
        config: of a run on hardware; Lava has no profiler for its simulation.
        windows: how many are measured together.
        period: steps of each.
    """

    def __init__(self, config: Any, windows: int, period: int) -> None:
        from lava.utils.profiler import Profiler

        self._left = windows
        self._profiler = Profiler.init(config)
        self._profiler.execution_time_probe(num_steps=windows * period)
        self._profiler.energy_probe(num_steps=windows * period)

    def note_window(self) -> None:
        """One more has run. The board's power is what is measured: a dynamic part may come out negative."""
        self._left -= 1
        if self._left == 0:
            for name in ("power_breakdown", "energy_breakdown"):
                sys.stderr.write("Lava's profiler, %s: %s\n" % (name, getattr(self._profiler, name)()))


class _Lava:
    """The parts of Lava that are used, imported when they are."""

    def __init__(self) -> None:
        check_installed()
        from lava.magma.core import run_configs
        from lava.magma.core.run_conditions import RunSteps
        from lava.magma.runtime.message_infrastructure import multiprocessing
        from lava.proc.io.extractor import Extractor, PyLoihiExtractorModel
        from lava.proc.io.injector import Injector, PyLoihiInjectorModel
        from lava.proc.io.source import PySendModelFixed, RingBuffer
        from lava.proc.lif.models import PyLifResetModelBitAcc
        from lava.proc.lif.process import LIFReset
        from lava.proc.sparse.models import PySparseModelBitAcc
        from lava.proc.sparse.process import Sparse
        from lava.utils.weightutils import SignMode
        from scipy.sparse import csr_matrix

        self._multiprocessing = multiprocessing
        self.RunSteps, self.Injector, self.Extractor, self.RingBuffer = RunSteps, Injector, Extractor, RingBuffer
        self._configs, self._lif, self._sparse, self._csr = run_configs, LIFReset, Sparse, csr_matrix
        self._mixed = SignMode.MIXED
        # Both have a floating-point model alone, and a run in fixed point would find none.
        self._ends = {Injector: PyLoihiInjectorModel, Extractor: PyLoihiExtractorModel}
        self._models = {
            **self._ends, RingBuffer: PySendModelFixed, LIFReset: PyLifResetModelBitAcc, Sparse: PySparseModelBitAcc,
        }  # fmt: skip

    def neurons(self, population: plans.Population, period: int) -> Any:
        """LIF neurons that are reset at the first step of each inference. Lava counts steps from 1."""
        return self._lif(
            shape=(population.size,), vth=population.vth, dv=0,
            # One is added to du: −1 keeps the current for ever, 4095 lets it go at once.
            du=4095 if population.leak else -1,
            reset_interval=period, reset_offset=1 % period,
        )  # fmt: skip

    def connect(self, group: plans.Synapses, source: Any, target: Any) -> Any:
        """Synapses between two ports."""
        shape = (target.shape[0], source.shape[0])
        weights = self._csr((group.weights.astype(np.int32), (group.rows, group.columns)), shape)
        made = self._sparse(weights=weights, weight_exp=group.exponent, sign_mode=self._mixed)
        source.connect(made.s_in)
        made.a_out.connect(target)
        return made

    def config(self, hardware: str, processes: List[Any]) -> Any:
        """How it is to run.

        In the simulation each of the processes is told its model: for those that are not, Lava executes every file
        beside theirs, each time, which is half of the time that it takes to start.
        """
        if hardware == "sim":
            self._multiprocessing.SharedMemoryManager = guard.Segments
            chosen = {process: self._models[type(process)] for process in processes}
            return self._configs.Loihi2SimCfg(select_tag="fixed_pt", exception_proc_model_map=chosen)
        config = {"loihi1": self._configs.Loihi1HwCfg, "loihi2": self._configs.Loihi2HwCfg}[hardware]
        return config(select_tag="fixed_pt", exception_proc_model_map=dict(self._ends))


def check_installed() -> None:
    """That Lava is there, in the version that this was written for.

    Raises:
        AbsentError: it is not.
    """
    from importlib import metadata

    try:
        found = metadata.version("lava-nc")
    except metadata.PackageNotFoundError:
        raise AbsentError("Lava is not installed here", "firstspike workers install lava") from None
    if found != VERSION:
        raise AbsentError(
            "lava-nc %s is installed, and its internals differ from those of %s" % (found, VERSION),
            "firstspike workers install lava --force, or take the entry `command` out of the section",
        )

"""A plan of `_lava_layout` on Lava's processes: built once, then one window after another."""

import logging
import sys
from typing import Any, Dict, List, Tuple

import numpy as np

from firstspike.backends import _lava_guard as guard
from firstspike.backends import _lava_models
from firstspike.backends._lava_layout import CONTROL, INPUT, LIF, SOFT, Plan, Population, Synapses
from firstspike.worker.shim import AbsentError

VERSION = "0.10.0"
"""Of lava-nc, the only one that this was tried with."""


class Running:
    """A network that runs.

    Args:
        plan: what to build.
        read: the populations whose spikes are read out.
        hardware: `sim`, `loihi1` or `loihi2`.
        profile_windows: after so many windows, what Lava's profiler measured is written to standard error; 0: never.
    """

    def __init__(self, plan: Plan, read: List[str], hardware: str, profile_windows: int = 0) -> None:
        guard.guard_forks()
        lava = _Lava()
        self._plan, self._lava = plan, lava
        self._closing = False
        self._injector = lava.Injector(shape=(plan.input_size,), buffer_size=plan.period + 1)
        control = lava.RingBuffer(data=plan.control.astype(np.int32))
        outs: Dict[str, Any] = {INPUT: self._injector.out_port, CONTROL: control.s_out}
        neurons: Dict[str, Any] = {}
        for population in plan.populations:
            neurons[population.name] = lava.neurons(population, plan.period)
            outs[population.name] = neurons[population.name].s_out
        synapses = [lava.connect(group, outs[group.source], neurons[group.target].a_in) for group in plan.synapses]
        self._extractors = {}
        for name in read:
            self._extractors[name] = lava.Extractor(shape=outs[name].shape, buffer_size=plan.period + 1)
            outs[name].connect(self._extractors[name].in_port)
        self._state = getattr(neurons[plan.read[0]], plan.read[1]) if plan.read_at >= 0 else None
        # Those that nothing connects are not run, and need no model.
        self._root = neurons[read[-1]]
        processes = [self._injector, control, *neurons.values(), *synapses, *self._extractors.values()]
        config = lava.config(hardware, processes, plan)
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

    def run(self, raster: Any) -> Tuple[Dict[str, Any], Any]:
        """Run one window. What fails in the middle of one ends the process: Lava's would go on with half of it.

        Args:
            raster: (steps, inputs), what the inputs send at the first steps, 0 or 1; at later ones they send nothing.

        Returns:
            Spikes of each population that is read out, bool (period, neurons); and the state that the plan reads,
            int64 (neurons,), or None.
        """
        try:
            return self._run(raster)
        except Exception as error:
            guard.end("Lava failed during a window: %s: %s" % (type(error).__name__, error))
            raise

    def _run(self, raster: Any) -> Tuple[Dict[str, Any], Any]:
        plan, state = self._plan, None
        nothing = np.zeros(plan.input_size)
        for step in range(plan.period):
            self._injector.send(raster[step].astype(float) if step < len(raster) else nothing)
        left = plan.period
        if self._state is not None:
            self._root.run(self._lava.RunSteps(num_steps=plan.read_at + 1))
            state = self._state.get().astype(np.int64)
            left -= plan.read_at + 1
        if left:
            self._root.run(self._lava.RunSteps(num_steps=left))
        if self._meter is not None:
            self._meter.note_window()
        spikes = {}
        for name, extractor in self._extractors.items():
            spikes[name] = np.empty((plan.period, *extractor.in_port.shape), bool)
            for step in range(plan.period):
                spikes[name][step] = extractor.receive() > 0
        return spikes, state

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
        from lava.proc.sparse.models import PyDelaySparseModelBitAcc, PySparseModelBitAcc
        from lava.proc.sparse.process import DelaySparse, Sparse
        from lava.utils.weightutils import SignMode
        from scipy.sparse import csr_matrix

        self._multiprocessing = multiprocessing
        self.RunSteps, self.Injector, self.Extractor, self.RingBuffer = RunSteps, Injector, Extractor, RingBuffer
        self._configs, self._lif, self._csr = run_configs, LIFReset, csr_matrix
        self._sparse, self._delayed = Sparse, DelaySparse
        self._signs = {mode.name.lower(): mode for mode in SignMode}
        # Both have a floating-point model alone, and a run in fixed point would find none.
        self._ends = {Injector: PyLoihiInjectorModel, Extractor: PyLoihiExtractorModel}
        self._models = {
            **self._ends, RingBuffer: PySendModelFixed, LIFReset: PyLifResetModelBitAcc, Sparse: PySparseModelBitAcc,
            DelaySparse: PyDelaySparseModelBitAcc,
        }  # fmt: skip

    def neurons(self, population: Population, period: int) -> Any:
        """LIF neurons that are put to rest once a window. Lava counts steps from 1."""
        shape = (population.size,)
        resets = {"reset_interval": period, "reset_offset": (1 + population.reset) % period}
        if population.model != LIF:
            made = self._lif(shape=shape, vth=population.vth, **resets)
            if population.model == SOFT:
                given = {"start": population.start, "current": population.bias, "holds": population.du < 0}
                for key, value in given.items():
                    made.proc_params[key] = value
            return made
        return self._lif(
            shape=shape, vth=population.vth, du=population.du, dv=population.dv,
            bias_mant=np.broadcast_to(population.bias, shape), bias_exp=6, **resets,
        )  # fmt: skip

    def connect(self, group: Synapses, source: Any, target: Any) -> Any:
        """Synapses between two ports."""
        shape, places = (target.shape[0], source.shape[0]), (group.rows, group.columns)
        weights = self._csr((group.weights.astype(np.int32), places), shape)
        given = {"weights": weights, "weight_exp": group.exponent, "sign_mode": self._signs[group.sign]}
        if group.delays is None:
            made = self._sparse(**given)
        else:
            made = self._delayed(delays=self._csr((group.delays, places), shape), **given)
        source.connect(made.s_in)
        made.a_out.connect(target)
        return made

    def config(self, hardware: str, processes: List[Any], plan: Plan) -> Any:
        """How it is to run.

        In the simulation each of the processes is told its model: for those that are not, Lava executes every file
        beside theirs, each time, which is half of the time that it takes to start.
        """
        if hardware == "sim":
            self._multiprocessing.SharedMemoryManager = guard.Segments
            chosen = {process: self._models[type(process)] for process in processes}
            own = _lava_models.models() if any(one.model != LIF for one in plan.populations) else {}
            for population, process in zip(plan.populations, processes[2:]):  # behind the injector and the control
                chosen[process] = own.get(population.model, chosen[process])
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

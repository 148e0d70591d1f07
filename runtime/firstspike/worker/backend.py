"""A driver's file as the daemon sees it: a back end like any other, whose work is done by a supervised worker."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firstspike.backends._network import network_of
from firstspike.bundle import Bundle
from firstspike.errors import BundleError
from firstspike.hybrid.back import bytes_of
from firstspike.hybrid.front import network_of as network_of_front
from firstspike.ttfs.network import Conv, Dense, Network
from firstspike.types import Inference, Spikes
from firstspike.worker import drivers, environments
from firstspike.worker import front as fronts
from firstspike.worker.back import WorkerBack, description
from firstspike.worker.held import Held
from firstspike.worker.options import WorkerOptions, model_of
from firstspike.worker.start import Program
from firstspike.worker.supervisor import Supervisor, WorkerError

ROLES = {"dense": "dense", "ann": "ann"}
"""The bundle's file for each value of a driver's option `network`, where the driver has no table of its own."""
OUR_PACKAGES = {"numpy"}
"""A driver that needs no more runs under the daemon's own Python, unless an environment was installed for it."""


class WorkerModule:
    """What `backends/<kind>.py` offers the daemon, made of its driver."""

    def __init__(self, kind: str, module: ModuleType) -> None:
        self.kind = kind
        self.driver = module
        self.Options = model_of(module)
        if getattr(module, "FRONT", False):
            self.front = self._front  # who looks for one finds none elsewhere

    def create(self, options: WorkerOptions, bundle: Bundle, name: str) -> WorkerBackend:
        """A back end whose worker starts when it is first asked for anything.

        Raises:
            BundleError: the bundle has not what this back end runs.
        """
        answers = Answers(bundle, self._form(options))
        load = {"options": options.of_driver(), "model": answers.model}, self._network(bundle, answers.form)
        self._check(name, bundle, *load)
        return WorkerBackend(name, self._starter(name, options, load), answers)

    def _front(self, options: WorkerOptions, bundle: Bundle, name: str) -> fronts.WorkerFront:
        """The front of a hybrid, see `hybrid.place`; its worker starts when it is first asked for anything.

        Raises:
            BundleError: this back end cannot run this one.
        """
        network = network_of_front(bundle)
        load = {"options": options.of_driver(), "model": fronts.description(bundle)}, bundle.path("front").read_bytes()
        self._check(name, bundle, *load)
        return fronts.WorkerFront(name, self._starter(name, options, load), bundle, network.shapes()[-1])

    def back(self, options: WorkerOptions, bundle: Bundle, name: str, shape: tuple[int, int, int]) -> WorkerBack:
        """The back of a hybrid, see `hybrid.place`; its worker starts when it is first asked for anything.

        Raises:
            BundleError: this back end runs no ONNX, or not this one.
        """
        if self.driver.NETWORK not in ROLES:
            raise BundleError(f"back end {name!r} cannot run the model's back: it runs no ONNX")
        own = options.of_driver()
        if "network" in own:
            own["network"] = "ann"  # the back is one, whatever is set for other models
        load = {"options": own, "model": description(bundle, shape)}, bytes_of(bundle, shape)
        self._check(name, bundle, *load)
        return WorkerBack(name, self._starter(name, options, load), bundle)

    def _starter(
        self, name: str, options: WorkerOptions, load: tuple[dict[str, Any], bytes]
    ) -> Callable[[], Supervisor]:
        return lambda: Supervisor(name, lambda: self._program(options), load, options.limits())

    def _check(self, name: str, bundle: Bundle, described: dict[str, Any], network: bytes) -> None:
        """Let the driver refuse a network that its SDK would run wrongly, before anything is started."""
        check = getattr(self.driver, "check", None)
        if check is None:
            return
        try:
            check(described["options"], described["model"], network)
        except ValueError as error:
            raise BundleError(f"{bundle.folder}: backend.{name} cannot run it: {error}") from None

    def _form(self, options: WorkerOptions) -> str:
        return str(options.of_driver().get("network", self.driver.NETWORK))

    def _network(self, bundle: Bundle, form: str) -> bytes:
        if form == "none":
            return b""
        role = getattr(self.driver, "ROLES", ROLES).get(form, form)
        return bundle.path(role).read_bytes()

    def _program(self, options: WorkerOptions) -> Program:
        """How to start a worker now: an environment may have been installed meanwhile.

        Raises:
            AbsentError: there is no interpreter for it yet.
        """
        driver = drivers.load(self.kind)
        if options.command:
            return driver.program(options.command)
        if set(driver.recipe.packages) <= OUR_PACKAGES and environments.look(driver).python is None:
            return driver.program([sys.executable])
        return driver.program([str(environments.python_of(self.kind))])


class Answers:
    """Turns a worker's output into what the decision is made of.

    Args:
        bundle: the model.
        form: `dense`: outputs are the membrane potentials of the gated network, whole numbers; `ttfs`: potentials and
            spike times of the network itself; `ann`: the logits of its floating-point twin; `none`: none of these,
            potentials as they come.
    """

    def __init__(self, bundle: Bundle, form: str) -> None:
        manifest = bundle.manifest
        spec = manifest.input
        self.form = form
        self.classes = len(manifest.labels)
        self._scale = manifest.decide.logit_scale
        self._network: Network = network_of(bundle)
        if form == "dense" and self._network.neuron != "gated":
            raise BundleError(
                f"{bundle.folder}: a network of {self._network.neuron} neurons has no dense form: set network = 'ann' "
                "to run the bundle's floating-point network instead"
            )
        self.model: dict[str, Any] = {
            "name": manifest.name, "version": manifest.version, "digest": bundle.digest, "classes": self.classes,
            "channels": spec.channels, "height": spec.height, "width": spec.width, "steps": spec.steps, "form": form,
            "scale": 1 / spec.steps if form == "ann" else 1.0,
        }  # fmt: skip

    def read(self, name: str, arrays: dict[str, NDArray[Any]]) -> Inference:
        """The inference that a worker's arrays say.

        Raises:
            ValueError: they make no sense; the text says why.
        """
        if self.form == "ttfs":
            potential, first_spike = (self._whole(arrays, key) for key in ("potential", "first_spike"))
            frame = self._network.frames()[-1]
            if first_spike.min() < 0 or first_spike.max() > frame.last:
                raise ValueError(f"its output spikes at steps {first_spike.min()} to {first_spike.max()}, the network "
                                 f"has 0 to {frame.last}")  # fmt: skip
            return Inference(name, potential, first_spike, frame=frame)
        output = arrays.get("output")
        if output is None:
            raise ValueError(f"its answer has {', '.join(sorted(arrays)) or 'nothing'} and no 'output'")
        if output.shape != (self.classes,):
            raise ValueError(f"its answer has shape {output.shape}, the model has {self.classes} classes")
        values = output.astype(np.float64)
        if self.form == "ann":
            values = values / self._scale
        if not np.isfinite(values).all() or np.abs(values).max() >= 2**31:
            raise ValueError("its answer is no finite number of 32 bits")
        potential = np.rint(values).astype(np.int32)
        if self.form != "dense":
            return Inference(name, potential, None)
        return Inference(name, potential, self._first_spike(potential), frame=self._network.frames()[-1])

    def _whole(self, arrays: dict[str, NDArray[Any]], key: str) -> NDArray[np.int32]:
        """An array of one whole number a class."""
        if key not in arrays:
            raise ValueError(f"its answer has {', '.join(sorted(arrays)) or 'nothing'} and no '{key}'")
        found = arrays[key]
        if found.shape != (self.classes,) or found.dtype != np.int32:
            raise ValueError(f"its '{key}' is {found.dtype} of shape {found.shape}, must be int32 of {self.classes}")
        return found

    def _first_spike(self, potential: NDArray[np.int32]) -> NDArray[np.int32]:
        """When each output neuron spikes: the readout's closed form, which a gated neuron always follows."""
        layer, frame = self._network.layers[-1], self._network.frames()[-1]
        assert isinstance(layer, Conv | Dense)  # noqa: S101 (a network ends in a weighted layer)
        readout = layer.readout
        activation = (potential.astype(np.int64) + readout.rounding) // readout.ramp
        return np.asarray(frame.last - np.clip(activation, 0, readout.steps), np.int32)


class WorkerBackend(Held):
    """See `backends.Backend`."""

    def __init__(self, name: str, start: Callable[[], Supervisor], answers: Answers) -> None:
        super().__init__(name, start)
        self._answers = answers

    def infer(self, spikes: Spikes, within_s: float) -> Inference:
        """See `Backend.infer`; the worker has `within_s` at most."""
        try:
            answer = self.supervisor.infer(spikes.times, time.monotonic() + within_s)
        except WorkerError as error:
            return Inference(self.name, None, None, failure=str(error))
        try:
            return self._answers.read(self.name, answer.arrays)
        except ValueError as error:
            self.supervisor.distrust(f"the worker is replaced: {error}")
            return Inference(self.name, None, None, failure=f"{self.name}: {error}")

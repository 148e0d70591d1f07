"""`[backend.tensorrt]`: the network on an NVIDIA GPU, a Jetson's or another, through TensorRT 8.2 or newer.

Execution has not been run on hardware: no GPU was to be had. Building engines was, with TensorRT for RTX on a processor
alone; the rest runs in tests against a library and a module that behave as documented: docs/accelerators/tensorrt.md.

Runs in a worker under Python 3.6 or newer.
"""

import hashlib
import os
import sys
import time
from typing import Any, Dict, List, NoReturn, Sequence, Tuple

import numpy as np

from firstspike.backends import _cuda, _tensorrt_engine
from firstspike.backends._engine_cache import Cache, folder
from firstspike.worker.shim import AbsentError, Option

SIBLINGS = ("_cuda", "_engine_cache", "_tensorrt_engine")
NETWORK = "dense"
ENVIRONMENT = {
    # TensorRT comes with the system and its Python (JetPack 6: 3.10; 5: 3.8; 4.6: 3.6); no package index has it.
    "python": ["3"],
    "packages": [],
    "system": ["python3-libnvinfer", "python3-numpy"],
    "imports": ["numpy", "tensorrt"],
    "system_site": True,
}
TRIED = "not run on hardware; against a library and a module that behave as documented for 8.2, 8.6, 10.3 and 11"
OPTIONS = {
    "device": Option(0, "number of the GPU, as CUDA counts", low=0, high=63),
    "network": Option(
        "dense",
        "the integer network, with the emulator's answers, or its floating-point twin",
        choices=("dense", "ann"),
    ),
    "precision": Option("f32", "of the arithmetic; f16 for the twin alone, which it changes", choices=("f32", "f16")),
    "workspace_mib": Option(256, "memory that a layer may take for itself while it runs, MiB", low=1, high=65536),
    "cache_dir": Option("", "folder of built engines; empty: the user's cache directory; none: nothing is kept"),
    # In place of every worker's default: one that is killed while it builds would build for ever.
    "start_s": Option(600.0, "to start and load the network, the first time to build its engine, s", low=1, high=3600),
    "cache_mib": Option(64, "MiB that engines may take; what was used longest ago goes first", low=0, high=65536),
}
MODULES: Tuple[str, ...] = ("tensorrt",)

EXIT_DEVICE = 74
"""The exit code when the device has failed for good in this process (sysexits' EX_IOERR)."""


def probe(options: Dict[str, Any], modules: Sequence[str] = MODULES, tried: str = TRIED) -> List[Dict[str, Any]]:
    """The GPUs that there are, and whether TensorRT is there for them. No GPU is used for it."""
    del options
    try:
        devices = _cuda.Driver().devices()
    except AbsentError as error:
        return [{"device": "CUDA", "present": False, "reason": error.reason, "fix": error.fix}]
    about: Dict[str, Any] = {"present": True, "reason": "", "fix": "", "tried": tried}
    try:
        trt = _tensorrt_engine.find(modules)
        about.update({"module": trt.__name__, "tensorrt": trt.__version__})
    except AbsentError as error:
        about.update({"present": False, "reason": error.reason, "fix": error.fix})
    return [{"device": device.name, **_describe(device), **about} for device in devices]


def _describe(device: _cuda.Found) -> Dict[str, Any]:
    return {
        "ordinal": device.ordinal,
        "compute_capability": "{}.{}".format(*device.capability),
        "memory_mib": device.memory >> 20,
        "driver": device.driver,
    }


class Driver:
    """See `backends/_template_worker.py`.

    Raises:
        AbsentError: no CUDA, no such device, no TensorRT, or not one that starts with this driver.
        EngineError: the network cannot be built or loaded.
        ValueError: the network does not fit the bundle.
    """

    modules = MODULES
    """Names that TensorRT may have in Python."""
    tried = TRIED

    def __init__(self, options: Dict[str, Any], model: Dict[str, Any], network: bytes) -> None:
        # In this order: TensorRT without CUDA answers, and then ends the process with SIGSEGV.
        self._session = _cuda.Session(_cuda.Driver(), options["device"])
        try:
            self._trt = _tensorrt_engine.find(self.modules)
            self._log = _tensorrt_engine.logger(self._trt)
            self._runtime = _tensorrt_engine.runtime(self._trt, self._log)
            self.about: Dict[str, Any] = {
                "device": self._session.device.name,
                **_describe(self._session.device),
                "module": self._trt.__name__,
                "tensorrt": self._trt.__version__,
                "precision": options["precision"],
                "tf32": False,
                "tried": self.tried,
            }
            self._engine = self._load(options, network)
            self._prepare(model)
        except BaseException:
            self.close()
            raise

    def _key(self, options: Dict[str, Any], network: bytes) -> Dict[str, Any]:
        """All that an engine depends on.

        Not the driver's version: an engine is code for a compute capability, which a newer driver runs as well, and one
        that is too old refuses to load. Name and multiprocessors are in it because TensorRT chose its kernels by timing
        them on that very device.
        """
        device = self._session.device
        return {
            "onnx": hashlib.sha256(network).hexdigest(),
            "module": self._trt.__name__,
            "tensorrt": self._trt.__version__,
            "capability": list(device.capability),
            "device": device.name,
            "multiprocessors": device.multiprocessors,
            "network": options["network"],
            "precision": options["precision"],
            "tf32": False,
            "workspace_mib": options["workspace_mib"],
        }

    def _load(self, options: Dict[str, Any], network: bytes) -> Any:
        """The engine, from the cache if it is there and good; else it is built, once."""
        cache = Cache(folder(options["cache_dir"]), options["cache_mib"] << 20)
        key = self._key(options, network)
        plan, engine = cache.get(key), None
        if plan is not None:
            try:
                engine = _tensorrt_engine.load(self._runtime, self._log, plan)
                self.about.update({"engine": "cached", "engine_bytes": len(plan)})
            except _tensorrt_engine.EngineError as error:
                cache.notes.append(f"{error}: it is built anew")
                cache.drop(key)
        if engine is None:
            built = self._build(options, network)
            engine = _tensorrt_engine.load(self._runtime, self._log, built.plan)
            cache.put(key, built.plan)  # only what loads
        for note in cache.notes:
            sys.stderr.write(f"firstspike: {note}\n")
        self.about["cache_notes"] = cache.notes
        return engine

    def _build(self, options: Dict[str, Any], network: bytes) -> _tensorrt_engine.Built:
        started = time.monotonic()
        built = _tensorrt_engine.build(
            self._trt, self._log, network, half=options["precision"] == "f16", dense=options["network"] == "dense",
            workspace_mib=options["workspace_mib"],
        )  # fmt: skip
        self.about.update({"engine": "built", "engine_bytes": len(built.plan), "layers": built.layers})
        self.about["build_s"] = round(time.monotonic() - started, 3)
        return built

    def _prepare(self, model: Dict[str, Any]) -> None:
        """Memory at both ends, and one run: the first is slow, and shows whether it runs at all."""
        self._shape = (model["channels"], model["height"], model["width"])
        self._steps, self._scale = np.float32(model["steps"]), np.float32(model["scale"])
        found = _tensorrt_engine.tensors(self._trt, self._engine)
        _check(found, self._shape, model["classes"])
        self._scratch = np.zeros(self._shape, np.float32)
        places: List[Tuple[str, int]] = []
        for tensor in found:
            size = int(np.prod(tensor.shape)) * np.dtype(tensor.dtype).itemsize
            host, address = self._session.host(size), self._session.memory(size)
            places.append((tensor.name, address))
            array = np.frombuffer(host, tensor.dtype)
            if tensor.is_input:
                self._in, self._in_host, self._in_device = array.reshape(self._shape), host, address
            else:
                self._out, self._out_host, self._out_device = array, host, address
        self._execution = _tensorrt_engine.Execution(self._engine, self._log, places, self._session.stream)
        self.about["api"] = "execute_async_v3" if self._execution.by_name else "execute_async_v2"
        started = time.monotonic()
        self._run()
        self.about["first_run_s"] = round(time.monotonic() - started, 6)

    def infer(self, times: Any) -> Dict[str, Any]:
        """Put one window to the network.

        Args:
            times: spike times, uint8 (channels, height, width).

        Returns:
            `output`: float32 (classes,), potentials or logits.

        Raises:
            ValueError: another shape.
            EngineError, CudaError: this window has no answer; the next may have.
        """
        if times.shape != self._shape:
            raise ValueError(f"a window of shape {times.shape} for a network of {self._shape}")
        np.subtract(self._steps, times, out=self._scratch, dtype=np.float32)
        np.multiply(self._scratch, self._scale, out=self._in, casting="same_kind")
        try:
            self._run()
        except _cuda.CudaError as error:
            if error.fatal:
                # CUDA answers every later call with the same error; only a new process can use the device again.
                end_process(f"{self._session.device.name}: {error}")
            raise
        return {"output": self._out.astype(np.float32)}

    def _run(self) -> None:
        self._session.send(self._in_device, self._in_host)
        try:
            self._execution.begin()
        except _tensorrt_engine.EngineError:
            self._session.wait()  # if the device has failed, this says how
            raise
        self._session.fetch(self._out_host, self._out_device)
        self._session.wait()

    def close(self) -> None:
        """Give the device's memory back. TensorRT's objects go first, in the opposite order of their making."""
        for name in ("_execution", "_engine", "_runtime"):
            self.__dict__.pop(name, None)
        for name in ("_in", "_in_host", "_out", "_out_host"):
            self.__dict__.pop(name, None)  # they show memory that is about to go
        self._session.close()


def _check(found: List[_tensorrt_engine.Tensor], shape: Tuple[int, ...], classes: int) -> None:
    """Whether an engine takes a window and answers with a number for each class."""
    inputs, outputs = [t for t in found if t.is_input], [t for t in found if not t.is_input]
    if len(inputs) != 1 or len(outputs) != 1:
        raise ValueError(f"the network has {len(inputs)} inputs and {len(outputs)} outputs: one of each is needed")
    if inputs[0].shape != (1, *shape):
        raise ValueError(f"the network's {inputs[0].name} is of shape {inputs[0].shape}, windows are {(1, *shape)}")
    if outputs[0].shape != (1, classes):
        raise ValueError(f"the network's {outputs[0].name} is of shape {outputs[0].shape}, not {(1, classes)}")


def end_process(reason: str) -> NoReturn:
    """End the worker with a last line that the supervisor gives as the reason; it starts another."""
    sys.stderr.write(f"firstspike: the device has failed: {reason}\n")
    sys.stderr.flush()
    os._exit(EXIT_DEVICE)

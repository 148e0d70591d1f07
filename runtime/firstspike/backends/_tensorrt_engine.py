"""TensorRT from 8.2 to 11 and TensorRT for RTX: build an engine, load it, run it. By what is there, not by version.

| | 8.2 | 8.5, 8.6 | 10 | 11, RTX |
|---|---|---|---|---|
| a tensor's place | bindings | both | by name | by name |
| run | execute_async_v2 | both | execute_async_v3 | execute_async_v3 |
| explicit batch | asked for | asked for | asked for, without effect | always, the flag is gone |
| FP16 | a flag | a flag | a flag | the network's own types |
| workspace | max_workspace_size | both | set_memory_pool_limit | set_memory_pool_limit |

Runs in a worker under Python 3.6 or newer.
"""

import importlib
import sys
from typing import Any, List, NamedTuple, Sequence, Tuple

import numpy as np

from firstspike.worker.shim import AbsentError


class EngineError(Exception):
    """TensorRT did not do what was asked; the text says what, and what TensorRT wrote about it."""


class Built(NamedTuple):
    """A network made into an engine."""

    plan: bytes
    layers: int
    """Of the network as parsed; TensorRT joins them."""


class Tensor(NamedTuple):
    """An input or output of an engine."""

    name: str
    is_input: bool
    shape: Tuple[int, ...]
    dtype: Any
    """NumPy's."""


def find(names: Sequence[str]) -> Any:
    """TensorRT's Python module: the first of these names that there is.

    Raises:
        AbsentError: there is none, or it does not load.
    """
    python = ".".join(map(str, sys.version_info[:2]))
    for name in names:
        try:
            return importlib.import_module(name)
        except Exception as error:  # noqa: BLE001, PERF203 (the stub of a package raises what it likes; two names)
            if not (isinstance(error, ImportError) and error.name == name):
                raise _broken(name, python, error) from None
    reason = f"the Python module {names[0]} is not there for Python {python} ({sys.executable})"
    fix = (
        "on a Jetson: apt-get install python3-libnvinfer, then firstspike workers install tensorrt; "
        "elsewhere: firstspike workers install tensorrt_rtx, and that back end"
    )
    raise AbsentError(reason, fix)


def _broken(name: str, python: str, error: Exception) -> AbsentError:
    text = " ".join(str(error).split())[:300]
    reason = f"the Python module {name} is there and does not load under Python {python}: {text}"
    return AbsentError(reason, "install the libraries of TensorRT and its Python module in one and the same version")


def logger(trt: Any) -> Any:
    """What TensorRT writes: errors are kept (`errors`), they and warnings go to standard error.

    It must live as long as what was made with it.
    """
    loud = (trt.Logger.INTERNAL_ERROR, trt.Logger.ERROR)
    shown = (*loud, trt.Logger.WARNING)

    class Log(trt.ILogger):  # type: ignore[misc] # the class is known at run time only
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: List[str] = []

        def log(self, severity: Any, msg: str) -> None:
            text = " ".join(str(msg).split())[:500]
            if severity in loud:
                self.errors = [*self.errors[-9:], text]
            if severity in shown:
                sys.stderr.write(f"TensorRT: {text}\n")

    return Log()


def _told(log: Any) -> str:
    """The errors of the last step, to put behind a text."""
    errors, log.errors = log.errors, []
    return ": " + "; ".join(errors[:3]) if errors else ", without saying why"


def runtime(trt: Any, log: Any) -> Any:
    """TensorRT's `Runtime`.

    Raises:
        AbsentError: it did not find CUDA to its liking. It then gives an object whose next use ends the process.
    """
    log.errors = []
    made = trt.Runtime(log)
    if made is None or log.errors:
        reason = f"{trt.__name__} {trt.__version__} does not start on this driver{_told(log)}"
        raise AbsentError(reason, "update the NVIDIA driver to one for the CUDA version of this TensorRT")
    return made


def build(trt: Any, log: Any, onnx: bytes, *, half: bool, dense: bool, workspace_mib: int) -> Built:
    """Make an engine of a network. Needs no GPU with TensorRT for RTX, one with every other.

    Args:
        trt: the module.
        log: what `logger` made.
        onnx: the network, with static shapes.
        half: whether layers may compute in FP16; else FP32 it is.
        dense: whether the network is an integer network in floating point, which FP16 cannot hold.
        workspace_mib: what a layer may take of the device's memory for itself, MiB.

    Raises:
        EngineError: the network cannot be parsed or built, or not in this precision.
    """
    log.errors = []
    name = f"{trt.__name__} {trt.__version__}"
    builder = trt.Builder(log)
    kinds = trt.NetworkDefinitionCreationFlag
    network = builder.create_network(1 << int(kinds.EXPLICIT_BATCH) if hasattr(kinds, "EXPLICIT_BATCH") else 0)
    parser = trt.OnnxParser(network, log)
    if not parser.parse(onnx):
        problems = [_problem(parser.get_error(index)) for index in range(min(3, parser.num_errors))]
        raise EngineError(f"{name} cannot read the network: " + ("; ".join(problems) or "it is no ONNX file"))
    config = builder.create_builder_config()
    if hasattr(config, "set_memory_pool_limit"):
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace_mib << 20)
    else:
        config.max_workspace_size = workspace_mib << 20
    _set_precision(trt, config, network, half=half, dense=dense)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        text = _told(log)
        lean = "memory" in text.lower()
        advice = ". Free memory of the device or lower the key workspace_mib" if lean else ""
        raise EngineError(f"{name} cannot build the engine{text}{advice}")
    return Built(bytes(memoryview(plan)), int(network.num_layers))


def _problem(error: Any) -> str:
    """One of the parser's errors, with the node's name where the parser tells it (TensorRT 10 and newer)."""
    node, operator = (getattr(error, name, lambda: "")() for name in ("node_name", "node_operator"))
    text = " ".join(str(error.desc()).split())[:200]
    if error.node() < 0:
        return text  # not of a node: the file as a whole
    return (f"{operator} {node}".strip() or f"node {error.node()}") + f": {text}"


def _set_precision(trt: Any, config: Any, network: Any, *, half: bool, dense: bool) -> None:
    flags = trt.BuilderFlag
    if hasattr(flags, "TF32"):
        # It is on by default and rounds the factors of a product to 11 bits. The integers of a dense network (weights
        # of 8 bits, activations of 8) pass unrounded, but a float network's do not, and f32 shall mean f32.
        config.clear_flag(flags.TF32)
    if not half:
        return
    if dense or not (_is_half(trt, network) or hasattr(flags, "FP16")):
        # It would overflow, or be built in FP32 without a word.
        why = "a dense network overflows it" if dense else "it is taken from the network's own types alone"
        raise EngineError(
            f'{trt.__name__} {trt.__version__} cannot run this network in FP16: {why}: set precision = "f32"'
        )
    if hasattr(flags, "FP16"):
        config.set_flag(flags.FP16)


def _is_half(trt: Any, network: Any) -> bool:
    """Whether the network says of itself that it computes in FP16."""
    layers = map(network.get_layer, range(network.num_layers))
    outputs = (layer.get_output(index) for layer in layers for index in range(layer.num_outputs))
    return any(output.dtype == trt.DataType.HALF for output in outputs)


def load(maker: Any, log: Any, plan: bytes) -> Any:
    """The engine of a plan.

    Raises:
        EngineError: it is of another version or device, or damaged.
    """
    log.errors = []
    try:
        engine = maker.deserialize_cuda_engine(plan)
    except Exception as error:  # noqa: BLE001 (newer versions raise what older ones answered with None)
        raise EngineError(f"the engine cannot be loaded: {error}") from None
    if engine is None:
        raise EngineError("the engine cannot be loaded" + _told(log))
    return engine


def tensors(trt: Any, engine: Any) -> List[Tensor]:
    """Inputs and outputs, in the engine's order (the order of bindings where there are any).

    Raises:
        EngineError: one is neither FP32 nor FP16, or has no fixed shape.
    """
    types = {trt.DataType.FLOAT: np.float32, trt.DataType.HALF: np.float16}
    found = []
    if hasattr(engine, "num_io_tensors"):
        for name in map(engine.get_tensor_name, range(engine.num_io_tensors)):
            is_input = engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
            found.append((name, is_input, engine.get_tensor_shape(name), engine.get_tensor_dtype(name)))
    else:
        for index in range(engine.num_bindings):
            shape, kind = engine.get_binding_shape(index), engine.get_binding_dtype(index)
            found.append((engine.get_binding_name(index), engine.binding_is_input(index), shape, kind))
    for name, _, shape, kind in found:
        if kind not in types or min(shape, default=1) < 1:
            raise EngineError(
                f"the network's {name} is {kind} of shape {tuple(shape)}: a fixed shape of floats is needed"
            )
    return [Tensor(name, bool(is_input), tuple(shape), types[kind]) for name, is_input, shape, kind in found]


class Execution:
    """An engine with memory to run in.

    Args:
        engine: it must outlive this.
        log: what `logger` made.
        addresses: of each tensor's memory on the device, with its name, in the order of `tensors`.
        stream: handle.

    Raises:
        EngineError: there is no memory for it, or it refuses an address.
    """

    def __init__(self, engine: Any, log: Any, addresses: Sequence[Tuple[str, int]], stream: int) -> None:
        log.errors = []
        self._log, self._stream = log, stream
        self._context = engine.create_execution_context()
        if self._context is None:
            raise EngineError("there is no memory to run the engine in" + _told(log))
        self._bindings = [address for _, address in addresses]
        self.by_name = hasattr(self._context, "set_tensor_address")
        """Whether tensors are placed by name (execute_async_v3), not by number (execute_async_v2)."""
        if self.by_name:
            for name, address in addresses:
                if not self._context.set_tensor_address(name, address):
                    raise EngineError(f"the engine refuses memory for {name}" + _told(log))

    def begin(self) -> None:
        """Begin one run on the stream.

        Raises:
            EngineError: it was not begun.
        """
        self._log.errors = []
        if self.by_name:
            begun = self._context.execute_async_v3(self._stream)
        else:
            begun = self._context.execute_async_v2(self._bindings, self._stream)
        if not begun:
            raise EngineError("the engine did not run" + _told(self._log))

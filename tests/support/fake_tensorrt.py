"""A TensorRT without a GPU: the Python interface of 8.2, 8.6, 10.3 and 11 as documented, running networks with NumPy.

Each version has what that version has and nothing else, so that code for another one fails here as it would there.
An engine works on the memory of `fake_cuda.cpp`, in the stream's order. `Faults` says what goes wrong.
"""

from __future__ import annotations

import ctypes
import enum
import json
import sys
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

MAGIC = b"PLAN"
KNOWN = {"Conv", "Relu", "MaxPool", "Flatten", "Gemm", "Clip", "Mul", "Floor", "Add", "Div", "Cast"}


@dataclass
class Faults:
    """What goes wrong, and what was asked for."""

    runtime_error: str = ""
    build_error: str = ""
    no_context: bool = False
    refuse_address: bool = False
    refuse_run: bool = False
    raise_on_load: bool = False
    status: int = 0
    """CUresult of the work on the device."""
    capability: str = "8.7"
    built: list[dict[str, Any]] = field(default_factory=list)
    """What each build was asked for."""


class DataType(enum.Enum):
    FLOAT, HALF, INT32 = 0, 1, 3


class TensorIOMode(enum.Enum):
    NONE, INPUT, OUTPUT = 0, 1, 2


class MemoryPoolType(enum.Enum):
    WORKSPACE = 0


DTYPES = {DataType.FLOAT: np.float32, DataType.HALF: np.float16, DataType.INT32: np.int32}
OF_ONNX = {1: DataType.FLOAT, 10: DataType.HALF, 6: DataType.INT32}


class Logger:
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)


class ILogger:
    """What a logger derives from."""


class HostMemory:
    """A plan: memoryview reads the array that this one wraps."""

    def __new__(cls, data: bytes) -> Any:
        return np.frombuffer(data, np.uint8)


@dataclass
class Tensor:
    name: str
    shape: tuple[int, ...]
    dtype: DataType
    is_input: bool


def make(version: str, library: ctypes.CDLL, faults: Faults, name: str = "tensorrt") -> ModuleType:
    """The module of one version.

    Args:
        version: 8.2.1, 8.6.1, 10.3.0 or 11.0.0.
        library: `fake_cuda.cpp`, loaded.
        faults: what goes wrong.
        name: of the module.
    """
    number = tuple(int(part) for part in version.split(".")[:2])
    by_name, by_number, strong = number >= (8, 5), number < (10, 0), number >= (11, 0)
    module: Any = ModuleType(name)
    library.fake_enqueue.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    library.fake_copy.argtypes = [ctypes.c_uint64, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int]

    class Context:
        def __init__(self, engine: Any) -> None:
            self._engine, self._addresses = engine, {}
            self._evaluator = ReferenceEvaluator(onnx.load_from_string(engine._onnx))
            # Kept for as long as the library may call it.
            self._callback = ctypes.CFUNCTYPE(ctypes.c_int)(self._work)

        def _work(self) -> int:
            try:
                return self._compute()
            except BaseException as error:  # noqa: BLE001 (an exception cannot pass through the library)
                print("pretended TensorRT:", repr(error), file=sys.stderr)
                return 719

        def _compute(self) -> int:
            feeds = {}
            for tensor in self._engine._tensors:
                if tensor.is_input:
                    array = np.empty(tensor.shape, DTYPES[tensor.dtype])
                    held = ctypes.cast(array.ctypes.data, ctypes.c_char_p)
                    if code := library.fake_copy(self._addresses[tensor.name], held, array.nbytes, 0):
                        return code
                    feeds[tensor.name] = array
            names = [tensor.name for tensor in self._engine._tensors if not tensor.is_input]
            for key, value in zip(names, self._evaluator.run(names, feeds), strict=True):
                array = np.ascontiguousarray(value)
                held = ctypes.cast(array.ctypes.data, ctypes.c_char_p)
                if code := library.fake_copy(self._addresses[key], held, array.nbytes, 1):
                    return code
            return faults.status

        def _enqueue(self, stream: int) -> bool:
            if faults.refuse_run:
                self._engine._log.log(Logger.ERROR, "IExecutionContext::enqueue: Error Code 1: Cuda Runtime")
                return False
            return library.fake_enqueue(stream, ctypes.cast(self._callback, ctypes.c_void_p)) == 0

    def set_tensor_address(self: Any, name: str, address: int) -> bool:
        self._addresses[name] = address
        return not faults.refuse_address

    def execute_async_v3(self: Any, stream_handle: int) -> bool:
        return self._enqueue(stream_handle)

    def execute_async_v2(self: Any, bindings: list[int], stream_handle: int, input_consumed: Any = None) -> bool:
        names = [tensor.name for tensor in self._engine._tensors]
        self._addresses = dict(zip(names, bindings, strict=True))
        return self._enqueue(stream_handle)

    class Engine:
        def __init__(self, log: Any, network: bytes) -> None:
            self._log, self._onnx = log, network
            self._tensors = tensors_of(onnx.load_from_string(network))

        def create_execution_context(self) -> Any:
            return None if faults.no_context else Context(self)

    if by_name:
        Context.set_tensor_address, Context.execute_async_v3 = set_tensor_address, execute_async_v3  # type: ignore[attr-defined]
        _add_tensors_by_name(Engine)
    if by_number:
        Context.execute_async_v2 = execute_async_v2  # type: ignore[attr-defined]
        _add_bindings(Engine)

    class Runtime:
        def __init__(self, log: Any) -> None:
            self._log = log
            if faults.runtime_error:
                log.log(Logger.ERROR, faults.runtime_error)

        def deserialize_cuda_engine(self, plan: bytes) -> Any:
            assert not faults.runtime_error, "the real one ends the process with SIGSEGV here"
            head, _, network = bytes(plan)[4:].partition(b"\n")
            complaint = ""
            if bytes(plan)[:4] != MAGIC:
                complaint = "Serialization assertion header.magicTag == kEXPECTED_MAGIC_TAG failed."
            elif json.loads(head)["version"] != version:
                complaint = "Version tag does not match. Note: Current Version: 0, Serialized Engine Version: 213"
            elif json.loads(head)["capability"] != faults.capability:
                told = f"expecting compute {json.loads(head)['capability']} got compute {faults.capability}"
                complaint = f"The engine plan file is generated on an incompatible device, {told}"
            if complaint and faults.raise_on_load:
                raise RuntimeError(complaint)
            if complaint:
                self._log.log(Logger.ERROR, complaint)
                return None
            return Engine(self._log, network)

    class Config:
        __slots__ = ("_asked", *(("max_workspace_size",) if number < (10, 0) else ()))

        def __init__(self) -> None:
            self._asked: dict[str, Any] = {"flags": {"TF32"}, "workspace": None}

        def set_flag(self, flag: Any) -> None:
            self._asked["flags"].add(flag.name)

        def clear_flag(self, flag: Any) -> None:
            self._asked["flags"].discard(flag.name)

    if number >= (8, 4):
        Config.set_memory_pool_limit = lambda self, pool, size: self._asked.update(workspace=size)  # type: ignore[attr-defined]

    class Network:
        def __init__(self, flags: int) -> None:
            self.explicit = number >= (10, 0) or flags & 1
            self.model: Any = None

        @property
        def num_layers(self) -> int:
            return len(self.model.graph.node)

        def get_layer(self, index: int) -> Any:
            kind = OF_ONNX[self.model.graph.input[0].type.tensor_type.elem_type]
            output = type("Output", (), {"dtype": kind})
            return type("Layer", (), {"num_outputs": 1, "get_output": staticmethod(lambda _: output)})

    class Builder:
        def __init__(self, log: Any) -> None:
            self._log = log

        def create_network(self, flags: int = 0) -> Network:
            return Network(flags)

        def create_builder_config(self) -> Config:
            return Config()

        def build_serialized_network(self, network: Network, config: Config) -> Any:
            asked = {
                **config._asked,
                "workspace": config._asked["workspace"] or getattr(config, "max_workspace_size", 0),
            }
            faults.built.append(asked)
            if faults.build_error:
                self._log.log(Logger.ERROR, faults.build_error)
                return None
            head = json.dumps({"version": version, "capability": faults.capability}).encode()
            return HostMemory(MAGIC + head + b"\n" + network.model.SerializeToString())

    class OnnxParser:
        def __init__(self, network: Network, log: Any) -> None:
            self._network, self._errors = network, []

        def parse(self, data: bytes) -> bool:
            try:
                model = onnx.load_from_string(data)
            except Exception:  # noqa: BLE001 (whatever protobuf raises)
                self._errors = [ParserError(-1, "", "", "ModelImporter: failed to parse the model", with_names=strong)]
                return False
            if not self._network.explicit:
                self._errors = [ParserError(-1, "", "", "!network()->hasImplicitBatchDimension()", with_names=False)]
                return False
            self._errors = [
                ParserError(index, node.name, node.op_type, "No importer registered", with_names=number >= (10, 0))
                for index, node in enumerate(model.graph.node) if node.op_type not in KNOWN
            ]  # fmt: skip
            self._network.model = model
            return not self._errors

        @property
        def num_errors(self) -> int:
            return len(self._errors)

        def get_error(self, index: int) -> Any:
            return self._errors[index]

    flags = {"TF32": 1} if strong else {"FP16": 0, "TF32": 1, "INT8": 2}
    creation = {"STRONGLY_TYPED": 1} if strong else {"EXPLICIT_BATCH": 0}
    module.__dict__.update(
        __version__=version, Logger=Logger, ILogger=ILogger, Builder=Builder, OnnxParser=OnnxParser, Runtime=Runtime,
        DataType=DataType, BuilderFlag=enum.IntEnum("BuilderFlag", flags),
        NetworkDefinitionCreationFlag=enum.IntEnum("NetworkDefinitionCreationFlag", creation),
    )  # fmt: skip
    if number >= (8, 4):
        module.MemoryPoolType = MemoryPoolType
    if by_name:
        module.TensorIOMode = TensorIOMode
    return module


class ParserError:
    """One problem of the parser's; from 10 on it tells the node's name."""

    def __init__(self, index: int, name: str, operator: str, text: str, *, with_names: bool) -> None:
        self.node, self.desc = lambda: index, lambda: text
        if with_names:
            self.node_name, self.node_operator = lambda: name, lambda: operator


def tensors_of(model: Any) -> list[Tensor]:
    """Outputs before inputs: the order of bindings is the engine's own."""
    found = []
    for is_input, group in ((False, model.graph.output), (True, model.graph.input)):
        for value in group:
            kind = value.type.tensor_type
            shape = tuple(d.dim_value if d.HasField("dim_value") else -1 for d in kind.shape.dim)
            found.append(Tensor(value.name, shape, OF_ONNX[kind.elem_type], is_input))
    return found


def _add_tensors_by_name(engine: Any) -> None:
    def find(self: Any, name: str) -> Tensor:
        return next(tensor for tensor in self._tensors if tensor.name == name)

    engine.num_io_tensors = property(lambda self: len(self._tensors))
    engine.get_tensor_name = lambda self, index: self._tensors[index].name
    engine.get_tensor_mode = lambda self, name: TensorIOMode.INPUT if find(self, name).is_input else TensorIOMode.OUTPUT
    engine.get_tensor_shape = lambda self, name: find(self, name).shape
    engine.get_tensor_dtype = lambda self, name: find(self, name).dtype


def _add_bindings(engine: Any) -> None:
    engine.num_bindings = property(lambda self: len(self._tensors))
    engine.get_binding_name = lambda self, index: self._tensors[index].name
    engine.binding_is_input = lambda self, index: self._tensors[index].is_input
    engine.get_binding_shape = lambda self, index: self._tensors[index].shape
    engine.get_binding_dtype = lambda self, index: self._tensors[index].dtype

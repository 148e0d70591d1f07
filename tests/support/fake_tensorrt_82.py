"""As much of TensorRT 8.2 as the driver uses, for Python 3.6 and without ONNX.

Its one engine answers with a window's sum, greatest and first value.
"""

import ctypes

import numpy as np

__version__ = "8.2.1.8"
library = ctypes.CDLL("libcuda.so.1")
library.fake_enqueue.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
library.fake_copy.argtypes = [ctypes.c_uint64, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int]


class Logger:
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)


class ILogger:
    pass


class NetworkDefinitionCreationFlag:
    EXPLICIT_BATCH = 0


class BuilderFlag:
    FP16, TF32 = 0, 1


class DataType:
    FLOAT, HALF = 0, 1


class Config:
    __slots__ = ("max_workspace_size",)

    def clear_flag(self, flag):
        assert flag == BuilderFlag.TF32


class Network:
    num_layers = 1


class Builder:
    def __init__(self, log):
        pass

    def create_network(self, flags):
        assert flags == 1
        return Network()

    def create_builder_config(self):
        return Config()

    def build_serialized_network(self, network, config):
        assert config.max_workspace_size > 0
        return np.frombuffer(b"PLAN", np.uint8)


class OnnxParser:
    num_errors = 0

    def __init__(self, network, log):
        pass

    def parse(self, data):
        return True


class Context:
    def _work(self):
        values = np.empty((2, 6, 5), np.float32)
        library.fake_copy(self.bindings[0], ctypes.cast(values.ctypes.data, ctypes.c_char_p), values.nbytes, 0)
        answer = np.array([values.sum(), values.max(), values[0, 0, 0]], np.float32)
        return library.fake_copy(self.bindings[1], ctypes.cast(answer.ctypes.data, ctypes.c_char_p), answer.nbytes, 1)

    def execute_async_v2(self, bindings, stream_handle):
        self.bindings, self.callback = bindings, ctypes.CFUNCTYPE(ctypes.c_int)(self._work)
        return library.fake_enqueue(stream_handle, ctypes.cast(self.callback, ctypes.c_void_p)) == 0


class Engine:
    num_bindings = 2

    def get_binding_name(self, index):
        return ("activations", "potential")[index]

    def binding_is_input(self, index):
        return index == 0

    def get_binding_shape(self, index):
        return ((1, 2, 6, 5), (1, 3))[index]

    def get_binding_dtype(self, index):
        return DataType.FLOAT

    def create_execution_context(self):
        return Context()


class Runtime:
    def __init__(self, log):
        pass

    def deserialize_cuda_engine(self, plan):
        assert bytes(plan) == b"PLAN"
        return Engine()

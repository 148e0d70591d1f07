"""The pretended GPU and TensorRT of `fake_cuda.cpp` and `fake_tensorrt.py`, and what the driver is given in tests."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tests.support import fake_tensorrt

from firstspike.backends import _cuda, tensorrt

VERSIONS = ("8.2.1", "8.6.1", "10.3.0", "11.0.0")
"""JetPack 4.6, 5 and 6, and what follows."""
MODEL = {
    "name": "small", "version": "1", "digest": "d", "classes": 3, "channels": 2, "height": 6, "width": 5, "steps": 16,
    "form": "dense", "scale": 1.0,
}  # fmt: skip
SHAPE = (MODEL["channels"], MODEL["height"], MODEL["width"])


@functools.cache
def compiled():
    """The pretended libcuda, built once a run."""
    folder = Path(tempfile.mkdtemp(prefix="firstspike-fake-cuda-"))
    source = Path(__file__).with_name("fake_cuda.cpp")
    compiler = os.environ.get("CXX", "g++")
    subprocess.run(
        [compiler, "-std=c++17", "-O1", "-shared", "-fPIC", "-o", folder / "libcuda.so.1", source], check=True
    )
    return folder / "libcuda.so.1"


def library(folder):
    """A libcuda of this test's own: a copy, since a library is loaded once and keeps its state."""
    return Path(shutil.copy(compiled(), folder / "libcuda.so.1"))


def gpu(folder, monkeypatch):
    """The body of a fixture: a pretended GPU, of which nothing is still held at the end."""
    path = library(folder)
    monkeypatch.setattr(_cuda, "LIBRARY", str(path))
    for name in ("FAKE_CUDA_FAIL", "FAKE_CUDA_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    yield path
    assert ctypes.CDLL(str(path)).fake_held() == 0


def load(folder, data=None, model=MODEL, **changed):
    """The driver with a network, closed at the end of a with-block."""
    return contextlib.closing(tensorrt.Driver(options(folder, **changed), model, data or network()))


def pretend(monkeypatch, path, version, faults=None, name="tensorrt"):
    """Put TensorRT of that version where the driver looks for it."""
    faults = faults or fake_tensorrt.Faults()
    monkeypatch.setitem(sys.modules, name, fake_tensorrt.make(version, ctypes.CDLL(str(path)), faults, name))
    return faults


def options(folder, **changed):
    """The driver's options, with engines in `folder`."""
    return {key: option.default for key, option in tensorrt.OPTIONS.items()} | {"cache_dir": str(folder)} | changed


def network(*, half=False, classes=3, height=6, operator=None):
    """A network like a dense form: integers in floating point, a convolution, a floor, a product."""
    rng = np.random.default_rng(7)
    kind, dtype = (TensorProto.FLOAT16, np.float16) if half else (TensorProto.FLOAT, np.float32)
    constants = {
        "w": rng.integers(-9, 10, (4, 2, 3, 3)), "b": rng.integers(-20, 20, 4) + 0.5, "none": 0, "top": 64 * 16.5,
        "slope": 1 / 64, "v": rng.integers(-9, 10, (classes, 4 * (height - 2) * 3)), "c": rng.integers(-9, 10, classes),
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["activations", "w", "b"], ["sums"], "first"),
        helper.make_node(operator or "Clip", ["sums", "none", "top"], ["clipped"], "clip"),
        helper.make_node("Mul", ["clipped", "slope"], ["scaled"]),
        helper.make_node("Floor", ["scaled"], ["floors"]),
        helper.make_node("Flatten", ["floors"], ["flat"], axis=1),
        helper.make_node("Gemm", ["flat", "v", "c"], ["potential"], transB=1),
    ]
    graph = helper.make_graph(
        nodes, "small", [helper.make_tensor_value_info("activations", kind, (1, 2, height, 5))],
        [helper.make_tensor_value_info("potential", kind, (1, classes))],
        [numpy_helper.from_array(np.asarray(value, dtype), name) for name, value in constants.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 7
    return model.SerializeToString()


def windows(count=4, steps=16, shape=SHAPE):
    """Spike times, T for a pixel without a spike."""
    return np.random.default_rng(3).integers(0, steps + 1, (count, *shape)).astype(np.uint8)


def answer(data, times, steps=16, scale=1.0):
    """What a network answers to a window, by ONNX's own reference: float32 (classes,)."""
    model = onnx.load_from_string(data)
    kind = np.float16 if model.graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT16 else np.float32
    values = ((steps - times.astype(np.float64)) * scale)[None].astype(kind)
    (found,) = onnx.reference.ReferenceEvaluator(model).run(None, {model.graph.input[0].name: values})
    return found[0].astype(np.float32)

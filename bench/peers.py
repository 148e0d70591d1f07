"""A bundle's floating-point twin in other engines: batch 1, one thread, each by its fastest call from Python."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import openvino
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

Floats = NDArray[np.float32]
Prepare = Callable[[Floats], Any]
"""Makes what a call takes out of an input; not timed."""
Infer = Callable[[Any], Any]


def versions() -> str:
    """Of the engines."""
    return f"ONNX Runtime {onnxruntime.__version__}, OpenVINO {openvino.__version__.split('-')[0]}"


def all_of(twin: Path, calibration: list[Floats]) -> Iterator[tuple[str, Prepare, Infer]]:
    """Every engine and precision for an ONNX network with one input.

    Args:
        twin: the network in floating point.
        calibration: inputs (1, channels, height, width), from which 8-bit quantisation takes its ranges.
    """
    name = onnx.load(twin).graph.input[0].name
    with tempfile.TemporaryDirectory() as folder:
        int8 = Path(folder) / "int8.onnx"
        _quantise(twin, int8, name, calibration)
        for precision, path in (("FP32", twin), ("int8", int8)):
            yield f"ONNX Runtime {precision}", *_onnxruntime(path, name)
        core = openvino.Core()
        for precision, path, hint in (("FP32", twin, "f32"), ("bf16", twin, "bf16"), ("int8", int8, "f32")):
            yield f"OpenVINO {precision}", *_openvino(core, path, hint)


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # the package has no types
    def __init__(self, name: str, inputs: list[Floats]) -> None:
        self._inputs = iter([{name: each} for each in inputs])

    def get_next(self) -> dict[str, Floats] | None:
        return next(self._inputs, None)


def _quantise(twin: Path, to: Path, name: str, calibration: list[Floats]) -> None:
    """8-bit weights by channel and 8-bit activations, as pairs of quantise and dequantise, which both engines fuse."""
    quantize_static(
        twin, to, _Reader(name, calibration), quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
    )  # fmt: skip


def _onnxruntime(path: Path, name: str) -> tuple[Prepare, Infer]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda x: x, lambda x: session.run(None, {name: x})


def _openvino(core: openvino.Core, path: Path, hint: str) -> tuple[Prepare, Infer]:
    compiled = core.compile_model(
        path, "CPU",
        {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"},
    )  # fmt: skip
    request = compiled.create_infer_request()

    def infer(tensor: openvino.Tensor) -> None:
        request.set_input_tensor(tensor)
        request.infer()

    return lambda x: openvino.Tensor(x, shared_memory=True), infer  # faster than passing arrays, by a fifth

"""Runs under the Python of TensorRT for RTX: the driver's own code builds and loads engines, one request after another.

A request is {"onnx": path, "half": …, "dense": …} or {"load": text}; the answer, a line of JSON, tells the plan's
layers and bytes, and what became of loading it; or the error.
"""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path


def main(given):
    shim = types.ModuleType("shim")
    exec(compile(Path(given["sources"][0]).read_text(), "shim", "exec"), shim.__dict__)  # noqa: S102 (as a worker does)
    shim.module_from("firstspike.worker.shim", "").__dict__.update(shim.__dict__)
    for path in map(Path, given["sources"][1:]):
        engine = shim.module_from(f"firstspike.backends.{path.stem}", path.read_text())
    trt = engine.find(("tensorrt_rtx", "tensorrt_rtx_bindings"))
    log = engine.logger(trt)
    for request in given["requests"]:
        answer = {"tensorrt": trt.__version__}
        try:
            if "load" in request:
                engine.load(engine.runtime(trt, log), log, request["load"].encode())
            data = Path(request["onnx"]).read_bytes()
            built = engine.build(trt, log, data, half=request["half"], dense=request["dense"], workspace_mib=64)
            answer.update(layers=built.layers, bytes=len(built.plan))
            engine.load(engine.runtime(trt, log), log, built.plan)
        except engine.EngineError as error:
            answer["error"] = str(error)
        sys.stdout.write(json.dumps(answer) + "\n")


main(json.loads(sys.argv[1]))

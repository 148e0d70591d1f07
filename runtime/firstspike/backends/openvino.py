"""`[backend.openvino]`: OpenVINO 2023 or newer, on Intel's processors, GPUs and NPUs.

The dense form in float32 gives the emulator's very potentials. Runs in a worker; nothing here imports OpenVINO but the
functions that need it. Compiled networks are kept in files of our own (`_engine_cache`), not in OpenVINO's cache: that
one takes a file with a flipped bit for a good one, and then answers wrongly (2026.4.1: 27 files of 200).
"""

import hashlib
import io
from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from firstspike.backends._engine_cache import Cache, folder
from firstspike.backends._openvino_devices import (
    CHOOSING,
    attached,
    check_device,
    device_property,
    full_name,
    kind_of,
    plain,
    sdk,
    version,
)
from firstspike.worker.shim import Option

NETWORK = "dense"
SIBLINGS = ("_engine_cache", "_openvino_devices")
ENVIRONMENT = {
    "python": ["3.12", "3.11", "3.13", "3.10"],
    "packages": ["openvino==2026.4.1"],
    "imports": ["openvino"],
    "system": [],
}
TRIED = "on CPUs; GPU and NPU never ran, as none was at hand"
OPTIONS = {
    "device": Option("CPU", "OpenVINO's name of the device: CPU, GPU, GPU.1, NPU, AUTO, AUTO:GPU,CPU"),
    "network": Option(
        "dense",
        "the integer network, with the emulator's answers, or its floating-point twin",
        choices=("dense", "ann"),
    ),
    "precision": Option(
        "f32",
        "of the arithmetic; only f32 is exact, auto leaves it to the device",
        choices=("f32", "f16", "bf16", "auto"),
    ),
    "hint": Option("latency", "what OpenVINO tunes for", choices=("latency", "throughput")),
    "threads": Option(1, "threads on the CPU; 0: as many as OpenVINO likes", low=0, high=1024),
    "cache_dir": Option("", "folder of compiled networks; empty: the user's cache directory; none: nothing is kept"),
    "cache_mib": Option(
        64, "MiB that compiled networks may take; what was used longest ago goes first", low=0, high=65536
    ),
}


def probe(options: Dict[str, Any]) -> List[Dict[str, Any]]:
    """All devices of OpenVINO's; see `attached`."""
    del options
    return attached()


class Driver:
    """One network on one device; see `backends/_template_worker.py`.

    Raises:
        AbsentError: OpenVINO or the device is not there.
        ValueError: OpenVINO cannot run the network, or it is not the one that `model` describes.
    """

    def __init__(self, options: Dict[str, Any], model: Dict[str, Any], network: bytes) -> None:
        openvino = sdk()
        core = openvino.Core()
        device = options["device"]
        check_device(core, device)
        cache = Cache(folder(options["cache_dir"]), options["cache_mib"] << 20)
        compiled, cached = _compiled(openvino, core, options, model, network, cache)
        self._request = compiled.create_infer_request()
        shape = (1, model["channels"], model["height"], model["width"])
        self._input = np.zeros(shape, _checked_input(compiled, shape))
        self._window = self._input[0]
        self._steps = self._input.dtype.type(model["steps"])
        self._scale = None if model["scale"] == 1 else self._input.dtype.type(model["scale"])
        # Both tensors stay where they are: nothing is allocated for a window.
        self._request.set_input_tensor(openvino.Tensor(self._input, shared_memory=True))
        self._output = _checked_output(self._request, model["classes"])
        precision = _precision(_property(compiled, "INFERENCE_PRECISION_HINT"))
        ran_on = [str(one) for one in _property(compiled, "EXECUTION_DEVICES") or [device]]
        self.about = {
            "device": device,
            "ran_on": ran_on,
            "name": ", ".join(full_name(core, one.strip("()")) for one in ran_on),
            "openvino": version(openvino),
            "precision": precision,
            "exact": options["network"] == "dense" and precision == "f32",
            "from_cache": cached,
            "notes": cache.notes,
        }
        self.infer(np.full(shape[1:], model["steps"], np.uint8))  # what is done at the first window is done now

    def infer(self, times: Any) -> Dict[str, Any]:
        """Answer a window.

        Args:
            times: spike times (channels, height, width), uint8.

        Returns:
            `output`: float32 (classes,), a view that the next call overwrites.

        Raises:
            ValueError: `times` has another shape.
            RuntimeError: OpenVINO failed.
        """
        if times.shape != self._window.shape:
            raise ValueError("a window of shape %s, the network takes %s" % (times.shape, self._window.shape))
        np.subtract(self._steps, times, out=self._window)
        if self._scale is not None:
            np.multiply(self._window, self._scale, out=self._window)
        try:
            self._request.infer()
        except RuntimeError as error:
            raise RuntimeError(plain(error)) from None
        return {"output": self._output.astype(np.float32, copy=False)}

    def close(self) -> None:
        """OpenVINO lets go of the device when the process ends."""


def _compiled(
    openvino: Any, core: Any, options: Dict[str, Any], model: Dict[str, Any], network: bytes, cache: Cache
) -> Tuple[Any, bool]:
    """The network made ready for the device, and whether it came from the cache."""
    device, wanted = options["device"], _wanted(options)
    key = _key(openvino, core, device, wanted, model, network)
    kept = cache.get(key) if key else None
    if kept is not None:
        try:
            return core.import_model(io.BytesIO(kept), device, wanted), True
        except RuntimeError as error:
            cache.notes.append("a compiled network was refused and is made anew: %s" % plain(error))
            cache.drop(key or {})
    try:
        read = core.read_model(network)
        if read.input(0).partial_shape.is_dynamic:
            read.reshape([1, model["channels"], model["height"], model["width"]])
        compiled = core.compile_model(read, device, wanted)
    except RuntimeError as error:
        raise ValueError("OpenVINO cannot run the network on %s: %s" % (device, plain(error))) from None
    if key:
        try:
            cache.put(key, bytes(compiled.export_model().getvalue()))
        except RuntimeError as error:  # a device that cannot export
            cache.notes.append("the compiled network is not kept: %s" % plain(error))
    return compiled, False


def _wanted(options: Dict[str, Any]) -> Dict[str, Any]:
    """Properties of the compilation."""
    wanted = {"PERFORMANCE_HINT": options["hint"].upper()}  # type: Dict[str, Any]
    if options["precision"] != "auto":
        # Without it, processors with AMX and all GPUs compute in 16 bits, unasked.
        wanted["INFERENCE_PRECISION_HINT"] = options["precision"]
    if options["device"] == "CPU":
        # The worker shares its processors with the daemon: which of them it runs on is the kernel's business.
        wanted["ENABLE_CPU_PINNING"] = False
        if options["threads"]:
            wanted["INFERENCE_NUM_THREADS"] = options["threads"]
        if options["hint"] == "latency":
            wanted["NUM_STREAMS"] = 1
    return wanted


def _key(
    openvino: Any, core: Any, device: str, wanted: Dict[str, Any], model: Dict[str, Any], network: bytes
) -> Optional[Dict[str, Any]]:
    """All that a compiled network depends on; None where it cannot be kept."""
    if kind_of(device) in CHOOSING or "EXPORT_IMPORT" not in (
        device_property(core, device, "OPTIMIZATION_CAPABILITIES") or ()
    ):
        return None
    about = ("FULL_DEVICE_NAME", "DEVICE_ARCHITECTURE", "OPTIMIZATION_CAPABILITIES", "DRIVER_VERSION")
    return {
        "network": hashlib.sha256(network).hexdigest(),
        "shape": [model["channels"], model["height"], model["width"]],
        "openvino": openvino.__version__,
        "device": device,
        "about": [str(device_property(core, device, name)) for name in about],
        "wanted": {name: str(value) for name, value in wanted.items()},
    }


def _checked_input(compiled: Any, shape: Tuple[int, ...]) -> Any:
    """The input's dtype.

    Raises:
        ValueError: the network has several inputs or outputs, or takes another shape or type.
    """
    if len(compiled.inputs) != 1 or len(compiled.outputs) != 1:
        raise ValueError(
            "the network has %d inputs and %d outputs, not one of each" % (len(compiled.inputs), len(compiled.outputs))
        )
    given = compiled.inputs[0]
    dtype = np.dtype(given.get_element_type().to_dtype())
    if tuple(given.shape) != shape or dtype.kind != "f":
        raise ValueError("the network takes %s of shape %s, the model says %s" % (dtype, tuple(given.shape), shape))
    return dtype


def _checked_output(request: Any, classes: int) -> Any:
    """The output tensor's memory, (classes,).

    Raises:
        ValueError: it has another size.
    """
    data = request.get_output_tensor().data
    if data.size != classes:
        raise ValueError("the network gives shape %s, the model has %d classes" % (data.shape, classes))
    return data.reshape(-1)


def _property(compiled: Any, name: str) -> Any:
    try:
        return compiled.get_property(name)
    except RuntimeError:
        return None


def _precision(value: Any) -> Optional[str]:
    """`f32` of OpenVINO's type, and of its several spellings; None where a device that chooses others does not tell."""
    if value is None:
        return None
    name = value.get_type_name() if hasattr(value, "get_type_name") else str(value)
    return {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}.get(name, name)

"""OpenVINO as the Neural Compute Stick needs it: two of its APIs behind one face, and which of them is there.

`IECore` is of the wheel 2021.4.2, `openvino.runtime.Core` of the archive 2022.3. Which one is chosen follows from the
modules that there are; whether it can drive a stick, from the plug-in's and the firmware's files beside its libraries.
"""

import ctypes
import importlib
import importlib.util
import platform
import sys
from pathlib import Path
from typing import Any, Dict, List, Set, Tuple

import numpy as np

from firstspike.worker.shim import AbsentError

PLUGINS = ("libmyriadPlugin.so", "libopenvino_intel_myriad_plugin.so")
"""Of 2021.4 and of 2022.3."""
FIRMWARE = "usb-ma2x8x.mvcmd"
INSTALL = (
    "run `firstspike workers install ncs2` (openvino==2021.4.2, Python 3.6 to 3.9 on x86-64), or unpack the archive "
    "of OpenVINO 2022.3.1 LTS and set `archive` to its folder"
)


class Iecore:
    """`openvino.inference_engine.IECore`, 2021.4."""

    api = "IECore"

    def __init__(self) -> None:
        module = importlib.import_module("openvino.inference_engine")
        self.version = str(module.get_version()).split("-")[0]
        self._core = module.IECore()

    def read(self, network: bytes) -> Any:
        """Parse an ONNX file."""
        return self._core.read_network(model=network, weights=b"", init_from_buffer=True)

    def unsupported(self, network: Any, device: str) -> List[str]:
        """Operations that a device does not take, as `name (type)`; the device need not be there."""
        taken = self._core.query_network(network, device)
        graph = importlib.import_module("ngraph").function_from_cnn(network)
        return _left_out(graph.get_ordered_ops(), set(taken))

    def compile(self, network: Any, device: str, connect_s: float) -> None:
        """Put a network onto a device; `infer` runs it."""
        # The CPU plug-in computes in bfloat16 unasked where the processor can.
        config = {"ENFORCE_BF16": "NO", "CPU_THREADS_NUM": "1"} if device == "CPU" else _connect(connect_s)
        self._input, self._output = next(iter(network.input_info)), next(iter(network.outputs))
        self._network = self._core.load_network(network, device, config)
        self._request = self._network.requests[0]

    def infer(self, values: Any) -> Any:
        """Run it. Blobs taken before the first inference are not those it writes to, so they are asked for anew."""
        self._request.infer({self._input: values})
        return self._request.output_blobs[self._output].buffer

    def temperature(self) -> float:
        """Of the device, in °C; it has to be asked of the network that runs there."""
        return float(self._network.get_metric("DEVICE_THERMAL"))


class Runtime:
    """`openvino.runtime.Core`, 2022."""

    api = "openvino.runtime"

    def __init__(self) -> None:
        module = importlib.import_module("openvino.runtime")
        self.version = str(module.get_version()).split("-")[0]
        self._core = module.Core()

    def read(self, network: bytes) -> Any:
        """As `Iecore.read`."""
        return self._core.read_model(model=network, weights=b"")

    def unsupported(self, network: Any, device: str) -> List[str]:
        """As `Iecore.unsupported`."""
        return _left_out(network.get_ordered_ops(), set(self._core.query_model(network, device)))

    def compile(self, network: Any, device: str, connect_s: float) -> None:
        """As `Iecore.compile`."""
        cpu = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": "1"}
        self._network = self._core.compile_model(network, device, cpu if device == "CPU" else _connect(connect_s))
        self._request = self._network.create_infer_request()
        self._values = self._request.get_input_tensor().data

    def infer(self, values: Any) -> Any:
        """Run it; the input may be of half precision, and NumPy converts."""
        self._values[:] = values
        self._request.infer()
        return self._request.get_output_tensor().data

    def temperature(self) -> float:
        """As `Iecore.temperature`."""
        return float(self._network.get_property("DEVICE_THERMAL"))


def find(archive: str = "") -> Any:
    """The OpenVINO of this interpreter, or of an unpacked archive.

    Returns:
        An `Iecore` or a `Runtime`.

    Raises:
        AbsentError: there is none, it cannot be imported, or it has neither API.
    """
    if archive:
        _use_archive(Path(archive))
    if not _there("openvino"):
        raise AbsentError(f"OpenVINO is not installed for this Python {_python()} ({sys.executable})", INSTALL)
    kinds: Tuple[Tuple[str, Any], ...] = (("openvino.runtime", Runtime), ("openvino.inference_engine", Iecore))
    for module, kind in kinds:
        if _there(module):
            try:
                return kind()
            except (ImportError, OSError, RuntimeError) as error:
                raise AbsentError(f"{module} cannot be used: {_line(error)}", INSTALL) from None
    version = getattr(importlib.import_module("openvino"), "__version__", "of an unknown version")
    raise AbsentError(f"OpenVINO {version} knows no Neural Compute Stick", INSTALL)


def check_files(sdk: Any) -> Path:
    """The folder of OpenVINO's libraries, once the stick's plug-in and firmware were seen in it.

    Raises:
        AbsentError: one of them is not there; the text names it.
    """
    folder = library_folder()
    if not any((folder / name).exists() for name in PLUGINS):
        raise AbsentError(
            f"OpenVINO {sdk.version} has no plug-in for the stick: neither {' nor '.join(PLUGINS)} is in {folder}",
            INSTALL if platform.machine() == "x86_64" else INSTALL + ", or build it with -DENABLE_INTEL_MYRIAD=ON",
        )
    if not (folder / FIRMWARE).exists():
        raise AbsentError(f"the stick's firmware {FIRMWARE} is not in {folder}", "install OpenVINO anew: " + INSTALL)
    return folder


def library_folder(maps: Path = Path("/proc/self/maps")) -> Path:
    """Where the OpenVINO that this process loaded lies: its plug-ins are looked for beside it."""
    for line in maps.read_text(errors="replace").splitlines():
        path = Path(line.split(None, 5)[-1])
        if path.name.startswith(("libinference_engine.so", "libopenvino.so")):
            return path.parent
    raise AbsentError("OpenVINO was imported, but its library was not loaded", INSTALL)


def _use_archive(folder: Path) -> None:
    """Make an archive's OpenVINO importable, as its setupvars.sh does; the environment was fixed at our start."""
    machine = {"x86_64": "intel64"}.get(platform.machine(), platform.machine())
    python = folder / "python" / f"python{_python()}"
    libraries = folder / "runtime" / "lib" / machine
    for place in (libraries, python):
        if not place.is_dir():
            have = sorted(path.name for path in (folder / "python").glob("python3*"))
            raise AbsentError(
                f"the archive {folder} has no {place.relative_to(folder)}; it is for {', '.join(have) or 'no Python'}",
                "set `archive` to the folder of an unpacked OpenVINO 2022.3.1 LTS, and `command` to a Python that it "
                "is made for",
            )
    # Once loaded, a library satisfies whoever needs one of its name: so what setupvars.sh adds to LD_LIBRARY_PATH.
    for pattern in ("libtbb.so.*", "libopenvino.so*"):
        for place in (folder / "runtime" / "3rdparty" / "tbb" / "lib", libraries):
            for library in sorted(place.glob(pattern)):
                ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)
    sys.path.insert(0, str(python))


def _there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # its parent is there and no package
        return False


def _left_out(operations: Any, taken: Set[str]) -> List[str]:
    named = [(one.get_friendly_name(), one.get_type_name()) for one in operations]
    silent = ("Parameter", "Constant", "Result")
    return [f"{name} ({kind})" for name, kind in named if name not in taken and kind not in silent]


def _connect(seconds: float) -> Dict[str, str]:
    return {"MYRIAD_DEVICE_CONNECT_TIMEOUT": str(int(np.ceil(seconds)))}


def _python() -> str:
    return "{}.{}".format(*sys.version_info[:2])


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]

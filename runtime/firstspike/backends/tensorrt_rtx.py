"""`[backend.tensorrt_rtx]`: the network on a GeForce or RTX GPU through TensorRT for RTX, which pip installs by itself.

It has the keys of `[backend.tensorrt]` and shares all its code; engines are made for the GPU when they are loaded.
Execution has not been run on hardware; building engines runs in the tests.

Runs in a worker.
"""

from typing import Any, Dict, List

from firstspike.backends import tensorrt

SIBLINGS = (*tensorrt.SIBLINGS, "tensorrt")
NETWORK = tensorrt.NETWORK
OPTIONS = tensorrt.OPTIONS
ENVIRONMENT = {
    "python": ["3.12"],
    "packages": [
        "numpy==2.5.5",
        "tensorrt-rtx-cu13-bindings==1.7.1.116",
        "tensorrt-rtx-cu13-libs==1.7.1.116",
    ],
    "system": [],
    "imports": ["numpy", "tensorrt_rtx_bindings"],
}
TRIED = "not run on hardware; engines are built for real on a processor alone"
# The packages for one CUDA version are imported under the second name.
MODULES = ("tensorrt_rtx", "tensorrt_rtx_bindings")


def probe(options: Dict[str, Any]) -> List[Dict[str, Any]]:
    """The GPUs that there are, and whether TensorRT for RTX is there for them."""
    return tensorrt.probe(options, MODULES, TRIED)


class Driver(tensorrt.Driver):
    """See `tensorrt.Driver`."""

    modules = MODULES
    tried = TRIED

"""The dense form: a `gated` network as an ONNX graph that any engine runs, with the emulator's very integers.

A gated network is integer arithmetic, a = clip(⌊(Σ w·a + b·T_in + r)/S⌋, 0, T) (`definition.closed_form`). Its graph,
in float32, has for each weighted layer but the last

    Conv | Gemm (weights w, bias b·T_in + r + ½) → Clip(0, S·(T + ½)) → Mul(1/S) → Floor

and ends with the last layer's potential Σ w·a + b·T_in. Why that is exact, whatever the order in which an engine adds:

* **Sums.** Every partial sum is a whole number, or one and a half, below 2²³ in magnitude: float32 holds it. A network
  whose sums could be larger is refused.
* **The half.** It changes no floor, since what it is added to is whole, and it keeps (n + ½)/S at least 1/(2S) away
  from any whole number, so that neither 1/S rounded to float32 nor the product rounded crosses one. Rounding never
  reverses an order, so it is enough to try the two values next to each multiple of S, which is done for each layer.
  An engine that is not exact itself (Winograd's convolution) has that margin too.
* **The clip before the product.** Compilers fold a product that follows a convolution into its weights, and w/S is not
  exact. They cannot fold it through a Clip.

For devices that compute in half precision there is a graph in float16. Each layer's weights and bias are divided by a
power of two near S, so that nothing reaches 65504 and 8-bit weights stay exact and normal. There is no half: float16
holds whole numbers up to 2048, halves only up to 1024. The slope is chosen among the numbers around 1/S as the one that
errs least. Where a potential exceeds 2048, it is rounded, and an activation that lies close to a step may be one off.

Needs the `onnx` package; the runtime reads what was written without it.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from firstspike.errors import BundleError, UnavailableError
from firstspike.ttfs.limits import check, name
from firstspike.ttfs.network import Conv, Dense, Flatten, MaxPool, Network, Readout, Shape

OPSET = 13
"""The last OpenVINO for the Neural Compute Stick 2 computes wrong numbers above it, without an error."""
EXACT = 1 << 23
"""Below it float32 holds every whole number and a half."""
LARGEST_HALF = 1 << 15
"""What float16 sums stay below: half of its 65504, since a device may round on the way."""
MOST_EXPONENT = 14
"""Whole numbers divided by 2¹⁴ are normal float16 numbers."""
EXHAUSTIVE = 1 << 17
"""Up to so many sums a slope in float16 is tried on all of them."""
UNIT = "potential_unit"
"""Key of the graph's metadata: what its output is to be multiplied by."""

Precision = Literal["f32", "f16"]


def dense(network: Network, precision: Precision = "f32") -> bytes:
    """The network as an ONNX file: `activations` (1, channels, height, width) to `potential` (1, classes).

    Activations are T − t, whole numbers from 0 to `input_steps`. The potential is `Result.potential` divided by the
    number in the metadata under `UNIT`: 1 for `f32`. Input, output and weights are float32 or float16.

    Raises:
        BundleError: the network's neurons are not `gated`, or its sums are too large for float32.
        UnavailableError: the package `onnx` is not installed.
    """
    if network.neuron != "gated":
        why = (
            "fire early, at times that only a simulation step by step gives"
            if network.neuron == "quartz"
            else "count spikes over many steps"
        )
        raise BundleError(
            f"only networks of gated neurons have a dense form: {network.neuron} neurons {why}: convert with "
            '--neuron gated, or set network = "ann" in the back end\'s section to run the floating-point twin'
        )
    check(network)
    return _Graph(network, precision).build()


def _onnx() -> Any:
    try:
        import onnx
    except ImportError:
        raise UnavailableError(
            "the package 'onnx' is not installed: the dense form is made with it: pip install 'firstspike[convert]'"
        ) from None
    return onnx


class _Graph:
    """The nodes so far."""

    def __init__(self, network: Network, precision: Precision) -> None:
        self._network, self._half = network, precision == "f16"
        self._dtype = np.float16 if self._half else np.float32
        self._onnx = _onnx()
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._at = "activations"
        self._flat = False
        """Whether what `_at` names is (1, features) rather than (1, channels, height, width)."""
        self._unit = 1.0

    def build(self) -> bytes:
        """The file."""
        network = self._network
        steps, shape = network.input_steps, network.input_shape
        for number, (layer, after) in enumerate(zip(network.layers, network.shapes(), strict=True)):
            match layer:
                case Flatten():
                    self._flatten()
                case MaxPool():
                    self._image(shape)
                    self._node("MaxPool", kernel_shape=layer.kernel, strides=layer.stride)
                case Conv() | Dense():
                    self._weighted(number, layer, steps, shape)
                    steps = layer.readout.steps
            shape = after
        self._flatten()
        self._nodes[-1].output[0] = "potential"
        return self._file()

    def _weighted(self, number: int, layer: Conv | Dense, steps: int, shape: Shape) -> None:
        """A weighted layer and its readout; the network's last has none."""
        last, readout = number == len(self._network.layers) - 1, layer.readout
        weights = layer.weights.astype(np.float64)
        bias = layer.bias.astype(np.float64) * steps + (
            0.0 if last else readout.rounding + (0.0 if self._half else 0.5)
        )
        reach = _reach(weights, bias, steps)
        if reach >= EXACT:
            raise BundleError(
                f"{name(number, layer)}: its potential with the rounding can reach {reach:.0f}, float32 is exact below "
                f"{EXACT}: use smaller weights, fewer inputs or fewer steps"
            )
        unit = self._unit_of(reach, None if last else readout.ramp)
        tensors = self._constant(f"w{number}", weights / unit), self._constant(f"b{number}", bias / unit)
        if isinstance(layer, Dense):
            self._flatten()
            self._node("Gemm", *tensors, transB=1)
        else:
            self._image(shape)
            strides, pads = list(layer.stride), [*layer.padding, *layer.padding]
            self._node("Conv", *tensors, kernel_shape=list(weights.shape[2:]), strides=strides, pads=pads)
        if last:
            self._unit = unit
            return
        top = readout.ramp * (readout.steps + 0.5)
        self._node("Clip", self._constant(f"none{number}", 0.0), self._constant(f"top{number}", top / unit))
        m = slope_f16(readout, unit) if self._half else slope(readout, name(number, layer))
        self._node("Mul", self._constant(f"slope{number}", m))
        self._node("Floor")

    def _unit_of(self, reach: float, ramp: int | None) -> float:
        """By which power of two a layer's sums are divided; near its ramp S if it has a readout."""
        if not self._half:
            return 1.0
        fits = max(0, math.ceil(math.log2(max(reach, 1.0) / LARGEST_HALF)))
        wanted = 0 if ramp is None else min(round(math.log2(ramp)), MOST_EXPONENT)
        return float(2.0 ** max(fits, wanted))

    def _flatten(self) -> None:
        if not self._flat:
            self._node("Flatten", axis=1)
            self._flat = True

    def _image(self, shape: Shape) -> None:
        if self._flat:
            dims = self._onnx.numpy_helper.from_array(np.array([1, *shape], np.int64), f"shape{len(self._nodes)}")
            self._constants.append(dims)
            self._node("Reshape", dims.name)
            self._flat = False

    def _constant(self, name: str, values: NDArray[np.float64] | float) -> str:
        self._constants.append(self._onnx.numpy_helper.from_array(np.asarray(values, self._dtype), name))
        return name

    def _node(self, op: str, *constants: str, **attributes: Any) -> None:
        result = f"{op.lower()}{len(self._nodes)}"
        self._nodes.append(self._onnx.helper.make_node(op, [self._at, *constants], [result], name=result, **attributes))
        self._at = result

    def _file(self) -> bytes:
        helper, kind = self._onnx.helper, self._onnx.TensorProto.FLOAT16 if self._half else self._onnx.TensorProto.FLOAT
        classes = math.prod(self._network.shapes()[-1])
        given = helper.make_tensor_value_info("activations", kind, [1, *self._network.input_shape])
        result = helper.make_tensor_value_info("potential", kind, [1, classes])
        graph = helper.make_graph(self._nodes, "dense", [given], [result], self._constants)
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model(graph, opset_imports=[opset], producer_name="firstspike", ir_version=7)
        helper.set_model_props(model, {UNIT: f"{self._unit:g}"})
        self._onnx.checker.check_model(model, full_check=True)
        return bytes(model.SerializeToString(deterministic=True))


def slope(readout: Readout, name: str = "layer") -> float:
    """A float32 number m near 1/S such that ⌊(n + ½)·m⌋ in float32 is clip(⌊n/S⌋, 0, T) for every whole n.

    Raises:
        BundleError: there is none: S·T is above 2²³, which `limits` does not allow. The text names the layer as given.
    """
    levels = np.arange(1, readout.steps + 1)
    below = (levels * readout.ramp - 0.5).astype(np.float32)
    above = (levels * readout.ramp + 0.5).astype(np.float32)
    top = np.float32(readout.ramp * (readout.steps + 0.5))
    near = np.float32(1 / readout.ramp)
    for m in (near, np.nextafter(near, np.float32(0)), np.nextafter(near, np.float32(1))):
        if (below * m < levels).all() and (above * m >= levels).all() and np.floor(top * m) == readout.steps:
            return float(m)
    raise BundleError(
        f"{name}: its ramp {readout.ramp} times {readout.steps} steps leaves float32 no room to divide exactly: use "
        "a smaller ramp or fewer steps"
    )


def slope_f16(readout: Readout, unit: float) -> float:
    """The float16 number m near unit/S such that ⌊(n/unit)·m⌋ in float16 is ⌊n/S⌋ for the most whole n that matter."""
    ramp, steps = readout.ramp, readout.steps
    multiples = np.arange(1, steps + 1) * ramp
    few = ramp * steps < EXHAUSTIVE
    n = np.arange(multiples[-1] + 1) if few else np.unique(multiples[:, None] + np.array([-1, 0]))
    sums, truth = (n / unit).astype(np.float16), n // ramp
    m = np.float16(unit / ramp)
    # Float16 numbers of one sign are ordered as their bits are.
    near = (m.view(np.uint16) + np.array([0, *(by * sign for by in range(1, 9) for sign in (1, -1))])).astype(np.uint16)
    misses = [int((np.floor(sums * one) != truth).sum()) for one in near.view(np.float16)]
    return float(near.view(np.float16)[int(np.argmin(misses))])


def _reach(weights: NDArray[np.float64], bias: NDArray[np.float64], steps: int) -> float:
    """The largest magnitude that a sum of a layer can have, of any subset of its terms in any order."""
    rows = weights.reshape(len(weights), -1)
    highest = np.maximum(rows, 0).sum(1) * steps + np.maximum(bias, 0)
    lowest = np.minimum(rows, 0).sum(1) * steps + np.minimum(bias, 0)
    return float(max(highest.max(), -lowest.min()))

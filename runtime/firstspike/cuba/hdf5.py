"""SLAYER's exported networks (HDF5) as lava-dl's `netx` reads them, into ours. Needs h5py: the extra `hybrid`.

The file holds a group `layer` with a group a layer, `0`, `1`, …: `type`, `shape`, weights and, in `neuron`, the
neuron's parameters in Loihi's units. What `netx` would ignore, guess or fail on is refused by name, so that a network
that was read means what its author trained; what SLAYER says that Loihi has no field for, too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firstspike.cuba.limits import MAX_DELAY, MAX_LAYERS, MAX_WEIGHTS, check
from firstspike.cuba.network import Conv, Dense, Flatten, Layer, Network, Neuron, Pool, Shape
from firstspike.errors import BundleError, DataError, NoInputError, UnavailableError

_NEURON = {"type", "iDecay", "vDecay", "vThMant", "refDelay", "gradedSpike", "messageBits", "weight_exp"}
_KEYS = {
    "input": {"type", "shape"},
    "flatten": {"type", "shape"},
    "dense": {"type", "shape", "inFeatures", "outFeatures", "weight", "bias", "delay", "neuron"},
    "conv": {
        "type", "shape", "inChannels", "outChannels", "kernelSize", "stride", "padding", "dilation", "groups",
        "weight", "bias", "delay", "neuron",
    },
    "pool": {"type", "shape", "kernelSize", "stride", "padding", "dilation", "weight", "delay", "neuron"},
}  # fmt: skip


def read(path: Path) -> Network:
    """Read a network that SLAYER exported.

    Raises:
        NoInputError: the file is not there or cannot be read.
        DataError: it is no such file, or has a layer, neuron or value that we do not know; named.
        BundleError: the network is beyond what Loihi has (`limits.check`).
        UnavailableError: h5py is missing.
    """
    try:
        import h5py  # an extra: only whoever converts needs it
    except ImportError:
        raise UnavailableError(
            "reading HDF5 needs h5py, which is not installed: pip install 'firstspike[hybrid]'"
        ) from None
    if not path.is_file():
        raise NoInputError(f"{path}: there is no such file")
    try:
        with h5py.File(path, "r") as file:
            groups = _layers(file)
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: no HDF5 file, or damaged: {error}: export the network again") from None
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    try:
        return _network(groups)
    except (DataError, BundleError) as error:
        raise type(error)(f"{path}: {error}") from None


def _layers(file: Any) -> list[dict[str, Any]]:
    """Every layer's entries, by their path within it; arrays no larger than a network can use."""
    layers = file.get("layer")
    if layers is None or not hasattr(layers, "keys"):
        raise DataError("has no group 'layer': not a network that SLAYER exported")
    numbers = sorted(layers, key=lambda key: (len(key), key))
    if not 1 <= len(numbers) <= MAX_LAYERS + 1 or numbers != [str(number) for number in range(len(numbers))]:
        raise DataError(f"its layers are {', '.join(numbers[:8]) or 'none'}: must be 0, 1, … at most {MAX_LAYERS + 1}")
    return [_entries(layers[number], f"layer {number}") for number in numbers]


def _entries(group: Any, name: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if not hasattr(group, "keys"):
        raise DataError(f"{name}: is no group: export the network again")
    for key in group:
        entry = group[key]
        if hasattr(entry, "keys"):
            found[key] = _entries(entry, f"{name} {key}")
        elif entry.size is None or entry.size > MAX_WEIGHTS:
            raise DataError(f"{name} {key}: has no value, or more than {MAX_WEIGHTS}")
        else:
            found[key] = entry[()]
    return found


def _network(groups: list[dict[str, Any]]) -> Network:
    kinds = [_text(group.get("type"), f"layer {number} type") for number, group in enumerate(groups)]
    if kinds[0] != "input":
        raise DataError(f"layer 0 ({kinds[0]}): must be the input, which says the shape: export an input block")
    _known(groups[0], "layer 0 (input)", "input")
    shape = _shape(groups[0], "layer 0 (input)")
    layers: list[Layer] = []
    for number, (kind, group) in enumerate(zip(kinds[1:], groups[1:], strict=True), start=1):
        name = f"layer {number} ({kind})"
        if kind not in _KEYS or kind == "input":
            raise DataError(f"{name}: layers of this kind are not known, only conv, pool, flatten and dense")
        _known(group, name, kind)
        layers.append(_layer(kind, group, name))
    network = Network(shape, tuple(layers))
    check(network)
    for number, (kind, group, found) in enumerate(zip(kinds[1:], groups[1:], network.shapes(), strict=True), start=1):
        if kind in ("conv", "pool") and (stated := _shape(group, f"layer {number} ({kind})")) != found:
            raise DataError(f"layer {number} ({kind}): says its shape is {stated}, its kernel and stride give {found}")
    return network


def _known(group: dict[str, Any], name: str, kind: str) -> None:
    if kind == "input" and "neuron" in group:
        raise DataError(f"{name}: has neurons; events need none: export the input without dynamics")
    if unknown := sorted(set(group) - _KEYS[kind]):
        raise DataError(f"{name}: has {unknown[0]!r}, which is not known here: export it without")


def _layer(kind: str, group: dict[str, Any], name: str) -> Layer:
    if kind == "flatten":
        return Flatten()
    weights = _integers(group, "weight", name)
    neuron = _neuron(group.get("neuron"), name)
    if kind == "dense":
        outputs = int(np.prod(_integers(group, "shape", name)))
        if weights.size % max(outputs, 1) or outputs < 1:
            raise DataError(f"{name}: {weights.size} weights for {outputs} outputs")
        weights = weights.reshape(outputs, -1)
        return Dense(_int16(weights, "weight", name), _bias(group, outputs, name), _delay(group, outputs, name), neuron)
    _only(group, "dilation", 1, name)
    if "delay" in group and np.any(_integers(group, "delay", name)):
        raise DataError(f"{name}: has delays, which netx does not run in {kind} layers: train it without")
    stride, padding = _pair(group, "stride", name), _pair(group, "padding", name)
    if kind == "pool":
        if padding != (0, 0):
            raise DataError(f"{name}: padding {padding}: pools are only known without")
        return Pool(_int16(_kernel(weights, 2, name), "weight", name), stride, neuron)
    _only(group, "groups", 1, name)
    weights = _kernel(weights, 4, name)
    return Conv(_int16(weights, "weight", name), _bias(group, len(weights), name), stride, padding, neuron)


def _kernel(weights: NDArray[np.int64], ndim: int, name: str) -> NDArray[np.int64]:
    """Without the axis of time, and for a pool without the channels, both of length 1."""
    shape = weights.shape[:4] if weights.ndim == 5 and weights.shape[4] == 1 else weights.shape
    if len(shape) != 4 or (ndim == 2 and shape[:2] != (1, 1)):
        raise DataError(f"{name}: weights of shape {weights.shape} are not those of such a layer")
    return weights.reshape(shape[4 - ndim :])


def _neuron(group: object, name: str) -> Neuron:
    if not isinstance(group, dict):
        raise DataError(f"{name}: has no neuron: export it with its dynamics")
    kind = _text(group.get("type"), f"{name} neuron type")
    if kind not in ("LOIHI", "CUBA"):
        raise DataError(f"{name}: neurons of type {kind!r} are not known, only CUBA (LOIHI)")
    if unknown := sorted(set(group) - _NEURON):
        raise DataError(f"{name}: its neuron has {unknown[0]!r}, which is not known here")
    for key, only in (("refDelay", 1), ("gradedSpike", 0), ("messageBits", 0)):
        _only(group, key, only, f"{name} neuron")
    current, voltage, threshold = (_one(group, key, f"{name} neuron") for key in ("iDecay", "vDecay", "vThMant"))
    return Neuron(current, voltage, threshold)


def _bias(group: dict[str, Any], outputs: int, name: str) -> NDArray[np.int16]:
    if "bias" not in group:
        return np.zeros(outputs, np.int16)
    bias = _integers(group, "bias", name).reshape(-1)
    if len(bias) != outputs:
        raise DataError(f"{name}: {len(bias)} biases for {outputs} outputs")
    return _int16(bias, "bias", name)


def _delay(group: dict[str, Any], outputs: int, name: str) -> NDArray[np.uint8]:
    delay = _integers(group, "delay", name).reshape(-1) if "delay" in group else np.zeros(1, np.int64)
    if len(delay) not in (1, outputs):
        raise DataError(f"{name}: {len(delay)} delays for {outputs} outputs: only delays of outputs are known")
    if int(delay.min()) < 0 or int(delay.max()) > MAX_DELAY:
        raise DataError(f"{name}: delays from {delay.min()} to {delay.max()} steps, must be 0 to {MAX_DELAY}")
    return np.broadcast_to(delay, outputs).astype(np.uint8)


def _shape(group: dict[str, Any], name: str) -> Shape:
    shape = _integers(group, "shape", name).reshape(-1).tolist()
    if not 1 <= len(shape) <= 3:
        raise DataError(f"{name}: shape {shape}, must be (channels, height, width)")
    channels, height, width = [*shape, 1, 1][:3]
    return (channels, height, width)


def _pair(group: dict[str, Any], key: str, name: str) -> tuple[int, int]:
    values = _integers(group, key, name).reshape(-1).tolist()
    if len(values) not in (1, 2):
        raise DataError(f"{name}: {key} {values}, must be one or two numbers")
    return (values[0], values[-1])


def _only(group: dict[str, Any], key: str, only: int, name: str) -> None:
    if key in group and np.any(_integers(group, key, name) != only):
        raise DataError(f"{name}: {key} is {np.asarray(group[key]).tolist()}, only {only} is known")


def _one(group: dict[str, Any], key: str, name: str) -> int:
    values = _integers(group, key, name)
    if values.size != 1:
        raise DataError(f"{name}: {key} has {values.size} values, only one for the layer is known")
    return int(values.reshape(-1)[0])


def _integers(group: dict[str, Any], key: str, name: str) -> NDArray[np.int64]:
    """An entry's numbers; DataError unless they are whole (netx would cut off what is not)."""
    if key not in group:
        raise DataError(f"{name}: has no {key!r}: export the network again")
    values = np.asarray(group[key])
    if values.dtype.kind not in "biuf" or values.size == 0:
        raise DataError(f"{name}: {key} holds no numbers")
    if not np.all(np.abs(values.astype(float)) < 2**31) or np.any(values != np.round(values)):
        raise DataError(f"{name}: {key} holds numbers that are not whole, or too large: quantise before exporting")
    return values.astype(np.int64)


def _int16(values: NDArray[np.int64], key: str, name: str) -> NDArray[np.int16]:
    if values.size and (int(values.min()) < -(1 << 15) or int(values.max()) >= 1 << 15):
        raise DataError(f"{name}: {key} from {values.min()} to {values.max()}, which no 8 bits hold: scale it down")
    return np.ascontiguousarray(values, np.int16)


def _text(value: object, name: str) -> str:
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.reshape(-1)[0]
    if not isinstance(value, bytes | str):
        raise DataError(f"{name}: is missing or no text: not a network that SLAYER exported")
    return value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)

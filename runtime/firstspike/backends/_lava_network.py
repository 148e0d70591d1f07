"""The integer network's file as a worker reads it: NumPy and the standard library only, nothing unpickled.

The daemon has checked the file already (`ttfs.file`, `ttfs.limits`); here it is read again because the worker has no
firstspike. Both read the same few fields.
"""

import io
import json
from typing import Any, Dict, List, NamedTuple, Tuple

import numpy as np

from firstspike.backends._lava_layout import Shape, shape_after


class Layer(NamedTuple):
    """One layer. Arrays are int64; those that a kind does not have are None or empty."""

    kind: str
    """`conv`, `dense`, `maxpool` or `flatten`."""
    shape: Shape
    """Of its output."""
    start: int
    """Frame in global steps, as in `types.Frame`."""
    end: int
    last: int
    weights: Any = None
    """(out, in, kernel height, kernel width) or (out, in)."""
    bias: Any = None
    steps: int = 0
    ramp: int = 0
    rounding: int = 0
    kernel: Tuple[int, int] = (1, 1)
    stride: Tuple[int, int] = (1, 1)
    padding: Tuple[int, int] = (0, 0)

    @property
    def threshold(self) -> int:
        """θ."""
        return self.ramp * self.steps - self.rounding


class Network(NamedTuple):
    """A network that codes values as times, or as numbers of spikes (`rate`)."""

    neuron: str
    input_shape: Shape
    input_steps: int
    layers: List[Layer]
    duration: int = 0
    """Steps of a window (`rate`)."""


def members(data: bytes) -> Tuple[Dict[str, Any], Dict[str, Any]]:
    """A network's file: what its JSON says, and its arrays.

    Raises:
        ValueError: it would have to be unpickled, or is no such file.
    """
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    return json.loads(arrays["network"].tobytes().decode()), arrays


def read(data: bytes) -> Network:
    """Read the file's bytes.

    Raises:
        ValueError: it is no network's file.
    """
    head, arrays = members(data)
    shape: Any = tuple(head["input_shape"])
    start, end, layers = 0, head["input_steps"], []
    for number, entry in enumerate(head["layers"]):
        layer = _layer(entry, shape, (start, end), arrays.get("w%d" % number), arrays.get("b%d" % number))
        shape = layer.shape
        layers.append(layer)
        if layer.weights is not None:
            start, end = end, layer.last
    return Network(head["neuron"], tuple(head["input_shape"]), head["input_steps"], layers, head.get("duration", 0))


def _layer(entry: Dict[str, Any], shape: Shape, frame: Tuple[int, int], weights: Any, bias: Any) -> Layer:
    numbers: Dict[str, Any] = {key: entry[key] for key in ("steps", "ramp", "rounding") if key in entry}
    pairs: Dict[str, Any] = {"kernel": (1, 1), "stride": (1, 1), "padding": (0, 0)}
    pairs.update({key: tuple(entry[key]) for key in pairs if key in entry})
    if weights is not None:
        weights, bias = weights.astype(np.int64), bias.astype(np.int64)
        if entry["kind"] == "conv":
            pairs["kernel"] = weights.shape[2:]
    shape = shape_after(entry["kind"], shape, weights, **pairs)
    last = frame[1] + entry.get("steps", 0)
    return Layer(entry["kind"], shape, frame[0], frame[1], last, weights, bias, **numbers, **pairs)

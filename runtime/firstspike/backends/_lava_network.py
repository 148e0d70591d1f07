"""The integer network's file as a worker reads it: NumPy and the standard library only, nothing unpickled.

The daemon has checked the file already (`ttfs.file`, `ttfs.limits`); here it is read again because the worker has no
firstspike. Both read the same few fields.
"""

import io
import json
from typing import Any, Dict, List, NamedTuple, Tuple

import numpy as np

Shape = Tuple[int, int, int]


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
    """A network that codes values as times."""

    neuron: str
    input_shape: Shape
    input_steps: int
    layers: List[Layer]


def read(data: bytes) -> Network:
    """Read the file's bytes.

    Raises:
        ValueError: it codes values as rates, or it is no network's file.
    """
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    head = json.loads(arrays["network"].tobytes().decode())
    if head["neuron"] not in ("gated", "quartz"):
        raise ValueError(
            "its neurons are '%s': on Lava run networks that code values as times, gated or quartz" % head["neuron"]
        )
    shape: Any = tuple(head["input_shape"])
    start, end, layers = 0, head["input_steps"], []
    for number, entry in enumerate(head["layers"]):
        weights = arrays.get("w%d" % number)
        bias = arrays.get("b%d" % number)
        shape = _shape(entry, weights, shape)
        last = end + entry.get("steps", 0)
        layers.append(_layer(entry, shape, (start, end, last), weights, bias))
        if weights is not None:
            start, end = end, last
    return Network(head["neuron"], tuple(head["input_shape"]), head["input_steps"], layers)


def _layer(entry: Dict[str, Any], shape: Shape, frame: Tuple[int, int, int], weights: Any, bias: Any) -> Layer:
    numbers: Dict[str, Any] = {key: entry[key] for key in ("steps", "ramp", "rounding") if key in entry}
    pairs: Dict[str, Any] = {key: tuple(entry[key]) for key in ("kernel", "stride", "padding") if key in entry}
    if weights is not None:
        weights, bias = weights.astype(np.int64), bias.astype(np.int64)
        if entry["kind"] == "conv":
            pairs["kernel"] = weights.shape[2:]
    return Layer(entry["kind"], shape, frame[0], frame[1], frame[2], weights, bias, **numbers, **pairs)


def _shape(entry: Dict[str, Any], weights: Any, shape: Shape) -> Shape:
    channels, height, width = shape
    if entry["kind"] == "flatten":
        return channels * height * width, 1, 1
    if entry["kind"] == "dense":
        return weights.shape[0], 1, 1
    if entry["kind"] == "conv":
        channels, (kh, kw) = weights.shape[0], weights.shape[2:]
        height, width = height + 2 * entry["padding"][0], width + 2 * entry["padding"][1]
    else:
        kh, kw = entry["kernel"]
    return channels, (height - kh) // entry["stride"][0] + 1, (width - kw) // entry["stride"][1] + 1

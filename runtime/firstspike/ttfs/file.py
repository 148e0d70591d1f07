"""The network's file: a NumPy archive (.npz) in which `network` holds JSON, `w<i>` and `b<i>` layer i's parameters.

Nothing in it is ever unpickled or evaluated: sizes are checked before anything is decompressed, and array headers are
matched against the one form that NumPy writes (NEP 1, version 1.0).
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from firstspike import archive
from firstspike.errors import BundleError
from firstspike.ttfs.limits import MAX_LAYERS, MAX_WEIGHTS, check
from firstspike.ttfs.network import Conv, Dense, Flatten, Layer, MaxPool, Network, Readout

MAX_FILE_BYTES = 2 * MAX_WEIGHTS


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _Weighted(_Strict):
    steps: int
    ramp: int
    rounding: int

    def readout(self) -> Readout:
        return Readout(self.steps, self.ramp, self.rounding)


class _Conv(_Weighted):
    kind: Literal["conv"]
    stride: tuple[int, int]
    padding: tuple[int, int]


class _Dense(_Weighted):
    kind: Literal["dense"]


class _MaxPool(_Strict):
    kind: Literal["maxpool"]
    kernel: tuple[int, int]
    stride: tuple[int, int]


class _Flatten(_Strict):
    kind: Literal["flatten"]


class _Head(_Strict):
    schema_: Annotated[Literal[1], Field(alias="schema")]
    neuron: Literal["gated", "quartz", "rate"]
    input_shape: tuple[int, int, int]
    input_steps: int
    duration: int = 0
    layers: Annotated[
        list[Annotated[_Conv | _Dense | _MaxPool | _Flatten, Field(discriminator="kind")]],
        Field(min_length=1, max_length=MAX_LAYERS),
    ]


def save(network: Network, path: Path) -> None:
    """Write the network; the same network always gives the same bytes.

    Raises:
        BundleError: the network is not allowed (`limits.check`), so that no file exists that `load` would refuse.
    """
    check(network)
    layers: list[dict[str, Any]] = []
    arrays: dict[str, NDArray[Any]] = {}
    for number, layer in enumerate(network.layers):
        entry: dict[str, Any] = {"kind": type(layer).__name__.lower()}
        if isinstance(layer, Conv | Dense):
            arrays[f"w{number}"] = np.ascontiguousarray(layer.weights)
            arrays[f"b{number}"] = np.ascontiguousarray(layer.bias)
            entry |= {"steps": layer.readout.steps, "ramp": layer.readout.ramp, "rounding": layer.readout.rounding}
        if isinstance(layer, Conv):
            entry |= {"stride": layer.stride, "padding": layer.padding}
        if isinstance(layer, MaxPool):
            entry |= {"kernel": layer.kernel, "stride": layer.stride}
        layers.append(entry)
    head = {"schema": 1, "neuron": network.neuron, "input_shape": network.input_shape,
            "input_steps": network.input_steps, "layers": layers}  # fmt: skip
    if network.neuron == "rate":
        head["duration"] = network.duration
    text = np.frombuffer(json.dumps(head, sort_keys=True).encode(), np.uint8)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, network=text, **arrays)
    path.write_bytes(buffer.getvalue())


def load(path: Path) -> Network:
    """Read and check a network.

    Raises:
        NoInputError: the file is not there or cannot be read.
        BundleError: it is not a network's file, or the network is not allowed; the text names file and layer.
    """
    raw = archive.read(path, MAX_FILE_BYTES)
    try:
        return _parse(archive.members(raw, most_bytes=MAX_FILE_BYTES, most_arrays=2 * MAX_LAYERS + 1))
    except BundleError as error:
        raise BundleError(f"{path}: {error}") from None


def _parse(members: dict[str, bytes]) -> Network:
    try:
        head = _Head.model_validate_json(archive.header(members))
    except ValidationError as error:
        raise BundleError(archive.explain(error)) from None
    layers = tuple(_layer(number, entry, members) for number, entry in enumerate(head.layers))
    if members:
        raise BundleError(f"entry {min(members)!r} belongs to no layer: build the bundle again")
    network = Network(head.neuron, head.input_shape, head.input_steps, layers, head.duration)
    check(network)
    return network


def _layer(number: int, entry: _Conv | _Dense | _MaxPool | _Flatten, members: dict[str, bytes]) -> Layer:
    match entry:
        case _MaxPool():
            return MaxPool(entry.kernel, entry.stride)
        case _Flatten():
            return Flatten()
    name = f"layer {number} ({entry.kind})"
    found: list[bytes] = []
    for key in (f"w{number}", f"b{number}"):
        if key not in members:
            raise BundleError(f"{name}: array '{key}' is missing: build the bundle again")
        found.append(members.pop(key))
    weights = archive.array(f"{name}: array 'w{number}'", found[0], "|i1", 4 if isinstance(entry, _Conv) else 2)
    bias = archive.array(f"{name}: array 'b{number}'", found[1], "<i2", 1)
    if isinstance(entry, _Conv):
        return Conv(weights, bias, entry.stride, entry.padding, entry.readout())
    return Dense(weights, bias, entry.readout())

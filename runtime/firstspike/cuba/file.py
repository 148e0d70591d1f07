"""The network's file: a NumPy archive (.npz) in which `network` holds JSON, the others arrays.

`w<i>`, `b<i>` and `d<i>` are layer i's weights, biases and delays. It is read without trusting it (`archive`): no
pickle, checked in size and form, and by `limits`.
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
from firstspike.cuba.limits import MAX_LAYERS, MAX_WEIGHTS, check
from firstspike.cuba.network import Conv, Dense, Flatten, Layer, Network, Neuron, Pool
from firstspike.errors import BundleError

MAX_FILE_BYTES = 3 * MAX_WEIGHTS


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _Neurons(_Strict):
    current_decay: int
    voltage_decay: int
    threshold: int

    def neuron(self) -> Neuron:
        return Neuron(self.current_decay, self.voltage_decay, self.threshold)


class _Conv(_Neurons):
    kind: Literal["conv"]
    stride: tuple[int, int]
    padding: tuple[int, int]


class _Dense(_Neurons):
    kind: Literal["dense"]


class _Pool(_Neurons):
    kind: Literal["pool"]
    stride: tuple[int, int]


class _Flatten(_Strict):
    kind: Literal["flatten"]


_Entry = _Conv | _Dense | _Pool | _Flatten


class _Head(_Strict):
    schema_: Annotated[Literal[1], Field(alias="schema")]
    neuron: Literal["cuba"]
    input_shape: tuple[int, int, int]
    layers: Annotated[list[Annotated[_Entry, Field(discriminator="kind")]], Field(min_length=1, max_length=MAX_LAYERS)]


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
        if not isinstance(layer, Flatten):
            arrays[f"w{number}"] = np.ascontiguousarray(layer.weights)
            entry |= {key: getattr(layer.neuron, key) for key in ("current_decay", "voltage_decay", "threshold")}
        if isinstance(layer, Conv | Dense):
            arrays[f"b{number}"] = np.ascontiguousarray(layer.bias)
        if isinstance(layer, Dense):
            arrays[f"d{number}"] = np.ascontiguousarray(layer.delay)
        if isinstance(layer, Conv | Pool):
            entry["stride"] = layer.stride
        if isinstance(layer, Conv):
            entry["padding"] = layer.padding
        layers.append(entry)
    head = {"schema": 1, "neuron": "cuba", "input_shape": network.input_shape, "layers": layers}
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
        return _parse(archive.members(raw, most_bytes=MAX_FILE_BYTES, most_arrays=3 * MAX_LAYERS + 1))
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
    network = Network(head.input_shape, layers)
    check(network)
    return network


def _layer(number: int, entry: _Entry, members: dict[str, bytes]) -> Layer:
    def array(letter: str, descr: str, ndim: int) -> NDArray[Any]:
        key = f"{letter}{number}"
        name = f"layer {number} ({entry.kind})"
        if key not in members:
            raise BundleError(f"{name}: array '{key}' is missing: build the bundle again")
        return archive.array(f"{name}: array '{key}'", members.pop(key), descr, ndim)

    match entry:
        case _Conv():
            weights, bias = array("w", "<i2", 4), array("b", "<i2", 1)
            return Conv(weights, bias, entry.stride, entry.padding, entry.neuron())
        case _Dense():
            return Dense(array("w", "<i2", 2), array("b", "<i2", 1), array("d", "|u1", 1), entry.neuron())
        case _Pool():
            return Pool(array("w", "<i2", 2), entry.stride, entry.neuron())
        case _Flatten():
            return Flatten()

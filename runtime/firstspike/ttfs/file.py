"""The network's file: a NumPy archive (.npz) in which `network` holds JSON, `w<i>` and `b<i>` layer i's parameters.

Nothing in it is ever unpickled or evaluated: sizes are checked before anything is decompressed, and array headers are
matched against the one form that NumPy writes (NEP 1, version 1.0).
"""

from __future__ import annotations

import io
import json
import re
import struct
import zipfile
import zlib
from math import prod
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from firstspike.errors import BundleError, NoInputError
from firstspike.ttfs.limits import MAX_LAYERS, MAX_WEIGHTS, check
from firstspike.ttfs.network import Conv, Dense, Flatten, Layer, MaxPool, Network, Readout

MAX_HEAD_BYTES = 1 << 20
MAX_FILE_BYTES = 2 * MAX_WEIGHTS
_NPY = re.compile(
    rb"\x93NUMPY\x01\x00(..)\{'descr': '([^']+)', 'fortran_order': False, 'shape': \(([0-9, ]*)\), \} *\n", re.DOTALL
)


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
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise NoInputError(f"{path}: cannot be read: {error.strerror or error}") from None
    try:
        return _parse(_members(raw))
    except BundleError as error:
        raise BundleError(f"{path}: {error}") from None


def _members(raw: bytes) -> dict[str, bytes]:
    """Names (without .npy) and contents of the archive, never more than `MAX_FILE_BYTES` in all."""
    if len(raw) > MAX_FILE_BYTES:
        raise BundleError(f"larger than {MAX_FILE_BYTES} bytes: not a network's file")
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            infos = archive.infolist()
            if len(infos) > 2 * MAX_LAYERS + 1 or sum(info.file_size for info in infos) > MAX_FILE_BYTES:
                raise BundleError(
                    f"holds more than {2 * MAX_LAYERS + 1} arrays or {MAX_FILE_BYTES} bytes: not a network"
                )
            if any(info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for info in infos):
                raise BundleError("is compressed in a way that NumPy does not write: build the bundle again")
            # A member cannot give more bytes than its entry states: zipfile stops there and compares the checksum.
            return {info.filename.removesuffix(".npy"): archive.read(info) for info in infos}
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, RuntimeError, ValueError,
            OverflowError, OSError) as error:  # fmt: skip
        raise BundleError(f"not a NumPy archive (.npz), or damaged ({error}): build the bundle again") from None


def _parse(members: dict[str, bytes]) -> Network:
    raw = members.pop("network", None)
    if raw is None:
        raise BundleError("has no entry 'network': not a network's file")
    if len(raw) > MAX_HEAD_BYTES:
        raise BundleError(f"entry 'network' is larger than {MAX_HEAD_BYTES} bytes: not a network's file")
    try:
        head = _Head.model_validate_json(_array("entry 'network'", raw, "|u1", 1).tobytes())
    except ValidationError as error:
        raise BundleError(_explain(error)) from None
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
    weights = _array(f"{name}: array 'w{number}'", found[0], "|i1", 4 if isinstance(entry, _Conv) else 2)
    bias = _array(f"{name}: array 'b{number}'", found[1], "<i2", 1)
    if isinstance(entry, _Conv):
        return Conv(weights, bias, entry.stride, entry.padding, entry.readout())
    return Dense(weights, bias, entry.readout())


def _array(name: str, raw: bytes, descr: str, ndim: int) -> NDArray[Any]:
    header = _NPY.match(raw)
    if header is None or int.from_bytes(header[1], "little") != header.end() - 10:
        raise BundleError(f"{name}: not a NumPy array in C order (.npy, version 1.0): build the bundle again")
    found = header[2].decode("latin-1")
    shape = tuple(int(side) for side in header[3].split(b",") if side.strip().isdigit() and len(side) < 12)
    if found != descr or len(shape) != ndim:
        raise BundleError(f"{name}: dtype {found} with {len(shape)} dimensions, must be {descr} with {ndim}")
    dtype = np.dtype(descr)
    if prod(shape) * dtype.itemsize != len(raw) - header.end():
        raise BundleError(f"{name}: {len(raw) - header.end()} bytes for shape {shape}: damaged; build the bundle again")
    return np.frombuffer(raw, dtype, offset=header.end()).reshape(shape)


def _explain(error: ValidationError) -> str:
    """One sentence from pydantic's first error, with the layer's number where there is one."""
    first = error.errors(include_url=False)[0]
    where = [str(part) for part in first["loc"]]
    if len(where) >= 2 and where[0] == "layers":
        kind = f" ({where[2]})" if len(where) > 2 else ""
        where = [f"layer {where[1]}{kind}", *where[3:]]
    return f"{', '.join(where) or 'network'}: {first['msg']} (found {first['input']!r:.80})"

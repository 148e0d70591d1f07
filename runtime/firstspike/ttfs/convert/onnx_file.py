"""An ONNX file as a chain of nodes: each takes the result of the one before, and constants.

The only module that needs the `onnx` package, which is imported when it is first used: the runtime does without.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firstspike.errors import DataError, NoInputError, UnavailableError

OPSETS = range(7, 26)
"""Opset 7 brought today's broadcasting; the operators that are understood are unchanged in meaning up to 25."""
MAX_FILE_BYTES = 1 << 28
"""Four times the weights that a network may have (`limits.MAX_WEIGHTS`), as float32 they still fit."""
MAX_NODES = 1024


@dataclass(frozen=True, slots=True)
class Node:
    """One operation of the chain."""

    name: str
    """How a message names it: node and operator."""
    op: str
    attributes: dict[str, Any]
    """Integers, floats, strings, lists of them, arrays."""
    constants: tuple[NDArray[Any] | None, ...]
    """For each input its constant value; None for the chain's tensor and for optional inputs that are left out."""
    position: int
    """Which input the chain's tensor is."""
    outputs: int
    """How many results somebody could ask for."""


@dataclass(frozen=True, slots=True)
class Chain:
    """The network from its input to its output."""

    input_dims: tuple[int, ...]
    """Of one sample: without the batch."""
    opset: int
    nodes: tuple[Node, ...]


def read(path: Path) -> Chain:
    """Read a network.

    Raises:
        UnavailableError: the package `onnx` is not installed.
        NoInputError: the file is not there.
        DataError: it is no ONNX file, its opset is not understood, its shapes are dynamic, its weights are not finite,
            or it is not one chain of nodes; the text names the node.
    """
    try:
        return _read(path)
    except UnicodeDecodeError:
        # Names are decoded when they are looked at.
        raise DataError(f"{path}: a name in it is not text: damaged; export the trained network again") from None


def _read(path: Path) -> Chain:
    model = _model(path)
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    opset = opsets.get("", opsets.get("ai.onnx"))
    if opset is None or opset not in OPSETS:
        raise DataError(
            f"{path}: opset {opset}, understood are {OPSETS.start} to {OPSETS.stop - 1}: export with opset 13"
        )
    _check(path, model)
    constants = {tensor.name: _array(path, tensor) for tensor in model.graph.initializer}
    nodes = [node for node in model.graph.node if not _settled(path, node, constants)]
    if len(nodes) > MAX_NODES:
        raise DataError(f"{path}: {len(nodes)} nodes, at most {MAX_NODES} are converted")
    inputs = [given for given in model.graph.input if given.name not in constants]
    if len(inputs) != 1 or len(model.graph.output) != 1:
        raise DataError(
            f"{path}: {len(inputs)} inputs and {len(model.graph.output)} outputs: only a network with one of each is "
            "converted"
        )
    dims = _sample_shape(path, inputs[0])
    chain = _follow(path, inputs[0].name, model.graph.output[0].name, nodes, constants)
    return Chain(dims, opset, tuple(chain))


def _model(path: Path) -> Any:
    try:
        import onnx
    except ImportError:
        raise UnavailableError(
            "the package 'onnx' is not installed: conversion needs it: pip install 'firstspike[convert]'"
        ) from None
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise DataError(f"{path}: larger than {MAX_FILE_BYTES} bytes: not a network for an edge device")
        raw = path.read_bytes()
    except OSError as error:
        raise NoInputError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        model = onnx.load_model_from_string(raw)
    except Exception as error:  # noqa: BLE001 (protobuf's parser is untyped and raises its own)
        raise DataError(f"{path}: not an ONNX file, or damaged ({error}): export the trained network again") from None
    if not model.graph.node:
        raise DataError(f"{path}: not an ONNX network (no nodes): export the trained network again")
    return model


def _check(path: Path, model: Any) -> None:
    from onnx import checker

    for tensor in model.graph.initializer:
        if tensor.data_location == 1:
            raise DataError(f"{path}: constant '{tensor.name}' lies in another file: save the network as one file")
    try:
        checker.check_model(model)
    except checker.ValidationError as error:
        said = " ".join(str(error).split())
        raise DataError(f"{path}: not a valid ONNX network ({said:.300}): export the network again") from None


def _array(path: Path, tensor: Any) -> NDArray[Any]:
    from onnx import numpy_helper

    where = f"{path}: constant '{tensor.name}'"
    try:
        array = np.array(numpy_helper.to_array(tensor))
    except (ValueError, TypeError, OverflowError, KeyError) as error:
        raise DataError(f"{where} cannot be read ({error}): export the network again") from None
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise DataError(f"{where} has {np.count_nonzero(~np.isfinite(array))} values that are NaN or infinite: retrain")
    return array


def _settled(path: Path, node: Any, constants: dict[str, NDArray[Any]]) -> bool:
    """Whether the node is itself a constant, which is then added to them."""
    if node.op_type == "Identity" and node.input[0] in constants:
        constants[node.output[0]] = constants[node.input[0]]
        return True
    if node.op_type != "Constant":
        return False
    for attribute in node.attribute:
        match attribute.name:
            case "value":
                constants[node.output[0]] = _array(path, attribute.t)
                return True
            case "value_float" | "value_floats" | "value_int" | "value_ints":
                kind = np.float32 if "float" in attribute.name else np.int64
                constants[node.output[0]] = np.array(_plain(attribute), kind)
                return True
    raise DataError(f"{path}: {_name(node)}: a constant that is no array of numbers: not converted")


def _sample_shape(path: Path, given: Any) -> tuple[int, ...]:
    tensor = given.type.tensor_type
    dims = tensor.shape.dim
    if tensor.elem_type != 1:
        raise DataError(f"{path}: input '{given.name}' is not float32: export the network with float32 inputs")
    if len(dims) not in (2, 4):
        raise DataError(
            f"{path}: input '{given.name}' has {len(dims)} dimensions: must be (batch, channels, height, width) or "
            "(batch, features)"
        )
    sizes = [dim.dim_value if dim.HasField("dim_value") else None for dim in dims]
    if sizes[0] not in (1, None):
        raise DataError(f"{path}: input '{given.name}' has a batch of {sizes[0]}: export with a batch of 1")
    if any(size is None or size < 1 for size in sizes[1:]):
        said = [dim.dim_param or dim.dim_value or "?" for dim in dims]
        raise DataError(f"{path}: input '{given.name}' has the dynamic shape {said}: export with a fixed shape")
    return tuple(int(size) for size in sizes[1:] if size is not None)


def _name(node: Any) -> str:
    return f"node '{node.name or (node.output[0] if node.output else '?')}' ({node.op_type})"


def _plain(attribute: Any) -> Any:
    from onnx import helper

    value = helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value if isinstance(value, int | float | str) else list(value) if hasattr(value, "__iter__") else value


def _follow(path: Path, start: str, end: str, nodes: list[Any], constants: dict[str, NDArray[Any]]) -> list[Node]:
    """The nodes from the input to the output, each taking the one before it."""
    consumers: dict[str, list[Any]] = {}
    for node in nodes:
        for name in node.input:
            consumers.setdefault(name, []).append(node)
    current = start
    chain: list[Node] = []
    while current != end or current in consumers:
        takers = consumers.get(current, [])
        if len(takers) != 1 or current == end:
            raise DataError(
                f"{path}: tensor '{current}' goes to {', '.join(map(_name, takers)) or 'no node'}"
                f"{' and is the output' if current == end else ''}: only a network without branches is converted"
            )
        node = takers[0]
        if len(chain) >= len(nodes):
            raise DataError(f"{path}: {_name(node)} takes its own result: not a feed-forward network")
        chain.append(_node(path, node, current, constants))
        current = node.output[0]
    return chain


def _node(path: Path, node: Any, current: str, constants: dict[str, NDArray[Any]]) -> Node:
    if node.domain not in ("", "ai.onnx"):
        raise DataError(
            f"{path}: {_name(node)} is of the domain '{node.domain}': only standard operators are converted"
        )
    for name in node.input:
        if name and name != current and name not in constants:
            raise DataError(
                f"{path}: {_name(node)} also takes '{name}', which is computed: only a network without branches is "
                "converted"
            )
    values = tuple(constants.get(name) if name != current else None for name in node.input)
    attributes = {attribute.name: _plain(attribute) for attribute in node.attribute}
    return Node(_name(node), node.op_type, attributes, values, list(node.input).index(current), len(node.output))

"""The back's ONNX file, read without the `onnx` package: the nodes, their attributes and the weights.

It reads what `onnx_run` runs: a chain of Conv, Relu, MaxPool, Flatten and Gemm over float32. Field numbers are
those of onnx/onnx.proto.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firstspike.onnx_header import fields, signed, submessage, utf8


@dataclass(slots=True)
class Node:
    """One operator."""

    kind: str = ""
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    attributes: dict[str, Any] = field(default_factory=dict)
    """Whole numbers, lists of them, float numbers or texts, by name."""


def read(data: bytes) -> tuple[list[Node], dict[str, NDArray[np.float32]]]:
    """The nodes in their order, and the weights by name.

    Raises:
        ValueError: it is no ONNX model, or a weight is not float32 within the file.
    """
    nodes, weights = [], {}
    for number, value in fields(memoryview(data)):
        if number != 7:  # the graph
            continue
        for inner, message in fields(submessage(value)):
            if inner == 1:
                nodes.append(_node(submessage(message)))
            elif inner == 5:
                name, array = _tensor(submessage(message))
                weights[name] = array
    return nodes, weights


def _node(message: memoryview) -> Node:
    node = Node()
    for number, value in fields(message):
        if number == 1:
            node.inputs.append(utf8(value))
        elif number == 2:
            node.outputs.append(utf8(value))
        elif number == 4:
            node.kind = utf8(value)
        elif number == 5:
            name, found = _attribute(submessage(value))
            node.attributes[name] = found
    return node


def _attribute(message: memoryview) -> tuple[str, Any]:
    name, several = "", []
    found: Any = None
    for number, value in fields(message):
        if number == 1:
            name = utf8(value)
        elif number == 2:
            found = _float(value)
        elif number == 3:
            found = signed(value)
        elif number == 4:
            found = utf8(value)
        elif number == 8:
            several += _whole(value)
    return name, several or found


def _float(value: Any) -> float:
    """A number of 32 bits."""
    if isinstance(value, int) or len(value) != 4:
        raise ValueError("an attribute that should be a float number is none")
    found: float = struct.unpack("<f", value)[0]
    return found


def _tensor(message: memoryview) -> tuple[str, NDArray[np.float32]]:
    name, shape, kind, raw = "", [], 0, None
    for number, value in fields(message):
        if number == 1:
            shape += _whole(value)
        elif number == 2:
            kind = signed(value)
        elif number == 8:
            name = utf8(value)
        elif number == 9:
            raw = submessage(value)
    if kind != 1 or raw is None or len(raw) != 4 * int(np.prod(shape)):
        raise ValueError(f"weight {name!r} is not float32 within the file (raw_data)")
    return name, np.frombuffer(raw, "<f4").reshape(shape).astype(np.float32)


def _whole(value: Any) -> list[int]:
    """A repeated whole number: one, or several packed into one field."""
    if isinstance(value, int):
        return [signed(value)]
    packed, found, place = submessage(value), 0, 0
    result = []
    for byte in packed:
        found |= (byte & 0x7F) << place
        place += 7
        if byte < 0x80:
            result.append(signed(found))
            found, place = 0, 0
    return result

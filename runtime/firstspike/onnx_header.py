"""What an ONNX file says of itself, without the `onnx` package: opset, inputs, outputs, types, operators, metadata.

It reads the few fields of `ModelProto` (onnx/onnx.proto) that decide whether a device can take a file. OpenVINO 2021.4
computes wrong numbers from an opset above 13 without an error, so somebody else has to look first. Standard library
only, Python 3.6 or newer: the daemon imports it, and a worker is sent it (`SIBLINGS`).
"""

from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

ELEMENTS = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 8: "string", 9: "bool",
    10: "float16", 11: "float64", 12: "uint32", 13: "uint64", 16: "bfloat16",
}  # fmt: skip
"""`TensorProto.DataType`, those that OpenVINO 2021.4 knows."""

POTENTIAL_UNIT = "potential_unit"
"""Key of the metadata: the output times this is the potential, in the network's own integers. Absent: 1."""


class Value(NamedTuple):
    """An input or output of the graph."""

    name: str
    element: str
    """As NumPy names it, or `type <number>`; empty: not a tensor."""
    shape: Optional[Tuple[Optional[int], ...]]
    """None where a length is not fixed; None altogether where the file gives no shape."""


class Header(NamedTuple):
    """What `read` found."""

    opsets: Dict[str, int]
    """Version of each operator set by its domain; ONNX's own is ''."""
    inputs: List[Value]
    """Without those that only name an initialiser, as files before IR version 4 have them."""
    outputs: List[Value]
    elements: Dict[str, int]
    """How many initialisers there are of each element type."""
    operators: List[str]
    """Types of the nodes, sorted, each once; `domain.Type` where the domain is not ONNX's."""
    metadata: Dict[str, str]
    external: bool
    """Some initialiser lies in another file."""

    @property
    def opset(self) -> int:
        """Version of ONNX's own operators."""
        return self.opsets[""]

    @property
    def potential_unit(self) -> float:
        """What the output has to be multiplied with.

        Raises:
            ValueError: it is not a positive finite number.
        """
        text = self.metadata.get(POTENTIAL_UNIT, "1")
        try:
            unit = float(text)
        except ValueError:
            unit = 0.0
        if not 0 < unit < float("inf"):
            raise ValueError(f"{POTENTIAL_UNIT} is {text[:40]!r}, not a positive number")
        return unit


def read(data: bytes) -> Header:
    """Read a file's bytes; weights are skipped, not copied.

    Raises:
        ValueError: it is no ONNX model, or one without a graph or without an opset.
    """
    graph: Optional[memoryview] = None
    opsets: Dict[str, int] = {}
    metadata: Dict[str, str] = {}
    for field, value in fields(memoryview(data)):
        if field == 7:
            if graph is not None:
                raise ValueError("not an ONNX model: two graphs")
            graph = submessage(value)
        elif field == 8:
            domain, version = _opset(submessage(value))
            opsets[domain] = max(version, opsets.get(domain, 0))
        elif field == 14:
            entry = dict(fields(submessage(value)))
            metadata[utf8(entry.get(1, b""))] = utf8(entry.get(2, b""))
    if graph is None:
        raise ValueError("not an ONNX model: it holds no graph")
    if "" not in opsets:
        raise ValueError("not an ONNX model: it names no opset")
    return _graph(graph, opsets, metadata)


def refusal(header: Header, opset: int, shape: Sequence[int]) -> str:
    """Why a device cannot take a file, or '': its opset is above `opset`, or its input is not one tensor of `shape`.

    Args:
        header: of the file.
        opset: the newest version of ONNX's operators that the device's software reads rightly.
        shape: (1, channels, height, width) of the model's input.
    """
    foreign = sorted(domain for domain in header.opsets if domain)
    if header.opset > opset:
        return f"it has opset {header.opset}, and at most {opset} is read rightly: export it with opset {opset}"
    if foreign:
        return f"it uses operators that are not ONNX's own: {', '.join(foreign):.80}"
    if header.external:
        return "its weights lie in another file: save it as one"
    if len(header.inputs) != 1 or len(header.outputs) != 1:
        return f"it has {len(header.inputs)} inputs and {len(header.outputs)} outputs, not one of each"
    given = header.inputs[0].shape
    if given is None or None in given:
        return f"its input {header.inputs[0].name!r} has no fixed shape: export it without dynamic axes"
    if tuple(given) != tuple(shape):
        return f"its input is of shape {given}, the model's of {tuple(shape)}"
    return ""


def _graph(graph: memoryview, opsets: Dict[str, int], metadata: Dict[str, str]) -> Header:
    inputs: List[Value] = []
    outputs: List[Value] = []
    external = False
    elements: Dict[str, int] = {}
    names: Set[str] = set()
    operators: Set[str] = set()
    for field, value in fields(graph):
        if field == 1:
            operators.add(_operator(submessage(value)))
        elif field == 5:
            name, element, apart = _initialiser(submessage(value))
            names.add(name)
            elements[element] = elements.get(element, 0) + 1
            external = external or apart
        elif field == 11:
            inputs.append(_value(submessage(value)))
        elif field == 12:
            outputs.append(_value(submessage(value)))
    inputs = [one for one in inputs if one.name not in names]
    return Header(opsets, inputs, outputs, elements, sorted(operators), metadata, external)


def fields(view: memoryview) -> Iterator[Tuple[int, Any]]:
    """Number and value of each field: an int for a varint, a view for bytes and for numbers of fixed width."""
    at, end = 0, len(view)
    while at < end:
        tag, at = _varint(view, at)
        field, wire = tag >> 3, tag & 7
        if field == 0:
            raise ValueError("not an ONNX model: a field without a number")
        if wire == 0:
            value, at = _varint(view, at)
            yield field, value
        elif wire == 2:
            size, at = _varint(view, at)
            if size > end - at:
                raise ValueError(f"not an ONNX model, or cut off: a field of {size} bytes where {end - at} are left")
            yield field, view[at : at + size]
            at += size
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
            if size > end - at:
                raise ValueError("not an ONNX model, or cut off within a number")
            yield field, view[at : at + size]
            at += size
        else:
            raise ValueError(f"not an ONNX model: a field of wire type {wire}")


def _varint(view: memoryview, at: int) -> Tuple[int, int]:
    value = 0
    for place in range(10):
        if at + place >= len(view):
            raise ValueError("not an ONNX model, or cut off within a number")
        byte = view[at + place]
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at + place + 1
    raise ValueError("not an ONNX model: a number of more than ten bytes")


def submessage(value: Any) -> memoryview:
    """A field's value as bytes, or ValueError."""
    if not isinstance(value, memoryview):
        raise ValueError("not an ONNX model: a number where a message belongs")  # noqa: TRY004 (one error for all)
    return value


def signed(value: Any) -> int:
    """A field's value as a whole number of 64 bits, or ValueError."""
    if not isinstance(value, int):
        raise ValueError("not an ONNX model: a message where a number belongs")  # noqa: TRY004
    return value - (1 << 64) if value >> 63 else value


def utf8(value: Any) -> str:
    """A field's value as a text, or ValueError."""
    if isinstance(value, int):
        raise ValueError("not an ONNX model: a number where a text belongs")  # noqa: TRY004
    return bytes(value).decode("utf-8")  # UnicodeDecodeError is a ValueError


def _element(number: int) -> str:
    return ELEMENTS.get(number, f"type {number}")


def _opset(message: memoryview) -> Tuple[str, int]:
    entry = dict(fields(message))
    domain = utf8(entry.get(1, b""))
    return "" if domain == "ai.onnx" else domain, signed(entry.get(2, 0))


def _operator(message: memoryview) -> str:
    kind = domain = ""
    for field, value in fields(message):
        if field == 4:
            kind = utf8(value)
        elif field == 7:
            domain = utf8(value)
    return kind if domain in ("", "ai.onnx") else f"{domain}.{kind}"


def _initialiser(message: memoryview) -> Tuple[str, str, bool]:
    """Name, element type, and whether the data lie in another file."""
    name, element, apart = "", 0, False
    for field, value in fields(message):
        if field == 2:
            element = signed(value)
        elif field == 8:
            name = utf8(value)
        elif field == 13 or (field == 14 and value == 1):
            apart = True
    return name, _element(element), apart


def _value(message: memoryview) -> Value:
    name = element = ""
    shape: Optional[Tuple[Optional[int], ...]] = None
    for field, value in fields(message):
        if field == 1:
            name = utf8(value)
        elif field == 2:
            for kind, tensor in fields(submessage(value)):
                if kind == 1:  # a tensor; sequences, maps and the like have other numbers
                    element, shape = _tensor(submessage(tensor))
    return Value(name, element, shape)


def _tensor(message: memoryview) -> Tuple[str, Optional[Tuple[Optional[int], ...]]]:
    element = _element(0)
    shape: Optional[Tuple[Optional[int], ...]] = None
    for field, value in fields(message):
        if field == 1:
            element = _element(signed(value))
        elif field == 2:
            dims = [dict(fields(submessage(dim))) for number, dim in fields(submessage(value)) if number == 1]
            lengths = [signed(dim.get(1, 0)) for dim in dims]
            shape = tuple(length if length > 0 else None for length in lengths)
    return element, shape

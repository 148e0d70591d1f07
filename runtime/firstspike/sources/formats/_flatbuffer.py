"""Reads single fields of a FlatBuffer, every offset checked, since anyone may have written the file it comes from.

Source: «FlatBuffer Internals» (flatbuffers.dev). A buffer begins with the offset of its root table and four letters
that name its type. A table begins with the distance back to its vtable: two uint16 sizes, then a uint16 a field,
the field's place in the table or 0 where it has its default. A vector is a uint32 count, then its items.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

_U16, _U32, _I32 = struct.Struct("<H"), struct.Struct("<I"), struct.Struct("<i")
TOO_MANY = "claims more items than it has bytes for"


class FlatBufferError(ValueError):
    """A buffer contradicts itself; the text says how, and continues «the packet …»."""


def _read(form: struct.Struct, data: bytes | memoryview, at: int) -> int:
    """The number at `at`; unlike `unpack_from`, refuses a place before the buffer."""
    if not 0 <= at <= len(data) - form.size:
        raise FlatBufferError("points outside itself")
    return int(form.unpack_from(data, at)[0])


@dataclass(frozen=True, slots=True)
class Table:
    """A table of a buffer."""

    data: bytes | memoryview
    at: int
    vtable: int
    vtable_size: int

    def _field(self, index: int) -> int:
        """Where the field lies; 0 where it has its default."""
        slot = 4 + 2 * index
        if slot + 2 > self.vtable_size:
            return 0
        place = _read(_U16, self.data, self.vtable + slot)
        return self.at + place if place else 0

    def number(self, index: int, form: struct.Struct, default: int) -> int:
        """The integer field `index`."""
        at = self._field(index)
        return _read(form, self.data, at) if at else default

    def vector(self, index: int, item_bytes: int) -> tuple[int, int]:
        """First byte and number of items of the vector (or string) field `index`; (0, 0) where it is absent.

        Raises:
            FlatBufferError: It does not lie within the buffer.
        """
        at = self._field(index)
        if not at:
            return 0, 0
        start = at + _read(_U32, self.data, at)
        count = _read(_U32, self.data, start)
        if start + 4 + count * item_bytes > len(self.data):
            raise FlatBufferError(TOO_MANY)
        return start + 4, count


def root(data: bytes | memoryview, start: int, identifier: bytes) -> Table:
    """The root table of the buffer that begins at byte `start` of `data` and ends with it.

    Raises:
        FlatBufferError: The buffer is of another type, or its root does not lie within it.
    """
    found: Any = bytes(data[start + 4 : start + 8])
    if found != identifier:
        raise FlatBufferError(f"is of the type {found!r} instead of {identifier!r}")
    at = start + _read(_U32, data, start)
    vtable = at - _read(_I32, data, at)
    size = _read(_U16, data, vtable)
    if size < 4 or vtable + size > len(data):
        raise FlatBufferError("has no whole table of fields")
    return Table(data, at, vtable, size)

"""Reads the records of a ROS 1 bag in the order of the file, in bounded memory, decompressing as it goes.

Source: wiki.ros.org, «Bags/Format/2.0». A record is a header (fields `name=value`, each with its length before it)
and data; a chunk's data are records again, plain, bz2 or an LZ4 frame.
"""

from __future__ import annotations

import bz2
import os
import struct
from dataclasses import dataclass
from typing import Any, BinaryIO

from firstspike.sources.formats._stream import Stats

MESSAGE, BAG_HEADER, INDEX, CHUNK, CHUNK_INFO, CONNECTION = range(2, 8)
_BLOCK = 64 * 1024
_MAX_HEADER = 64 * 1024
_LENGTH = struct.Struct("<I")


class DamagedError(Exception):
    """A record is malformed; its text continues «a file that …»."""


class CutError(Exception):
    """The bytes end within a record, of which `partial` are there."""

    def __init__(self, partial: int) -> None:
        super().__init__(partial)
        self.partial = partial


class Source:
    """Bytes in order, read ahead a little."""

    def __init__(self, stats: Stats) -> None:
        self.stats = stats
        self.consumed = 0
        self._buffer = b""
        self._at = 0

    def _more(self) -> bytes:
        """The next bytes; none at the end."""
        raise NotImplementedError

    def read(self, count: int) -> bytes:
        """Returns `count` bytes; fewer only at the end."""
        parts = []
        while count > 0 and self._filled():
            part = self._buffer[self._at : self._at + count]
            self._at += len(part)
            self.consumed += len(part)
            count -= len(part)
            parts.append(part)
        return b"".join(parts)

    def skip(self, count: int) -> int:
        """Passes over `count` bytes and returns how many there were: fewer only at the end."""
        left = count
        while left > 0 and self._filled():
            step = min(left, len(self._buffer) - self._at)
            self._at += step
            self.consumed += step
            left -= step
        return count - left

    def _filled(self) -> bool:
        if self._at == len(self._buffer):
            self._buffer = self._more()
            self._at = 0
            self.stats.tick()
        return bool(self._buffer)


class Slice(Source):
    """A part of a file."""

    def __init__(self, file: BinaryIO, start: int, end: int, stats: Stats) -> None:
        super().__init__(stats)
        self.start = start
        self.end = max(start, end)  # a file shorter than its own magic has nothing after it
        self._file = file
        self._next = start

    @property
    def position(self) -> int:
        """Byte of the file that comes next."""
        return self._next - len(self._buffer) + self._at

    def _more(self) -> bytes:
        data = os.pread(self._file.fileno(), min(_BLOCK, self.end - self._next), self._next)
        self._next += len(data)
        self.stats.bytes_read += len(data)
        return data

    def skip(self, count: int) -> int:
        """As of every source, without reading what is skipped."""
        done = min(count, self.end - self.position)
        if done <= len(self._buffer) - self._at:
            self._at += done
        else:
            self._next = self.position + done
            self._buffer = b""
            self._at = 0
        self.consumed += done
        return done


class Inflated(Source):
    """A chunk's bytes, decompressed; never more than the chunk says it holds."""

    def __init__(self, compressed: Slice, compression: str, size: int) -> None:
        super().__init__(compressed.stats)
        self._compressed = compressed
        self.left = size
        self._engine: Any
        if compression == "bz2":
            self._engine = bz2.BZ2Decompressor()
        elif compression == "lz4":
            from lz4.frame import LZ4FrameDecompressor  # here, since few bags need it

            self._engine = LZ4FrameDecompressor()
        else:
            raise DamagedError(f"has a chunk with the unknown compression '{compression[:20]}'")

    def _more(self) -> bytes:
        data = b""
        while not data and not self._engine.eof:
            block = self._compressed.read(_BLOCK) if self._engine.needs_input else b""
            if self._engine.needs_input and not block:
                break
            try:
                data = self._engine.decompress(block, max_length=_BLOCK)
            except (OSError, EOFError, ValueError, RuntimeError) as error:
                raise DamagedError(f"has a chunk that cannot be decompressed: {error}") from error
            self.stats.tick()
        self.left -= len(data)
        if self.left < 0:
            raise DamagedError("has a chunk that decompresses to more than it says")
        return bytes(data)


@dataclass(frozen=True, slots=True)
class Record:
    """A record's header; its data follow in the source."""

    op: int
    fields: dict[str, bytes]
    size: int
    """Bytes of data."""

    def number(self, name: str) -> int:
        """A field that is an unsigned number of 4 or 8 bytes; DamagedError where it is missing."""
        value = self.fields.get(name, b"")
        if len(value) not in (4, 8):
            raise DamagedError(f"has a record (kind {self.op}) without the field '{name}'")
        return int.from_bytes(value, "little")

    def text(self, name: str) -> str:
        """A field that is text; DamagedError where it is missing."""
        if name not in self.fields:
            raise DamagedError(f"has a record (kind {self.op}) without the field '{name}'")
        return self.fields[name].decode("utf-8", "replace")


def read_record(source: Source) -> Record | None:
    """Reads the next record's header; None at the end.

    Raises:
        CutError: The source ends within it.
        DamagedError: It is malformed.
    """
    start = source.consumed
    first = source.read(_LENGTH.size)
    if not first:
        return None
    length = _LENGTH.unpack(first)[0] if len(first) == _LENGTH.size else 0
    if length > _MAX_HEADER:
        raise DamagedError(f"has a record whose header claims {length:,} bytes")
    header = source.read(length)
    size = source.read(_LENGTH.size)
    if len(size) < _LENGTH.size:
        raise CutError(source.consumed - start)
    fields = parse_fields(header)
    op = fields.get("op", b"")
    if len(op) != 1:
        raise DamagedError("has a record that does not say its kind")
    return Record(op[0], fields, _LENGTH.unpack(size)[0])


def parse_fields(header: bytes) -> dict[str, bytes]:
    """Parses `length name=value` one after another; DamagedError where they do not fit."""
    fields: dict[str, bytes] = {}
    at = 0
    while at < len(header):
        length = int.from_bytes(header[at : at + 4], "little")
        name, found, value = header[at + 4 : at + 4 + length].partition(b"=")
        at += 4 + length
        if not found or at > len(header):
            raise DamagedError("has a record with a malformed header")
        fields[name.decode("latin-1")] = value
    return fields

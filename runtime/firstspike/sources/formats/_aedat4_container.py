r"""The container of AEDAT4: a header with the streams' description, the packets, a table of the packets.

    #!AER-DAT4.0\r\n · size (uint32) · IOHeader (FlatBuffer) · packets · table of packets
    packet: stream (int32) · size (uint32) · content, compressed

Source: docs.inivation.com, «AEDAT 4.0», and the schema of IOHeader in dv-processing: compression (int32), position of
the table (int64, -1 where the recording was interrupted), description (string, XML). The table only speeds up seeking:
packets are read without it.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from xml.etree import ElementTree as ET

from firstspike.sources.formats import _flatbuffer as flatbuffer
from firstspike.sources.formats._aedat4_codecs import CODECS, MAX_BYTES, Codec
from firstspike.sources.formats._stream import Stats, data_error

MAGIC = b"#!AER-DAT4.0\r\n"
_SIZE = struct.Struct("<I")
_PACKET = struct.Struct("<iI")
_INT32, _INT64 = struct.Struct("<i"), struct.Struct("<q")
_MAX_HEADER = 4 << 20
_MAX_PACKET = MAX_BYTES + (1 << 20)
"""What does not compress takes a little more room than before."""
_BUFFER_BYTES = 1 << 20
_KINDS = {"EVTS": "events", "FRME": "frame", "IMUS": "imus", "TRIG": "triggers"}


@dataclass(frozen=True, slots=True)
class Stream:
    """One stream as the header describes it."""

    kind: str
    """`events`, `frame`, `imus`, `triggers`, or the four letters of another type."""
    width: int | None
    height: int | None
    source: str | None


@dataclass(frozen=True, slots=True)
class Header:
    """What precedes the packets."""

    streams: dict[int, Stream]
    codec: Codec
    start: int
    """Byte of the first packet."""
    table: int
    """Byte of the table of packets as stated; -1 where there is none."""


def read_header(path: Path) -> Header:
    """Reads the header.

    Raises:
        DataError: It is cut, damaged, larger than 4 MiB, or states a compression that is unknown.
    """
    with path.open("rb") as file:
        start = len(MAGIC) + _SIZE.size
        size = file.seek(0, os.SEEK_END)
        if size < start:
            raise data_error(path, "ends within its header", size)
        file.seek(len(MAGIC))
        length = int(_SIZE.unpack(file.read(_SIZE.size))[0])
        if start + length > size:
            raise data_error(path, "ends within its header, or the header's length is damaged", len(MAGIC))
        if length > _MAX_HEADER:
            raise data_error(path, f"states a header of {length:,} bytes: it is damaged", len(MAGIC))
        data = file.read(length)
    try:
        table = flatbuffer.root(data, 0, b"IOHE")
        compression = table.number(0, _INT32, 0)
        position = table.number(1, _INT64, -1)
        text, count = table.vector(2, 1)
        streams = _streams(data[text : text + count])
    except (ValueError, ET.ParseError) as error:
        raise data_error(path, f"has a damaged AEDAT4 header: it {error}", start) from error
    if not 0 <= compression < len(CODECS):
        raise data_error(path, f"is compressed by a method that is unknown (number {compression})", start)
    return Header(streams, CODECS[compression](), start + length, position)


def _streams(text: bytes) -> dict[int, Stream]:
    """The streams by number, from the XML tree; a ValueError where it is none."""
    if b"<!" in text:
        raise ValueError("has an XML description with a document type or comments, which DV does not write")
    try:
        tree = ET.fromstring(text)  # noqa: S314 no document type, so no entities
    except ET.ParseError as error:
        raise ValueError(f"has an XML description that is malformed: {error}") from error
    streams = {}
    for parent in tree.iter("node"):
        if parent.get("name") != "outInfo":
            continue
        for node in parent.findall("node"):
            number = _integer(node.get("name"))
            if number is not None:
                streams[number] = _stream(node)
    return streams


def _stream(node: ET.Element) -> Stream:
    kind = _attribute(node, "typeIdentifier") or "unknown"
    kind = _KINDS.get(kind, re.sub(r"[^ -~]", "?", kind)[:16])
    info = node.find("node[@name='info']")
    if info is None:
        return Stream(kind, None, None, None)
    source = (_attribute(info, "source") or "").strip()[:200] or None
    return Stream(kind, _integer(_attribute(info, "sizeX")), _integer(_attribute(info, "sizeY")), source)


def _attribute(node: ET.Element, key: str) -> str | None:
    found = node.find(f"attr[@key='{key}']")
    return None if found is None else found.text


def _integer(text: str | None) -> int | None:
    return int(text) if text and re.fullmatch(r"[0-9]{1,9}", text) else None


def packets(path: Path, header: Header, chosen: int | None, stats: Stats) -> Iterator[tuple[int, bytes]]:
    """Yields place and content, still compressed, of the packets of one stream; counts those of the others.

    The end is where the file ended when it was opened. What a cut file holds of its last packet is counted in
    `stats.truncated_bytes`.

    Raises:
        DataError: A packet belongs to no stream, or the medium fails.
    """
    stats.bytes_read += header.start
    position = header.start
    try:
        with path.open("rb", buffering=_BUFFER_BYTES) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(position)
            while position < size and position != header.table:
                head = file.read(_PACKET.size)
                number, length = _PACKET.unpack(head) if len(head) == _PACKET.size else (None, size)
                end = position + _PACKET.size + length
                if (end > size or number not in header.streams) and _table_is_at(file, position, header.codec):
                    break
                if end > size:
                    stats.truncated_bytes += size - position
                    break
                if number not in header.streams:
                    what = f"has a damaged AEDAT4 packet: it belongs to stream {number}, which is not described"
                    raise data_error(path, what, position)
                if number == chosen:
                    if length > _MAX_PACKET:
                        raise data_error(path, f"has a damaged AEDAT4 packet: it states {length:,} bytes", position)
                    yield position, file.read(length)
                else:
                    stats.ignore(f"packets of other streams ({header.streams[number].kind})", 1)
                    file.seek(length, os.SEEK_CUR)
                stats.tick()
                stats.bytes_read += end - position
                position = end
    except OSError as error:
        raise data_error(path, f"cannot be read any further: {error.strerror}") from error
    if header.table > size:
        stats.notes.append(f"the file ends {header.table - size:,} bytes before its table of packets: it was cut")


def _table_is_at(file: BinaryIO, position: int, codec: Codec) -> bool:
    """Whether the table of packets begins at `position`, where the header does not name it."""
    file.seek(position)
    found = codec.begin(file.read(4096), 12)[8:12] == b"FTAB"
    file.seek(position + _PACKET.size)
    return found

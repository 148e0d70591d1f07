"""Writes AEDAT4 from its specification, also as no sane program would: independent of the decoder and of faery."""

from __future__ import annotations

import struct

import lz4.frame
import zstandard

NONE, LZ4, LZ4_HIGH, ZSTD, ZSTD_HIGH = range(5)
MAGIC = b"#!AER-DAT4.0\r\n"


def compress(data, method):
    if method in (LZ4, LZ4_HIGH):
        return lz4.frame.compress(data, compression_level=9 if method == LZ4_HIGH else 0, store_size=False)
    if method in (ZSTD, ZSTD_HIGH):
        return zstandard.ZstdCompressor(level=1, write_content_size=method == ZSTD).compress(data)
    return data


def record(t, x, y, p, padding=b"\0\0\0"):
    """One event; `p` is a whole byte, x and y are signed."""
    return struct.pack("<qhhB", t, x, y, p) + padding


def payload(records, *, identifier=b"EVTS", count=None, odd=False):
    """A packet's content: an EventPacket; with `odd`, its parts lie otherwise than in what DV writes."""
    count = len(records) if count is None else count
    body = b"".join(records)
    if odd:  # root · identifier · table · vector of events · vtable with a second field, at the end
        events_at = 8 + 8 + 4
        vtable_at = events_at + 4 + len(body)
        table = struct.pack("<iI", 8 - vtable_at, events_at - 12)
        data = struct.pack("<I", 8) + identifier + table + b"\xee" * 4
        data += struct.pack("<I", count) + body + struct.pack("<HHHH", 8, 8, 4, 0)
    else:
        data = struct.pack("<I4sHHHHiI", 16, identifier, 0, 6, 8, 4, 6, 4) + struct.pack("<I", count) + body
    return struct.pack("<I", len(data)) + data


def packet(stream, content, method=NONE):
    body = compress(content, method)
    return struct.pack("<iI", stream, len(body)) + body


def stream_xml(number, kind="EVTS", size=(346, 260), source="a camera"):
    info = f'<attr key="source" type="string">{source}</attr>' if source else ""
    if size:
        info += f'<attr key="sizeX" type="int">{size[0]}</attr><attr key="sizeY" type="int">{size[1]}</attr>'
    identifier = f'<attr key="typeIdentifier" type="string">{kind}</attr>'
    return f'<node name="{number}">{identifier}<node name="info">{info}</node></node>'


def xml(*streams):
    return f'<dv version="2.0"><node name="outInfo">{"".join(streams)}</node></dv>'


def header(description, method=NONE, table=-1, *, identifier=b"IOHE"):
    """Magic, size and IOHeader: the fields compression, position of the table, description."""
    text = description.encode() if isinstance(description, str) else description
    vtable = struct.pack("<HHHHH", 10, 20, 4, 8, 16)
    fields = struct.pack("<i", 12) + struct.pack("<iqI", method, table, 4) + struct.pack("<I", len(text)) + text + b"\0"
    data = struct.pack("<I", 20) + identifier + vtable + b"\0\0" + fields
    return MAGIC + struct.pack("<I", len(data)) + data


def table_of_packets(method):
    """An empty one, as the file's end has it: without a packet's header."""
    return compress(struct.pack("<II4sHHHHi", 20, 16, b"FTAB", 0, 4, 4, 0, 6), method)


def file(packets, method=NONE, *, streams=None, tail=b"", position=None):
    """A recording: `packets` are (stream, content); `position` of the table, by default none."""
    description = xml(*(streams or [stream_xml(0)]))
    body = b"".join(packet(stream, content, method) for stream, content in packets)
    where = -1 if position is None else len(header(description, method)) + len(body) + position
    return header(description, method, where) + body + tail


def events(rows, method=NONE, *, each=7, **options):
    """A recording of rows (t, x, y, p) in packets of `each` events."""
    parts = [rows[i : i + each] for i in range(0, len(rows), each)]
    return file([(0, payload([record(*row) for row in part])) for part in parts], method, **options)

"""AEDAT4 (iniVation DV): an XML description, then packets of FlatBuffers, compressed with LZ4 or Zstandard.

The events of a packet lie in it as the dtype EVENT has them: int64 time in µs, int16 x and y, bool polarity and 3 bytes
of padding. So they are not converted but copied, once, from the packets into arrays of bounded size. A
negative coordinate becomes one of at least 32,768, which is outside of every sensor; a polarity other than 0 is ON.

Source: docs.inivation.com, «AEDAT 4.0», with the schema of EventPacket (identifier EVTS, field 0: a vector of events).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from firstspike.errors import DataError
from firstspike.sources.formats import _flatbuffer as flatbuffer
from firstspike.sources.formats._aedat4_codecs import Codec
from firstspike.sources.formats._aedat4_container import MAGIC, Header, Stream, packets, read_header
from firstspike.sources.formats._stream import Options, Stats, data_error, gather
from firstspike.types import EVENT, Events, RecordingInfo

NAME = "aedat4"
_SIZE = struct.Struct("<I")
_USUAL = bytes.fromhex("10000000 45565453 0000 0600 0800 0400 06000000 04000000")
"""Root, identifier, vtable and table as every writer's FlatBuffers builder lays them out, after the size: the count of
events follows, then the events. Any other layout is read field by field, which takes longer than all the rest."""
_USUAL_START = _SIZE.size + len(_USUAL) + _SIZE.size


def sniff(head: bytes, path: Path) -> float:  # noqa: ARG001 the version line tells
    """1 where the version line says 4.0."""
    return 1.0 if head.startswith(MAGIC) else 0.0


def open(path: Path, options: Options, stats: Stats) -> tuple[RecordingInfo, Iterator[Events]]:  # noqa: A001 the interface
    """Opens an AEDAT4 recording: the event stream with the lowest number; the others are noted as ignored.

    A file without an event stream has no events and a note that says so.
    """
    header = read_header(path)
    streams = header.streams
    ids = sorted(i for i, stream in streams.items() if stream.kind == "events")
    chosen = ids[0] if ids else None
    notes = [f"stream {i} ({streams[i].kind}) is ignored" for i in sorted(streams) if i != chosen]
    if chosen is None:
        notes.insert(0, "there is no event stream in this file")
    sized = [chosen] if chosen is not None else [i for i in sorted(streams) if streams[i].kind == "frame"]
    if not sized:
        raise data_error(path, "describes no stream with events or frames")
    info = _info(path, sized[0], streams[sized[0]], options, tuple(notes))
    return info, gather(_records(path, header, chosen, stats))


def _info(path: Path, number: int, stream: Stream, options: Options, notes: tuple[str, ...]) -> RecordingInfo:
    if stream.width is not None and stream.height is not None:
        return RecordingInfo(NAME, stream.width, stream.height, "header", stream.source, notes)
    if options.width is not None and options.height is not None:
        return RecordingInfo(NAME, options.width, options.height, "given", stream.source, notes)
    raise data_error(path, f"does not state the size of its stream {number}: give width and height")


def _records(path: Path, header: Header, chosen: int | None, stats: Stats) -> Iterator[memoryview]:
    """Yields the events of each packet as bytes, a multiple of EVENT's size."""
    for position, body in packets(path, header, chosen, stats):
        try:
            yield _events_of(body, header.codec)
        except ValueError as error:
            raise _damaged(path, position, error) from error


def _events_of(body: bytes, codec: Codec) -> memoryview:
    """The events in a packet; a ValueError that continues «it …» where there are not all."""
    data = codec.decompress(body)
    if len(data) < _SIZE.size or _SIZE.unpack_from(data)[0] + _SIZE.size != len(data):
        raise flatbuffer.FlatBufferError(f"holds {len(data):,} bytes, not as many as it states")
    if data[_SIZE.size : _USUAL_START - _SIZE.size] == _USUAL and len(data) >= _USUAL_START:
        start, count = _USUAL_START, _SIZE.unpack_from(data, _USUAL_START - _SIZE.size)[0]
        if start + count * EVENT.itemsize > len(data):
            raise flatbuffer.FlatBufferError(flatbuffer.TOO_MANY)
    else:
        start, count = flatbuffer.root(data, _SIZE.size, b"EVTS").vector(0, EVENT.itemsize)
    return memoryview(data)[start : start + count * EVENT.itemsize]


def _damaged(path: Path, position: int, error: Exception) -> DataError:
    return data_error(path, f"has a damaged AEDAT4 packet: it {error}", position)

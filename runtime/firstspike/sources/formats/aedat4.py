"""AEDAT4 (iniVation DV): an XML description, then packets of FlatBuffers, compressed with LZ4 or Zstandard.

Decoded by `aedat`, which hands on events outside the geometry and late timestamps as they are; faery 0.7 ends at the
first and hides the second. Packets are walked along with it in this module, which gives byte positions and
tells a cut file from a damaged one. Source: docs.inivation.com, «AEDAT 4.0».
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO
from xml.sax.saxutils import unescape

import numpy as np

from firstspike.errors import DataError
from firstspike.sources.formats._stream import BLOCK_BYTES, Options, Stats, data_error, pack, split
from firstspike.types import Events, RecordingInfo

NAME = "aedat4"
_MAGIC = b"#!AER-DAT4.0\r\n"
_PACKET = struct.Struct("<iI")


def sniff(head: bytes, path: Path) -> float:  # noqa: ARG001 the version line tells
    """1 where the version line says 4.0."""
    return 1.0 if head.startswith(_MAGIC) else 0.0


def open(path: Path, options: Options, stats: Stats) -> tuple[RecordingInfo, Iterator[Events]]:  # noqa: A001, ARG001 the interface
    """Opens an AEDAT4 recording: the event stream with the lowest number; the others are noted as ignored.

    A file without an event stream has no events and a note that says so.
    """
    with path.open("rb") as file:
        head = file.read(BLOCK_BYTES)
    if len(head) < len(_MAGIC) + 4:
        raise data_error(path, "ends within its header", len(head))
    start = len(_MAGIC) + 4 + int(struct.unpack_from("<I", head, len(_MAGIC))[0])
    if start > path.stat().st_size:
        raise data_error(path, "ends within its header, or the header's length is damaged", len(_MAGIC))
    decoder = _decoder(path)
    streams = decoder.id_to_stream()
    ids = sorted(i for i, stream in streams.items() if stream["type"] == "events")
    chosen = ids[0] if ids else None
    notes = [f"stream {i} ({streams[i]['type']}) is ignored" for i in sorted(streams) if i != chosen]
    if chosen is None:
        notes.insert(0, "there is no event stream in this file")
    sized = [chosen] if chosen is not None else [i for i in sorted(streams) if "width" in streams[i]]
    if not sized:
        raise data_error(path, "describes no stream with events or frames")
    source = re.search(rb'<attr key="source" type="string">([^<]{1,200})<', head)
    info = RecordingInfo(
        NAME,
        int(streams[sized[0]]["width"]),
        int(streams[sized[0]]["height"]),
        "header",
        unescape(source[1].decode("utf-8", "replace")).strip() if source else None,
        tuple(notes),
    )
    return info, _events(path, decoder, chosen, start, stats)


def _decoder(path: Path) -> Any:
    import aedat  # here, since only this format needs it

    try:
        return aedat.Decoder(os.fspath(path))
    except (RuntimeError, ValueError, OSError) as error:
        raise data_error(path, f"has a damaged AEDAT4 header: {error}") from error


def _events(path: Path, decoder: Any, chosen: int | None, start: int, stats: Stats) -> Iterator[Events]:
    with path.open("rb") as file:
        walk = _Walk(file, start, stats)
        while True:
            position = walk.position
            try:
                packet = next(decoder)
            except StopIteration:
                break
            except (RuntimeError, ValueError, OSError) as error:
                if walk.cut_here():
                    return
                raise _damaged(path, position, error) from error
            walk.advance()
            if "events" in packet and packet.get("stream_id") == chosen:
                found = packet["events"]
                yield from split(pack(found["t"].view(np.int64), found["x"], found["y"], found["on"]))
                continue
            stats.ignore(f"packets of other streams ({_kind(packet)})", 1)
            stats.tick()
        walk.cut_here()


def _damaged(path: Path, position: int, error: Exception) -> DataError:
    return data_error(path, f"has a damaged AEDAT4 packet: {error}", position)


def _kind(packet: dict[str, Any]) -> str:
    return next((key for key in packet if key != "stream_id"), "unknown")


class _Walk:
    """Follows the container packet by packet beside the decoder."""

    def __init__(self, file: BinaryIO, start: int, stats: Stats) -> None:
        self.file = file
        self.stats = stats
        self.position = start
        self.size = file.seek(0, os.SEEK_END)
        stats.bytes_read += start

    def _next(self) -> int | None:
        """Where the packet at `position` ends; None where not even its header is whole."""
        header = os.pread(self.file.fileno(), _PACKET.size, self.position)
        if len(header) < _PACKET.size:
            return None
        return self.position + _PACKET.size + int(_PACKET.unpack(header)[1])

    def advance(self) -> None:
        """Goes past one packet, which the decoder has just returned."""
        end = self._next()
        if end is not None and end <= self.size:
            self.stats.bytes_read += end - self.position
            self.position = end

    def cut_here(self) -> bool:
        """Whether the file ends within the packet at `position`: then counts what is left of it."""
        end = self._next()
        cut = self.position < self.size and (end is None or end > self.size)
        if cut and not self._is_table():
            self.stats.truncated_bytes += self.size - self.position
        return cut

    def _is_table(self) -> bool:
        """Whether what follows the packets is the table of packets, which is no packet itself."""
        magic = os.pread(self.file.fileno(), 64, self.position)
        return magic.startswith((b"\x04\x22\x4d\x18", b"\x28\xb5\x2f\xfd")) or magic[8:12] == b"FTAB"

"""Writes events as AEDAT4, whole or not at all.

The container is faery's encoder's (LZ4, packets of at most 4,096 events). That encoder ignores errors while it closes
the file, so the result is checked before it takes its name: the table of packets, which is written last, must
be there and count every event.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np

from firstspike.errors import DataError, FirstspikeError, OutputError
from firstspike.files import sync_folder
from firstspike.types import Events

TRACK = 0
_MAGIC_BYTES = len(b"#!AER-DAT4.0\r\n")
_CHUNK = 65_536
MAX_SIDE = 32_767


def write_aedat4(
    path: str | os.PathLike[str], batches: Iterable[Events], width: int, height: int, *, source: str
) -> int:
    """Writes a recording with one event stream.

    The file appears under its name only when it is complete and on the disk; on any failure nothing is left.

    Args:
        path: The file to write; one that exists is replaced.
        batches: Arrays of dtype EVENT, times not falling, all inside width × height.
        width: Pixels, 1 to 32,767.
        height: Pixels, 1 to 32,767.
        source: The camera's name; for simulated events, what made them.

    Returns:
        The number of events written.

    Raises:
        DataError: An event lies outside, or its time is negative or before the one of the event before it.
        OutputError: The file cannot be written: no space, no permission, no such folder.
    """
    target = Path(path).resolve()
    if target.exists() and not target.is_file():
        raise OutputError(f"{target} cannot be written: it exists and is no regular file")
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
        raise DataError(f"{target} cannot be written: AEDAT4 has no sensor of {width}×{height} pixels")
    temporary = None
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
        temporary = Path(name)
        os.close(handle)
        count = _encode(temporary, target, batches, (width, height), source)
        check(temporary, target, count)
        make_durable(temporary, target)
        temporary = None
    except OSError as error:
        raise OutputError(f"{target} cannot be written: {error.strerror or error}") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
    return count


def _encode(temporary: Path, target: Path, batches: Iterable[Events], size: tuple[int, int], source: str) -> int:
    last = count = 0
    with output_errors(target), encoder(temporary, size, source) as out:
        for batch in batches:
            for start in range(0, len(batch), _CHUNK):
                events = batch[start : start + _CHUNK]
                last = _validated(events, last, size, target)
                out.write(TRACK, converted(events))
                count += len(events)
    return count


def _faery() -> Any:
    """Imported late: it takes 0.3 s, and few who import this module write a file."""
    import faery

    return faery


def encoder(temporary: Path, size: tuple[int, int], source: str) -> Any:
    """Faery's, with one stream of events; a context whose end completes the file."""
    return _faery().aedat.Encoder(temporary, _description(*size, source), ("lz4", 1))


@contextmanager
def output_errors(target: Path) -> Iterator[None]:
    """Faery tells every failure to write as a RuntimeError; what it would refuse was refused before."""
    try:
        yield
    except (FirstspikeError, OSError):
        raise
    except RuntimeError as error:
        raise OutputError(f"{target} cannot be written: {error}") from error


def _validated(events: Events, last: int, size: tuple[int, int], target: Path) -> int:
    """Returns the last time; DataError for what AEDAT4 must not hold."""
    if not len(events):
        return last
    if (events["x"] >= size[0]).any() or (events["y"] >= size[1]).any():
        raise DataError(f"{target} cannot be written: an event lies outside {size[0]}×{size[1]}")
    t = events["t"]
    if int(t[0]) < last or (np.diff(t) < 0).any():
        raise DataError(f"{target} cannot be written: an event is earlier than the one before it, or than 0")
    return int(t[-1])


def converted(events: Events) -> Any:
    """The events as faery takes them."""
    packed = np.empty(len(events), _faery().EVENTS_DTYPE)
    packed["t"] = events["t"]
    packed["x"] = events["x"]
    packed["y"] = events["y"]
    packed["on"] = events["p"] != 0
    return packed


def _description(width: int, height: int, source: str) -> list[Any]:
    """The XML tree that DV writes: one stream of events with its size and its camera."""
    node, attribute = _faery().aedat.DescriptionNode, _faery().aedat.DescriptionAttribute
    path = "/mainloop/Recorder/outInfo/"
    stream = {
        "compression": "LZ4",
        "originalModuleName": "firstspike",
        "originalOutputName": "events",
        "typeDescription": "Array of events (polarity ON/OFF).",
        "typeIdentifier": "EVTS",
    }
    info = {"sizeX": attribute("int", width), "sizeY": attribute("int", height)}
    info["source"] = attribute("string", escape(source))
    leaf = node("info", f"{path}{TRACK}/info/", info, [])
    texts = {key: attribute("string", value) for key, value in stream.items()}
    return [node("outInfo", path, {}, [node(str(TRACK), f"{path}{TRACK}/", texts, [leaf])])]


def check(temporary: Path, target: Path, count: int) -> None:
    """OutputError unless the file's own table of packets is whole, to its last byte, and counts every event."""
    with output_errors(target), _faery().aedat.Decoder(temporary) as decoder:
        packets = decoder.file_data_definitions()
    found = sum(packet.elements_count for packet in packets)
    with temporary.open("rb") as file:
        file.seek(_MAGIC_BYTES)
        header = _MAGIC_BYTES + 4 + int.from_bytes(file.read(4), "little")
        file.seek(max((packet.byte_offset + packet.size for packet in packets), default=header))
        whole = _is_lz4_frame(file.read())
    if found != count or not whole:
        raise OutputError(f"{target} cannot be written: not all of its {count:,} events reached the disk")


def _is_lz4_frame(data: bytes) -> bool:
    """Whether the bytes are one LZ4 frame, from its magic number to its end mark and checksum.

    Source: «LZ4 Frame Format Description» 1.6, which the table of packets is compressed with.
    """
    if len(data) < 7 or data[:4] != b"\x04\x22\x4d\x18":
        return False
    flags = data[4]
    block_sum, size, content_sum, dictionary = flags >> 4 & 1, flags >> 3 & 1, flags >> 2 & 1, flags & 1
    position = 7 + 8 * size + 4 * dictionary
    while position + 4 <= len(data):
        block = int.from_bytes(data[position : position + 4], "little") & 0x7FFFFFFF
        position += 4
        if block == 0:
            return position + 4 * content_sum == len(data)
        position += block + 4 * block_sum
    return False


def make_durable(temporary: Path, target: Path) -> None:
    """Brings the data to the disk, then gives the file its name and rights."""
    settle(temporary)
    temporary.replace(target)
    sync_folder(target.parent)


def settle(path: Path) -> None:
    """Brings a file's data to the disk, and gives it the rights that a new file has here."""
    with path.open("rb+") as file:
        os.fchmod(file.fileno(), 0o666 & ~_umask())
        os.fsync(file.fileno())


def _umask() -> int:
    """This process's. `os.umask` tells it only by setting it, and other threads create files meanwhile."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("Umask:"):
            return int(line.split()[1], 8)
    return 0o077

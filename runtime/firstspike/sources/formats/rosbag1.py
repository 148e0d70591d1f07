"""ROS 1 bags (`.bag`, format 2.0) with topics of `event_camera_msgs/EventPacket`.

Read by own code: `rosbags` 0.11 keeps an index of every message in memory and needs it whole, so it neither streams a
long bag nor opens one that was cut or never closed. The records of a chunk are taken in the file's order, which is
that of recording; the index serves only to count the topics' messages.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from firstspike.errors import DataError
from firstspike.sources.formats import _ros
from firstspike.sources.formats import _rosbag1_records as records
from firstspike.sources.formats._event_packet import Packet, parse_ros1
from firstspike.sources.formats._rosbag1_records import CutError, DamagedError, Inflated, Record, Slice, Source
from firstspike.sources.formats._stream import Options, Stats, data_error
from firstspike.types import Events, RecordingInfo

NAME = "rosbag1"
_MAGIC = b"#ROSBAG V2.0\n"
_MAX_CONNECTION = 4 << 20
"""Bytes: a connection has the text of its message's definition."""
_PAIR = struct.Struct("<II")


def sniff(head: bytes, path: Path) -> float:  # noqa: ARG001 the version line tells
    """1 where the version line says 2.0."""
    return 1.0 if head.startswith(_MAGIC) else 0.0


def open(path: Path, options: Options, stats: Stats) -> tuple[RecordingInfo, Iterator[Events]]:  # noqa: A001 the interface
    """Opens a bag; DataError where no topic has events or its first records are damaged."""
    return _ros.open_bag(NAME, path, _Bag(path, stats), options, stats)


class _Bag:
    def __init__(self, path: Path, stats: Stats) -> None:
        self._path = path
        self._stats = stats
        self._connections: dict[int, tuple[str, str]] = {}
        """Number to topic and type; known from the index, and from the chunks as they are read."""

    def parse(self, data: bytes) -> Packet:
        return parse_ros1(data)

    def topics(self) -> list[_ros.Topic]:
        counts = self._survey_index()
        if counts is None:
            self._stats.notes.append("the bag has no whole index (it was not closed, or was cut): it is read twice")
            counts = self._survey_chunks()
        topics: dict[str, _ros.Topic] = {}
        for number, (name, kind) in self._connections.items():  # a topic has a connection a publisher
            before = topics.get(name)
            topics[name] = _ros.Topic(name, kind, counts.get(number, 0) + (before.count if before else 0))
        return list(topics.values())

    def messages(self, topic: _ros.Topic) -> Iterator[bytes]:
        for _, data in self._walk(topic.name):
            if data is not None:
                yield data

    def _survey_index(self) -> dict[int, int] | None:
        """Messages by connection from the index at the bag's end; None where it is not whole."""
        counts: dict[int, int] = {}
        with self._path.open("rb") as file:
            size = file.seek(0, 2)
            try:
                head = records.read_record(Slice(file, len(_MAGIC), size, self._stats))
                if head is None or head.op != records.BAG_HEADER:
                    raise data_error(self._path, "does not begin with a bag header", len(_MAGIC))
                if head.fields.get("encryptor"):
                    raise data_error(self._path, "is encrypted, which is not supported: decrypt it with rosbag")
                left = {
                    records.CONNECTION: head.number("conn_count"),
                    records.CHUNK_INFO: head.number("chunk_count"),
                }
                index = Slice(file, head.number("index_pos"), size, self._stats)
                if not len(_MAGIC) < index.start <= size:
                    return None
                while (record := records.read_record(index)) is not None:
                    if record.op == records.CONNECTION:
                        self._connect(record, index)
                    elif record.op == records.CHUNK_INFO:
                        for entry in _chunk_counts(record, index):
                            counts[entry[0]] = counts.get(entry[0], 0) + entry[1]
                    else:
                        return None
                    left[record.op] -= 1
            except (CutError, DamagedError):
                return None
        return counts if not any(left.values()) else None

    def _survey_chunks(self) -> dict[int, int]:
        """Messages by connection from the messages themselves, as far as they can be read."""
        counts: dict[int, int] = {}
        try:
            for connection, _ in self._walk(None):
                counts[connection] = counts.get(connection, 0) + 1
        except DataError:
            if not self._connections:
                raise  # else what comes before the fault is handed out, and the fault raised when it is reached
        return counts

    def _walk(self, topic: str | None) -> Iterator[tuple[int, bytes | None]]:
        """Yields the connection of every message, and its data where it is of the topic."""
        with self._path.open("rb") as file:
            whole = Slice(file, len(_MAGIC), file.seek(0, 2), self._stats)
            try:
                yield from self._records(whole, topic, file)
            except CutError as error:
                self._stats.truncated_bytes = error.partial
            except DamagedError as error:
                raise data_error(self._path, str(error), whole.position) from error

    def _records(self, source: Source, topic: str | None, file: BinaryIO | None) -> Iterator[tuple[int, bytes | None]]:
        """Yields what `_walk` does; `file` is given for the bag's own records, among which there are chunks."""
        while True:
            start = source.consumed
            record = records.read_record(source)
            if record is None:
                return
            if record.op == records.CHUNK and file is not None and isinstance(source, Slice):
                yield from self._chunk(record, source, topic, file)
            elif record.op == records.CONNECTION:
                self._connect(record, source)
            else:
                connection = record.number("conn") if record.op == records.MESSAGE else None
                data = None
                if connection is not None and topic is not None and self._topic_of(connection) == topic:
                    if record.size > _ros.MAX_MESSAGE:
                        raise DamagedError(f"has a message that claims {record.size:,} bytes")
                    data = source.read(record.size)
                    there = len(data)
                else:
                    there = source.skip(record.size)
                if there < record.size:
                    raise CutError(source.consumed - start)
                if connection is not None:
                    yield connection, data

    def _chunk(
        self, record: Record, whole: Slice, topic: str | None, file: BinaryIO
    ) -> Iterator[tuple[int, bytes | None]]:
        start, end = whole.position, whole.position + record.size
        part = Slice(file, start, min(end, whole.end), self._stats)
        compression = record.text("compression")
        inflated = None if compression == "none" else Inflated(part, compression, record.number("size"))
        try:
            yield from self._records(inflated or part, topic, None)
        except CutError as error:
            if end <= whole.end:
                raise DamagedError("has a chunk that ends within a record") from error
            raise
        if end > whole.end:
            raise CutError(0)  # exactly between two records
        if inflated is not None and inflated.left:
            raise DamagedError("has a chunk that decompresses to less than it says")
        whole.skip(record.size)

    def _topic_of(self, connection: int) -> str | None:
        return self._connections.get(connection, (None,))[0]

    def _connect(self, record: Record, source: Source) -> None:
        """Notes a connection: its topic is in the record's header, its type in the data."""
        kind = records.parse_fields(_small(record, source)).get("type", b"").decode("utf-8", "replace")
        self._connections[record.number("conn")] = (record.text("topic"), kind)


def _chunk_counts(record: Record, source: Source) -> Iterator[tuple[int, int]]:
    """Pairs of connection and messages out of a chunk's entry in the index."""
    data = _small(record, source)
    if len(data) % _PAIR.size:
        raise DamagedError("has an index of a chunk that is no list of pairs")
    return _PAIR.iter_unpack(data)


def _small(record: Record, source: Source) -> bytes:
    if record.size > _MAX_CONNECTION:
        raise DamagedError(f"has a record (kind {record.op}) that claims {record.size:,} bytes")
    data = source.read(record.size)
    if len(data) < record.size:
        raise CutError(len(data))
    return data

"""ROS 2 bags in SQLite (`.db3`, or their folder) with topics of `event_camera_msgs/EventPacket`.

Source: github.com/ros2/rosbag2, `rosbag2_storage_sqlite3`: tables `topics` (id, name, type, serialization_format) and
`messages` (id, topic_id, timestamp, data). Read with the standard library. The file is not trusted: a damaged tree may
lead to the same rows again and again, so no more is taken than a file of its size can hold.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from firstspike.sources.formats import _ros
from firstspike.sources.formats._event_packet import TYPES, Packet, parse_cdr
from firstspike.sources.formats._rosbag2_files import bag_files
from firstspike.sources.formats._stream import Options, Stats, data_error
from firstspike.types import Events, RecordingInfo

NAME = "rosbag2"
_MAGIC = b"SQLite format 3\0"
_STEPS = 100_000
"""Steps of SQLite's machine between two signs of life: some ms."""
_ROW_BYTES = 8
"""A row of `messages` takes at least as many bytes of the file."""
_MAX_TOPICS = 10_000
_MAX_CHOICE = 100
"""Topics of events that are counted, to find the largest."""


def sniff(head: bytes, path: Path) -> float:  # noqa: ARG001 the magic number tells
    """1 for any SQLite file, so that another one is refused with its reason."""
    return 1.0 if head.startswith(_MAGIC) else 0.0


def open(path: Path, options: Options, stats: Stats) -> tuple[RecordingInfo, Iterator[Events]]:  # noqa: A001 the interface
    """Opens a bag, given as its folder or as one of its files; DataError where it has no topic of events."""
    return _ros.open_bag(NAME, path, _Bag(path, stats), options, stats)


class _Bag:
    def __init__(self, path: Path, stats: Stats) -> None:
        self._files = bag_files(path)
        self._stats = stats

    def parse(self, data: bytes) -> Packet:
        return parse_cdr(data)

    def topics(self) -> list[_ros.Topic]:
        found: dict[str, _ros.Topic] = {}
        for file in self._files:
            with self._connect(file) as database:
                rows = _topics(file, database)
                events = [number for number, _, kind in rows if _short(kind) in TYPES][:_MAX_CHOICE]
                # Counting goes through the whole file: only where there is a choice.
                counts = _counts(file, database, events) if len(events) > 1 else {}
            for number, name, kind in rows:
                before = found.get(name)
                count = counts.get(number, 0) + (before.count if before else 0)
                found[name] = _ros.Topic(name, _short(kind), count)
        return list(found.values())

    def messages(self, topic: _ros.Topic) -> Iterator[bytes]:
        for file in self._files:
            with self._connect(file) as database:
                wanted = [number for number, name, _ in _topics(file, database) if name == topic.name]
                for number in wanted:
                    yield from self._rows(file, database, number)

    def _rows(self, file: Path, database: sqlite3.Connection, wanted: int) -> Iterator[bytes]:
        """The messages of a topic, in the order of their rows, which is that of recording."""
        left = file.stat().st_size
        # CASE leaves the data of other topics unread; their length stands in the row's header.
        query = (
            "SELECT topic_id, length(data), CASE WHEN topic_id = ? THEN data END, rowid FROM messages ORDER BY rowid"
        )
        for number, length, data, row in database.execute(query, (wanted,)):
            left -= _ROW_BYTES + (length if isinstance(length, int) else 0)
            if left < 0:
                raise data_error(file, f"holds more messages than fit into it: its tree is damaged (row {row})")
            if number != wanted:
                continue
            if not isinstance(data, bytes):
                raise data_error(file, f"has a message without data (row {row})")
            self._stats.bytes_read += len(data)
            yield data

    @contextmanager
    def _connect(self, file: Path) -> Iterator[sqlite3.Connection]:
        """Opens the file so that nothing is written and nobody who records into it is held up.

        Raises:
            DataError: For every fault that SQLite finds while it is open.
        """
        with file.open("rb") as opened:
            if opened.read(len(_MAGIC)) != _MAGIC:
                raise data_error(file, "is no SQLite file, as a ROS 2 bag's .db3 is")
        # Without `immutable`, SQLite locks the file; with it, it passes over a log beside it that has the last rows.
        mode = "mode=ro" if _has_log(file) else "mode=ro&immutable=1"
        database = None
        try:
            database = sqlite3.connect(f"{file.absolute().as_uri()}?{mode}", uri=True)
            database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _ros.MAX_MESSAGE)
            database.set_progress_handler(self._tick, _STEPS)
            database.execute("PRAGMA trusted_schema = OFF")
            database.execute("PRAGMA cell_size_check = ON")
            # Or else nothing is read of a file that is shorter than its header says; nothing is written either way.
            database.execute("PRAGMA writable_schema = ON")
            yield database
        except (sqlite3.Error, UnicodeError) as error:  # the latter for a column's damaged name
            raise data_error(file, f"is damaged, cut or no ROS 2 bag: {error}") from error
        finally:
            if database is not None:
                database.close()

    def _tick(self) -> int:
        self._stats.tick()
        return 0


def _has_log(file: Path) -> bool:
    """Whether a write-ahead log or a rollback journal lies beside the file."""
    logs = (file.with_name(file.name + ending) for ending in ("-wal", "-journal"))
    return any(log.exists() and log.stat().st_size for log in logs)


def _short(kind: str) -> str:
    """`package/msg/Type` as ROS 1 writes it, `package/Type`."""
    return kind.replace("/msg/", "/", 1)


def _topics(file: Path, database: sqlite3.Connection) -> list[tuple[int, str, str]]:
    """Identifier, name and type of every topic; DataError where the tables are not those of a bag.

    A view may hide an endless query and a virtual table foreign code: only plain tables are read.
    """
    query = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND rootpage > 0 AND name IN (?, ?)"
    if database.execute(query, ("topics", "messages")).fetchone() != (2,):
        raise data_error(file, "is an SQLite file, but no ROS 2 bag: it has no tables 'topics' and 'messages'")
    found = database.execute("SELECT id, name, type FROM topics ORDER BY rowid LIMIT ?", (_MAX_TOPICS,)).fetchall()
    if not all(isinstance(row[0], int) and isinstance(row[1], str) and isinstance(row[2], str) for row in found):
        raise data_error(file, "has a table of topics whose columns are not of the expected types")
    return found


def _counts(file: Path, database: sqlite3.Connection, topics: list[int]) -> dict[int, int]:
    """Messages of each of the topics, in one pass."""
    most = file.stat().st_size // _ROW_BYTES
    sums = ", ".join("sum(topic_id = ?)" for _ in topics)
    query = f"SELECT {sums} FROM (SELECT topic_id FROM messages LIMIT ?)"  # noqa: S608 question marks, no values
    found = database.execute(query, (*topics, most)).fetchone()
    return {number: count or 0 for number, count in zip(topics, found, strict=True)}

"""ROS 2 bags that are cut, damaged, hostile or of a kind that is not supported: events first, then one clear error."""

from __future__ import annotations

import sqlite3
import struct

import pytest
from tests.support import ros as make
from tests.support.decoding import decode, decode_until_fault
from tests.support.ros import CDR, ROWS

from firstspike.errors import DataError, NoInputError
from firstspike.sources.formats import open_recording
from firstspike.sources.formats._stream import Options, Stats


@pytest.fixture
def path(tmp_path):
    return tmp_path / "recording"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\x00\x07\x00\x00" + CDR[0][1][4:], "encapsulation is 00070000"),
        (b"", "encapsulation is missing"),
        (b"\x28\xb5\x2f\xfd" + bytes(60), "compressed with Zstandard"),
        (CDR[1][1] + bytes(4), "4 bytes are left over"),
        (CDR[1][1][:40], "the end is missing"),
        (CDR[1][1][:12] + b"\xff" * 4 + CDR[1][1][16:], "frame_id of 4,294,967,295 bytes"),
        (make.cdr(bytes(7), "libcaer"), "no multiple of 8"),
        ("text", "message without data"),
        (77, "message without data"),
    ],
)
def test_damaged_messages_of_a_ros_2_bag(path, data, text):
    make.db3(path, [CDR[0], (make.TOPIC, data), CDR[1]])
    found, fault, _ = decode_until_fault(path)
    assert found == ROWS[:10]
    with pytest.raises(DataError, match=text):
        decode(path)
    assert fault.startswith(str(path))


def tables(path, *statements):
    database = sqlite3.connect(path)
    with database:
        for statement in statements:
            database.execute(statement)
    database.close()


INSERT = "INSERT INTO topics VALUES (1, '/a', 'event_camera_msgs/msg/EventPacket')"
ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT"
TOPICS = "CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT, type TEXT)"


@pytest.mark.parametrize(
    ("statements", "text"),
    [
        (["CREATE TABLE notes(id)"], "no ROS 2 bag: it has no tables 'topics' and 'messages'"),
        ([TOPICS, f"CREATE VIEW messages AS {ENDLESS} i AS id, 1 AS topic_id, x'' AS data FROM n"], "no tables"),
        ([f"CREATE VIEW topics AS {ENDLESS} i AS id, 'a' AS name, 'b' AS type FROM n"], "no tables"),
        ([TOPICS, "CREATE TABLE messages(id)"], "none at all"),
        ([TOPICS, "CREATE TABLE messages(id)", "INSERT INTO topics VALUES (1, '/a', x'00')"], "columns are not of"),
        (["CREATE TABLE topics(a)", "CREATE TABLE messages(id)"], "no such column"),
        ([TOPICS, "CREATE TABLE messages(id)", INSERT], "no such column"),
        (
            [TOPICS, "CREATE TABLE messages(topic_id, data)", INSERT],
            "no message on the topic /a, so no geometry",
        ),
    ],
)  # fmt: skip
def test_sqlite_files_that_are_no_bags(path, statements, text):
    tables(path, *statements)
    with pytest.raises(DataError, match=text):
        decode(path)


def test_a_column_whose_name_is_no_text_is_damage(path):
    make.db3(path, CDR)
    data = path.read_bytes()
    path.write_bytes(data.replace(b"messages(id INT", b"messages(i\x80 INT"))
    assert path.read_bytes() != data
    with pytest.raises(DataError, match="damaged, cut or no ROS 2 bag"):
        decode(path)


def test_an_empty_topic_is_read_where_the_user_gives_the_geometry(path):
    tables(path, TOPICS, "CREATE TABLE messages(topic_id, data)", INSERT)
    info, found, _ = decode(path, width=64, height=48)
    assert (info.width, info.geometry_from, len(found)) == (64, "given", 0)
    assert info.notes == ("there is no message on the topic /a",)


def test_a_tree_that_leads_back_to_itself_is_given_up(path):
    make.db3(path, [CDR[i % 6] for i in range(60)], page=512)
    database = sqlite3.connect(path)
    (root,) = database.execute("SELECT rootpage FROM sqlite_master WHERE name = 'messages'").fetchone()
    database.close()
    data = bytearray(path.read_bytes())
    at = (root - 1) * 512
    assert data[at] == 5  # an inner page; its last child becomes itself
    data[at + 8 : at + 12] = struct.pack(">I", root)
    path.write_bytes(data)
    found, fault, _ = decode_until_fault(path)
    assert "holds more messages than fit into it" in fault
    assert found[:60] == ROWS


def test_a_cut_ros_2_bag_says_so_after_the_events_before_the_cut(path):
    make.db3(path, [CDR[i % 6] for i in range(600)])
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    found, fault, _ = decode_until_fault(path)
    assert found[:60] == ROWS
    assert "damaged, cut or no ROS 2 bag" in fault


def test_rows_that_are_still_in_the_write_ahead_log_are_decode_until_fault(path):
    make.db3(path, CDR[:3])
    database = sqlite3.connect(path)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA wal_autocheckpoint = 0")
    with database:
        database.executemany("INSERT INTO messages VALUES (?, 1, 0, ?)", [(9 + i, CDR[3 + i][1]) for i in range(3)])
    assert decode_until_fault(path)[:2] == (ROWS, None)
    database.close()


def test_reading_holds_up_nobody_who_records(path):
    make.db3(path, CDR)
    _, batches = open_recording(path, Options(), Stats())
    next(batches)
    database = sqlite3.connect(path, timeout=0)
    with database:
        database.execute("INSERT INTO messages VALUES (99, 1, 0, x'')")
    database.close()
    batches.close()


def test_folders_that_cannot_be_read_say_why(tmp_path):
    with pytest.raises(NoInputError, match="is a folder and no ROS 2 bag"):
        decode(tmp_path)
    (tmp_path / "loop.db3").symlink_to(tmp_path)
    with pytest.raises(NoInputError, match="is a folder and no ROS 2 bag"):
        decode(tmp_path)
    make.metadata(tmp_path, "a_0.db3", "a_1.db3")
    make.db3(tmp_path / "a_0.db3", CDR)
    with pytest.raises(DataError, match=r"lacks the file a_1\.db3"):
        decode(tmp_path)
    make.metadata(tmp_path, "a_0.db3", mode="FILE")
    with pytest.raises(DataError, match="compressed by file"):
        decode(tmp_path)
    (tmp_path / "a_1.db3").write_bytes(b"no database")
    make.metadata(tmp_path, "a_0.db3", "a_1.db3")
    with pytest.raises(DataError, match=r"a_1\.db3 is no SQLite file"):
        decode(tmp_path)
    (tmp_path / "a.mcap").write_bytes(b"\x89MCAP0\r\n" + bytes(90))
    make.metadata(tmp_path, "a.mcap")
    with pytest.raises(DataError, match=r"a ROS 2 bag in MCAP.*rosbags-convert"):
        decode(tmp_path)
    with pytest.raises(NoInputError, match="name a file of the format csv"):
        decode(tmp_path, format="csv")


def test_old_bags_and_compressed_files_are_refused(path):
    for head, text in ((b"#ROSBAG V1.2\n", "version 1"), (b"\x28\xb5\x2f\xfd", "Zstandard")):
        with pytest.raises(DataError, match=text):
            decode(path, head + bytes(90))

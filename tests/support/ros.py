"""Writes ROS bags with `event_camera_msgs` from the specifications, independently of the readers that they test.

Containers: wiki.ros.org «Bags/Format/2.0» and rosbag2's SQLite tables. Messages: `EventPacket.msg` in ROS 1's and CDR's
serialisation. Encodings: event_camera_msgs' README (mono, trigger), libcaer's `polarity.h`, and libcaer_driver's way of
writing libcaer_cmp.
"""

from __future__ import annotations

import bz2
import sqlite3
import struct

import lz4.frame
import numpy as np
from tests.support import recordings

TYPE = "event_camera_msgs/EventPacket"
TOPIC = "/event_camera/events"
MAGIC = b"#ROSBAG V2.0\n"


def mono(rows, base_ns=0, order="<"):
    """y and polarity in the upper 16 bits, then x, then 32 bits of ns since the time base."""
    return b"".join(struct.pack(order + "Q", p << 63 | y << 48 | x << 32 | t * 1000 - base_ns) for t, x, y, p in rows)


def caer(rows, base_us=0, invalid=()):
    """libcaer's polarity events: 15 bits each of x and y, polarity and whether the event is valid; 31 bits of µs."""
    words = ((x << 17 | y << 2 | p << 1 | (i not in invalid), t - base_us) for i, (t, x, y, p) in enumerate(rows))
    return b"".join(struct.pack("<Ii", word, t & 0x7FFFFFFF) for word, t in words)


def caer_cmp(rows, base_us=0):
    """Words of what has changed: TIME_HIGH 0, TIME_LOW 1, ADDR_X 2, ADDR_Y 3, VECT_BASE_Y 4, VECT_8 5."""
    words, high, low, column, i = [], 0, 0, None, 0
    while i < len(rows):
        t, x, y, p = rows[i]
        t -= base_us
        if t >> 12 != high:
            high = t >> 12
            words.append(high)
        if t & 0xFFF != low:
            low = t & 0xFFF
            words.append(0x1000 | low)
        if x != column:
            column = x
            words.append(0x2000 | x)
        mask, last = 0, -1
        while i < len(rows) and rows[i] == (t + base_us, x, rows[i][2], p) and last < rows[i][2] - (y & ~7) < 8:
            last = rows[i][2] - (y & ~7)
            mask |= 1 << last
            i += 1
        words += [0x3000 | p << 11 | y] if mask == 1 << (y & 7) else [0x4000 | p << 11 | y & ~7, 0x5000 | mask]
    return np.array(words, "<u2").tobytes()


def evt3(rows):
    """EVT 3.0's words, without a file's header."""
    return recordings.evt3(rows).partition(b"% end\n")[2]


def ros1(events, encoding, *, seq=0, base=0, width=640, height=480, frame="camera", big=False):
    """A message in ROS 1's serialisation."""
    name, coding = frame.encode(), encoding.encode()
    return (
        struct.pack("<IIII", 7, 1, 2, len(name)) + name + struct.pack("<IIQQI", height, width, seq, base, len(coding))
        + coding + struct.pack("<?I", big, len(events)) + events
    )  # fmt: skip


def cdr(events, encoding, *, seq=0, base=0, width=640, height=480, frame="camera", big=False, order="<"):
    """A message in CDR: values aligned to their size, strings with a final zero."""
    out = bytearray()

    def put(code, value):
        out.extend(bytes(-len(out) % struct.calcsize(code)) + struct.pack(order + code, value))

    def text(value):
        put("I", len(value) + 1)
        out.extend(value.encode() + b"\0")

    put("i", 1)
    put("I", 2)
    text(frame)
    put("I", height)
    put("I", width)
    put("Q", seq)
    put("Q", base)
    text(encoding)
    put("B", big)
    put("I", len(events))
    return (b"\x00\x01\x00\x00" if order == "<" else b"\x00\x00\x00\x00") + bytes(out) + events


def record(op, data, **fields):
    """A record of a ROS 1 bag."""
    header = b""
    for name, value in ({"op": bytes([op])} | fields).items():
        field = name.encode() + b"=" + value
        header += struct.pack("<I", len(field)) + field
    return struct.pack("<I", len(header)) + header + struct.pack("<I", len(data)) + data


def u4(value):
    return struct.pack("<I", value)


def connection(number, topic, kind):
    fields = [f"topic={topic}".encode(), f"type={kind}".encode(), b"message_definition=uint8 data\n"]
    data = b"".join(struct.pack("<I", len(field)) + field for field in fields)
    return record(7, data, conn=u4(number), topic=topic.encode())


COMPRESS = {"none": bytes, "bz2": bz2.compress, "lz4": lz4.frame.compress}


def chunk(plain, compression="none", size=None):
    fields = {"compression": compression.encode(), "size": u4(len(plain) if size is None else size)}
    return record(5, COMPRESS[compression](plain), **fields)


def bag(messages, *, types=None, compression="none", indexed=True, each=3):
    """A ROS 1 bag of (topic, message); connections are numbered in the order of the topics' first messages.

    Args:
        messages: Pairs of topic and serialised message.
        types: Type of each topic, where it is not EventPacket.
        compression: Of the chunks: none, bz2, lz4.
        indexed: Whether the bag was closed, so that it has an index.
        each: Messages a chunk.
    """
    types = types or {}
    numbers: dict[str, int] = {}
    body, infos = b"", b""
    start = len(MAGIC) + len(_head(0, 0, 0))
    for first in range(0, len(messages), each):
        plain, counts = b"", {}
        for topic, message in messages[first : first + each]:
            if topic not in numbers:
                numbers[topic] = len(numbers)
                plain += connection(numbers[topic], topic, types.get(topic, TYPE))
            counts[numbers[topic]] = counts.get(numbers[topic], 0) + 1
            plain += record(2, message, conn=u4(numbers[topic]), time=bytes(8))
        info = b"".join(u4(number) + u4(count) for number, count in counts.items())
        infos += record(6, info, ver=u4(1), chunk_pos=struct.pack("<Q", start + len(body)), count=u4(len(counts)))
        body += chunk(plain, compression)
        for number, count in counts.items():
            body += record(4, bytes(12 * count), ver=u4(1), conn=u4(number), count=u4(count))
    if not indexed:
        return MAGIC + _head(0, 0, 0) + body
    index = b"".join(connection(number, topic, types.get(topic, TYPE)) for topic, number in numbers.items())
    chunks = (len(messages) + each - 1) // each
    return MAGIC + _head(start + len(body), len(numbers), chunks) + body + index + infos


def _head(index_pos, connections, chunks):
    fields = {"index_pos": struct.pack("<Q", index_pos), "conn_count": u4(connections), "chunk_count": u4(chunks)}
    return record(3, b" " * 64, **fields)


def db3(path, messages, *, types=None, page=4096):
    """Writes a ROS 2 bag of (topic, message) in SQLite."""
    types = types or {}
    numbers: dict[str, int] = {}
    database = sqlite3.connect(path)
    with database:
        database.execute(f"PRAGMA page_size = {page}")
        database.execute("PRAGMA synchronous = OFF")  # a test's file need not outlive the machine
        database.execute(
            "CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT NOT NULL, type TEXT NOT NULL,"
            "serialization_format TEXT NOT NULL, offered_qos_profiles TEXT NOT NULL)"
        )
        database.execute(
            "CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER NOT NULL, timestamp INTEGER NOT NULL,"
            "data BLOB NOT NULL)"
        )
        for row, (topic, message) in enumerate(messages):
            if topic not in numbers:
                numbers[topic] = len(numbers) + 1
                kind = types.get(topic, TYPE).replace("/", "/msg/")
                database.execute("INSERT INTO topics VALUES (?, ?, ?, 'cdr', '')", (numbers[topic], topic, kind))
            database.execute("INSERT INTO messages VALUES (?, ?, 0, ?)", (row + 1, numbers[topic], message))
    database.close()
    return path


def metadata(folder, *names, mode=""):
    """Writes the `metadata.yaml` of a ROS 2 bag's folder."""
    listed = "".join(f"    - {name}\n" for name in names)
    (folder / "metadata.yaml").write_text(
        "rosbag2_bagfile_information:\n  version: 5\n  storage_identifier: sqlite3\n"
        f'  compression_format: ""\n  compression_mode: "{mode}"\n  relative_file_paths:\n{listed}  files:\n'
    )


ROWS = [(1000 + 40 * i, (7 * i) % 640, (3 * i) % 480, i % 2) for i in range(60)]
PARTS = [ROWS[i : i + 10] for i in range(0, 60, 10)]
ROS1 = [(TOPIC, ros1(mono(part), "mono", seq=i)) for i, part in enumerate(PARTS)]
CDR = [(TOPIC, cdr(mono(part), "mono", seq=i)) for i, part in enumerate(PARTS)]

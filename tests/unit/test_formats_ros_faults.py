"""ROS 1 bags that are cut, damaged or hostile, and mutations of both kinds: events first, then one clear error."""

from __future__ import annotations

import bz2
import struct
import time

import numpy as np
import pytest
from tests.support import ros as make
from tests.support.decoding import decode, decode_until_fault
from tests.support.ros import CDR, ROS1, ROWS

from firstspike.errors import DataError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "recording"


def is_prefix(found):
    return found == ROWS[: len(found)]


@pytest.mark.parametrize("compression", make.COMPRESS)
def test_a_bag_cut_anywhere_gives_the_messages_before_the_cut(path, compression):
    data = make.bag(ROS1, compression=compression, each=2)
    most = 0
    for end in range(13, len(data) - 1, 37):
        path.write_bytes(data[:end])
        found, fault, stats = decode_until_fault(path)
        assert is_prefix(found)
        assert len(found) % 10 == 0
        most = max(most, len(found))
        if fault is None:
            assert any("no whole index" in note for note in stats.all_notes())
        else:  # before the first whole message, neither the topics nor the geometry are known
            assert not found
            assert any(text in fault for text in ("has no topic", "has no message", "does not begin"))
    assert most == 60


def test_a_cut_is_counted_to_the_byte(path):
    data = make.bag(ROS1, each=6, indexed=False)
    end = data.index(ROS1[3][1]) + 30
    path.write_bytes(data[:end])
    found, fault, stats = decode_until_fault(path)
    assert (found, fault) == (ROWS[:30], None)
    header = len(make.record(2, b"", conn=bytes(4), time=bytes(8)))
    assert stats.truncated_bytes == header + 30


EMPTY_HEAD = make.record(3, b"", index_pos=bytes(8), conn_count=bytes(4), chunk_count=bytes(4))


def bag_with(plain, **options):
    """A bag without index whose one chunk holds these records after the connection."""
    records = make.connection(0, make.TOPIC, make.TYPE) + plain
    return make.MAGIC + EMPTY_HEAD + make.chunk(records, options.get("compression", "none"), options.get("size"))


def message(data, **fields):
    return make.record(2, data, conn=make.u4(0), time=bytes(8), **fields)


GOOD = message(ROS1[0][1])


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (make.MAGIC + bytes(90), "does not say its kind"),
        (make.MAGIC + make.record(5, b""), "does not begin with a bag header"),
        (make.MAGIC + make.record(3, b"", encryptor=b"rosbag/AesCbcEncryptor"), "is encrypted"),
        (make.MAGIC + EMPTY_HEAD, "none at all"),
        (make.bag([("/imu", bytes(9))], types={"/imu": "sensor_msgs/Imu"}), "there is sensor_msgs/Imu"),
        (bag_with(GOOD + struct.pack("<I", 1 << 30)), "header claims 1,073,741,824 bytes"),
        (bag_with(GOOD + struct.pack("<II", 5, 99) + b"x" + bytes(4)), "malformed header"),
        (bag_with(GOOD + make.record(2, b"")), "without the field 'conn'"),
        (bag_with(GOOD + bytes(8)), "does not say its kind"),
        (bag_with(GOOD + message(b"")[:-4] + struct.pack("<I", 99)), "ends within a record"),
        (bag_with(GOOD + message(b"")[:-4] + struct.pack("<I", 1 << 31)), "message that claims 2,147,483,648 bytes"),
        (bag_with(GOOD + message(ROS1[1][1][:-1])), "unusable message 2 on the topic /event_camera/events: the array"),
        (bag_with(GOOD + message(ROS1[1][1] + b"x")), "message 2 .*: 1 bytes are left over"),
        (bag_with(GOOD + message(b"ab")), "message 2 .*: the end is missing"),
        (bag_with(GOOD + message(make.ros1(make.mono(ROWS[10:11]) + b"rest", "mono"))), "12 bytes .* multiple of 8"),
        (bag_with(GOOD + message(make.ros1(bytes(3), "evt3"))), "3 bytes of events are no multiple of 2"),
        (bag_with(GOOD + message(make.ros1(b"", "evt21"))), "'evt21', which is not supported .*libcaer, libcaer_cmp"),
        (bag_with(GOOD + message(make.ros1(b"", "libcaer_cmp", big=True))), "big-endian"),
    ],
)  # fmt: skip
def test_damaged_ros_1_bags(path, data, text):
    path.write_bytes(data)
    found, fault, _ = decode_until_fault(path)
    assert is_prefix(found)
    with pytest.raises(DataError, match=text):
        decode(path)
    assert fault.startswith(str(path))
    assert bool(found) == (GOOD in data)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (bag_with(GOOD, compression="bz2", size=20), "decompresses to more than it says"),
        (bag_with(GOOD, compression="lz4", size=9999), "decompresses to less than it says"),
        (bag_with(GOOD, compression="bz2").replace(b"BZh9", b"BZh0"), "cannot be decompressed"),
        (bag_with(GOOD, compression="lz4").replace(b"\x04\x22\x4d\x18", b"\x04\x22\x4d\x19"), "cannot be decompressed"),
        (bag_with(GOOD).replace(b"compression=none", b"compression=zstd"), "unknown compression 'zstd'"),
    ],
)
def test_damaged_chunks(path, data, text):
    path.write_bytes(data)
    with pytest.raises(DataError, match=text):
        decode(path)


def test_a_chunk_that_unpacks_to_very_much_is_given_up_at_its_stated_size(path, monkeypatch):
    unpacked = make.connection(0, make.TOPIC, make.TYPE) + GOOD + make.record(9, bytes(50 << 20))
    monkeypatch.setitem(make.COMPRESS, "bz2", lambda _: bz2.compress(unpacked))
    path.write_bytes(bag_with(b"", compression="bz2", size=100_000))
    found, fault, stats = decode_until_fault(path)
    assert found == ROWS[:10]
    assert "decompresses to more than it says" in fault
    assert stats.bytes_read < 10_000


def test_a_lying_index_makes_no_difference_to_what_is_decode_until_fault(path):
    data = bytearray(make.bag(ROS1))
    at = data.index(b"index_pos=") + 10
    for position in (1, 20, 4000, len(data) - 3, 1 << 40, (1 << 64) - 1):
        data[at : at + 8] = struct.pack("<Q", position)
        path.write_bytes(data)
        assert decode_until_fault(path)[:2] == (ROWS, None)


def mutated(data, generator):
    """The data with a few bytes changed, a stretch removed, doubled or zeroed, or the end cut off."""
    data = bytearray(data)
    at = int(generator.integers(len(data)))
    length = int(generator.integers(1, 64))
    match generator.integers(5):
        case 0 | 1:
            for place in generator.integers(len(data), size=int(generator.integers(1, 6))):
                data[place] = generator.choice([0, 1, 0x7F, 0x80, 0xFF, generator.integers(256)])
        case 2:
            del data[at : at + length]
        case 3:
            data[at:at] = data[at : at + length]
        case 4:
            data[at : at + length] = bytes(len(data[at : at + length]))
    return bytes(data)


@pytest.mark.parametrize("kind", [*make.COMPRESS, "no index", "db3"])
def test_mutated_bags_give_events_or_one_clear_error_in_bounded_time(path, kind):
    if kind == "db3":
        good = make.db3(path, CDR * 3, page=512).read_bytes()
    else:
        good = make.bag(ROS1 * 3, indexed=kind != "no index", compression=kind if kind in make.COMPRESS else "none")
    generator = np.random.default_rng(17)
    outcomes = {"events": 0, "fault": 0}
    for _ in range(250):
        path.write_bytes(mutated(good, generator))
        begun = time.monotonic()
        found, fault, _ = decode_until_fault(path)  # anything but a DataError would come through
        outcomes["events" if fault is None else "fault"] += 1
        assert fault is None or str(path) in fault
        assert time.monotonic() - begun < 5
        assert len(found) <= len(good)
    assert min(outcomes.values()) > 10


@pytest.mark.parametrize("kind", ["rosbag1", "rosbag2"])
def test_any_few_bytes_as_a_bag_are_a_clear_error(path, kind):
    for size in range(1, 30):
        with pytest.raises(DataError, match=str(path)):
            decode(path, (make.MAGIC + bytes(40))[:size], format=kind)

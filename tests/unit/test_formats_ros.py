"""ROS bags: both containers and every encoding, against builders from the specifications and the real files' truths."""

from __future__ import annotations

import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support import ros as make
from tests.support.decoding import decode, rows, rows_of
from tests.support.program import DATA
from tests.support.ros import ROWS

from firstspike.sources.decoding import DecoderProcess
from firstspike.sources.formats import open_recording
from firstspike.sources.formats._event_packet import Packet, parse_cdr, parse_ros1
from firstspike.sources.formats._packet_codecs import PacketDecoder
from firstspike.sources.formats._stream import MAX_EVENTS, Options, Stats
from firstspike.sources.summary import summarise

REAL = DATA / "formats" / "ros"
real = pytest.mark.skipif(not REAL.is_dir(), reason=f"the real recordings are not here ({DATA})")
BASE_US = 1_700_000_000_000_000
CONTAINERS = ("rosbag1", "rosbag2")
ENCODINGS = ("evt3", "mono", "libcaer", "libcaer_cmp")


def payload(part, encoding, base_us):
    if encoding == "evt3":
        return make.evt3(part)
    if encoding == "mono":
        return make.mono(part, base_us * 1000)
    return (make.caer if encoding == "libcaer" else make.caer_cmp)(part, base_us)


def packets(found, encoding, message, *, base_us=0, size=7, **fields):
    """Messages of a few events each; `message` is `make.ros1` or `make.cdr`."""
    parts = [found[i : i + size] for i in range(0, len(found), size)]
    base = 0 if encoding == "evt3" else base_us * 1000
    return [
        message(payload(part, encoding, base_us), encoding, seq=5 + i, base=base, **fields)
        for i, part in enumerate(parts)
    ]


def write(path, container, messages, **options):
    """A bag of (topic, message) or of messages of the one topic."""
    pairs = [pair if isinstance(pair, tuple) else (make.TOPIC, pair) for pair in messages]
    path.unlink(missing_ok=True)
    if container == "rosbag1":
        path.write_bytes(make.bag(pairs, **options))
    else:
        make.db3(path, pairs, **options)
    return path


def message_of(container):
    return make.ros1 if container == "rosbag1" else make.cdr


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("container", CONTAINERS)
def test_events_come_back_as_they_were_written(tmp_path_factory, container, encoding):
    path = tmp_path_factory.mktemp("bag") / "recording"

    @given(rows(1280, 720, step=1 << 11, start=0), st.integers(0, 1 << 50), st.integers(1, 9))
    def check(found, base_us, size):
        base_us = 0 if encoding == "evt3" else base_us
        found = [(t + base_us, *rest) for t, *rest in found] or [(base_us, 1, 2, 1)]
        whole = packets(found, encoding, message_of(container), base_us=base_us, size=size, width=1280, height=720)
        info, events, stats = decode(write(path, container, whole))
        assert (info.format, info.width, info.height, info.geometry_from) == (container, 1280, 720, "header")
        assert info.notes == (f"topic {make.TOPIC}, encoding {encoding}",)
        assert rows_of(events) == found
        assert (stats.all_notes(), stats.truncated_bytes) == ([], 0)

    check()


@given(
    st.text("abc_/", max_size=9), st.sampled_from(["mono", "evt3", "libcaer"]), st.binary(max_size=40),
    st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1), st.booleans(), st.sampled_from("<>"),
)  # fmt: skip
def test_both_serialisations_whatever_the_alignment(frame, encoding, events, size, number, big, order):
    fields = {"frame": frame, "width": size, "height": size ^ 1, "seq": number, "base": number ^ 5, "big": big}
    expected = Packet(frame, size, size ^ 1, number, number ^ 5, encoding, big, memoryview(events))
    assert parse_ros1(make.ros1(events, encoding, **fields)) == expected
    assert parse_cdr(make.cdr(events, encoding, **fields, order=order)) == expected
    assert parse_cdr(make.cdr(events, encoding, **fields, order=order) + bytes(3)) == expected


def decode_packet(events, encoding, **fields):
    stats = Stats()
    packet = parse_ros1(make.ros1(events, encoding, **fields))
    return [row for batch in PacketDecoder(stats)(packet) for row in rows_of(batch)], stats


def test_mono_takes_nanoseconds_down_to_whole_microseconds_of_time_base_and_offset_together():
    words = struct.pack("<QQ", 1 << 63 | 9 << 48 | 500 << 32 | 999, 0xFFFFFFFF)
    found, _ = decode_packet(words, "mono", base=5_000_001_501)
    assert found == [(5_000_002, 500, 9, 1), (5_000_001 + 4_294_967, 0, 0, 0)]


def test_mono_of_a_big_endian_machine():
    assert decode_packet(make.mono(ROWS, order=">"), "mono", big=True)[0] == ROWS


def test_libcaer_times_wrap_within_a_packet_and_invalid_events_are_left_out():
    late = [((1 << 31) - 3 + i, i, i, 1) for i in range(8)]
    found, stats = decode_packet(make.caer(late, invalid={2}), "libcaer", base=7_000)
    assert found == [(t + 7, *rest) for t, *rest in late[:2] + late[3:]]
    assert stats.ignored == {"events marked invalid": 1}


def test_a_late_libcaer_event_is_no_wrap():
    late = [(1000, 1, 1, 1), (990, 2, 1, 0), (1001, 3, 1, 1)]
    assert decode_packet(make.caer(late), "libcaer")[0] == late


def compressed_definition(words):
    """libcaer_cmp, one word after another, as event_camera_codecs decodes it, and with times that wrap."""
    out, high, low, column, row, polarity, last, loops = [], 0, 0, None, 0, 0, 0, 0
    for word in words:
        kind, load = word >> 12, word & 0xFFF
        if kind == 0:
            loops += last - load > 1 << 11  # the driver keeps 24 bits of the time: a wrap, as everywhere
            high, last = loops << 12 | load, load
        elif kind == 1:
            low = load
        elif kind == 2:
            column = load & 0x7FF
        elif kind == 3 and column is not None:
            out.append((high << 12 | low, column, load & 0x7FF, load >> 11))
        elif kind == 4:
            row, polarity = load & 0x7FF, load >> 11
        elif kind == 5:
            places = [bit for bit in range(8) if load >> bit & 1 and column is not None]
            out += [(high << 12 | low, column, row + bit, polarity) for bit in places]
            row += 8
    return out


@given(st.lists(st.integers(0, 0x7FFF), max_size=80))
def test_libcaer_cmp_equals_its_definition_on_any_words(words):
    found, _ = decode_packet(np.array(words, "<u2").tobytes(), "libcaer_cmp")
    assert found == compressed_definition(words)


def test_a_packet_larger_than_a_block_keeps_its_state():
    many = [(i // 3, i % 640, i % 480, i & 1) for i in range(3 * MAX_EVENTS)]
    for encoding in ENCODINGS:
        assert decode_packet(payload(many, encoding, 0), encoding)[0] == many


@pytest.mark.parametrize("container", CONTAINERS)
def test_other_topics_and_triggers_are_left_out(tmp_path, container):
    message = message_of(container)
    trigger = message(bytes(16), "trigger")
    events = packets(ROWS, "mono", message)
    pairs = [("/triggers", trigger)] * 20 + [("/camera", bytes(500)), ("/b", events[0]), ("/camera", bytes(9))]
    pairs += [("/a", data) for data in events] + [("/a", trigger)]
    path = write(tmp_path / "x", container, pairs, types={"/camera": "sensor_msgs/Image"})
    info, found, stats = decode(path)
    assert rows_of(found) == ROWS
    assert info.notes[0] == "topic /a, encoding mono"
    assert set(info.notes[1:]) == {
        "topic /triggers with events too is ignored", "topic /b with events too is ignored",
        "1 topics without events are ignored",
    }  # fmt: skip
    assert stats.ignored == {"external triggers": 2}


@pytest.mark.parametrize("container", CONTAINERS)
def test_of_topics_with_as_many_messages_the_first_by_name_is_taken(tmp_path, container):
    message = message_of(container)
    one, two = ROWS[:30], ROWS[30:]
    pairs = [("/z", message(make.mono(one), "mono")), ("/y", message(make.mono(two), "mono"))]
    info, found, _ = decode(write(tmp_path / "x", container, pairs))
    assert (info.notes[0], rows_of(found)) == ("topic /y, encoding mono", two)


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_bag_of_triggers_alone_has_no_events(tmp_path, container):
    path = write(tmp_path / "x", container, [message_of(container)(bytes(32), "trigger")])
    _, found, stats = decode(path)
    assert (len(found), stats.ignored) == (0, {"external triggers": 4})


@pytest.mark.parametrize("container", CONTAINERS)
def test_the_message_s_older_name_is_known(tmp_path, container):
    path = write(
        tmp_path / "x", container, packets(ROWS, "mono", message_of(container)),
        types={make.TOPIC: "event_array_msgs/EventArray"},
    )  # fmt: skip
    assert rows_of(decode(path)[1]) == ROWS


@pytest.mark.parametrize("container", CONTAINERS)
def test_lost_packets_restarts_and_changes_of_geometry_are_counted(tmp_path, container):
    message = message_of(container)
    whole = [message(make.mono(ROWS[:1]), "mono", seq=seq) for seq in (3, 4, 9, 1)]
    whole.append(message(make.mono(ROWS[1:2]), "mono", seq=2, width=64))
    _, _, stats = decode(write(tmp_path / "x", container, whole))
    assert stats.all_notes() == [
        "4 packets are missing, as gaps in their numbers tell",
        "the packets' numbers fall back 1 times: the driver began anew",
        "1 packets state another geometry than the first",
    ]


@pytest.mark.parametrize("compression", make.COMPRESS)
@pytest.mark.parametrize("indexed", [True, False])
def test_chunks_of_every_compression_with_and_without_an_index(tmp_path, compression, indexed):
    whole = packets(ROWS, "evt3", make.ros1)
    _, found, stats = decode(write(tmp_path / "x", "rosbag1", whole, compression=compression, indexed=indexed))
    assert rows_of(found) == ROWS
    assert stats.truncated_bytes == 0
    assert [note.startswith("the bag has no whole index") for note in stats.all_notes()] == ([] if indexed else [True])


def test_a_folder_is_read_file_by_file_in_the_order_of_its_metadata(tmp_path):
    whole = packets(ROWS, "evt3", make.cdr)
    for i in range(11):  # without metadata, 10 comes after 9
        make.db3(tmp_path / f"bag_{i}.db3", [(make.TOPIC, data) for data in whole[i : i + 1]])
    info, found, _ = decode(tmp_path)
    assert (info.format, rows_of(found)) == ("rosbag2", ROWS)
    make.metadata(tmp_path, "bag_1.db3", "folder/bag_0.db3")
    _, found, stats = decode(tmp_path, format="rosbag2")
    # The second file begins with TIME_HIGH, as every message of the builder.
    assert rows_of(found) == ROWS[7:14] + ROWS[:7]
    assert stats.notes == ["the packets' numbers fall back 1 times: the driver began anew"]


@pytest.mark.parametrize("container", CONTAINERS)
def test_geometry_is_taken_from_the_user_where_the_messages_state_none(tmp_path, container):
    path = write(tmp_path / "x", container, packets(ROWS, "mono", message_of(container), width=0, height=0))
    info, found, _ = decode(path, width=64, height=48)
    assert (info.width, info.height, info.geometry_from, len(found)) == (64, 48, "given", 60)


@pytest.mark.parametrize("kind", ["none", "bz2", "lz4", "db3"])
def test_memory_does_not_grow_with_the_bag(tmp_path, kind):
    data = np.zeros(1 << 18, "<u8").tobytes()  # 2 MiB
    pairs = [(make.TOPIC, data), ("/camera", data)] * 8
    message = make.cdr if kind == "db3" else make.ros1
    pairs = [(topic, message(data, "mono") if topic == make.TOPIC else data) for topic, data in pairs]
    options = {} if kind == "db3" else {"compression": kind, "each": 16}
    path = write(tmp_path / "x", "rosbag2" if kind == "db3" else "rosbag1", pairs, types={"/camera": "a/B"}, **options)
    stats = Stats()
    tracemalloc.start()
    _, batches = open_recording(path, Options(), stats)
    assert sum(len(batch) for batch in batches) == 8 << 18
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 << 20  # of 32 MiB in the bag: a message and a block of it decoded


@pytest.mark.parametrize("container", CONTAINERS)
def test_the_summary_comes_through_the_decoder_s_process(tmp_path, container):
    shifted = [(t + BASE_US, *rest) for t, *rest in ROWS]
    whole = packets(shifted, "libcaer", message_of(container), base_us=BASE_US)
    found = summarise(write(tmp_path / "recording", container, whole))
    assert (found["format"], found["sensor"], found["width"], found["height"]) == (container, "camera", 640, 480)
    assert (found["events"], found["on"], found["off"]) == (60, 30, 30)
    assert (found["t_first_us"], found["t_last_us"]) == (shifted[0][0], shifted[-1][0])
    assert found["notes"] == [f"topic {make.TOPIC}, encoding libcaer"]


@real
@pytest.mark.parametrize(
    ("name", "container", "size", "events", "on", "first", "last", "note"),
    [
        ("evt3_640x480_ros1.bag", "rosbag1", (640, 480), 343_474, 125_183, 7_139_845, 9_218_023, "4,157 external"),
        ("test_events_1", "rosbag2", (640, 480), 343_474, 125_183, 7_139_845, 9_218_023, "4,157 external"),
        ("test_data_evt3_trigger", "rosbag2", (1280, 720), 82_469, 41_439, 14_224_870, 15_476_187, "2 external"),
        ("test_data_mono_cd", "rosbag2", (640, 480), 100, 50, 0, 99, "topic /event_camera/events, encoding mono"),
        ("test_data_libcaer_rollover", "rosbag2", (640, 480), 334_331, 181_908,
         1_702_309_120_762_236, 1_702_309_122_762_222, "topic /event_camera/events, encoding libcaer"),
    ],
)  # fmt: skip
def test_real_bags(name, container, size, events, on, first, last, note):
    with DecoderProcess() as decoder:
        found = summarise(REAL / name, decoder=decoder)
    assert (found["format"], found["width"], found["height"]) == (container, *size)
    assert (found["events"], found["on"], found["t_first_us"], found["t_last_us"]) == (events, on, first, last)
    assert (found["backward"], found["out_of_bounds"], found["truncated_bytes"]) == (0, 0, 0)
    assert any(line.startswith(note) for line in found["notes"])


@real
def test_a_real_bag_equals_the_raw_file_that_was_derived_from_it():
    raw = decode(DATA / "formats" / "evt3" / "derived_gen31_640x480_triggers.raw")[1]
    for name in ("evt3_640x480_ros1.bag", "test_events_1"):
        found = decode(REAL / name)[1]
        assert all(np.array_equal(found[key], raw[key]) for key in "txyp")


@real
@pytest.mark.parametrize(
    ("name", "sums", "nanoseconds"),
    [
        # event_camera_codecs' test/decoder_test.cpp: sums of t (ns, modulo 2**64), x, y, p over all events.
        ("test_data_evt3_trigger", (1_222_326_831_810_000, 42_078_718, 31_656_267, 41_439), 0),
        ("test_data_mono_cd", (4_950_000, 34_450, 26_450, 50), 0),
        ("test_data_libcaer_rollover", (15_762_826_572_202_229_126, 111_651_612, 82_801_007, 181_908), None),
    ],
)
def test_real_bags_have_the_sums_that_their_publisher_tests(name, sums, nanoseconds):
    found = decode(REAL / name)[1]
    if nanoseconds is None:  # what the time base, the same in all of these packets but for whole µs, has below 1 µs
        data = next(REAL.glob(f"{name}/*.db3")).read_bytes()
        at = data.index(b"\x08\x00\x00\x00libcaer\x00") - 8
        nanoseconds = int.from_bytes(data[at : at + 8], "little") % 1000
    t = sum(found["t"].tolist()) * 1000 + len(found) * nanoseconds
    assert (t % 2**64, *(int(found[key].sum(dtype=np.uint64)) for key in "xyp")) == sums

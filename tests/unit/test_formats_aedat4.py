"""AEDAT4: what the specification says is read, and equals an independent decoder; what contradicts it is one error."""

from __future__ import annotations

import itertools
import struct

import aedat
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support import aedat4 as make
from tests.support.decoding import decode, rows, rows_of

from firstspike.errors import DataError
from firstspike.sources.formats import _aedat4_codecs as codecs
from firstspike.sources.formats import _flatbuffer as flatbuffer
from firstspike.sources.formats import open_recording
from firstspike.sources.formats._stream import MAX_EVENTS, Options, Stats, gather
from firstspike.types import EVENT

ROWS = [(1000 + 40 * i, (7 * i) % 34, (3 * i) % 34, i % 2) for i in range(50)]
METHODS = [make.NONE, make.LZ4, make.LZ4_HIGH, make.ZSTD, make.ZSTD_HIGH]
each = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def path(tmp_path):
    return tmp_path / "recording.aedat4"


def content(found, **options):
    return make.payload([make.record(*row) for row in found], **options)


@each
@given(rows(346, 260), st.sampled_from(METHODS), st.integers(1, 9))
def test_every_compression_and_size_of_packet(path, events, method, size):
    tail = make.table_of_packets(method)
    info, found, stats = decode(path, make.events(events, method, each=size, tail=tail, position=0))
    assert (info.format, info.width, info.height, info.geometry_from) == ("aedat4", 346, 260, "header")
    assert (info.sensor, stats.truncated_bytes, stats.all_notes()) == ("a camera", 0, [])
    assert rows_of(found) == events
    if method in (make.LZ4, make.LZ4_HIGH):  # the compressions that `aedat` reads without a table
        theirs = [e for packet in aedat.Decoder(path) for e in packet["events"]]
        assert [(int(e["t"]), int(e["x"]), int(e["y"]), int(e["on"])) for e in theirs] == events


@each
@given(st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**15), 2**15 - 1),
                          st.integers(-(2**15), 2**15 - 1), st.integers(0, 255), st.binary(min_size=3, max_size=3)),
                max_size=30), st.booleans())  # fmt: skip
def test_any_record_in_any_layout(path, records, odd):
    data = make.payload([make.record(*record) for record in records], odd=odd)
    info, found, _ = decode(path, make.file([(0, data)], make.LZ4))
    assert rows_of(found) == [(t, x & 0xFFFF, y & 0xFFFF, int(p != 0)) for t, x, y, p, _ in records]
    outside = [x < 0 or y < 0 or x >= info.width or y >= info.height for _, x, y, _, _ in records]
    assert ((found["x"] >= info.width) | (found["y"] >= info.height)).tolist() == outside


def test_padding_in_the_file_does_not_get_out(path):
    path.write_bytes(make.file([(0, make.payload([make.record(1, 2, 3, 7, b"\xaa\xbb\xcc")]))]))
    (events,) = open_recording(path, Options(), Stats())[1]
    assert events.tobytes() == struct.pack("<qHHI", 1, 2, 3, 1)


def test_small_packets_are_gathered_and_stay_in_order(path):
    count = MAX_EVENTS + 1000
    records = np.zeros(count, EVENT)
    records["t"] = np.arange(count)
    data = records.tobytes()
    packets = [(0, make.payload([data[i : i + 16 * 50]], count=len(data[i : i + 16 * 50]) // 16))
               for i in range(0, len(data), 16 * 50)]  # fmt: skip
    path.write_bytes(make.file(packets))
    found = list(open_recording(path, Options(), Stats())[1])
    assert [len(events) for events in found] == [MAX_EVENTS, 1000]
    assert b"".join(events.tobytes() for events in found) == data


@each
@given(st.lists(st.integers(0, 3 * MAX_EVENTS // 2), max_size=4), st.booleans())
def test_gather_equals_concatenation_and_passes_an_error_on_after_the_events(sizes, fails):
    events = np.zeros(sum(sizes), EVENT)
    events["t"] = np.arange(len(events))
    edges = np.cumsum([0, *sizes])

    def parts():
        for start, end in itertools.pairwise(edges):
            yield memoryview(events[start:end].tobytes())
        if fails:
            raise DataError("damaged")

    batches = gather(parts())
    found = list(itertools.islice(batches, -(-len(events) // MAX_EVENTS)))
    with pytest.raises(DataError if fails else StopIteration):
        next(batches)
    assert [len(batch) for batch in found[:-1]] == [MAX_EVENTS] * len(found[:-1])
    assert b"".join(batch.tobytes() for batch in found) == events.tobytes()


@pytest.mark.parametrize("method", METHODS)
def test_cut_anywhere_gives_whole_packets_and_tells_of_the_cut(path, method):
    tail = make.table_of_packets(method)
    data = make.events(ROWS, method, each=20, tail=tail, position=0)
    body = len(data) - len(tail)
    counts = set()
    for size in range(body - 600 if method == make.NONE else body - 200, len(data)):
        _, found, stats = decode(path, data[:size])
        counts.add(len(found))
        assert rows_of(found) == ROWS[: len(found)]
        told = stats.truncated_bytes > 0 or any("it was cut" in note for note in stats.notes)
        assert told == (size < body), size
    assert counts >= {40, 50}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("named", [True, False])
def test_the_table_of_packets_is_no_packet(path, method, named):
    tail = make.table_of_packets(method)
    _, found, stats = decode(path, make.events(ROWS, method, tail=tail, position=0 if named else None))
    assert (rows_of(found), stats.truncated_bytes, stats.all_notes()) == (ROWS, 0, [])


def test_the_first_event_stream_is_read_and_the_others_are_not_even_decompressed(path):
    streams = [make.stream_xml(4, size=(64, 48)), make.stream_xml(2, size=(32, 24), source="left &amp; first"),
               make.stream_xml(0, "IMUS", None), make.stream_xml(1, "POSE", None)]  # fmt: skip
    packets = [(4, b"garbage"), (2, content(ROWS[:9])), (0, b""), (1, b"\0" * 99), (2, content(ROWS[9:]))]
    info, found, stats = decode(path, make.file(packets, streams=streams))
    assert (info.width, info.height, info.sensor) == (32, 24, "left & first")
    assert info.notes == ("stream 0 (imus) is ignored", "stream 1 (POSE) is ignored", "stream 4 (events) is ignored")
    assert rows_of(found) == ROWS
    assert {key.split("(")[1]: count for key, count in stats.ignored.items()} == {"events)": 1, "imus)": 1, "POSE)": 1}


def test_a_stream_without_a_size_takes_the_users(path):
    data = make.file([(0, content(ROWS))], streams=[make.stream_xml(0, size=None)])
    with pytest.raises(DataError, match="does not state the size of its stream 0: give width and height"):
        decode(path, data)
    info, found, _ = decode(path, data, width=34, height=35)
    assert (info.width, info.height, info.geometry_from, len(found)) == (34, 35, "given", 50)


GOOD = content(ROWS[:3])


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        (b"", "holds 0 bytes"),
        (GOOD[:-1], "not as many as it states"),
        (GOOD + b"\0", "not as many as it states"),
        (content(ROWS[:3], identifier=b"FRME"), "of the type b'FRME'"),
        (content(ROWS[:3], count=4), "more items than it has bytes for"),
        (content(ROWS[:3], count=2**32 - 1), "more items than it has bytes for"),
        (content(ROWS[:3], odd=True, count=2**28), "more items than it has bytes for"),
        (GOOD[:4] + struct.pack("<I", 2**31) + GOOD[8:], "points outside itself"),
        (GOOD[:20] + struct.pack("<i", 2**30) + GOOD[24:], "points outside itself"),
        (GOOD[:20] + struct.pack("<i", -(2**31)) + GOOD[24:], "points outside itself"),
        (GOOD[:24] + struct.pack("<I", 2**32 - 1) + GOOD[28:], "points outside itself"),
        (GOOD[:14] + struct.pack("<H", 2) + GOOD[16:], "no whole table"),
    ],
)
@pytest.mark.parametrize("method", METHODS)
def test_a_damaged_packet_is_named_after_the_events_before_it(path, bad, text, method):
    data = make.file([(0, content(ROWS[:9])), (0, bad), (0, GOOD)], method)
    place = len(make.header(make.xml(make.stream_xml(0)), method)) + len(make.packet(0, content(ROWS[:9]), method))
    assert_fails_after(
        path, data, ROWS[:9], rf"{path} has a damaged AEDAT4 packet: it .*{text}.* \(at byte {place:,}\)"
    )


def assert_fails_after(path, data, expected, text):
    path.write_bytes(data)
    _, batches = open_recording(path, Options(), Stats())
    assert rows_of(next(batches)) == expected
    with pytest.raises(DataError, match=text):
        next(batches)


@pytest.mark.parametrize("method", METHODS[1:])
def test_damaged_compression_is_named(path, method):
    whole = make.compress(content(ROWS), method)
    kind = "LZ4" if method <= make.LZ4_HIGH else "Zstandard"
    checked = kind == "Zstandard" and method == make.ZSTD  # tells its size
    for bad, text in [
        (b"\xff" * 40, f"no whole {kind} frame"),
        (whole[:-5], f"no whole {kind} frame" if kind == "LZ4" or checked else "."),
        (whole + b"\0", "goes on after its LZ4 frame" if kind == "LZ4" else f"no whole {kind} frame"),
        (whole[:9] + bytes([whole[9] ^ 0xFF]) + whole[10:], "."),
    ]:
        data = make.events(ROWS[:9], method, each=9) + struct.pack("<iI", 0, len(bad)) + bad
        assert_fails_after(path, data, ROWS[:9], rf"has a damaged AEDAT4 packet: it .*{text}")


def test_a_packet_of_a_stream_that_the_header_does_not_describe(path):
    data = make.file([(0, content(ROWS[:9])), (7, GOOD)])
    assert_fails_after(path, data, ROWS[:9], "belongs to stream 7, which is not described")


@pytest.mark.parametrize("method", METHODS)
def test_a_bomb_is_refused_before_it_goes_off(path, method, monkeypatch):
    monkeypatch.setattr(codecs, "MAX_BYTES", 6 << 20)
    big = 5 << 16  # just under the bound, in packets that take several steps to decompress
    fits = make.payload([make.record(*ROWS[0]) * big], count=big)
    _, found, _ = decode(path, make.file([(0, fits)], method))
    assert len(found) == big
    data = make.file([(0, content(ROWS[:9])), (0, bytes(7 << 20))], method)
    assert_fails_after(path, data, ROWS[:9], "holds more than 6 MiB, decompressed")


def test_a_packet_longer_than_the_bound_is_not_even_read(path):
    data = make.events(ROWS[:9], each=9) + struct.pack("<iI", 0, 1 << 30)
    path.write_bytes(data)
    with path.open("r+b") as file:
        file.truncate(2 << 30)
    _, batches = open_recording(path, Options(), Stats())
    assert rows_of(next(batches)) == ROWS[:9]
    with pytest.raises(DataError, match=r"damaged AEDAT4 packet: it states 1,073,741,824 bytes"):
        next(batches)


def test_a_frame_that_claims_an_absurd_size_is_not_believed(path):
    lie = struct.pack("<IBQ", 0xFD2FB528, 0xE0, 1 << 60) + b"\x01\0\0"  # Zstandard, 8 bytes of content size
    data = make.events(ROWS[:9], make.ZSTD, each=9) + struct.pack("<iI", 0, len(lie)) + lie
    assert_fails_after(path, data, ROWS[:9], "no whole Zstandard frame")


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (make.header("<dv>", make.LZ4), "XML description that is malformed"),
        (make.header('<!DOCTYPE a [<!ENTITY b "c">]><dv/>'), "document type"),
        (make.header(b"\xff\xfe<"), "XML description that is malformed"),
        (make.header(make.xml(), 1), "describes no stream with events or frames"),
        (make.header(make.xml(make.stream_xml(0)), 9), r"method that is unknown \(number 9\)"),
        (make.header(make.xml(make.stream_xml(0)), -1), r"method that is unknown \(number -1\)"),
        (make.header(make.xml(make.stream_xml(0)), identifier=b"EVTS"), "header: it is of the type b'EVTS'"),
        (make.header(make.xml(make.stream_xml(0)))[:-9], "ends within its header"),
        (make.MAGIC + struct.pack("<I", 8) + bytes(8), "header: it is of the type"),
        (make.MAGIC + struct.pack("<I", 5 << 20) + bytes(5 << 20), "states a header of 5,242,880 bytes"),
        (make.header(make.xml(make.stream_xml(0, size=(0, 9)))), "sensor of 0×9"),
    ],
)
def test_a_damaged_header_is_named(path, data, text):
    with pytest.raises(DataError, match=text) as caught:
        decode(path, data)
    assert str(path) in str(caught.value)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=80), st.integers(0, 3), st.integers(1, 16))
def test_a_vector_lies_within_its_buffer_whatever_the_bytes(data, index, size):
    buffer = (data[:4] or bytes(4)) + b"EVTS" + data[4:]
    small = bytes(
        byte if i % 4 == 0 or 3 < i < 8 else 0 for i, byte in enumerate(buffer)
    )  # offsets that hit more often
    for attempt in (buffer, small):
        try:
            start, count = flatbuffer.root(attempt, 0, b"EVTS").vector(index, size)
        except flatbuffer.FlatBufferError:
            continue
        assert 0 <= start <= start + count * size <= len(attempt)

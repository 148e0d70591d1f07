"""Files that are cut, damaged, lying or no recordings: whole events come first, then one clear error or a count."""

from __future__ import annotations

import io
import os
import struct

import numpy as np
import pytest
from tests.support import recordings as make
from tests.support.decoding import decode, decode_until_fault, rows_of

from firstspike.errors import DataError, NoInputError, UsageError
from firstspike.sources.formats import formats, open_recording
from firstspike.sources.formats._stream import Options, Stats

ROWS = [(1000 + 40 * i, (7 * i) % 34, (3 * i) % 34, i % 2) for i in range(50)]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "recording"


def npz(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


FILES = {
    "evt2": make.evt2(ROWS),
    "evt2.1": make.evt21(ROWS),
    "evt3": make.evt3(ROWS),
    "dat": make.dat(ROWS),
    "es": make.es(ROWS, 34, 34),
    "atis": make.atis_bin(ROWS),
    "aedat2": make.aedat2_dvs128(ROWS),
    "aedat3": make.AEDAT3_HEADER.encode() + make.aedat3_packet(ROWS),
}


@pytest.mark.parametrize("name", FILES)
def test_a_cut_tail_is_counted_and_the_events_before_it_handed_out(path, name):
    _, whole, stats = decode(path, FILES[name])
    assert (len(whole), stats.truncated_bytes) == (50, 0)
    info, found, stats = decode(path, FILES[name][:-1])
    assert info.format == name
    assert rows_of(found) == ROWS[:-1]
    assert 0 < stats.truncated_bytes < 8


def test_a_cut_csv_line_is_counted(path):
    info, found, stats = decode(path, make.csv(ROWS) + b"9999,3")
    assert info.format == "csv"
    assert (rows_of(found), stats.truncated_bytes) == (ROWS, 6)


def test_a_last_csv_line_without_end_is_taken_with_a_note(path):
    _, found, stats = decode(path, make.csv(ROWS)[:-1])
    assert rows_of(found) == ROWS
    assert "last line" in stats.notes[0]


def test_a_cut_aedat3_packet_of_another_kind_is_counted(path):
    imu = struct.pack("<hhiiiiii", 3, 1, 36, 4, 0, 2, 2, 2) + bytes(40)
    _, found, stats = decode(path, FILES["aedat3"] + imu)
    assert (len(found), stats.truncated_bytes) == (50, 40)


def test_a_damaged_packet_header_ends_with_the_byte_where_it_is(path):
    data = FILES["aedat3"]
    path.write_bytes(data + b"\xff" * 40)
    _, batches = open_recording(path, Options(), Stats())
    assert rows_of(next(batches)) == ROWS
    with pytest.raises(DataError, match=rf"recording has a damaged packet header \(at byte {len(data)}\)"):
        next(batches)


def test_a_bad_csv_line_is_named_after_the_events_before_it(path):
    path.write_bytes(make.csv(ROWS) + b"12,abc,1,0\n" + make.csv(ROWS))
    _, batches = open_recording(path, Options(width=34, height=34), Stats())
    assert rows_of(next(batches)) == ROWS
    with pytest.raises(DataError, match="event line 51, '12,abc,1,0'"):
        next(batches)


@pytest.mark.parametrize(
    ("name", "data", "size"),
    [
        ("evt2", make.evt2([(5, 2047, 2000, 1)]), (640, 480)),
        ("evt3", make.evt3([(5, 2047, 2000, 1), (6, 1, 1, 0)]), (640, 480)),
        ("dat", make.dat([(5, 9000, 9000, 1)]), (640, 480)),
        ("es", make.es([(5, 300, 10, 1)], 34, 34), (34, 34)),
        ("aedat3", make.AEDAT3_HEADER.encode() + make.aedat3_packet([(5, 20000, 9, 1)]), (240, 180)),
        ("csv", b"240 180\nt x y p\n5 -3 70000 1\n6 500 1 0\n", (240, 180)),
    ],
)
def test_events_outside_the_stated_geometry_are_handed_on(path, name, data, size):
    info, found, _ = decode(path, data)
    assert (info.format, info.width, info.height) == (name, *size)
    assert ((found["x"] >= size[0]) | (found["y"] >= size[1])).any()
    assert found["t"][0] == 5


def test_davis_addresses_left_of_the_sensor_stay_outside(path):
    info, found, _ = decode(path, make.AEDAT2_DAVIS.encode() + struct.pack(">II", 1000 << 12 | 400 << 22, 7))
    assert found["x"][0] >= info.width
    assert found["y"][0] >= info.height


def test_late_timestamps_are_not_pulled_forward(path):
    late = [(1000, 1, 1, 1), (990, 2, 1, 1), (1001, 3, 1, 0)]
    for data in (make.evt2(late), make.evt3(late), make.dat(late), make.aedat2_dvs128(late)):
        assert rows_of(decode(path, data)[1]) == late


@pytest.mark.parametrize(
    ("header", "size", "origin"),
    [
        (make.raw_header("3.0", "geometry 640x480", "plugin_name hal_plugin_gen41_evk3"), (640, 480), "header"),
        (make.raw_header("3.0", "plugin_name hal_plugin_gen41_evk3"), (1280, 720), "sensor"),
        (make.raw_header("3.0", "plugin_name hal_plugin_gen31_fx3"), (640, 480), "sensor"),
        (make.raw_header("3.0", "plugin_name hal_plugin_prophesee", "system_ID 64"), (320, 320), "sensor"),
        (make.raw_header("3.0", "generation 4.2", "sensor_name IMX636"), (1280, 720), "sensor"),
        (b"% format EVT3;height=240;width=304\n% end\n", (304, 240), "header"),
    ],
)
def test_raw_geometry(path, header, size, origin):
    info, found, _ = decode(path, make.evt3(ROWS, header))
    assert (info.format, info.width, info.height, info.geometry_from) == ("evt3", *size, origin)
    assert rows_of(found) == ROWS


def test_raw_without_geometry_asks_for_it_and_takes_it(path):
    data = make.evt3(ROWS, make.raw_header("3.0"))
    with pytest.raises(DataError, match="give width and height"):
        decode(path, data)
    info, found, _ = decode(path, data, width=100, height=90)
    assert (info.width, info.height, info.geometry_from, len(found)) == (100, 90, "given", 50)


def test_stated_geometry_gives_way_to_the_user(path):
    info, _, _ = decode(path, FILES["evt2"], width=34, height=34)
    assert (info.width, info.height, info.geometry_from) == (34, 34, "given")


@pytest.mark.parametrize(
    "version", ["evt 2.1", "format EVT21;height=480;width=640", "format EVT2.1;height=480;width=640"]
)
def test_evt21_spellings(path, version):
    header = f"% {version}\n% geometry 640x480\n% end\n".encode()
    data = header + FILES["evt2.1"].partition(b"% end\n")[2]
    info, found, _ = decode(path, data)
    assert (info.format, rows_of(found)) == ("evt2.1", ROWS)


def test_events_before_the_first_time_are_counted(path):
    words = np.array([0x0005, 0x2003, 0x8001, 0x6002, 0x2003], "<u2").tobytes()
    _, found, stats = decode(path, make.raw_header("3.0", "geometry 640x480") + words)
    assert rows_of(found) == [(4098, 3, 5, 0)]
    assert stats.ignored == {"events before the first time or row": 1}


def test_aedat2_without_a_chip_is_a_dvs128_and_says_so(path):
    info, found, _ = decode(path, make.aedat2_dvs128(ROWS, "#!AER-DAT2.0\r\n"))
    assert (info.width, info.geometry_from) == (128, "convention")
    assert "DVS128" in info.notes[0]
    assert rows_of(found) == ROWS


def test_aedat2_header_ends_before_binary_data_that_begins_with_a_hash(path):
    row = (1000, 10, 179 - (0x23 << 24 >> 22 & 0x1FF), 1)  # its address begins with the byte '#'
    assert rows_of(decode(path, make.aedat2_davis([row]))[1]) == [row]


def test_aedat2_of_an_unknown_chip_is_refused(path):
    with pytest.raises(DataError, match=r"Cochlea.*convert it"):
        decode(path, b"#!AER-DAT2.0\r\n# AEChip: ch.unizh.ini.jaer.chip.cochlea.CochleaAMS1c\r\n" + bytes(80))


@pytest.mark.parametrize(
    ("data", "error", "text"),
    [
        (b"", DataError, "is empty"),
        (bytes(range(256)) * 40, DataError, "in no known format"),
        (np.random.default_rng(3).bytes(70_000), DataError, "in no known format.*aedat4.*npz"),
        (b"hello\nworld\n", DataError, "in no known format"),
        (b"\x89HDF\r\n\x1a\n" + bytes(99), DataError, "HDF5"),
        (b"Event Stream\x02\x00\x00\x04" + bytes(9), DataError, "color events, without polarity"),
        (b"Event Stream\x03\x00\x00\x01" + bytes(9), DataError, "version 3"),
        (b"% Data file containing EXT events\n% Version 2\n\x0e\x08", DataError, "type 14"),
        (b"#!AER-DAT3.1\r\n#Format: RAW\r\n", DataError, "END-HEADER"),
        (b"#!AER-DAT4.0\r\n", DataError, "ends within its header"),
        (b"#!AER-DAT4.0\r\n\xff\xff\xff\x7f" + bytes(99), DataError, "header"),
        (b"PK\x03\x04x.npy", DataError, "no whole NPZ"),
        (npz(a=np.zeros(3)), DataError, "t, x, y and p"),
        (npz(t=np.zeros(3), x=np.zeros(2), y=np.zeros(3), p=np.zeros(3)), DataError, "different lengths"),
        (npz(t=np.array(["a"]), x=np.zeros(1), y=np.zeros(1), p=np.zeros(1)), DataError, "not numbers"),
        (npz(events=np.array([{}, {}], object)), DataError, "Python objects"),
        (b"1,2,3,4\n9,1,7,3\n5,5,5,5\n", DataError, "columns="),
    ],
)
def test_what_cannot_be_opened_is_named_with_its_fault(path, data, error, text):
    with pytest.raises(error, match=text) as caught:
        decode(path, data)
    assert str(path) in str(caught.value)


def test_missing_folder_and_special_files(tmp_path):
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    for place, text in ((tmp_path / "none", "does not exist"), (tmp_path, "is a folder"), (fifo, "not a regular file")):
        with pytest.raises(NoInputError, match=text):
            decode(place)
    with pytest.raises(NoInputError, match="/dev/zero is not a regular file"):
        decode("/dev/zero")


def test_an_unreadable_file(path, monkeypatch):
    path.write_bytes(b"x")
    path.chmod(0)
    if os.access(path, os.R_OK):  # root reads everything
        pytest.skip("running as a user whom permissions do not bind")
    with pytest.raises(NoInputError, match="Permission denied"):
        decode(path)


def test_a_format_may_be_forced(path):
    info, found, _ = decode(path, make.atis_bin(ROWS[:3]), format="atis")
    assert (info.format, rows_of(found)) == ("atis", ROWS[:3])
    with pytest.raises(UsageError, match=r"'nosuch' is unknown: use one of aedat2"):
        decode(path, b"x", format="nosuch")
    with pytest.raises(UsageError, match="must name t, x, y and p"):
        decode(path, make.csv(ROWS), columns="txyy")


def test_a_huge_claim_ends_at_the_end_of_the_file(path):
    lying = struct.pack("<hhiiiiii", 1, 1, 8, 4, 0, 2**31 - 1, 2**31 - 1, 2**31 - 1)
    _, found, stats = decode(path, make.AEDAT3_HEADER.encode() + lying + FILES["aedat3"][-400:])
    assert rows_of(found) == ROWS
    assert stats.truncated_bytes == 0


def test_every_format_is_found_by_its_file_and_has_the_interface():
    assert set(formats()) >= {"aedat2", "aedat3", "aedat4", "evt2", "evt2.1", "evt3", "dat", "es", "atis", "csv", "npz"}
    assert "template" not in formats()
    for name, module in formats().items():
        assert name == module.NAME
        assert module.sniff(b"", path=os.devnull) == 0.0


def test_a_comment_that_is_no_utf8_hides_neither_events_nor_the_fault(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"t,x,y,p\n1,2,3,1\n# \xff\xfe\n2.5,3,3,0\n3,oops,3,1\n")
    events, fault, _ = decode_until_fault(path)
    assert len(events) == 2
    assert "oops" in str(fault)

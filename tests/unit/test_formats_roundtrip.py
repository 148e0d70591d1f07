"""What a builder writes from a format's specification, the format's decoder reads again, event by event."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support import recordings as make
from tests.support.decoding import decode, rows, rows_of

each = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
VGA = rows(640, 480, start=1 << 33)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "recording"


@each
@given(VGA)
def test_evt2(path, events):
    info, found, stats = decode(path, make.evt2(events))
    assert (info.format, info.width, info.height, info.geometry_from) == ("evt2", 640, 480, "header")
    assert rows_of(found) == events
    assert stats.truncated_bytes == 0


@each
@given(VGA, st.booleans())
def test_evt21(path, events, legacy):
    info, found, _ = decode(path, make.evt21(events, legacy=legacy))
    assert (info.format, info.width, info.height) == ("evt2.1", 640, 480)
    assert rows_of(found) == events


@each
@given(rows(640, 480, start=1 << 23, step=1 << 25), st.booleans())
def test_evt3_also_where_the_time_wraps(path, events, vectors):
    whole = events[0][0] >> 24 << 24 if events else 0  # loops before the recording began are unknown
    events = [(t - whole, x, y, p) for t, x, y, p in events]
    info, found, _ = decode(path, make.evt3(events, vectors=vectors))
    assert (info.format, info.width, info.height) == ("evt3", 640, 480)
    assert rows_of(found) == events


@each
@given(rows(640, 480, start=1 << 31, step=1 << 30))
def test_dat_also_where_the_time_wraps(path, events):
    info, found, _ = decode(path, make.dat(events))
    assert (info.format, info.width, info.height, info.geometry_from) == ("dat", 640, 480, "header")
    assert rows_of(found) == events


@each
@given(rows(304, 240, start=1 << 31), st.sampled_from([0, 12]))
def test_old_dat(path, events, kind):
    header = "% Data file containing Event2d events.\n% Version 1\n"
    info, found, _ = decode(path, make.dat(events, header=header, kind=kind, old=True))
    assert info.geometry_from == "events"
    assert rows_of(found) == events


@each
@given(rows(320, 240, start=0), st.booleans())
def test_event_stream(path, events, atis):
    info, found, _ = decode(path, make.es(events, 320, 240, atis=atis))
    assert (info.format, info.width, info.height, info.geometry_from) == ("es", 320, 240, "header")
    assert rows_of(found) == events


@each
@given(rows(34, 34, start=0, step=1 << 21))
def test_atis_bin_also_where_the_time_wraps(path, events):
    if not events:
        return  # an empty file is refused, and tested elsewhere
    info, found, _ = decode(path, make.atis_bin(events), format="atis")
    assert (info.width, info.height, info.geometry_from) == (34, 34, "convention")
    assert rows_of(found) == events


@each
@given(rows(128, 128, start=1 << 31, step=1 << 30))
def test_aedat2_dvs128(path, events):
    info, found, _ = decode(path, make.aedat2_dvs128(events))
    assert (info.format, info.width, info.height, info.sensor) == ("aedat2", 128, 128, "DVS128")
    assert rows_of(found) == events


@each
@given(rows(240, 180, start=1 << 31), st.integers(0, 9), st.integers(0, 9))
def test_aedat2_davis_skips_frames_and_imu(path, events, frames, imu):
    words = [0x80000000 | n << 12 for n in range(frames)] + [0x80000C00] * imu + [0x400]
    info, found, stats = decode(path, make.aedat2_davis(events, words))
    assert (info.width, info.height, info.sensor) == (240, 180, "DAVIS240C")
    assert rows_of(found) == events
    assert sum(stats.ignored.values()) == frames + imu + 1


@each
@given(rows(240, 180, start=1 << 32, step=1 << 29))
def test_aedat3_also_where_the_time_overflows(path, events):
    info, found, stats = decode(path, make.aedat3(events))
    assert (info.format, info.width, info.height, info.sensor) == ("aedat3", 240, 180, "DAVIS240C")
    assert rows_of(found) == events
    assert stats.ignored.get("IMU events", 0) == 0 if not events else stats.ignored["IMU events"] > 0


def test_aedat3_leaves_out_events_marked_invalid(path):
    events = [(10, 1, 2, 1), (11, 3, 4, 0), (12, 5, 6, 1)]
    _, found, stats = decode(path, make.AEDAT3_HEADER.encode() + make.aedat3_packet(events, invalid=(1,)))
    assert rows_of(found) == [events[0], events[2]]
    assert stats.ignored == {"events marked invalid": 1}


@each
@given(
    rows(640, 480, start=1 << 50),
    st.permutations("txyp"),
    st.sampled_from(",;\t "),
    st.sampled_from([None, 6, 9]),
    st.sampled_from(["\n", "\r\n"]),
)
def test_csv_in_any_order_given(path, events, order, delimiter, seconds, end):
    if not events:
        return
    data = make.csv(events, order, delimiter, seconds=seconds, end=end)
    info, found, _ = decode(path, data, format="csv", columns="".join(order), width=640, height=480)
    assert info.format == "csv"
    if seconds and all(t % 10**6 == 0 for t, *_ in events):
        return  # «3.000000» may be seconds or µs: the values do not tell
    assert rows_of(found) == events


@each
@given(rows(640, 480, start=1 << 50), st.sampled_from(["fields", "arrays", "table"]), st.booleans())
def test_npz(path, events, shape, compressed):
    array = make.events_of(events)
    save = np.savez_compressed if compressed else np.savez
    file = io.BytesIO()
    if shape == "fields":
        save(file, events=array)
    elif shape == "arrays":
        save(file, t=array["t"], x=array["x"], y=array["y"], p=array["p"].astype(bool), width=640, height=480)
    else:
        save(file, events=np.stack([array[k].astype(np.int64) for k in "xytp"], axis=1))
    columns = "xytp" if shape == "table" else None
    info, found, _ = decode(path, file.getvalue(), columns=columns)
    assert info.format == "npz"
    assert info.geometry_from == ("header" if shape == "arrays" else "events")
    assert rows_of(found) == events

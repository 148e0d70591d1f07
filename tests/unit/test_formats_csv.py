"""Columns and units of tables: found from names or values, stated in a note, or asked for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support import recordings as make
from tests.support.decoding import decode, rows_of

from firstspike.sources.formats._columns import field_of
from firstspike.sources.formats._numbers import parse_integers, seconds_to_us

RNG = np.random.default_rng(5)
ROWS = [
    (int(t), int(x), int(y), int(p))
    for t, x, y, p in zip(
        np.cumsum(RNG.integers(1, 400, 500)), RNG.integers(0, 320, 500), RNG.integers(0, 240, 500),
        RNG.integers(0, 2, 500), strict=True,
    )
]  # fmt: skip


@pytest.fixture
def path(tmp_path):
    return tmp_path / "events.csv"


@pytest.mark.parametrize("order", ["txyp", "xypt", "xytp", "ptxy", "pxyt"])
@pytest.mark.parametrize("delimiter", list(",;\t "))
@pytest.mark.parametrize("seconds", [None, 6, 9])
def test_order_and_unit_are_found_from_the_values(path, order, delimiter, seconds):
    info, found, _ = decode(path, make.csv(ROWS, order, delimiter, seconds=seconds))
    assert rows_of(found) == ROWS
    assert info.notes == (f"columns {order} by their values, times in {'s' if seconds else 'µs'}",)


@pytest.mark.parametrize(
    ("header", "order"),
    [
        ("t,x,y,p", "txyp"),
        ("x,y,p,t", "xypt"),
        ("timestamp,x,y,polarity", "txyp"),
        ("# y, x, time_us, on", "yxtp"),
        ('"x" , "y", "pol" , "ts"', "xypt"),
        ("id,x,y,p,t", "-xypt"),
    ],
)
def test_order_is_found_from_a_header(path, header, order):
    info, found, _ = decode(path, make.csv(ROWS, order, header=header))
    assert rows_of(found) == ROWS
    assert f"columns {order} by the header line" in info.notes[0]


@pytest.mark.parametrize(("header", "factor"), [("t_ns,x,y,p", 1000), ("time [us],x,y,p", 1), ("t_ms,x,y,p", 1e-3)])
def test_a_header_may_name_the_unit(path, header, factor):
    lines = [header] + [f"{t * 1000 * factor:.0f},{x},{y},{p}" for t, x, y, p in ROWS]
    _, found, _ = decode(path, "\n".join(lines).encode() + b"\n")
    assert rows_of(found) == [(t * 1000, x, y, p) for t, x, y, p in ROWS]


@pytest.mark.parametrize(
    ("line", "event"),
    [
        ("  7 ,3, 4 , 1", (7, 3, 4, 1)),
        ("7,3,4,-1", (7, 3, 4, 0)),
        ("\n# a comment\n\n7,3,4,1", (7, 3, 4, 1)),
        ("+7,3,4,1", (7, 3, 4, 1)),
        ("7.0,3,4,1", (7, 3, 4, 1)),
        ("7e0,3.0,4,1.0", (7, 3, 4, 1)),
        ("-7,3,4,1", (-7, 3, 4, 1)),
        ("\ufeff7,3,4,1", (7, 3, 4, 1)),
    ],
)
def test_spellings_of_a_line(path, line, event):
    _, found, _ = decode(path, line.encode() + b"\n", columns="txyp", format="csv")
    assert rows_of(found) == [event]


def test_first_line_of_two_integers_is_the_geometry(path):
    info, found, _ = decode(path, b"346 260\n" + make.csv(ROWS, "txyp", " ", seconds=9))
    assert (info.width, info.height, info.geometry_from) == (346, 260, "header")
    assert rows_of(found) == ROWS


@pytest.mark.parametrize("bad", ["nan,1,1,1", "inf,1,1,1", "1e300,1,1,1", "99999999999999999999,1,1,1"])
def test_times_that_are_no_times_are_refused(path, bad):
    with pytest.raises(Exception, match=r"events.csv has") as caught:
        decode(path, b"5,1,1,1\n" + bad.encode() + b"\n", columns="txyp", format="csv")
    assert type(caught.value).__name__ == "DataError"


def test_field_names():
    assert field_of("Timestamps") == ("t", None)
    assert field_of("t [s]") == ("t", 1e6)
    assert field_of("time_ns") == ("t", 1e-3)
    assert field_of("polarity") == ("p", None)
    assert field_of("xs") == ("x", None)
    assert field_of("label") is None
    assert field_of("") is None


numbers = st.integers(-(10**18) + 1, 10**18 - 1)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(numbers, min_size=3, max_size=3), min_size=1, max_size=30))
def test_the_fast_parser_equals_int(table):
    block = "".join(",".join(map(str, row)) + "\n" for row in table).encode()
    parsed = parse_integers(block, b",,\n")
    assert parsed is not None
    assert parsed[0].T.tolist() == table


@settings(max_examples=200, deadline=None)
@given(st.text("0123456789-,.\n \r+e", max_size=60))
def test_the_fast_parser_takes_nothing_that_int_refuses(text):
    block = text.encode() + b"\n"
    parsed = parse_integers(block, b",\n")
    if parsed is not None:
        lines = block.replace(b"\r\n", b"\n").split(b"\n")[:-1]
        assert parsed[0].T.tolist() == [[int(part) for part in line.split(b",")] for line in lines]


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 1 << 41), st.integers(1, 12), st.data())
def test_decimal_seconds_round_to_the_nearest_us(whole, digits, data):
    fraction = data.draw(st.integers(0, 10**digits - 1))
    us = seconds_to_us(np.array([whole]), np.array([fraction]), digits)
    assert us is not None
    assert abs(int(us[0]) * 10**digits - (whole * 10**digits + fraction) * 10**6) * 2 <= 10**digits

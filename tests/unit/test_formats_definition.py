"""The vectorised decoders equal the word-by-word definitions on any words, however they are cut into blocks."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.decoding import Evt2Definition, Evt3Definition, Evt21Definition, es_definition, rows_of

from firstspike.sources.formats._stream import Stats, Unwrap
from firstspike.sources.formats.es import _ATIS, _DVS, _events
from firstspike.sources.formats.evt2 import Evt2
from firstspike.sources.formats.evt3 import Evt3
from firstspike.sources.formats.evt21 import Evt21

many = settings(max_examples=150, deadline=None)


def words(bits, kinds):
    """Words of which most are of the types that mean something."""
    top = bits - 4
    typed = st.builds(lambda kind, load: kind << top | load, st.sampled_from(kinds), st.integers(0, (1 << top) - 1))
    return st.lists(st.one_of(typed, st.integers(0, (1 << bits) - 1)), max_size=200)


def cut(values, places):
    """The list in pieces."""
    edges = sorted({0, len(values), *(place % (len(values) + 1) for place in places)})
    return [values[a:b] for a, b in pairwise(edges)] or [values]


cuts = st.lists(st.integers(0, 1000), max_size=4)


@many
@given(words(32, [0, 1, 8, 10]), cuts)
def test_evt2(found, places):
    decoder, definition = Evt2(Stats()), Evt2Definition()
    for part in cut(found, places):
        assert rows_of(decoder(np.array(part, np.uint32))) == definition(part)


@many
@given(words(64, [0, 1, 8, 10]), cuts)
def test_evt21(found, places):
    decoder, definition = Evt21(Stats()), Evt21Definition()
    for part in cut(found, places):
        both = np.array(part, np.uint64)
        assert rows_of(decoder((both >> np.uint64(32)).astype(np.uint32), both.astype(np.uint32))) == definition(part)


@many
@given(words(16, [0, 2, 3, 4, 5, 6, 8, 10]), cuts)
def test_evt3(found, places):
    decoder, definition = Evt3(Stats()), Evt3Definition()
    for part in cut(found, places):
        assert rows_of(decoder(np.array(part, np.uint16))) == definition(part)


@many
@given(st.lists(st.one_of(st.integers(0, 255), st.sampled_from([252, 253, 254, 255])), max_size=400), st.booleans())
def test_event_stream(tmp_path_factory, found, atis):
    path = tmp_path_factory.getbasetemp() / "stream.es"
    path.write_bytes(bytes(20) + bytes(found))
    stats = Stats()
    arrays = list(_events(path, _ATIS if atis else _DVS, 240, stats))
    events, rest = es_definition(found, 240, atis=atis)
    assert [row for array in arrays for row in rows_of(array)] == events
    assert stats.truncated_bytes == rest


def test_event_stream_across_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr("firstspike.sources.formats.es.BLOCK_BYTES", 14)  # blocks of 7 bytes
    found = np.random.default_rng(0).choice(np.r_[0:256, [254, 255] * 40].astype(np.uint8), 5000).tolist()
    path = tmp_path / "stream.es"
    path.write_bytes(bytes(20) + bytes(found))
    stats = Stats()
    events, rest = es_definition(found, 240)
    assert [row for array in _events(path, _DVS, 240, stats) for row in rows_of(array)] == events
    assert stats.truncated_bytes == rest


@pytest.mark.parametrize("bits", [12, 23, 32])
def test_unwrap_continues_a_counter_and_leaves_late_values(bits):
    top = 1 << bits
    unwrap = Unwrap(bits)
    first = unwrap(np.array([top - 2, top - 1, 0, 1]))
    second = unwrap(np.array([5, 3, top - 1]))
    third = unwrap(np.array([0]))
    assert first.tolist() == [top - 2, top - 1, top, top + 1]
    assert second.tolist() == [top + 5, top + 3, 2 * top - 1]
    assert third.tolist() == [2 * top]

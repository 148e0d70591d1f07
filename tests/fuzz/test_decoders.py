"""Damaged files through the decoders: DataError or events, in bounded time and memory, and nothing else.

The decoders run in the test's process, so that nothing hides an exception; AEDAT4 as faery writes it also runs in the
child. `make soak` runs the long versions.
"""

from __future__ import annotations

import time
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support import recordings as make
from tests.support.decoding import decode
from tests.support.figures import figure
from tests.support.mutants import mutant, originals

from firstspike.errors import DataError, FirstspikeError
from firstspike.sources.aedat4_writer import write_aedat4
from firstspike.sources.decoding import DecoderProcess
from firstspike.sources.formats import formats

FILES = originals()
OWN = sorted(formats())
SLOWEST_S = 2.0
MOST_BYTES = 64 << 20


def attempt(path, data, **options):
    """Decodes in this process; True if it worked, False on a DataError. Anything else fails the test."""
    start = time.monotonic()
    complaint = None
    try:
        _, events, _ = decode(path, data, **options)
        # A byte may stand for at most 12 events (EVT 3.0) or a few (a zip file's).
        assert len(events) <= 32 * len(data) + 100_000
    except DataError as error:
        complaint = str(error)
    assert complaint is None or (str(path) in complaint and "\n" not in complaint)
    assert time.monotonic() - start < SLOWEST_S
    return complaint is None


def run(path, names, count, seed):
    """How many of `count` mutants of each file still decoded."""
    random = np.random.default_rng(seed)
    worked = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in names:
            for _ in range(count):
                worked += attempt(path, mutant(FILES[name], random))
    return worked


@pytest.mark.parametrize("name", FILES)
def test_mutants(tmp_path, name):
    tracemalloc.start()
    try:
        run(tmp_path / "mutant", [name], 60, seed=len(name))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MOST_BYTES


@pytest.mark.parametrize("name", FILES)
def test_every_truncation(tmp_path, name):
    data = FILES[name]
    for size in range(1, len(data), max(1, len(data) // 60)):
        attempt(tmp_path / "cut", data[:size])


@pytest.mark.parametrize("name", OWN)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(min_size=1, max_size=600))
def test_any_bytes(tmp_path, name, data):
    attempt(tmp_path / "bytes", data, format=name)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text("0123456789 ,.-+eE#%txyp\n\r\t;nainf", min_size=1, max_size=300))
def test_any_text(tmp_path, text):
    attempt(tmp_path / "text", text.encode())
    attempt(tmp_path / "text", text.encode(), format="csv", columns="txyp")


@pytest.fixture(scope="module")
def aedat4(tmp_path_factory):
    path = tmp_path_factory.mktemp("aedat4") / "whole.aedat4"
    events = make.events_of([(1000 + i, i % 64, i % 48, i % 2) for i in range(5000)])
    write_aedat4(path, [events], 64, 48, source="a test")
    return path.read_bytes()


def through_the_child(path, data, count, seed):
    """Mutants of an AEDAT4 file; returns how many decoded, and how many children it took."""
    random = np.random.default_rng(seed)
    worked, pids = 0, set()
    with DecoderProcess(progress_s=5, memory_bytes=1 << 30) as decoder:
        for _ in range(count):
            Path(path).write_bytes(mutant(data, random))
            start = time.monotonic()
            complaint = str(path)
            try:
                with decoder.open(path) as recording:
                    pids.add(decoder.pid)
                    sum(map(len, recording))
                worked += 1
            except DataError as error:
                complaint = str(error)
            assert str(path) in complaint
            assert time.monotonic() - start < 10
        path.write_bytes(data)
        with decoder.open(path) as recording:
            assert sum(map(len, recording)) == 5000
    return worked, len(pids)


def test_aedat4_mutants(tmp_path, aedat4):
    through_the_child(tmp_path / "mutant.aedat4", aedat4, 40, seed=1)


def test_aedat4_truncations_hand_out_whole_packets(tmp_path, aedat4):
    path = tmp_path / "cut.aedat4"
    with DecoderProcess() as decoder:
        found, other = [], 0
        for size in np.linspace(900, len(aedat4) - 1, 25).astype(int):
            path.write_bytes(aedat4[:size])
            try:
                with decoder.open(path) as recording:
                    found.append((sum(map(len, recording)), recording.stats.truncated_bytes))
            except FirstspikeError as error:
                other += not isinstance(error, DataError)
        assert other == 0
        assert {count for count, _ in found} >= {0, 4096, 5000}
        assert all(cut > 0 for count, cut in found if count < 5000)


@pytest.mark.soak
def test_many_mutants(tmp_path):
    each = -(-100_000 // len(FILES))
    worked, total = run(tmp_path / "mutant", FILES, each, seed=7), each * len(FILES)
    assert worked > 0
    figure(
        f"decoders: {total} mutants of {len(FILES)} files",
        f"{worked} decoded, {total - worked} refused by name; none took {SLOWEST_S:g} s, nothing else was raised",
    )


@pytest.mark.soak
def test_ten_thousand_drawn_files(tmp_path):
    """Any bytes at all, said to be of any format."""
    tried = [0, 0]

    @settings(max_examples=10_000)
    @given(name=st.sampled_from(OWN), data=st.binary(min_size=1, max_size=2000))
    def check(name, data):
        tried[0] += 1
        tried[1] += attempt(tmp_path / "bytes", data, format=name)

    check()
    figure(
        "decoders: 10,000 files drawn by Hypothesis", f"{tried[1]} of {tried[0]} decoded, the others refused by name"
    )


@pytest.mark.soak
def test_many_aedat4_mutants(tmp_path, aedat4):
    worked, children = through_the_child(tmp_path / "mutant.aedat4", aedat4, 1000, seed=2)
    assert worked > 0
    assert children >= 1
    figure(
        "decoders: 1,000 mutants of AEDAT4 through the child",
        f"{worked} decoded, {1000 - worked} refused by name; {children} children; the whole file decodes after them",
    )

"""Real recordings: counts and spans equal the known truths, events equal other decoders where those are right.

The data is not part of the project: where it is absent, these tests skip and say so.
"""

from __future__ import annotations

import numpy as np
import pytest
from tests.support.decoding import decode
from tests.support.program import DATA

from firstspike.errors import DataError
from firstspike.sources.decoding import DecoderProcess
from firstspike.sources.summary import summarise

aedat = pytest.importorskip("aedat")
faery = pytest.importorskip("faery")
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"the real recordings are not here ({DATA})")
FORMATS = DATA / "formats"

TRUTHS = [
    # file, format, width, height, geometry from, events, ON, first µs, last µs
    ("aedat2/davis240c_imu_rotDisk.aedat", "aedat2", 240, 180, "sensor", 374_296, 163_098, 341_678, 3_508_437),
    ("aedat2/dvs128_foam90_tiny.aedat", "aedat2", 128, 128, "sensor", 1_575, 1_247, 2_693_326_797, 2_698_248_407),
    ("aedat2/edvs128_short.aedat", "aedat2", 128, 128, "sensor", 130_114, 74_991, 113_476_330, 119_657_829),
    ("aedat4/davis346_frames_imu_trig.aedat4", "aedat4", 346, 260, "header", 117_667, 72_363,
     1_633_953_690_975_950, 1_633_953_691_105_949),
    ("aedat4/dvproc_test-minimal_dvx640x480.aedat4", "aedat4", 640, 480, "header", 255_283, 150_816,
     1_631_717_221_674_515, 1_631_717_224_374_502),
    ("aedat4/dvxplorer_320x240_imu.aedat4", "aedat4", 320, 240, "header", 111_954, 55_023,
     1_605_537_493_718_345, 1_605_537_494_308_262),
    ("aedat4/dvproc_empty_stereo.aedat4", "aedat4", 100, 100, "header", 0, 0, None, None),
    ("aedat4/dvproc_test-frame_framesonly.aedat4", "aedat4", 346, 260, "header", 0, 0, None, None),
    ("evt2/gen3_640x480_expelliarmus.raw", "evt2", 640, 480, "sensor", 539_481, 367_855, 1_317_888, 1_367_888),
    ("evt3/gen41_1280x720_expelliarmus.raw", "evt3", 1280, 720, "sensor", 219_596, 115_532, 11_718_656, 11_727_457),
    ("evt3/gen41_1280x720_5k.raw", "evt3", 1280, 720, "sensor", 5_000, 2_894, 5_840_504, 5_885_714),
    ("evt3/derived_gen31_640x480_triggers.raw", "evt3", 640, 480, "header", 343_474, 125_183, 7_139_845, 9_218_023),
    ("dat/ncars_tonic.dat", "dat", 78, 42, "events", 2_009, 1_350, 0, 99_952),
    ("es/dvs_320x240.es", "es", 320, 240, "header", 473_225, 270_001, 0, 999_000),
    ("csv/genx320_digit1_xypt.csv", "csv", 320, 320, "events", 229_233, 100_112, 3, 5_299_996),
    ("atis_bin/nmnist_tonic.bin", "atis", 34, 34, "convention", 4_325, 2_145, 654, 311_175),
]  # fmt: skip


@pytest.fixture(scope="module")
def decoder():
    with DecoderProcess() as process:
        yield process


@pytest.mark.parametrize("truth", TRUTHS, ids=lambda truth: truth[0])
def test_counts_and_spans(decoder, truth):
    name, kind, width, height, origin, events, on, first, last = truth
    found = summarise(FORMATS / name, decoder=decoder)
    assert (found["format"], found["width"], found["height"], found["geometry_from"]) == (kind, width, height, origin)
    assert (found["events"], found["on"], found["t_first_us"], found["t_last_us"]) == (events, on, first, last)
    assert (found["backward"], found["out_of_bounds"], found["truncated_bytes"]) == (0, 0, 0)


def test_a_file_of_frames_only_says_so(decoder):
    notes = summarise(FORMATS / "aedat4/dvproc_test-frame_framesonly.aedat4", decoder=decoder)["notes"]
    assert "there is no event stream in this file" in notes
    assert "20 packets of other streams (frame) ignored" in notes


@pytest.mark.parametrize("name", ["color_320x240.es", "generic.es"])
def test_streams_without_polarity_are_refused(decoder, name):
    with pytest.raises(DataError, match="without polarity"):
        decoder.open(FORMATS / "es" / name)


@pytest.mark.parametrize(
    "name",
    [t[0] for t in TRUTHS if t[5] and t[1] in ("aedat4", "evt2", "es")]
    + ["evt3/gen41_1280x720_5k.raw", "evt3/derived_gen31_640x480_triggers.raw"],
)
def test_events_equal_faery(name):
    _, ours, _ = decode(FORMATS / name)
    theirs = np.concatenate(list(faery.events_stream_from_file(FORMATS / name)))
    for field, other in (("t", "t"), ("x", "x"), ("y", "y"), ("p", "on")):
        assert np.array_equal(ours[field], theirs[other].astype(ours[field].dtype)), field


def test_faery_pulls_times_forward_where_ours_are_those_of_the_words():
    # The camera repeats TIME_HIGH with a TIME_LOW up to 12 µs ahead, before any event has that time.
    _, ours, _ = decode(FORMATS / "evt3/gen41_1280x720_expelliarmus.raw")
    theirs = np.concatenate(list(faery.events_stream_from_file(FORMATS / "evt3/gen41_1280x720_expelliarmus.raw")))
    assert np.array_equal(ours["x"], theirs["x"])
    ahead = theirs["t"].astype(np.int64) - ours["t"]
    assert (ahead >= 0).all()
    assert ahead.max() <= 12
    assert ours["t"][-1] - ours["t"][0] == 8_801


@pytest.mark.parametrize("folder", ["dvs128_objects", "dvs128_handgesture_aedat4"])
def test_every_dvs128_recording(decoder, folder):
    files = sorted((DATA / folder).rglob("*.aedat*"))
    assert len(files) == {"dvs128_objects": 11, "dvs128_handgesture_aedat4": 15}[folder]
    for file in files:
        found = summarise(file, decoder=decoder)
        assert (found["width"], found["height"], found["out_of_bounds"]) == (128, 128, 0)
        assert found["events"] > 10_000
        assert 0 < found["on"] < found["events"]
        if file.suffix == ".aedat":
            ignored = sum(int(note.split()[0].replace(",", "")) for note in found["notes"] if note.endswith("ignored"))
            body = file.stat().st_size - header_bytes(file)
            assert found["events"] + ignored == body // 8
        else:
            assert found["events"] == sum(len(packet["events"]) for packet in aedat.Decoder(file) if "events" in packet)


def header_bytes(path):
    position = 0
    with path.open("rb") as file:
        while (line := file.readline()).startswith(b"#"):
            position += len(line)
    return position


def test_nmnist(decoder):
    files = sorted((DATA / "nmnist" / "Train").rglob("*.bin"))[::60]
    assert len(files) == 15
    for file in files:
        found = summarise(file, decoder=decoder)
        assert (found["format"], found["width"], found["height"]) == ("atis", 34, 34)
        assert found["events"] == file.stat().st_size // 5
        assert 280_000 < found["duration_us"] < 320_000

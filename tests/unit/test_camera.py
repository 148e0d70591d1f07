"""A live camera, before a stand-in for its driver: this never ran before a camera."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from tests.support.cameras import bench_at, next_segment, read, reason
from tests.support.figures import figure
from tests.support.pipelines import pipeline_of

from firstspike.backends import emulator
from firstspike.bundle import open_bundle
from firstspike.clock import SystemClock
from firstspike.errors import ConfigError, UnavailableError
from firstspike.messages_health import Counters
from firstspike.sources import camera
from firstspike.sources.camera_child import OVERRIDE, converted, find

ROOT = Path(__file__).parents[2]

pytest.importorskip("neuromorphic_drivers", reason="the extra 'camera' is not installed")


@pytest.fixture
def bench(tmp_path, monkeypatch):
    yield from bench_at(tmp_path, monkeypatch)


def test_what_is_counted_has_a_place_in_health():
    assert {"camera_overflows", "backlog_cuts", "backlog_packets"} <= Counters.model_fields.keys()


def test_a_cameras_events_arrive_with_the_time_it_tells(bench):
    bench.put("plugged", "00050421")
    segment = next_segment(bench.source().segments())
    assert segment.name == "Prophesee EVK4 00050421"
    with segment.open() as stream:
        assert (stream.info.width, stream.info.height) == (1280, 720)
        assert stream.info.notes == ("USB 3.0 SuperSpeed (5.0 Gb/s)",)
        arrival = stream.receive(5)
        assert len(arrival.events) == 50
        assert set(arrival.events["p"].tolist()) == {0, 1}
        assert arrival.reached_us >= arrival.events["t"][-1]
        assert 0 <= time.monotonic_ns() - arrival.arrived_ns < 2_000_000_000
        events = read(stream, 500)
    assert (np.diff(events["t"]) >= 0).all()


def test_a_camera_that_is_pulled_and_plugged_in_again_goes_on_as_another_segment(bench):
    segments = bench.source().segments()
    assert "no camera is attached: plug one in" in reason(segments, "attached")
    told, back = [], []
    for _ in range(2):
        bench.put("plugged", "1")
        began = time.monotonic()
        segment = next_segment(segments)
        with segment.open() as stream:
            read(stream, 100)
            back.append(time.monotonic() - began)
            bench.take("plugged")
            began = time.monotonic()
            with pytest.raises(UnavailableError, match="Prophesee EVK4 1: the camera was lost: Device disconnected"):
                read(stream, 10**9)
            told.append(time.monotonic() - began)
        reason(segments, "plug one in")
    figure("camera pulled and plugged in again, twice", f"told after {most(told)}, events again after {most(back)}")


def most(seconds):
    return f"{max(seconds):.2f} s at most"


def test_a_backlog_is_cut_not_replayed_and_is_counted(bench):
    bench.put("plugged", "1")
    bench.put("delay", "0.4")
    with next_segment(bench.source(backlog_ms=100).segments()).open() as stream:
        events = read(stream, 100)
        counts = stream.take_counts()
    assert (counts["backlog_cuts"], counts["backlog_packets"]) == (1, 8)
    assert events["t"][0] >= 5_000  # the packet that was late is gone too
    assert stream.take_counts() == {}


def test_events_that_waited_less_are_dated_back(bench):
    bench.put("plugged", "1")
    bench.put("delay", "0.03")
    with next_segment(bench.source(backlog_ms=100).segments()).open() as stream:
        arrival = stream.receive(5)
    assert time.monotonic_ns() - arrival.arrived_ns >= 30_000_000


def test_overflows_are_counted(bench):
    bench.put("plugged", "1")
    bench.put("overflow")
    with next_segment(bench.source().segments()).open() as stream:
        read(stream, 100)
        assert stream.take_counts() == {"camera_overflows": 2}


def test_a_silent_camera_is_alive(bench):
    bench.put("plugged", "1")
    bench.put("silent")
    with next_segment(bench.source(hang_s=0.5).segments()).open() as stream:
        end = time.monotonic() + 1.0
        while time.monotonic() < end:
            assert len(stream.receive(0.05).events) == 0


def test_biases_and_rate_limit_reach_the_camera_and_the_rest_stays(bench):
    bench.put("plugged", "1")
    options = {"biases": {"diff_on": 20, "diff_off": -5}, "max_events_per_s": 5e6}
    next_segment(bench.source(**options).segments())
    told = bench.configured()
    assert (told["biases"]["diff_on"], told["biases"]["diff_off"], told["biases"]["fo"]) == (20, -5, 0)
    assert told["rate"] == {"reference_period_us": 1000, "maximum_events_per_period": 5000}


def test_a_dvxplorers_readout_is_set(bench):
    bench.put("plugged", "1")
    bench.put("kind", "INIVATION_DVXPLORER")
    next_segment(bench.source(readout="variable5000").segments())
    assert bench.configured()["readout"] == "VARIABLE5000"


@pytest.mark.parametrize(
    ("kind", "options", "part"),
    [
        ("PROPHESEE_EVK4", {"biases": {"nonsense": 1}}, "biases.nonsense: prophesee_evk4 has none of this name: diff"),
        ("PROPHESEE_EVK4", {"biases": {"fo": 24}}, "biases.fo = 24: must be from -25 to 23"),
        ("PROPHESEE_EVK4", {"readout": "variable5000"}, "prophesee_evk4 has none"),
        ("INIVATION_DVXPLORER", {"readout": "fast"}, "has constant100, "),
        ("INIVATION_DAVIS346", {"max_events_per_s": 1e6}, "inivation_davis346 cannot limit its events"),
    ],
)
def test_what_the_camera_cannot_have_ends_the_run_with_a_reason(bench, kind, options, part):
    bench.put("plugged", "1")
    bench.put("kind", kind)
    with pytest.raises(ConfigError) as caught:
        next_segment(bench.source(**options).segments())
    assert part in str(caught.value)


@pytest.mark.parametrize(
    ("files", "options", "part"),
    [
        ({}, {}, "no camera is attached: plug one in"),
        ({"plugged": "1"}, {"serial": "2"}, "no camera with serial 2 is attached: there is Prophesee EVK4 (serial 1)"),
        ({"plugged": "1"}, {"model": "davis346"}, "no camera davis346 is attached: there is Prophesee EVK4"),
        ({"plugged": "1", "denied": "Access denied"}, {}, "cannot be opened: Access denied: may this user use it?"),
        ({"usb": "Other error"}, {}, "no camera: USB cannot be looked at: Other error"),
    ],
)
def test_why_there_is_no_camera(bench, files, options, part):
    for name, text in files.items():
        bench.put(name, text)
    reason(bench.source(**options).segments(), part)


def test_a_camera_that_is_wanted_by_name_is_found(bench):
    bench.put("plugged", "00050421")
    next_segment(bench.source(model="evk4", serial="00050421").segments())


def test_without_the_drivers_the_fix_is_told(bench, monkeypatch, tmp_path):
    missing = tmp_path / "missing.py"
    missing.write_text("from firstspike.errors import UnavailableError\nraise UnavailableError('no such package')\n")
    monkeypatch.setenv(OVERRIDE, str(missing))
    reason(bench.source().segments(), "no such package")


def test_the_real_drivers_say_that_there_is_no_camera(monkeypatch):
    import neuromorphic_drivers as real

    with pytest.raises(UnavailableError, match="no camera"):
        pytest.skip(f"a camera is attached here: {find(real, None, None)}")


def test_the_drivers_interface_is_the_one_that_we_speak():
    import neuromorphic_drivers as real

    assert {"list_devices", "open", "Name", "ListedDevice"} <= set(dir(real))
    for name in real.Name:
        module = getattr(real, name.name.lower())
        assert {"Biases", "BiasesBounds", "Configuration", "Properties"} <= set(dir(module)), name
    assert {"biases_bounds", "backlog", "clear_backlog", "update_configuration"} <= set(dir(real.device.Device))


def test_events_are_taken_over_field_by_field():
    raw = np.array([(5, 1, 2, True), (6, 3, 4, False)], [("t", "<u8"), ("x", "<u2"), ("y", "<u2"), ("on", "?")])
    assert converted(raw).tolist() == [(5, 1, 2, 1), (6, 3, 4, 0)]


@pytest.mark.parametrize("options", [{"model": "../x"}, {"hang_s": 0}, {"biases": {"a": "b"}}, {"nonsense": 1}])
def test_options_that_make_no_sense_are_refused(options):
    with pytest.raises(ValidationError):
        camera.Options(**options)


def test_unplugged_in_the_middle_of_a_run_the_pipeline_goes_on_with_the_next(bench):
    bundle = open_bundle(ROOT / "models" / "nmnist")
    out, seen = [], []
    bench.put("plugged", "1")

    def stopping():
        names = [d.source for d in out]
        if len(names) == 3 and not seen:
            seen.append("pulled")
            bench.take("plugged")
        elif seen == ["pulled"] and pipeline.broken and "plug one in" in pipeline.broken:
            seen.append("plugged")
            bench.put("plugged", "2")
        return len(seen) == 2 and names[-1].endswith("2")

    backend = emulator.create(emulator.Options(), bundle, "emulator")
    pipeline = pipeline_of(
        bundle.manifest, bench.source(), [backend], out.append, clock=SystemClock(), stopping=stopping
    )
    pipeline.run()
    assert [d.source for d in out][:3] == ["Prophesee EVK4 1"] * 3
    assert out[-1].source == "Prophesee EVK4 2"
    assert out[-1].evidence.windows <= 1  # evidence does not cross the gap
    totals = pipeline.totals.message()
    assert totals.sources_failed == 1
    assert pipeline.failures == []
    backend.close()

"""A source that reads the stand-in for a camera, `fake_camera`."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np

from firstspike.sources import Segment, Waiting, camera
from firstspike.sources.camera_child import OVERRIDE

FAKE = Path(__file__).with_name("fake_camera.py")


class Bench:
    """A camera in its folder, and the source that is to read it."""

    def __init__(self, folder):
        self.folder = folder
        self.sources = []

    def put(self, name, text=""):
        (self.folder / name).write_text(text)

    def take(self, name):
        (self.folder / name).unlink()

    def source(self, **options):
        options = {"look_s": 0.1, "hang_s": 2.0} | options
        self.sources.append(camera.create(camera.Options(**options), None))
        return self.sources[-1]

    def configured(self):
        return json.loads((self.folder / "configured.json").read_text())


def bench_at(folder, monkeypatch):
    """A generator for a fixture."""
    monkeypatch.setenv(OVERRIDE, str(FAKE))
    monkeypatch.setenv("FAKE_CAMERA", str(folder))
    monkeypatch.setattr(camera, "RESTART_S", 0.0)
    made = Bench(folder)
    yield made
    for source in made.sources:
        source.close()


def next_segment(segments, within_s=15.0):
    end = time.monotonic() + within_s
    for one in segments:
        if isinstance(one, Segment):
            return one
        assert time.monotonic() < end, one.reason
    raise AssertionError("the source ended")


def reason(segments, part, within_s=15.0):
    """Wait for a reason that holds this."""
    end = time.monotonic() + within_s
    for one in segments:
        assert isinstance(one, Waiting), one
        if part in one.reason:
            return one.reason
        assert time.monotonic() < end, one.reason
    raise AssertionError("the source ended")


def read(stream, n, within_s=10.0):
    found, end = [], time.monotonic() + within_s
    while sum(map(len, found)) < n:
        assert time.monotonic() < end
        found.append(stream.receive(0.1).events)
    return np.concatenate(found)

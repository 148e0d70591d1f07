"""The skeletons that a new source and back end start from do run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tests.support.pipelines import pipeline_of

from firstspike import plugins
from firstspike.backends import _template as backend_template
from firstspike.bundle import open_bundle
from firstspike.sources import _template as source_template

MODEL = Path(__file__).parents[2] / "models" / "nmnist"


def test_noise_through_an_absent_back_end():
    bundle = open_bundle(MODEL)
    source = source_template.create(source_template.Options(rate_hz=5000), Path())
    backend = backend_template.create(backend_template.Options(), bundle, "absent")
    out = []
    pipeline = pipeline_of(bundle.manifest, source, [backend], out.append)
    source.speed = None
    pipeline.run()
    assert len(out) == 20
    assert {d.status for d in out} == {"degraded"}
    assert "not there" in out[0].reasons[0]
    assert sum(d.window.events for d in out) == 5000


def test_only_finished_files_can_be_named():
    assert plugins.names("sources") == ["recording", "simulated"]
    assert {"definition", "emulator", "ncs2", "null"} <= set(plugins.names("backends"))
    assert not [name for name in plugins.names("backends") if name.startswith("_")]


def test_the_noise_is_sorted():
    with next(source_template.create(source_template.Options(seconds=2), Path()).segments()).open() as stream:
        times = np.concatenate([events["t"] for events in stream])
    assert (np.diff(times) >= 0).all()

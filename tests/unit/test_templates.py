"""The skeletons that a new source and back end, in the daemon or in a worker, start from do run."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import numpy as np
from tests.support.pipelines import pipeline_of
from tests.support.workers import new_driver

from firstspike import doctor, plugins
from firstspike.backends import _template as backend_template
from firstspike.backends import _template_worker as worker_template
from firstspike.bundle import open_bundle
from firstspike.sources import _template as source_template
from firstspike.worker import drivers
from firstspike.worker.supervisor import Limits, Supervisor

__all__ = ["new_driver"]

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
    assert plugins.names("sources") == ["camera", "network", "recording", "simulated"]
    kinds = ["definition", "emulator", "lava", "ncs2", "null", "openvino", "tensorrt", "tensorrt_rtx"]
    assert plugins.names("backends") == kinds


def test_the_noise_is_sorted():
    with next(source_template.create(source_template.Options(seconds=2), Path()).segments()).open() as stream:
        times = np.concatenate([events["t"] for events in stream])
    assert (np.diff(times) >= 0).all()


def test_a_copy_of_the_workers_skeleton_is_a_back_end_whose_device_is_never_there(new_driver, tmp_path, monkeypatch):
    monkeypatch.setenv("FIRSTSPIKE_WORKERS", str(tmp_path))
    new_driver("mine", Path(worker_template.__file__).read_text())
    assert "mine" in drivers.names()
    driver = drivers.load("mine")
    assert driver.defaults() == {"device": "any", "threads": 1, "precision": "f32"}
    found = doctor.accelerators([doctor.Section("mine", "mine", {}, (sys.executable,))])[0]
    assert (found.state, found.reason) == ("absent", "this skeleton has no device")
    assert found.fix == "write a driver: docs/workers.md"
    model = {"steps": 16, "classes": 10}
    program = driver.program((sys.executable,))
    supervisor = Supervisor("mine", program, ({"options": driver.defaults(), "model": model}, b"onnx"), Limits())
    try:
        condition = supervisor.wait_ready(30)
    finally:
        supervisor.close()
    assert (condition.state, condition.reason) == ("absent", "this skeleton has no device")


def test_the_workers_skeleton_is_text_that_python_3_6_reads():
    text = Path(worker_template.__file__).read_text()
    ast.parse(text, feature_version=(3, 6))
    assert "__future__" not in text

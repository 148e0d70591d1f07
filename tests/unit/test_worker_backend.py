"""A driver's file as a back end of the daemon: what it is sent, and what is made of its answers."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from pydantic import ValidationError
from tests.unit.networks import cases
from tests.unit.test_provisional import bundle_of, runnable

from firstspike import plugins
from firstspike.backends import emulator
from firstspike.backends import null as driver
from firstspike.bundle import open_bundle
from firstspike.cli import main
from firstspike.errors import BundleError
from firstspike.ttfs.file import load
from firstspike.types import Spikes
from firstspike.worker.backend import Answers
from firstspike.worker.options import WorkerOptions
from firstspike.worker.supervisor import Limits

MODEL = Path(__file__).parents[2] / "models" / "nmnist"


def spikes_of(bundle, seed=0):
    spec = bundle.manifest.input
    rng = np.random.default_rng(seed)
    shape = (spec.channels, spec.height, spec.width)
    times = np.where(rng.random(shape) < 0.2, rng.integers(0, spec.steps, shape), spec.steps)
    return Spikes(spec.steps, times.astype(np.uint8), 500)


def null(**options):
    module = plugins.load("backends", "null")
    return module, module.Options(**options)


@pytest.fixture
def answering():
    made = []

    def start(**options):
        module, valid = null(**options)
        backend = module.create(valid, open_bundle(MODEL), "tester")
        made.append(backend)
        deadline = time.monotonic() + 30
        while backend.condition().state == "starting" and time.monotonic() < deadline:
            time.sleep(0.01)
        return backend

    yield start
    for backend in made:
        backend.close()


def test_a_workers_answer_is_an_inference_under_the_sections_name(answering):
    backend = answering()
    spikes = spikes_of(open_bundle(MODEL))
    found = backend.infer(spikes, 5)
    activations = (spikes.steps - spikes.times.astype(int)).reshape(-1)
    expected = [activations[k::10].sum() for k in range(10)]
    assert (found.backend, found.failure, found.first_spike) == ("tester", None, None)
    assert found.potential.dtype == np.int32
    assert found.potential.tolist() == expected


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("shape", "shape (9,), the model has 10 classes"), ("number", "no finite number"), ("raise", "told to fail")],
)
def test_an_answer_that_makes_no_sense_is_a_failure_with_its_reason(answering, fault, reason):
    backend = answering(fault=fault, every=2)
    spikes = spikes_of(open_bundle(MODEL))
    assert backend.infer(spikes, 5).failure is None
    failed = backend.infer(spikes, 5)
    assert failed.potential is None
    assert reason in failed.failure
    assert failed.failure.startswith("tester: ")


def test_a_worker_whose_answers_make_no_sense_is_replaced(answering):
    backend = answering(fault="shape", every=2)
    before, spikes = backend.condition().pid, spikes_of(open_bundle(MODEL))
    backend.infer(spikes, 5)
    backend.infer(spikes, 5)
    deadline = time.monotonic() + 30
    while backend.condition().state != "ready" and time.monotonic() < deadline:
        time.sleep(0.01)
    assert backend.condition().pid not in (None, before)
    assert backend.infer(spikes, 5).failure is None


@settings(deadline=None, max_examples=60)
@given(case=cases().filter(runnable).filter(lambda case: case[0].neuron == "gated"))
def test_dense_potentials_give_the_spikes_that_the_emulator_gives(case, tmp_path_factory):
    network, times = case
    bundle = bundle_of(network, tmp_path_factory.mktemp("bundle"))
    expected = emulator.create(emulator.Options(), bundle, "emulator").infer(Spikes(network.input_steps, times, 1))
    found = Answers(bundle, "dense").read("x", {"output": expected.potential.astype(np.float32)})
    np.testing.assert_array_equal(found.potential, expected.potential)
    np.testing.assert_array_equal(found.first_spike, expected.first_spike)
    assert found.frame == expected.frame


def test_logits_are_put_into_the_units_that_decisions_are_made_of():
    bundle = open_bundle(MODEL)
    answers = Answers(bundle, "ann")
    assert answers.model["scale"] == 1 / bundle.manifest.input.steps
    logits = np.linspace(-3, 5, 10, dtype=np.float32)
    found = answers.read("x", {"output": logits})
    np.testing.assert_allclose(found.potential * bundle.manifest.decide.logit_scale, logits, atol=0.002)
    assert found.first_spike is None
    assert found.frame is None


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({}, "nothing and no 'output'"),
        ({"potential": np.zeros(10)}, "potential and no 'output'"),
        ({"output": np.zeros((1, 10))}, "shape"),
        ({"output": np.full(10, np.inf)}, "finite"),
        ({"output": np.full(10, 2.0**31)}, "32 bits"),
    ],
)
def test_what_is_no_answer_is_refused(arrays, reason):
    with pytest.raises(ValueError, match=reason):
        Answers(open_bundle(MODEL), "dense").read("x", arrays)


def test_a_quartz_network_has_no_dense_form_and_the_way_out_is_named(tmp_path):
    bundle = open_bundle(MODEL)
    network = load(bundle.path("ttfs"))
    quartz = bundle_of(type(network)("quartz", network.input_shape, network.input_steps, network.layers), tmp_path)
    with pytest.raises(BundleError, match=r"quartz neurons has no dense form: set network = 'ann'"):
        Answers(quartz, "dense")


def test_checking_a_configuration_starts_no_worker(monkeypatch):
    def start(*_):
        raise AssertionError("a worker was started")

    monkeypatch.setattr("firstspike.worker.backend.Supervisor", start)
    plans = ["--set", 'schedule.plans=["null", "openvino"]', "--set", "source.kind=simulated"]
    assert main(["check", "--set", f"model.path={MODEL}", *plans]) == 0
    with pytest.raises(AssertionError, match="was started"):
        plugins.load("backends", "null").create(null()[1], open_bundle(MODEL), "null").condition()


def test_every_workers_section_has_the_common_keys_and_its_drivers_own():
    module, options = null(latency_ms=3, hang_s=0.5, command=["ssh", "host", "python3"])
    assert options.limits() == Limits(hang_s=0.5)
    table = {name: option.default for name, option in driver.OPTIONS.items()}
    assert options.of_driver() == table | {"latency_ms": 3.0}
    assert set(WorkerOptions.model_fields) < set(module.Options.model_fields)
    for wrong in ({"fault": "odd"}, {"every": 0}, {"latency_ms": "x"}, {"hang_s": 0}, {"nonsense": 1}):
        with pytest.raises(ValidationError):
            module.Options(**wrong)

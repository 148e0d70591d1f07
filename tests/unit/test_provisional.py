"""Provisional decisions on their way through the pipeline, and back ends that run in steps."""

from __future__ import annotations

import hashlib
import json
import tempfile
from math import prod
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from tests.support.pipelines import pipeline_of
from tests.unit.networks import cases
from tests.unit.test_pipeline import MANIFEST, FakeBackend, FakeSource, FakeStream, block, drive

from firstspike import anytime
from firstspike.backends import SteppingBackend, definition, emulator
from firstspike.bundle import DecideSpec, open_bundle
from firstspike.clock import SystemClock
from firstspike.errors import OutputError
from firstspike.messages import Provisional, decode, encode
from firstspike.ttfs.file import save
from firstspike.types import Frame, Inference, Spikes

FRAME = Frame(4, 8, 12)


class Stepping(FakeBackend):
    """Names class a early, and decides for class b in the end: a quartz neuron that spiked before its inhibition."""

    def infer_in_steps(self, spikes, early):
        self.calls += 1
        early(Inference(self.name, np.array([7, 1], np.int32), np.array([5, 12], np.int32), frame=FRAME))
        if self.calls in self.failures:
            return Inference(self.name, None, None, "it died on the way")
        return Inference(self.name, np.array([2, 9], np.int32), np.array([5, 10], np.int32), frame=FRAME)


class Saying(FakeBackend):
    def __init__(self, potential, first_spike):
        super().__init__()
        self.potential, self.first_spike = potential, first_spike

    def infer(self, spikes, within_s):
        spikes = np.array(self.first_spike, np.int32)
        return Inference(self.name, np.array(self.potential, np.int32), spikes, frame=FRAME)


def drive_early(stream, backend, early=None, clock=None, **changes):
    """All messages in the order in which they left, and the totals."""
    out = []
    pipeline = pipeline_of(
        MANIFEST, FakeSource(stream), [backend], out.append, clock=clock, early=early or out.append,
        decide=DecideSpec(**changes),
    )  # fmt: skip
    pipeline.run()
    return out, pipeline.totals.message()


def test_none_are_made_unless_they_are_wanted():
    for backend in (FakeBackend(), Stepping()):
        pipeline, out = drive(FakeStream([block(0, 120)]), backend=backend)
        assert not any(isinstance(message, Provisional) for message in out)
        assert pipeline.totals.message().provisional == 0


def test_a_provisional_decision_leaves_before_its_decision():
    out, totals = drive_early(FakeStream([block(0, 50, 120)]), FakeBackend(), clock=SystemClock())
    assert [type(message).__name__ for message in out] == ["Provisional", "Decision"] * 2
    for number, (early, final) in enumerate(zip(out[::2], out[1::2], strict=True)):
        assert (early.seq, early.decision_seq, early.window_index) == (number, final.seq, final.window.index)
        assert (early.label, early.in_steps, early.backend) == ("a", False, "fake")
        assert (early.t_us, early.source, early.events) == (final.t_us, final.source, final.window.events)
        assert early.first_spike.agrees is None
        assert early.first_spike.model_copy(update={"agrees": True}) == final.first_spike
        assert early.stamps.closed_ns == final.stamps.closed_ns
        stamps = early.stamps.encoded_ns, early.stamps.spiked_ns, early.stamps.published_ns, final.stamps.published_ns
        assert list(stamps) == sorted(stamps)
        assert final.stamps.inferred_ns <= early.stamps.spiked_ns  # computed at once: nothing was still to come
        assert decode(encode(early), Provisional) == early
    assert (totals.provisional, totals.provisional_differed) == (2, 0)


def test_one_from_a_back_end_in_steps_leaves_while_it_runs_and_the_decision_may_differ():
    out, totals = drive_early(FakeStream([block(0)]), Stepping(), clock=SystemClock())
    early, final = out
    assert (early.label, early.in_steps, final.window.label) == ("a", True, "b")
    assert (final.first_spike.label, final.first_spike.agrees) == ("a", False)
    assert (final.first_spike_step, final.first_spike.step) == (5, 1)
    assert early.stamps.published_ns <= final.stamps.inferred_ns
    assert (totals.provisional, totals.provisional_differed) == (1, 1)


def test_a_back_end_that_dies_after_its_first_spike_leaves_a_degraded_decision():
    out, totals = drive_early(FakeStream([block(0)]), Stepping(failures=(1,)))
    assert [type(message).__name__ for message in out] == ["Provisional", "Decision"]
    assert (out[1].status, out[1].window.label, out[1].first_spike) == ("degraded", None, None)
    assert (totals.provisional, totals.provisional_differed) == (1, 1)


@pytest.mark.parametrize(
    ("backend", "changes", "spike"),
    [
        (Saying([-1, 0], [12, 12]), {}, (None, None, None)),  # silent
        (Saying([5, 0], [9, 12]), {"min_events": 3}, (9, None, None)),  # too few events to say anything
    ],
)
def test_who_has_nothing_to_say_is_not_provisional(backend, changes, spike):
    out, totals = drive_early(FakeStream([block(0)]), backend, **changes)
    assert [type(message).__name__ for message in out] == ["Decision"]
    first = out[0].first_spike
    assert (first.network_step, first.label, first.agrees) == spike
    assert out[0].first_spike_step == spike[0]
    assert totals.provisional == 0


def test_a_failed_inference_has_no_first_spike_and_no_provisional_decision():
    out, _ = drive_early(FakeStream([block(0)]), FakeBackend(failures=(1,)))
    assert [type(message).__name__ for message in out] == ["Decision"]
    assert (out[0].first_spike, out[0].first_spike_step) == (None, None)


@pytest.mark.parametrize("backend", [FakeBackend(), Stepping()])
def test_a_sink_of_provisional_decisions_that_fails_ends_the_run(backend):
    def gone(_):
        raise OutputError("closed")

    with pytest.raises(OutputError, match="closed"):
        drive_early(FakeStream([block(0, 100, 200)]), backend, early=gone)
    assert backend.calls == 1


def bundle_of(network, folder):
    save(network, folder / "network.npz")
    digest = hashlib.sha256((folder / "network.npz").read_bytes()).hexdigest()
    channels, height, width = network.input_shape
    manifest = json.loads(MANIFEST.model_dump_json(by_alias=True)) | {
        "labels": [str(label) for label in range(network.shapes()[-1][0])],
        "input": {"channels": channels, "height": height, "width": width, "encoding": "count",
                  "steps": network.input_steps},
        "files": {"ttfs": {"path": "network.npz", "sha256": digest}},
    }  # fmt: skip
    (folder / "bundle.json").write_text(json.dumps(manifest))
    return open_bundle(folder)


def runnable(case):
    """Bundles are for one or two channels and two or more classes, one neuron each."""
    (network, _), (classes, height, width) = case, case[0].shapes()[-1]
    return network.input_shape[0] <= 2 and classes >= 2 and height == width == 1


@settings(deadline=None, max_examples=60)
@given(cases().filter(runnable))
def test_the_definition_tells_of_the_first_spike_once_and_as_the_emulator_does_in_the_end(case):
    network, times = case
    with tempfile.TemporaryDirectory() as folder:
        bundle = bundle_of(network, Path(folder))
        one = definition.create(definition.Options(), bundle, "definition")
        other = emulator.create(emulator.Options(), bundle, "emulator")
    spikes, told = Spikes(network.input_steps, times, prod(times.shape)), []
    final, expected = one.infer_in_steps(spikes, told.append), other.infer(spikes)
    for answer in (final, one.infer(spikes)):
        np.testing.assert_array_equal(answer.potential, expected.potential)
        np.testing.assert_array_equal(answer.first_spike, expected.first_spike)
        assert answer.frame == expected.frame
    labels = bundle.manifest.labels
    found = anytime.report(expected, labels)
    if found.label is None:
        assert told == []
    else:
        assert [anytime.report(early, labels) for early in told] == [found]
        # What had not happened by then cannot be known then.
        assert all(step <= found.known_step or step == told[0].frame.last for step in told[0].first_spike.tolist())


def test_only_a_back_end_that_runs_in_steps_says_so():
    bundle = open_bundle(Path(__file__).parents[2] / "models" / "nmnist")
    assert isinstance(definition.create(definition.Options(), bundle, "definition"), SteppingBackend)
    assert not isinstance(emulator.create(emulator.Options(), bundle, "emulator"), SteppingBackend)

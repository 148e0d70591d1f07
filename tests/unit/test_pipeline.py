"""The road from source to sink, with rooms that misbehave on command."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
from tests.support.pipelines import pipeline_of

from firstspike.bundle import DecideSpec, InputSpec, Manifest, WindowSpec
from firstspike.errors import DataError, OutputError
from firstspike.messages import encode
from firstspike.sources import Segment
from firstspike.types import EVENT, READY, Frame, Inference, RecordingInfo, RecordingStats

MANIFEST = Manifest(
    schema="firstspike.bundle/1", name="m", version="1", labels=["a", "b"],
    input=InputSpec(channels=2, height=4, width=4, encoding="count", steps=4, count_scale=4),
    window=WindowSpec(kind="time", size=100, hop=100), decide=DecideSpec(),
    files={"ttfs": {"path": "n", "sha256": "0" * 64}}, licence="x", trained_on=[],
)  # fmt: skip


class FakeStream:
    info = RecordingInfo("npz", 4, 4, "given")

    def __init__(self, blocks, fault=None, outcome=None):
        self.blocks, self.fault, self.outcome = blocks, fault, outcome

    def __iter__(self):
        yield from self.blocks
        if self.fault:
            raise self.fault


class FakeSource:
    speed = None
    live = False
    max_silence_us = 10_000_000

    def __init__(self, *streams):
        self.streams = streams

    def segments(self):
        for number, stream in enumerate(self.streams):

            @contextmanager
            def opened(stream=stream):
                if isinstance(stream, Exception):
                    raise stream
                yield stream

            yield Segment(f"s{number}", opened)

    def close(self):
        pass


class FakeBackend:
    name = "fake"

    def __init__(self, failures=()):
        self.failures, self.calls = failures, 0

    def condition(self):
        return READY

    def infer(self, spikes, within_s):
        self.calls += 1
        if self.calls in self.failures:
            return Inference(self.name, None, None, "the fake failed")
        return Inference(self.name, np.array([9, 0], np.int32), np.array([5, 8], np.int32), frame=Frame(0, 4, 8))

    def close(self):
        pass


def block(*times):
    events = np.zeros(len(times), EVENT)
    events["t"] = times
    return events


def drive(*streams, source=None, backend=None, sink=None, **options):
    out = []
    backends = backend if isinstance(backend, list) else [backend or FakeBackend()]
    pipeline = pipeline_of(MANIFEST, source or FakeSource(*streams), backends, sink or out.append, **options)
    pipeline.run()
    return pipeline, out


def test_a_window_becomes_a_decision():
    pipeline, out = drive(FakeStream([block(0, 50, 120)]))
    assert [(d.seq, d.t_us, d.label, d.status, d.backend, d.first_spike_step) for d in out] == [
        (0, 100, "a", "ok", "fake", 5), (1, 200, "a", "ok", "fake", 5),
    ]  # fmt: skip
    assert [d.window.partial for d in out] == [False, True]
    assert pipeline.totals.message().events == 3


def test_a_failed_inference_is_published_as_such_and_not_as_an_answer():
    _, out = drive(FakeStream([block(0, 100, 200)]), backend=FakeBackend(failures=(1,)))
    assert (out[0].status, out[0].reasons, out[0].backend) == ("degraded", ["the fake failed"], None)
    assert (out[0].label, out[0].window.label, out[0].confidence) == (None, None, None)
    assert out[1].status == "ok"


def test_a_broken_segment_is_counted_and_the_next_one_read():
    broken = FakeStream([block(0, 150)], DataError("a.raw: broken"))
    pipeline, out = drive(broken, DataError("b.raw: gone"), FakeStream([block(0)]))
    # What was read before the fault is inferred: the event at 150 too.
    assert [(d.source, d.t_us) for d in out] == [("s0", 100), ("s0", 200), ("s2", 100)]
    assert [name for name, _ in pipeline.failures] == ["s0", "s1"]
    totals = pipeline.totals.message()
    assert (totals.sources_failed, totals.events, totals.windows) == (2, 3, 3)
    assert pipeline.broken is None


def test_who_looks_back_hears_of_each_segments_end_whatever_ended_it():
    told = []
    look_back = SimpleNamespace(
        events=lambda events, info, name: told.append((name, len(events))), end_segment=lambda: told.append("end")
    )
    drive(FakeStream([block(1, 2)]), FakeStream([block(3)], fault=DataError("cut")), look_back=look_back)
    assert told == [("s0", 2), "end", ("s1", 1), "end"]


def test_evidence_does_not_cross_segments():
    _, out = drive(FakeStream([block(0, 100, 200)]), FakeStream([block(0)]))
    assert [d.evidence.windows for d in out] == [1, 2, 3, 1]


def test_a_sink_that_fails_ends_the_run():
    def sink(_):
        raise OutputError("full")

    with pytest.raises(OutputError, match="full"):
        drive(FakeStream([block(0)]), FakeStream([block(0)]), sink=sink)


def test_an_overfull_window_is_degraded():
    _, out = drive(FakeStream([block(*[0] * 10, 100)]), max_events=8)
    assert out[0].status == "degraded"
    assert "2 events dropped" in out[0].reasons[0]


def test_every_event_is_accounted_for():
    events = block(0, 10, 500, 20, 510, 505, 5_000_000, 100, 150)
    events["x"][2] = 9  # outside 4×4
    pipeline, out = drive(FakeStream([events]), reset_us=1000)
    totals = pipeline.totals.message()
    assert totals.events == 9
    assert sum(d.window.events for d in out) + totals.late + totals.overflow + totals.out_of_bounds == 9
    assert (totals.late, totals.backward, totals.resets, totals.out_of_bounds) == (1, 2, 1, 1)


def test_a_stop_repeats_no_window_and_hands_out_no_incomplete_one():
    out = []
    drive(FakeStream([block(0, 100, 200, 300)]), sink=out.append, stopping=lambda: len(out) >= 2)
    assert [(d.window.index, d.window.partial) for d in out] == [(0, False), (1, False)]


def test_nothing_more_is_made_for_a_sink_that_is_gone():
    backend = FakeBackend()

    def sink(_):
        raise OutputError("closed")

    with pytest.raises(OutputError):
        drive(FakeStream([block(0, 100, 200, 300)]), backend=backend, sink=sink)
    assert backend.calls == 1


def test_a_cut_recording_is_counted_and_named():
    cut = RecordingStats(events=1, bytes_read=99, truncated_bytes=7, notes=("a note of the end",))
    pipeline, out = drive(FakeStream([block(0)], outcome=cut), FakeStream([block(0)]))
    assert pipeline.totals.message().truncated_bytes == 7
    assert pipeline.truncated == {"s0": 7}
    assert len(out) == 2


def test_lying_timestamps_stay_within_what_the_wire_can_carry():
    times = [0, 1 << 51, 0, 1 << 51, 0, 1 << 52, -(1 << 52), 1 << 52] * 40
    _, out = drive(FakeStream([block(*times)] * 3))
    assert len(out) > 100
    for decision in out:
        encode(decision)


def test_a_stream_of_nothing_but_resets_costs_its_length():
    pipeline, out = drive(FakeStream([block(*[0, 100_000_000] * 5000)]))
    assert pipeline.totals.message().resets == 4999
    assert len(out) == 10_000

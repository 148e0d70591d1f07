"""A pipeline around back ends of a test's own."""

from __future__ import annotations

from firstspike.answer import Answerer, Due
from firstspike.clock import VirtualClock
from firstspike.handover import Inline, Queued
from firstspike.pipeline import Pipeline, Settings
from firstspike.plans import Runner
from firstspike.schedule import Queue, Schedule
from firstspike.schedule import Settings as Scheduling


def pipeline_of(
    manifest, source, backends, sink, *, clock=None, early=None, decide=None, stopping=lambda: False,
    scheduling=None, queued=False, quick_ns=0, look_back=None, **settings,
):  # fmt: skip
    """The road from a source to a sink.

    Args:
        manifest, source, sink, clock, early, decide, stopping, look_back: as `Pipeline` and `Answerer` take them.
        backends: one a plan.
        scheduling: with a deadline; default: none, as in replays.
        queued, quick_ns: whether windows are answered in a thread of their own; see `handover.Queued`.
        settings: of `pipeline.Settings`.
    """
    clock = clock or VirtualClock()
    scheduling = scheduling or Scheduling(deadline_ns=None)
    runner = Runner(backends, scheduling, clock)
    deadline_ns = scheduling.deadline_ns or 10**12
    answerer = Answerer(
        manifest=manifest, decide=decide or manifest.decide, runner=runner, schedule=Schedule(deadline_ns),
        clock=clock, epoch="e", sink=sink, early=early,
    )  # fmt: skip
    handover = Inline(answerer)
    if queued:
        queue: Queue[Due] = Queue(scheduling.queue, scheduling.deadline_ns)
        handover = Queued(answerer, queue, runner, clock.now_ns, quick_ns)
    return Pipeline(
        input_spec=manifest.input, settings=Settings(manifest.window, **settings), source=source, answerer=answerer,
        handover=handover, clock=clock, stopping=stopping, look_back=look_back,
    )  # fmt: skip

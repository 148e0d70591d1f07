"""Live streams of more than the daemon can answer: the freshest windows win, nothing grows, losses are counted."""

from __future__ import annotations

import gc
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from tests.support.figures import figure
from tests.support.pipelines import pipeline_of

from firstspike.bundle import open_bundle
from firstspike.clock import SystemClock
from firstspike.schedule import Settings
from firstspike.sender import Sender
from firstspike.sources import network
from firstspike.types import EVENT, READY, Inference

ROOT = Path(__file__).parents[2]
DEADLINE_NS = 200_000_000


class Slow:
    """Answers at half the pace of the windows."""

    name = "slow"

    def __init__(self, takes_s):
        self.takes_s = takes_s

    def condition(self):
        return READY

    def infer(self, spikes, within_s):
        time.sleep(self.takes_s)
        return Inference(self.name, np.zeros(10, np.int32), None)

    def close(self):
        pass


class Seen:
    """What is asked of the decisions; they themselves are not kept, since memory is measured."""

    def __init__(self):
        self.n = self.events = self.stale = 0
        self.in_order = True

    def take(self, decision):
        self.in_order = self.in_order and decision.seq == self.n
        self.n += 1
        self.events += decision.window.events
        if decision.backend is not None:
            age_ns = decision.stamps.encoded_ns - decision.stamps.closed_ns
            self.stale += age_ns > DEADLINE_NS + 50_000_000


def resident():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def overload(seconds, window_ms=20):
    """Windows at twice the pace of the answers, for so long; what was seen, the totals, and how memory grew."""
    bundle = open_bundle(ROOT / "models" / "nmnist")
    manifest = bundle.manifest.model_copy(
        update={"window": bundle.manifest.window.model_copy(update={"size": window_ms * 1000, "hop": window_ms * 1000})}
    )
    source = network.create(network.Options(address="udp://127.0.0.1:0", once=True), None)
    host, port = source.port.address
    grown = []

    def send():
        rng = np.random.default_rng(0)
        with Sender(f"udp://{host}:{port}", 34, 34) as sender:
            began = time.monotonic()
            for ms in range(round(seconds * 1000)):
                events = np.zeros(100, EVENT)
                events["t"] = ms * 1000 + np.arange(100) * 10
                events["x"], events["y"] = rng.integers(0, 34, (2, 100))
                sender.send(events)
                if ms in (round(seconds * 300), round(seconds * 950)):
                    gc.collect()
                    grown.append(resident())
                time.sleep(max(0.0, began + ms / 1000 - time.monotonic()))

    seen = Seen()
    pipeline = pipeline_of(
        manifest, source, [Slow(2 * window_ms / 1000)], seen.take, clock=SystemClock(), queued=True,
        scheduling=Settings(deadline_ns=DEADLINE_NS, queue=2),
    )  # fmt: skip
    sender = threading.Thread(target=send)
    sender.start()
    pipeline.run()
    sender.join()
    source.close()
    return seen, pipeline.totals.message(), grown[1] - grown[0]


def holds(seconds):
    seen, totals, grown = overload(seconds)
    # Every window has one decision, in order.
    assert seen.in_order
    assert seen.n == totals.windows
    assert seconds * 25 < totals.windows <= seconds * 50 + 1
    # Every event is in a window, or came when that was closed: the sender, too, is held up on a busy machine.
    assert totals.events == round(seconds * 1000) * 100
    assert seen.events + totals.late == totals.events
    assert totals.lost_packets == 0
    # About half of them are dropped, each with its cause.
    assert totals.windows * 0.3 < totals.decisions_dropped < totals.windows * 0.8
    causes = totals.dropped_replaced + totals.dropped_stale + totals.dropped_hopeless
    assert causes == totals.decisions_dropped
    # What is answered is fresh: nothing older than the deadline got its turn.
    assert seen.stale == 0
    figure(
        f"live events of twice the load, {seconds} s",
        f"{totals.windows} windows, {totals.decisions_dropped} dropped and published as that, {seen.stale} begun "
        f"more than 50 ms after the deadline, 0 of {totals.events:,} events unaccounted for; memory "
        f"{grown / 1024:+.0f} KiB",
    )
    return grown


def test_at_twice_its_capacity_the_freshest_windows_are_answered():
    assert holds(3) < 16 << 20


@pytest.mark.soak
def test_at_twice_its_capacity_for_ten_minutes_memory_stays_flat():
    assert holds(600) < 1 << 20

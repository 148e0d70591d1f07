"""Other configurations while live events come in: nothing is lost between two of them that read the same."""

from __future__ import annotations

import itertools
import socket
import threading
import time

import numpy as np
import pytest
from tests.support.program import ROOT
from tests.support.reloading import Daemon

from firstspike.sender import Sender
from firstspike.types import EVENT

TEXT = f"""\
[model]
path = "{ROOT}/models/nmnist"
[source]
kind = "network"
[source.network]
address = "{{address}}"
[filter]
refractory_us = 100
[window]
size = 10000
hop = 10000
[schedule]
deadline_ms = 10000
queue = 100
[publish]
endpoint = "ipc://{{folder}}/p"
"""


class Sending:
    """Sends 10 events a ms in real time, until it is told to stop."""

    def __init__(self, address):
        self.address, self.stop, self.sent = address, threading.Event(), 0
        self.thread = threading.Thread(target=self._run)

    def _run(self):
        events = np.zeros(20, EVENT)
        events["x"], events["y"] = np.arange(20) + 5, 17
        began = time.monotonic()
        with Sender(self.address, 34, 34) as sender:
            for number in itertools.count():
                events["t"] = number * 2000 + 100 * np.arange(20)
                sender.send_packet(events)
                self.sent += 20
                if self.stop.wait(max(0.0, began + 0.002 * number - time.monotonic())):
                    return

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()


@pytest.fixture
def running(tmp_path):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"udp://127.0.0.1:{probe.getsockname()[1]}"
    text = TEXT.format(address=address, folder=tmp_path)
    with Sending(address) as sending:
        made = Daemon(tmp_path, text)
        try:
            yield made, text, sending
        finally:
            made.stopping.set()
            made.thread.join(20)
    made.complete()


def counters(made):
    return made.manager.health.all()[0].counters


def test_no_window_of_a_live_stream_is_lost_between_two_configurations(running):
    made, text, _ = running
    pipeline = made.manager.generations.rooms.pipeline
    changes = [
        text + "[decide]\nmin_evidence = 10.0\n",
        text.replace("deadline_ms = 10000", "deadline_ms = 8000"),
        text.replace("models/nmnist", "models/dvs128-objects"),
        text,
    ]
    for change in changes:
        assert made.reload(change), made.manager.generations.error
        assert made.manager.generations.rooms.pipeline is pipeline
        made.seen(10)
    indices = [one.window.index for one in made.decisions]
    assert indices == list(range(len(indices))), "each window of 10 ms has events, and its decision"
    told = counters(made)
    assert (told.late, told.lost_packets, told.backward, told.overflow, told.filtered_refractory) == (0, 0, 0, 0, 0)
    assert {one.window.events for one in made.decisions[1:]} == {100}
    assert {one.status for one in made.decisions} == {"ok"}


def test_other_windows_of_the_same_source_begin_anew_and_the_sender_goes_on(running):
    made, text, sending = running
    source, pipeline = (getattr(made.manager.generations.rooms, name) for name in ("source", "pipeline"))
    for size in (20_000, 5_000):
        assert made.reload(text.replace("size = 10000\nhop = 10000", f"size = {size}\nhop = {size}"))
        made.seen(5)
        assert made.decisions[-1].window.events == size // 100
    assert made.manager.generations.rooms.source is source
    assert made.manager.generations.rooms.pipeline is not pipeline
    told = counters(made)
    assert (told.lost_packets, told.sources_failed, told.refused_packets) == (0, 0, 0)
    assert sending.sent - told.events < 2000, "what came meanwhile was read"


def test_a_source_with_other_options_takes_the_port_over(running):
    made, text, _ = running
    source = made.manager.generations.rooms.source
    assert made.reload(text.replace("[filter]", "silence_s = 2.0\n[filter]")), made.manager.generations.error
    made.seen(5)
    assert made.manager.generations.rooms.source is not source
    assert counters(made).sources_failed == 0

"""Several streams in one daemon: their configuration, their turns at a worker, and that none harms another."""

from __future__ import annotations

import sys
import threading
import time

import numpy as np
import pytest
from tests.support.messages import decision, health
from tests.support.program import ROOT

from firstspike import daemon, plugins
from firstspike.backends._shared import SharedBackend, Turns
from firstspike.bundle import open_bundle
from firstspike.cli.common import describe
from firstspike.client import Subscriber
from firstspike.config import load
from firstspike.config_layers import read_layers
from firstspike.config_plugins import BackendChoice
from firstspike.errors import ConfigError, NoInputError, UnavailableError
from firstspike.hybrid import place
from firstspike.messages import Decision, Health
from firstspike.publish import Publisher
from firstspike.shelf import Shelf
from firstspike.topics import DECISION, HEALTH, TOPICS
from firstspike.types import READY, Inference, Spikes

BASE = """\
[model]
path = "{root}/models/nmnist"
[publish]
endpoint = "ipc://{folder}/p"
health_period_s = 0.1
[stream.left.source]
kind = "simulated"
[stream.left.source.simulated]
digits = "0"
loop = false
speed = "max"
[stream.right.source]
kind = "simulated"
[stream.right.source.simulated]
digits = "77"
loop = false
speed = "max"
"""


def configured(folder, extra="", base=BASE):
    path = folder / "c.toml"
    path.write_text(base.format(root=ROOT, folder=folder) + extra)
    return path


def loaded(folder, extra="", settings=(), **options):
    return load(read_layers(configured(folder, extra, **options), settings, {}))


def fault(folder, extra, settings=()):
    with pytest.raises(ConfigError) as caught:
        loaded(folder, extra, settings)
    return str(caught.value)


def test_each_stream_is_the_base_with_its_own_sections_over_it(tmp_path):
    extra = "[window]\nsize = 20000\n[stream.left.window]\nsize = 10000\n[stream.left.schedule]\ndeadline_ms = 7\n"
    found = loaded(tmp_path, extra)
    own = dict(found.streams)
    assert list(own) == ["left", "right"]
    assert (own["left"].source_options.digits, own["right"].source_options.digits) == ("0", "77")
    assert (own["left"].config.window.size, own["right"].config.window.size) == (10_000, 20_000)
    assert (own["left"].config.schedule.deadline_ms, own["right"].config.schedule.deadline_ms) == (7, 100)
    assert own["left"].streams == ()
    assert ("stream", "left", "window", "size") in found.values


def test_a_stream_may_be_set_from_outside(tmp_path):
    found = loaded(tmp_path, settings=["stream.left.source.simulated.digits=5"])
    assert dict(found.streams)["left"].source_options.digits == "5"


@pytest.mark.parametrize(
    ("extra", "part"),
    [
        ("[stream.left.publish]\nendpoint = 'x'\n", "stream.left.publish.endpoint"),
        ("[stream.left.backend.openvino]\ndevice = 'x'\n", "these: [stream.left.model], [stream.left.source]"),
        ("[stream.a-B.window]\nsize = 1\n", "a stream's name has 1 to 32"),
        ("[stream]\nleft.size = 1\n", "a stream has sections of its own"),
        ("[stream.left.window]\nsise = 1\n", "window.sise = 1"),
        ("[stream.third.window]\nsize = 1\n", "source: missing"),
        ("[schedule]\nplans = ['nope']\n", "no back end is called so"),
    ],
)
def test_what_is_wrong_is_told_once_with_its_place(tmp_path, extra, part):
    told = fault(tmp_path, extra)
    assert told.count(part) == 1, told


def test_without_streams_nothing_changes(tmp_path):
    base = BASE.partition("[stream")[0] + '[source]\nkind = "simulated"\n'
    found = loaded(tmp_path, base=base)
    assert found.streams == ()


def test_hot_pixels_are_one_sensors_and_other_filters_may_be_shared(tmp_path):
    shared = '[filter]\nhot_pixels = "hot.toml"\nlearn_s = 5.0\nbackground_us = 1000\n'
    told = fault(tmp_path, shared)
    assert told.startswith("filter.hot_pixels = 'hot.toml'")
    assert "set stream.right.filter.hot_pixels" in told
    own = dict(loaded(tmp_path, shared + '[stream.right.filter]\nhot_pixels = "other.toml"\n').streams)
    assert [own[name].config.filter.hot_pixels for name in own] == ["hot.toml", "other.toml"]
    assert {own[name].config.filter.background_us for name in own} == {1000}


# Turns


def test_turns_are_given_in_the_order_in_which_they_were_asked_for():
    turns, order = Turns(), []
    assert turns.take(0)
    threads = []
    for number in range(5):
        thread = threading.Thread(target=lambda n=number: (turns.take(5), order.append(n), turns.give()))
        thread.start()
        threads.append(thread)
        while len(turns._waiting) <= number:
            time.sleep(0.001)
    turns.give()
    for thread in threads:
        thread.join()
    assert order == list(range(5))
    assert turns.take(0)


def test_who_does_not_get_a_turn_in_time_leaves_the_row():
    turns = Turns()
    assert turns.take(0)
    assert not turns.take(0.01)
    turns.give()
    assert turns.take(0)


class Slow:
    name = "slow"

    def __init__(self, takes_s):
        self.takes_s, self.inside, self.most, self.budgets = takes_s, 0, 0, []

    def condition(self):
        return READY

    def infer(self, spikes, within_s):
        self.inside += 1
        self.most = max(self.most, self.inside)
        self.budgets.append(within_s)
        time.sleep(self.takes_s)
        self.inside -= 1
        return Inference(self.name, np.zeros(2, np.int32), None)

    def close(self):
        self.inside = -1


SPIKES = Spikes(4, np.zeros((1, 2, 2), np.uint8), 0)


def test_streams_use_a_back_end_one_at_a_time_and_none_starves():
    slow, turns = Slow(0.005), Turns()
    counts = [0, 0, 0]
    end = time.monotonic() + 0.6

    def use(number):
        access = SharedBackend(slow, turns)
        while time.monotonic() < end:
            counts[number] += access.infer(SPIKES, 5.0).failure is None

    threads = [threading.Thread(target=use, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert slow.most == 1
    assert max(counts) - min(counts) <= 2


def test_waiting_for_a_turn_counts_against_the_deadline():
    slow, turns = Slow(0.2), Turns()
    first = threading.Thread(target=SharedBackend(slow, turns).infer, args=(SPIKES, 5.0))
    first.start()
    while not slow.inside:
        time.sleep(0.001)
    assert "busy with other streams' windows for 10 ms" in SharedBackend(slow, turns).infer(SPIKES, 0.01).failure
    SharedBackend(slow, turns).infer(SPIKES, 5.0)
    first.join()
    assert slow.budgets[1] < 5.0 - 0.1


def test_a_worker_is_one_for_all_streams_and_models_and_emulators_have_their_own():
    bundle = open_bundle(ROOT / "models/nmnist")
    shelf = Shelf()
    worker, emulator = (choices(kind) for kind in ("null", "emulator"))
    try:
        first, second = (place.kept(worker, bundle, shelf, name) for name in ("left", "right"))
        assert isinstance(first, SharedBackend)
        assert (first._backend, first._turns) == (second._backend, second._turns)
        assert place.kept(emulator, bundle, shelf, "left") is not place.kept(emulator, bundle, shelf, "right")
        assert not isinstance(place.kept(worker, bundle, shelf), SharedBackend)
        # The next configuration's streams get the same worker, and the same row before it.
        after = Shelf(shelf)
        lent = place.kept(worker, bundle, after, "left")
        assert (lent._backend, lent._turns) == (first._backend, first._turns)
    finally:
        shelf.close()


def choices(kind):
    return BackendChoice(kind, kind, plugins.load("backends", kind).Options())


# Messages


def test_a_streams_messages_have_a_topic_and_a_count_of_their_own(tmp_path):
    publisher = Publisher(f"ipc://{tmp_path}/p", "e")
    try:
        with Subscriber(f"ipc://{tmp_path}/p", topics=TOPICS) as subscriber:
            assert publisher.wait_for_subscriber(5, lambda: False)
            time.sleep(0.1)
            publisher.publish_decision(decision(0, stream="left"))
            publisher.publish_decision(decision(0, stream="right"))
            publisher.publish_decision(decision(2, stream="left"))
            publisher.publish_health(lambda seq: health(seq).model_copy(update={"stream": "left"}), "left")
            got = [subscriber.receive(5) for _ in range(4)]
            assert [(m.stream, m.seq) for m in got] == [("left", 0), ("right", 0), ("left", 2), ("left", 0)]
            assert subscriber.lost["decision"] == 1
            assert (subscriber.malformed, subscriber.restarts) == (0, 0)
            snapshot = subscriber.snapshot(5)
        assert snapshot.next_seq == {
            "decision": 0, "health": 0, "provisional": 0, "decision.left": 3, "decision.right": 1, "health.left": 1,
            "energy": 0,
        }  # fmt: skip
        assert snapshot.decision is None
        assert snapshot.streams["left"].decision.seq == 2
        assert snapshot.streams["left"].health.stream == "left"
        assert snapshot.streams["right"].health is None
    finally:
        publisher.close()


def test_topics_of_streams():
    assert (DECISION.frame(None), DECISION.frame("left")) == (b"decision.", b"decision.left.")
    assert (HEALTH.key(None), HEALTH.key("left")) == ("health", "health.left")


def test_a_line_for_a_person_begins_with_the_stream():
    assert describe(decision(0, stream="left")).startswith("left ")
    assert not describe(decision(0)).startswith("None")


# The daemon


def test_streams_run_side_by_side_and_each_says_what_it_would_alone(tmp_path):
    out = []
    ran = daemon.run(loaded(tmp_path), threading.Event(), out.append)
    assert list(ran) == ["left", "right"]
    for name, pipeline in ran.items():
        own = [one for one in out if one.stream == name]
        assert [one.seq for one in own] == list(range(len(own)))
        assert len(own) == pipeline.totals.counts["windows"] > 3
        assert own[-1].label == {"left": "0", "right": "7"}[name]
    assert len({one.epoch for one in out}) == 1


def test_one_streams_failure_is_its_own(tmp_path):
    taken = tmp_path / "taken"
    taken.mkdir()  # a ZeroMQ socket cannot be made over a folder
    extra = f'[stream.broken.source]\nkind = "network"\n[stream.broken.source.network]\naddress = "ipc://{taken}"\n'
    out, told = [], []
    stopping = threading.Event()

    with Subscriber(f"ipc://{tmp_path}/p", topics=(HEALTH,)) as subscriber:
        config = loaded(tmp_path, extra, ["publish.wait_for_subscriber_s=0"])
        thread = threading.Thread(target=lambda: told.append(daemon.run(config, stopping, out.append)))
        thread.start()
        reasons = {}
        while thread.is_alive() or subscriber.receive(0.05):
            message = subscriber.receive(0.1)
            if isinstance(message, Health) and message.reasons:
                reasons[message.stream] = message.reasons
        thread.join()
    [ran] = told
    assert isinstance(ran["broken"].failures[0][1], UnavailableError)
    assert not ran["left"].failures
    assert {one.stream for one in out} == {"left", "right"}
    assert set(reasons) <= {"broken"}


def test_a_stream_that_cannot_be_made_keeps_the_daemon_from_starting(tmp_path):
    config = loaded(tmp_path, '[stream.left.model]\npath = "/nowhere"\n')
    with pytest.raises(NoInputError, match="/nowhere"):
        daemon.run(config, threading.Event())


def test_streams_of_one_section_and_model_share_one_worker(tmp_path):
    extra = f'[schedule]\nplans = ["null"]\n[backend.null]\ncommand = ["{sys.executable}"]\n'
    out = []
    stopping = threading.Event()
    with Subscriber(f"ipc://{tmp_path}/p", topics=TOPICS) as subscriber:
        config = loaded(tmp_path, extra, ["publish.wait_for_subscriber_s=10"])
        thread = threading.Thread(target=daemon.run, args=(config, stopping, out.append))
        thread.start()
        pids, seen = set(), set()
        while thread.is_alive():
            message = subscriber.receive(0.1)
            if isinstance(message, Health):
                pids |= {one.pid for one in message.backends if one.pid}
            if isinstance(message, Decision):
                seen.add((message.stream, message.backend))
        thread.join()
    assert len(pids) == 1
    assert {("left", "null"), ("right", "null")} <= seen

"""Clips around decisions: the right events, in bounded memory, and never at the pipeline's cost."""

from __future__ import annotations

import json
import threading
import time

import numpy as np
import pytest
from tests.support.messages import decision
from tests.support.program import ROOT, firstspike

from firstspike import lookback
from firstspike.errors import OutputError
from firstspike.lookback import LookBack, Rules
from firstspike.messages import WindowAnswer
from firstspike.recording_writer import RecordingFile
from firstspike.sources.decoding import DecoderProcess
from firstspike.types import EVENT, RecordingInfo, join

INFO = RecordingInfo("camera", 34, 34, "sensor", "cam")
MS = 1000


def block(start, n=100, step=100):
    events = np.zeros(n, EVENT)
    events["t"] = start + np.arange(n) * step
    return events


def decided(seq, t_us, label="3", source="s", **changes):
    window = WindowAnswer(
        index=seq, t_start_us=t_us - 10 * MS, t_end_us=t_us, events=1, label=label, confidence=0.9,
        log_probabilities=None, partial=False, backward=0, late=0, overflow=0, resets=0, out_of_bounds=0, cropped=0,
    )  # fmt: skip
    return decision(seq, label=label, source=source, t_us=t_us, window=window, **changes)


class Ring:
    def __init__(self, folder, **rules):
        rules = {"on": "label", "lookback_us": 50 * MS, "after_us": 20 * MS, "free_bytes": 0} | rules
        self.folder = folder / "clips"
        self.counts = {"clips_written": 0, "clips_dropped": 0, "clips_failed": 0}
        self.back = LookBack(Rules(folder=self.folder, **rules), "epoch-long", self.count)

    def count(self, **counts):
        for name, count in counts.items():
            self.counts[name] += count

    def feed(self, start_ms, end_ms, segment="s"):
        for ms in range(start_ms, end_ms, 10):
            self.back.events(block(ms * MS), INFO, segment)

    def clips(self):
        found = []
        for told in sorted(self.folder.glob("*.json")):
            about = json.loads(told.read_text())
            with DecoderProcess() as decoder, decoder.open(self.folder / about["recording"]) as recording:
                found.append((about, join(list(recording))))
        return found


@pytest.mark.parametrize("format", ["aedat4", "evt3"])
def test_a_clip_holds_the_time_around_its_decision(tmp_path, format):  # noqa: A002
    ring = Ring(tmp_path, format=format)
    with ring.back:
        ring.feed(0, 300)
        ring.back.decided(decided(7, 300 * MS))
        ring.feed(300, 400)
    [(about, events)] = ring.clips()
    assert (about["t_start_us"], about["t_end_us"], about["begins_late"]) == (240 * MS, 320 * MS, False)
    assert events["t"].tolist() == list(range(240 * MS, 320 * MS, 100))
    assert [one["seq"] for one in about["decisions"]] == [7]
    assert about["decisions"][0]["schema"] == "firstspike.decision/1"
    assert about["recording"].startswith("epoch-lo-00000007")
    assert ring.counts == {"clips_written": 1, "clips_dropped": 0, "clips_failed": 0}
    assert not list(ring.folder.glob(".*"))


def test_a_label_makes_one_clip_when_it_is_new(tmp_path):
    ring = Ring(tmp_path, labels=("3",), lookback_us=0, after_us=0)
    with ring.back:
        for seq, label in enumerate(["3", "3", "4", None, "3", "3"]):
            ring.feed(seq * 10, seq * 10 + 10)
            ring.back.decided(decided(seq, seq * 10 * MS + 10 * MS, label))
        ring.feed(60, 80)
    assert [about["decisions"][0]["seq"] for about, _ in ring.clips()] == [0, 4]


def test_decisions_close_together_share_a_clip_up_to_its_length(tmp_path):
    ring = Ring(tmp_path, on="unsure", below=0.95, max_us=120 * MS)
    with ring.back:
        for seq in range(20):
            ring.feed(seq * 10, seq * 10 + 10)
            ring.back.decided(decided(seq, seq * 10 * MS + 10 * MS))
    clips = ring.clips()
    assert clips[0][0]["t_start_us"] == -50 * MS
    assert clips[0][0]["t_end_us"] == 70 * MS
    assert len(clips[0][0]["decisions"]) > 5
    told = [one["seq"] for about, _ in clips for one in about["decisions"]]
    assert told == list(range(20))


@pytest.mark.parametrize(
    ("rules", "changes", "expected"),
    [
        ({"on": "unsure", "below": 0.5}, {"confidence": 0.4}, 1),
        ({"on": "unsure", "below": 0.5}, {"confidence": 0.6}, 0),
        ({"on": "unsure", "below": 0.5}, {"confidence": None}, 0),
        ({"on": "fault"}, {"status": "late"}, 1),
        ({"on": "fault"}, {}, 0),
        ({"on": "label", "labels": ("4",)}, {}, 0),
    ],
)
def test_which_decisions_matter(tmp_path, rules, changes, expected):
    ring = Ring(tmp_path, **rules)
    with ring.back:
        ring.feed(0, 50)
        ring.back.decided(decided(0, 50 * MS, **changes))
        ring.feed(50, 100)
    assert ring.counts["clips_written"] == expected


def test_the_end_of_a_segment_and_a_clock_set_back_complete_a_clip(tmp_path):
    ring = Ring(tmp_path, after_us=10_000 * MS)
    with ring.back:
        ring.feed(5000, 5050)
        ring.back.decided(decided(0, 5050 * MS))
        ring.feed(0, 50)  # the same camera, plugged in again
        ring.back.decided(decided(1, 50 * MS))
        ring.feed(0, 50, "t")
        ring.back.decided(decided(2, 50 * MS, "4"))  # of the segment before, whose events are gone
        ring.back.decided(decided(3, 50 * MS, source="t"))
    clips = ring.clips()
    assert [about["decisions"][0]["seq"] for about, _ in clips] == [0, 1, 3]
    assert [len(events) for _, events in clips] == [500, 500, 500]


def test_a_decision_from_before_the_clock_was_set_back_does_not_swallow_those_that_follow(tmp_path):
    ring = Ring(tmp_path, on="unsure", below=0.95)
    with ring.back:
        ring.feed(50_000, 50_050)
        ring.feed(0, 10)  # the clock was set back; the window that this ended is decided only now
        ring.back.decided(decided(0, 50_050 * MS))
        ring.feed(10, 100)
        ring.back.decided(decided(1, 100 * MS))
        ring.feed(100, 200)
        assert ring.back._clip is None
    assert [[one["seq"] for one in about["decisions"]] for about, _ in ring.clips()] == [[1]]


def test_a_segment_that_ends_completes_its_clip_at_once_and_its_last_decision_still_makes_one(tmp_path):
    ring = Ring(tmp_path, on="unsure", below=0.95, after_us=10_000 * MS)
    with ring.back:
        ring.feed(0, 50)
        ring.back.decided(decided(0, 50 * MS))
        ring.back.end_segment()
        ring.back.decided(decided(1, 50 * MS))  # it was on its way
        deadline = time.monotonic() + 10
        while ring.counts["clips_written"] < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert ring.counts["clips_written"] == 2
        ring.feed(60, 70)  # of the same name, of another sender
        ring.back.decided(decided(2, 70 * MS))
    assert [len(events) for _, events in ring.clips()] == [500, 500, 100]


def test_a_fault_of_ours_costs_a_clip_and_is_counted(tmp_path, monkeypatch):
    ring, write = Ring(tmp_path, after_us=0), LookBack._write
    monkeypatch.setattr(
        LookBack, "_write", lambda self, clip: 1 / 0 if clip.decisions[0].seq == 0 else write(self, clip)
    )
    with ring.back:
        for seq in range(2):
            ring.feed(seq * 10, seq * 10 + 10)
            ring.back.decided(decided(seq, seq * 10 * MS + 10 * MS, str(seq)))
            ring.feed(seq * 10 + 10, seq * 10 + 20)
    assert ring.counts == {"clips_written": 1, "clips_dropped": 0, "clips_failed": 1}


def test_memory_is_bounded_and_a_clip_says_that_its_beginning_is_missing(tmp_path):
    ring = Ring(tmp_path, lookback_us=10_000 * MS, memory_bytes=100 * 16 * 20)
    with ring.back:
        ring.feed(0, 2000)
        assert ring.back._bytes <= 100 * 16 * 20
        ring.back.decided(decided(0, 2000 * MS))
        ring.feed(2000, 2040)
    [(about, events)] = ring.clips()
    assert about["begins_late"] is True
    assert 1500 <= len(events) <= 2000


def test_what_is_older_than_needed_is_let_go(tmp_path):
    ring = Ring(tmp_path)
    with ring.back:
        ring.feed(0, 10_000)
        assert len(ring.back._ring) < 210


def test_clips_of_several_streams_have_names_of_their_own(tmp_path):
    ring = Ring(tmp_path)
    with ring.back:
        ring.feed(0, 50)
        ring.back.decided(decided(0, 50 * MS, stream="left"))
        ring.feed(50, 100)
    assert [about["recording"] for about, _ in ring.clips()] == ["epoch-lo-left-00000000.aedat4"]


def test_a_slow_disk_drops_clips_and_holds_nobody_up(tmp_path, monkeypatch):
    gate = threading.Event()
    monkeypatch.setattr(lookback, "RecordingFile", lambda *a, **k: (gate.wait(), RecordingFile(*a, **k))[1])
    ring = Ring(tmp_path, after_us=0, lookback_us=0, memory_bytes=100 * 16 * 5)
    with ring.back:
        began = time.monotonic()
        for seq in range(20):
            ring.feed(seq * 10, seq * 10 + 10)
            ring.back.decided(decided(seq, seq * 10 * MS + 10 * MS, str(seq)))
        assert time.monotonic() - began < 5
        gate.set()
    assert ring.counts["clips_dropped"] > 0
    assert ring.counts["clips_dropped"] + ring.counts["clips_written"] == 20


def test_a_full_disk_fails_the_clip_and_nothing_else(tmp_path):
    ring = Ring(tmp_path, free_bytes=1 << 60)
    with ring.back:
        ring.feed(0, 50)
        ring.back.decided(decided(0, 50 * MS))
        ring.feed(50, 100)
    assert ring.counts == {"clips_written": 0, "clips_dropped": 0, "clips_failed": 1}
    assert list(ring.folder.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_told_at_the_start(tmp_path):
    (tmp_path / "clips").write_text("")
    with pytest.raises(OutputError, match=r"see \[record\] folder"), Ring(tmp_path).back:
        pass


def test_a_replay_writes_its_clips_and_its_decisions_are_the_same(tmp_path):
    path = tmp_path / "digits.aedat4"
    assert firstspike("simulate", path, "--digits", "07").returncode == 0
    config = tmp_path / "c.toml"
    config.write_text(
        f'[model]\npath = "{ROOT}/models/nmnist"\n[record]\non = "label"\nfree_mib = 0\nlookback_s = 0.1\n'
    )
    plain = firstspike("replay", path, "--json", "--speed", "max")
    with_clips = firstspike("replay", path, "--json", "--speed", "max", "--config", config)
    assert with_clips.returncode == 0, with_clips.stderr
    assert with_clips.stdout == plain.stdout
    labels = []
    for line in plain.stdout.splitlines():
        label = json.loads(line)["label"]
        labels += [label] if label is not None and (not labels or labels[-1] != label) else []
    told = [json.loads(file.read_text()) for file in sorted((tmp_path / "clips").glob("*.json"))]
    assert told[0]["decisions"][0]["label"] == labels[0]
    assert sum(len(one["decisions"]) for one in told) >= 2
    assert len(list((tmp_path / "clips").glob("*.aedat4"))) == len(told)

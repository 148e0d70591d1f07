"""The daemon with a network source, as a user runs it."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import time

import numpy as np
import pytest
from tests.support.program import ROOT, firstspike, started

from firstspike.client import Subscriber
from firstspike.messages import Decision, Health
from firstspike.sender import Sender
from firstspike.topics import TOPICS
from firstspike.types import EVENT

CONFIG = """\
[model]
path = "{model}"
[source]
kind = "network"
[source.network]
address = "{address}"
{options}
[publish]
endpoint = "ipc://{folder}/p"
health_period_s = 0.1
[schedule]
deadline_ms = 2000
"""


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    path = tmp_path_factory.mktemp("network") / "digits.aedat4"
    assert firstspike("simulate", path, "--digits", "07", "--pause-ms", "100").returncode == 0
    return path


def free_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def configured(folder, address, options=""):
    path = folder / "config.toml"
    path.write_text(CONFIG.format(model=ROOT / "models" / "nmnist", address=address, options=options, folder=folder))
    return path


@pytest.mark.parametrize("scheme", ["udp", "ipc"])
def test_a_recording_sent_live_gives_the_decisions_of_its_replay(tmp_path, recording, scheme):
    address = f"udp://127.0.0.1:{free_port()}" if scheme == "udp" else f"ipc://{tmp_path}/e"
    config = configured(tmp_path, address, "once = true")
    replayed = [
        json.loads(line) for line in firstspike("replay", recording, "--json", "--speed", "max").stdout.splitlines()
    ]
    with started("run", "--config", config, stderr=subprocess.PIPE) as daemon:
        with Subscriber(f"ipc://{tmp_path}/p", topics=TOPICS) as subscriber:
            health = next(m for m in subscriber if isinstance(m, Health) and "nobody sends" in "".join(m.reasons))
            assert health.state == "degraded"
            sent = firstspike("send", recording, "--to", address)
            assert sent.returncode == 0, sent.stderr
            found = []
            while not (isinstance(message := subscriber.receive(10), Health) and message.state == "stopping"):
                assert message is not None
                found += [message] if isinstance(message, Decision) else []
        assert daemon.wait(10) == 0
    assert [(d.t_us, d.window.events, d.window.label, d.label) for d in found] == [
        (d["t_us"], d["window"]["events"], d["window"]["label"], d["label"]) for d in replayed
    ]
    assert message.counters.lost_packets == message.counters.refused_packets == 0
    n_events = int(re.search(r": (\d+) events", sent.stdout)[1])
    assert message.counters.events == n_events


def test_a_camera_that_falls_silent_gets_its_answer_and_no_harm_comes_of_garbage(tmp_path):
    port = free_port()
    address = f"udp://127.0.0.1:{port}"
    with started("run", "--config", configured(tmp_path, address)) as daemon:
        with Subscriber(f"ipc://{tmp_path}/p", topics=TOPICS) as subscriber:
            next(message for message in subscriber if isinstance(message, Health) and message.reasons)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as hostile:
                for size in range(200):
                    hostile.sendto(bytes(size), ("127.0.0.1", port))
            events = np.zeros(400, EVENT)
            events["t"] = np.arange(400) * 100
            events["x"], events["y"] = np.arange(400) % 34, np.arange(400) // 34
            with Sender(address, 34, 34) as sender:
                sender.send(events)
                sent_ns = time.monotonic_ns()
                # No further event comes, and no word: the decision does.
                decision = next(message for message in subscriber if isinstance(message, Decision))
            assert decision.window.events == 400
            assert not decision.window.partial
            assert decision.stamps.closed_ns - sent_ns < 50_000_000
            health = next(m for m in subscriber if isinstance(m, Health) and m.counters.refused_packets == 200)
            assert health.counters.events == 400
        daemon.terminate()
        assert daemon.wait(10) == 0


def test_an_open_address_without_a_list_is_refused_by_check(tmp_path):
    done = firstspike("check", "--config", configured(tmp_path, "udp://0.0.0.0:3333"))
    assert done.returncode == 78
    assert "name those that may send" in done.stderr


def test_the_sender_of_the_documentation_works(tmp_path):
    text = (ROOT / "docs" / "network.md").read_text()
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]
    port = free_port()
    with started("run", "--config", configured(tmp_path, f"udp://127.0.0.1:{port}", "once = true")) as daemon:
        with Subscriber(f"ipc://{tmp_path}/p", topics=TOPICS) as subscriber:
            next(message for message in subscriber if isinstance(message, Health) and message.reasons)
            names: dict = {}
            exec(code, names)  # noqa: S102 (our own page)
            to = ("127.0.0.1", port)
            for ms in range(100):
                names["send"]([(ms * 1000 + i, i, 33, i % 2) for i in range(10)], 34, 34, to=to)
            names["send"]([], 34, 34, ends=True, now_us=100_000, to=to)
            names["out"].close()
            while not (isinstance(message := subscriber.receive(10), Health) and message.state == "stopping"):
                assert message is not None
        assert daemon.wait(10) == 0
    assert (message.counters.events, message.counters.lost_packets, message.counters.refused_packets) == (1000, 0, 0)


def test_sending_to_nobody_says_so(tmp_path, recording):
    done = firstspike("send", recording, "--to", "udp://camera:1")
    assert (done.returncode, "no IP address" in done.stderr) == (78, True), done.stderr
    done = firstspike("send", recording, "--to", "nowhere")
    assert (done.returncode, "must be udp://" in done.stderr) == (64, True), done.stderr


def test_two_cameras_of_one_daemon_and_one_that_falls_silent_does_not_concern_the_other(tmp_path, recording):
    left, right = (f"udp://127.0.0.1:{free_port()}" for _ in range(2))
    config = tmp_path / "c.toml"
    config.write_text(
        f'[model]\npath = "{ROOT}/models/nmnist"\n[publish]\nendpoint = "ipc://{tmp_path}/p"\nhealth_period_s = 0.1\n'
        f'[stream.left.source]\nkind = "network"\n[stream.left.source.network]\naddress = "{left}"\n'
        f'[stream.right.source]\nkind = "network"\n[stream.right.source.network]\naddress = "{right}"\n'
    )
    assert firstspike("check", "--config", config).stdout.splitlines()[-1].endswith("streams left, right")
    with started("run", "--config", config, stderr=subprocess.PIPE) as daemon:
        with Subscriber(f"ipc://{tmp_path}/p", topics=TOPICS) as subscriber:
            waiting = set()
            while waiting != {"left", "right"}:
                message = subscriber.receive(20)
                if isinstance(message, Health) and "nobody sends" in "".join(message.reasons):
                    waiting.add(message.stream)
            assert firstspike("send", recording, "--to", right, "--speed", "4").returncode == 0
            decisions = []
            while (message := subscriber.receive(0.5)) is not None and len(decisions) < 5:
                decisions += [message] if isinstance(message, Decision) else []
            assert {one.stream for one in decisions} == {"right"}
            snapshot = subscriber.snapshot(5)
            assert snapshot.streams["right"].decision is not None
            assert snapshot.streams["left"].decision is None
            daemon.terminate()
            stopped = set()
            while stopped != {"left", "right"}:
                message = subscriber.receive(10)
                assert message is not None
                stopped |= {message.stream} if isinstance(message, Health) and message.state == "stopping" else set()
        assert daemon.wait(10) == 0
        assert "stream left stopped: 0 events" in daemon.stderr.read()


FILTERS = """
[filter]
background_us = 5000
learn_s = 0.2
hot_min_hz = 200.0
"""


def test_filters_of_a_live_stream_drop_noise_and_the_hot_pixels_it_learned_survive_a_restart(tmp_path):
    address = f"udp://127.0.0.1:{free_port()}"
    config = configured(tmp_path, address, f"once = true\n{FILTERS}")
    totals = []
    for _ in range(2):
        environment = {"STATE_DIRECTORY": str(tmp_path / "state")}
        with started("run", "--config", config, environment=environment, stderr=subprocess.PIPE) as daemon:
            with Subscriber(f"ipc://{tmp_path}/p", topics=TOPICS) as subscriber:
                next(m for m in subscriber if isinstance(m, Health) and "nobody sends" in "".join(m.reasons))
                with Sender(address, 34, 34) as sender:
                    sender.send(blinking())
                inside = 0
                while not (isinstance(message := subscriber.receive(10), Health) and message.state == "stopping"):
                    assert message is not None
                    inside += message.window.events if isinstance(message, Decision) else 0
            assert daemon.wait(10) == 0
        assert (message.counters.events, message.counters.lost_packets) == (600 + 60 + 480, 0)
        assert inside + message.counters.filtered_hot_pixel + message.counters.filtered_background == 600 + 60 + 480
        totals.append((message.counters.filtered_hot_pixel, message.counters.filtered_background, inside))
        kept = json.loads((tmp_path / "state" / "state.json").read_text())["hot_pixels"]
        assert kept == {f"{address} 34×34": [[3, 3]]}
    # The first run drops it as noise for 0.2 s, in which it learns; the second one knows it from the start.
    (first, _, passed), (second, noise, again) = totals
    assert 390 <= first <= 400
    assert (second, noise) == (600, 60 + 480 - again)
    assert again == passed >= 440


def blinking():
    """For 0.6 s: a hot pixel at 1 kHz, noise here and there at 100 Hz, and 4×4 pixels that blink together at 50 Hz."""
    hot = [(ms * 1000, 3, 3) for ms in range(600)]
    noise = [(ms * 1000 + 500, 20 + 3 * (ms // 10 % 4), 28) for ms in range(0, 600, 10)]
    blink = [
        (ms * 1000 + 10 * (4 * y + x), 10 + x, 10 + y) for ms in range(0, 600, 20) for y in range(4) for x in range(4)
    ]
    events = np.zeros(len(hot) + len(noise) + len(blink), EVENT)
    for row, (t, x, y) in zip(events, sorted(hot + noise + blink), strict=True):
        row["t"], row["x"], row["y"] = t, x, y
    return events

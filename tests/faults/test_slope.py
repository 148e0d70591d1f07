"""Left running: a daemon with all that it has, disturbed again and again, grows in nothing.

Events come over the network through filters; a worker answers, and is killed now and then; clips are written, a meter
is read, metrics are scraped, subscribers come and go, late joiners ask for the state, the configuration is loaded anew.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
import urllib.request

import numpy as np
import pytest
from tests.support.daemons import Watch, footprint
from tests.support.figures import figure
from tests.support.program import ROOT, started
from tests.support.sysfs import hwmon

from firstspike.client import Subscriber
from firstspike.sender import Sender
from firstspike.topics import TOPICS
from firstspike.types import EVENT

LOOK_S, JOIN_S = 1.0, 2.0
CONFIG = """
[model]
path = "nmnist"
[source]
kind = "network"
[source.network]
address = "udp://127.0.0.1:{udp}"
[window]
size = 20000
[filter]
refractory_us = 500
background_us = 5000
[schedule]
plans = ["null", "emulator"]
deadline_ms = 100
[backend.null]
restarts = 1000
[decide]
decay = {decay}
[publish]
endpoint = "ipc://{folder}/daemon"
health_period_s = 1.0
[metrics]
enabled = true
address = "127.0.0.1:{http}"
[record]
on = "unsure"
below = 1.0
lookback_s = 0.5
after_s = 0.5
max_s = 3.0
memory_mib = 4.0
free_mib = 0.0
[energy]
root = "{folder}/root"
window_s = 1.0
baseline_s = 0.5
[log]
level = "error"
"""


def port(kind):
    with socket.socket(socket.AF_INET, kind) as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def send(address, stopping):
    """Some 100,000 events a second: a bar that moves through noise."""
    rng = np.random.default_rng(0)
    with Sender(address, 34, 34) as sender:
        began = time.monotonic()
        for step in range(1 << 62):
            if stopping.wait(max(0.0, began + step / 100 - time.monotonic())):
                return
            events = np.zeros(1000, EVENT)
            events["t"] = step * 10_000 + np.arange(1000) * 10
            events["x"], events["y"], events["p"] = rng.integers(0, 34, (3, 1000)) % [[34], [34], [2]]
            events["x"][::2] = (step // 7 + events["x"][::2] % 5) % 34
            sender.send(events)


def join(endpoint, http, stopping):
    """Those who come and go."""
    while not stopping.wait(JOIN_S):
        # While it reloads or is stopped for a while by this machine, one may come in vain.
        with contextlib.suppress(Exception), Subscriber(endpoint, topics=TOPICS) as subscriber:
            subscriber.receive(0.5)
            subscriber.snapshot()
            urllib.request.urlopen(f"http://127.0.0.1:{http}/metrics", timeout=1).read()


@contextlib.contextmanager
def beside(*targets):
    """Threads that run while the context lasts."""
    stopping = threading.Event()
    threads = [threading.Thread(target=target, args=(*arguments, stopping)) for target, *arguments in targets]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopping.set()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize(
    ("seconds", "reload_s", "kill_s"),
    [(15, 4.0, 3.0), pytest.param(3600, 120.0, 10.0, marks=pytest.mark.soak)],
    ids=["seconds", "an hour"],
)
def test_a_daemon_that_is_left_running_grows_in_nothing(tmp_path, seconds, reload_s, kill_s):
    udp, http, endpoint = port(socket.SOCK_DGRAM), port(socket.SOCK_STREAM), f"ipc://{tmp_path}/daemon"
    hwmon(tmp_path / "root", 0, "ina226", "i2c-1/1-0040", power1_input=5_000_000)
    config = tmp_path / "config.toml"

    def write(decay):
        (tmp_path / "new").write_text(CONFIG.format(udp=udp, http=http, folder=tmp_path, decay=decay))
        (tmp_path / "new").replace(config)

    write(0.5)
    clips = reloads = kills = 0
    samples = []
    with (
        started("run", "--config", config, environment={"FIRSTSPIKE_MODELS": str(ROOT / "models")}) as child,
        Subscriber(endpoint, topics=TOPICS, high_water_mark=100_000) as subscriber,
        beside((send, f"udp://127.0.0.1:{udp}"), (join, endpoint, http)),
    ):
        watch = Watch(subscriber)
        watch.until_answered_by("null", 2)
        began = time.monotonic()
        next_reload, next_kill = began + reload_s, began + kill_s
        while (now := time.monotonic()) - began < seconds:
            seen = len(watch.health)
            watch.until(lambda watch, seen=seen: len(watch.health) > seen)
            health = watch.health[-1]
            if now >= next_reload:
                write(0.5 + reloads % 2 / 4)
                child.send_signal(signal.SIGHUP)
                reloads, next_reload = reloads + 1, now + reload_s
            pid = health.backends[0].pid
            if now >= next_kill and pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    kills += 1
                next_kill = now + kill_s
            for clip in (tmp_path / "clips").glob("*.aedat4"):
                clip.unlink()
                clips += 1
            watch.decisions.clear()
            del watch.health[:-1]
            samples.append((now - began, *footprint(child.pid)))
        watch.until_answered_by("null", 2)
        totals, state = watch.health[-1].counters, watch.health[-1]
        child.terminate()
        assert child.wait(20) == 0
    t, descriptors, threads, zombies, memory = np.array(samples).T
    settled = t > seconds / 3
    slope = np.polyfit(t[settled], memory[settled], 1)[0] * 3600
    # A worker that starts or ends, and who comes and goes, hold some: the quietest moments are compared.
    early, late = settled & (t < seconds * 2 / 3), t >= seconds * 2 / 3
    found = [(one[early].min(), one[late].min()) for one in (descriptors, threads)]
    figure(
        f"left running, disturbed: {seconds} s",
        f"{totals.windows} windows, {totals.decisions_dropped} dropped; {reloads} reloads, worker killed {kills} "
        f"times, {clips} clips; descriptors {found[0][0]:.0f} → {found[0][1]:.0f}, threads {found[1][0]:.0f} → "
        f"{found[1][1]:.0f}; memory {memory[settled][0]:.1f} → {memory[-1]:.1f} MiB"
        + (f", slope {slope:+.2f} MiB an hour" if seconds >= 600 else ""),
    )
    assert (state.config_generation, state.reload_error) == (reloads + 1, None)
    assert kills > 0
    assert clips > 0
    assert totals.decisions_ok > 0.8 * totals.windows
    assert all(late <= early for early, late in found)
    assert zombies.max() <= 1  # one that just ended
    assert memory[-1] <= memory[settled][0] + 16
    if seconds >= 600:
        assert slope < 1.0

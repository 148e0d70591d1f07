"""A daemon in this process whose configuration is changed while it runs."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from pathlib import Path

from tests.support.figures import figure
from tests.support.program import ROOT

from firstspike import daemon
from firstspike.cli.common import settle
from firstspike.config_layers import read_layers
from firstspike.manager import Manager

GOOD = f"""\
[model]
path = "{ROOT}/models/nmnist"
[source]
kind = "simulated"
[schedule]
plans = ["emulator"]
deadline_ms = 1000
[publish]
endpoint = "ipc://{{folder}}/p"
"""


class Watched(Manager):
    """A daemon whose generations a test sees."""

    generations = health = None

    @contextmanager
    def watching(self, generations, health):
        self.generations, self.health = generations, health
        with super().watching(generations, health):
            yield


class Daemon:
    """A daemon in this process; `reload` is what its SIGHUP does."""

    def __init__(self, folder, text, manager=None):
        self.file = folder / "config.toml"
        self.file.write_text(text)
        self.decisions, self.stopping = [], threading.Event()
        self.manager = manager or Watched()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        self.seen(3)

    def load(self):
        return settle(read_layers(self.file, [], {}), [])

    def _run(self):
        daemon.run(self.load(), self.stopping, self.decisions.append, manager=self.manager)

    def seen(self, more):
        """Wait until so many decisions more have come."""
        wanted, deadline = len(self.decisions) + more, time.monotonic() + 30
        while len(self.decisions) < wanted:
            assert time.monotonic() < deadline
            assert self.thread.is_alive()
            time.sleep(0.005)

    def reload(self, text=None):
        if text is not None:
            self.file.write_text(text)
        return self.manager.generations.reload(self.load)

    def complete(self):
        """Every window has its decision, and each is published once."""
        assert [one.seq for one in self.decisions] == list(range(len(self.decisions)))
        assert len({one.epoch for one in self.decisions}) == 1


def held():
    """Threads, descriptors and resident memory (KiB) of this process."""
    status = Path("/proc/self/status").read_text()
    return threading.active_count(), len([*Path("/proc/self/fd").iterdir()]), int(status.split("VmRSS:")[1].split()[0])


def reload_many(running, texts, count, seen, what):
    """Reload so often, turn and turn about, and find that nothing was left behind."""
    for text in texts:
        assert running.reload(text), running.manager.generations.error
    running.seen(seen)
    before = held()
    for number in range(count):
        assert running.reload(texts[number % len(texts)]), running.manager.generations.error
    running.seen(seen)
    after = held()
    assert all(now <= then for now, then in zip(after[:2], before[:2], strict=True))
    assert after[2] - before[2] < 20_000 + 20 * count
    figure(
        f"{count} good reloads{what}",
        f"threads {before[0]} → {after[0]}, descriptors {before[1]} → {after[1]}, memory "
        f"{(after[2] - before[2]) / 1024:+.1f} MiB",
    )

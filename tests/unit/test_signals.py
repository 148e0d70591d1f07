"""Signals that interrupt each other's handlers."""

from __future__ import annotations

import subprocess
import sys

TWICE = """
import os, signal
from firstspike.cli.common import Signalled, Stopping
for kind in (Signalled, Stopping):
    flag = kind()
    inner = flag._cond.notify_all

    def notify_all():  # here `set` holds the lock
        flag._cond.notify_all = inner
        os.kill(os.getpid(), signal.SIGHUP)
        inner()

    flag._cond.notify_all = notify_all
    signal.signal(signal.SIGHUP, lambda *_: flag.set())
    signal.raise_signal(signal.SIGHUP)
    assert flag.is_set() and flag.wait(1)
"""


def test_a_signal_in_the_midst_of_anothers_handler_does_not_lock_the_daemon_up():
    done = subprocess.run([sys.executable, "-c", TWICE], timeout=20, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

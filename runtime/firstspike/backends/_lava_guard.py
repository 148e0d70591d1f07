"""Keeps what Lava starts from outliving its parent: its processes, and the memory that they share.

Lava makes one process for each Process by forking. Left alone, they survive a parent that is killed, wait for ever for
one of theirs that died, and leave named segments in /dev/shm. Here a child dies with its parent (the kernel's
PR_SET_PDEATHSIG), the death of a child ends the worker, and shared memory has no name, so none can be left behind.
"""

import ctypes
import mmap
import multiprocessing.connection
import os
import signal
import sys
import threading
from typing import Any, Callable, List

PR_SET_PDEATHSIG = 1
EXIT_CODE = 70
_libc = ctypes.CDLL(None)
_guarded: List[int] = []
"""Processes that have set up their forks: once is enough, and forks inherit it."""


class Segment:
    """Memory shared with processes that are forked later; looks like SharedMemory to Lava."""

    def __init__(self, size: int) -> None:
        self._map = mmap.mmap(-1, max(1, size))
        self.buf = memoryview(self._map)
        self.size = size

    def close(self) -> None:
        """Nothing: views of it may be in use, and it ends with the processes that have it."""


class Segments:
    """In place of Lava's SharedMemoryManager, which names its segments and has a process of its own."""

    def start(self) -> None:
        """Nothing is needed."""

    def shutdown(self) -> None:
        """Nothing is left."""

    def create_shared_memory(self, size: int) -> Segment:
        """A segment of so many bytes."""
        return Segment(size)


def guard_forks() -> None:
    """From now on a forked child dies with the thread that forked it, and takes no part in a terminal's signals."""
    if _guarded:
        return
    parent = os.getpid()
    _guarded.append(parent)

    def in_child() -> None:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != _parent[0]:  # it died before that was asked for
            os._exit(EXIT_CODE)
        _parent[0] = os.getpid()
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    _parent = [parent]
    os.register_at_fork(after_in_child=in_child)


def end(reason: str) -> None:
    """End this process, and Lava's with it; the daemon quotes the reason and starts another."""
    sys.stderr.write("firstspike: %s\n" % reason)
    sys.stderr.flush()
    os._exit(EXIT_CODE)


def watch(actors: List[Any], closing: Callable[[], bool]) -> None:
    """End this process as soon as one of Lava's has ended: the others wait for it without end.

    Args:
        actors: Lava's processes (multiprocessing.Process).
        closing: whether their end is meant.
    """

    def wait() -> None:
        # Not by their exit codes: asking for those would take them away from Lava.
        ended = multiprocessing.connection.wait([actor.sentinel for actor in actors])
        if closing():
            return
        names = [actor.name for actor in actors if actor.sentinel in ended]
        end("a process of Lava's has ended (%s), and the network with it" % ", ".join(names))

    threading.Thread(target=wait, name="lava's processes", daemon=True).start()

"""How a worker starts: the argv, and what its interpreter is sent before the first frame.

The interpreter runs a short bootstrap (`-c`), which reads the shim's and the driver's source from standard input. So
the code at both ends of a link is always of one version, also on another host.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

BOOTSTRAP = """\
import sys
sys.path[:] = [place for place in sys.path if place]
import json, os
if sys.version_info < (3, 6):
    sys.exit("firstspike worker: this is Python %d.%d, and 3.6 or newer is needed" % sys.version_info[:2])
def exactly(n):
    data = b""
    while len(data) < n:
        got = os.read(0, n - len(data))
        if not got: sys.exit("firstspike worker: the link was closed")
        data += got
    return data
sent = json.loads(exactly(int(exactly(12))).decode())
space = {"__name__": "firstspike.worker.shim"}
exec(compile(sent["shim"], "<firstspike.worker.shim>", "exec"), space)
space["main"](sent["parent"], sent["sources"], sent["driver"])
"""
"""Reads 12 digits, the length of a JSON object, and that. Even Python 2 reads its first lines.

The current folder is taken from the path: a file there that is called as an SDK's module would be imported for it.
"""


@dataclass(frozen=True, slots=True)
class Program:
    """A worker that can be started."""

    command: tuple[str, ...]
    """An interpreter, or how to reach one: `/path/python3.9`, `ssh host python3`, `docker exec -i NAME python3`."""
    driver: str
    """Name of the back end's file in backends/."""
    siblings: tuple[str, ...] = ()
    """What it imports of ours, before those that import it: names of files beside it, or modules by their full name."""
    local: bool = True
    """Whether the process that `command` starts is the interpreter itself, so that the kernel can end it with this
    one. Through ssh or into a container it is not: there the worker ends with its input."""

    def argv(self) -> list[str]:
        """What to execute. ssh hands its words to a shell, so they are quoted for one."""
        tail = ["-c", BOOTSTRAP]
        if PurePath(self.command[0]).name == "ssh":
            tail = [shlex.quote(word) for word in tail]
        return [*self.command, *tail]

    @property
    def modules(self) -> list[str]:
        """Full names of what is sent beside the shim; the driver is the last one."""
        return [name if "." in name else f"firstspike.backends.{name}" for name in (*self.siblings, self.driver)]

    def greeting(self) -> bytes:
        """What to send first."""
        sources = {name: _source(name) for name in self.modules}
        sent = {
            "shim": _source("firstspike.worker.shim"), "sources": sources, "driver": self.modules[-1],
            "parent": os.getpid() if self.local else 0,
        }  # fmt: skip
        text = json.dumps(sent).encode()
        return b"%012d" % len(text) + text


def _source(module: str) -> str:
    """A module's text, wherever it is imported from: back ends may lie in more folders than one."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise FileNotFoundError(module)
    return Path(spec.origin).read_text("utf-8")


def is_local(command: Sequence[str]) -> bool:
    """Whether a command is an interpreter by itself: one word."""
    return len(command) == 1

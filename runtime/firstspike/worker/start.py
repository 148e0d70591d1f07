"""How a worker starts: the argv, and what its interpreter is sent before the first frame.

The interpreter runs a bootstrap of five lines (`-c`), which reads the shim's and the driver's source from standard
input. So the code at both ends of a link is always of one version, also on another host.
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
import json, os
def exactly(n):
    data = b""
    while len(data) < n:
        got = os.read(0, n - len(data))
        if not got: raise SystemExit("firstspike worker: the link was closed")
        data += got
    return data
sent = json.loads(exactly(int(exactly(12))).decode())
space = {"__name__": "firstspike.worker.shim"}
exec(compile(sent["shim"], "<firstspike.worker.shim>", "exec"), space)
space["main"](sent["parent"], sent["sources"], sent["driver"])
"""
"""Reads 12 digits, the length of a JSON object, and that; Python 3.6 or newer."""


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
    """Whether `command` is the interpreter itself, a child of this process."""

    def argv(self) -> list[str]:
        """What to execute. ssh hands its words to a shell, so they are quoted for one."""
        tail = ["-c", BOOTSTRAP]
        if PurePath(self.command[0]).name == "ssh":
            tail = [shlex.quote(word) for word in tail]
        return [*self.command, *tail]

    def greeting(self) -> bytes:
        """What to send first."""
        names = [name if "." in name else f"firstspike.backends.{name}" for name in (*self.siblings, self.driver)]
        sources = {name: _source(name) for name in names}
        sent = {
            "shim": _source("firstspike.worker.shim"), "sources": sources, "driver": names[-1],
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

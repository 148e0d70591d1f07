"""What a configuration made and has to close, and what the next configuration takes over because it is the same.

A device can often be held by one process alone: a reload that changes a threshold must not make a stick's worker anew.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, TypeVar

from pydantic import BaseModel

T = TypeVar("T")


def key_of(*parts: str | BaseModel) -> str:
    """A name that is the same for the same thing, options included."""
    return "\0".join(repr(part.model_dump()) if isinstance(part, BaseModel) else part for part in parts)


class Shelf:
    """Holds what was made, by key.

    Args:
        before: that of the running configuration; what stands there is lent, and changes hands by `take_over`.
    """

    def __init__(self, before: Shelf | None = None) -> None:
        self._before = before
        self.made: dict[str, tuple[Any, Callable[[Any], None]]] = {}
        """What belongs here, and how it is closed."""
        self._lent: set[str] = set()

    def get(self, key: str, make: Callable[[], T], close: Callable[[T], None]) -> T:
        """What has this key; made if it is not there.

        Args:
            key: see `key_of`.
            make: makes it.
            close: ends it, when the shelf that holds it at last is closed.
        """
        if key in self.made:
            found: T = self.made[key][0]
            return found
        if self._before is not None and key in self._before.made:
            self._lent.add(key)
            lent: T = self._before.made[key][0]
            return lent
        made = make()
        self.made[key] = made, close
        return made

    def take_over(self) -> None:
        """What was lent belongs here from now on; the shelf before can be closed."""
        if self._before is not None:
            for key in self._lent:
                self.made[key] = self._before.made.pop(key)
        self._before, self._lent = None, set()

    def close(self) -> None:
        """Close what is held, all of it, also if one cannot be closed; what is lent stays with its owner."""
        with ExitStack() as stack:
            for thing, close in reversed(self.made.values()):
                stack.callback(close, thing)
            self.made.clear()

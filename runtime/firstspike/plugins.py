"""Find the one file behind a name in the configuration: `[source] kind = "recording"` is sources/recording.py."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType
from typing import Literal

from firstspike.errors import ConfigError

Room = Literal["sources", "backends"]


def names(room: Room) -> list[str]:
    """The names that the configuration may give for this room."""
    package = importlib.import_module(f"firstspike.{room}")
    found = [module.name for module in pkgutil.iter_modules(package.__path__) if not module.name.startswith("_")]
    return sorted(name for name in found if hasattr(importlib.import_module(f"firstspike.{room}.{name}"), "create"))


def load(room: Room, name: str) -> ModuleType:
    """Import the module of that name.

    Raises:
        ConfigError: there is none; the text lists those that there are.
    """
    if name not in names(room):
        raise ConfigError(f"no {room.removesuffix('s')} is called {name!r}: there are {', '.join(names(room))}")
    return importlib.import_module(f"firstspike.{room}.{name}")

"""Find the one file behind a name in the configuration: `[source] kind = "recording"` is sources/recording.py."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType
from typing import Any, Literal

from firstspike.errors import ConfigError
from firstspike.worker.backend import WorkerModule

Room = Literal["sources", "backends"]


def names(room: Room) -> list[str]:
    """The names that the configuration may give for this room."""
    package = importlib.import_module(f"firstspike.{room}")
    found = [module.name for module in pkgutil.iter_modules(package.__path__) if not module.name.startswith("_")]
    return sorted(name for name in found if _offers(importlib.import_module(f"firstspike.{room}.{name}")))


def _offers(module: ModuleType) -> bool:
    """Whether a file is finished: it runs here (`create`), or in a worker (`Driver`)."""
    return hasattr(module, "create") or hasattr(module, "Driver")


def load(room: Room, name: str) -> Any:
    """What the file of that name offers: see the room's `__init__.py`.

    A back end that runs in a worker gives its driver; here it is wrapped so that both sorts look the same.

    Raises:
        ConfigError: there is none; the text lists those that there are.
    """
    if name not in names(room):
        raise ConfigError(f"no {room.removesuffix('s')} is called {name!r}: there are {', '.join(names(room))}")
    module = importlib.import_module(f"firstspike.{room}.{name}")
    return module if hasattr(module, "create") else WorkerModule(name, module)

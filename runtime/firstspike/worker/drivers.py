"""The back ends that run in a worker: which files of backends/ are drivers, and what each says of itself.

A driver's file is read by two Pythons: here it is imported for its tables alone, without its SDK; in the worker it
runs. `backends/_template_worker.py` explains the tables.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from types import ModuleType
from typing import Any

from firstspike import backends
from firstspike.errors import ConfigError
from firstspike.worker.shim import Option
from firstspike.worker.start import Program, is_local

OLDEST = (3, 6)
"""The oldest Python that the shim runs on."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """The environment that a driver needs: its table `ENVIRONMENT`, and the versions that it was tried with."""

    python: tuple[str, ...]
    """Acceptable versions, best first: `3.9`, or `3` for any from 3.6."""
    packages: tuple[str, ...] = ()
    """What pip is asked for, with exact versions."""
    system: tuple[str, ...] = ()
    """Debian packages that pip cannot install."""
    imports: tuple[str, ...] = ()
    """Modules that must be importable once it is made."""
    system_site: bool = False
    """Whether it sees the interpreter's own packages too: JetPack brings TensorRT as a Debian package."""
    constraints: tuple[str, ...] = ()
    """Exact versions of everything that `packages` pull in: worker/pins/<name>.txt."""


@dataclass(frozen=True, slots=True)
class DriverFile:
    """One file of backends/ that runs in a worker."""

    name: str
    summary: str
    """The first line of its docstring."""
    options: Mapping[str, Option]
    recipe: Recipe
    siblings: tuple[str, ...]
    tried: str
    """What it has really run on, in words; empty if its author does not say."""
    for_tests: bool
    """Whether it is of no use but in tests."""
    module: ModuleType = field(repr=False)

    def defaults(self) -> dict[str, Any]:
        """Its options where the configuration says nothing."""
        return {key: option.default for key, option in self.options.items()}

    def program(self, command: Sequence[str]) -> Program:
        """How to start a worker of this kind.

        Args:
            command: an interpreter, or how to reach one.
        """
        return Program(tuple(command), self.name, self.siblings, is_local(command))


def names() -> list[str]:
    """The names of all drivers, sorted; with files that cannot be imported, for `load` to explain."""
    found = [entry.name for entry in pkgutil.iter_modules(backends.__path__) if not entry.name.startswith("_")]
    return sorted(name for name in found if _may_drive(name))


def load(name: str) -> DriverFile:
    """Read a driver's tables.

    Raises:
        ConfigError: no driver is called so, and the text lists those that there are; or its file cannot be used.
    """
    if name not in names():
        raise ConfigError(f"no back end that runs in a worker is called {name!r}: there are {', '.join(names())}")
    try:
        module = importlib.import_module(f"firstspike.backends.{name}")
        return _read(name, module)
    except Exception as error:
        raise ConfigError(f"the file of back end {name} cannot be used: {type(error).__name__}: {error}") from error


def _may_drive(name: str) -> bool:
    try:
        return hasattr(importlib.import_module(f"firstspike.backends.{name}"), "Driver")
    except Exception:  # noqa: BLE001 (a file that somebody is writing: whatever is wrong with it, the others work)
        return True


def _read(name: str, module: ModuleType) -> DriverFile:
    wanted = getattr(module, "ENVIRONMENT", {})
    recipe = Recipe(
        python=tuple(wanted.get("python", ("3",))), packages=tuple(wanted.get("packages", ())),
        system=tuple(wanted.get("system", ())), imports=tuple(wanted.get("imports", ())),
        system_site=bool(wanted.get("system_site", False)), constraints=_pins(name),
    )  # fmt: skip
    summary = (module.__doc__ or "").strip().partition("\n")[0]
    return DriverFile(
        name=name, summary=re.sub(r"^`\[backend\.\w+\]`: ", "", summary).rstrip("."), options=module.OPTIONS,
        recipe=recipe, siblings=tuple(getattr(module, "SIBLINGS", ())), tried=str(getattr(module, "TRIED", "")),
        for_tests=bool(getattr(module, "FOR_TESTS", False)), module=module,
    )  # fmt: skip


def _pins(name: str) -> tuple[str, ...]:
    file = resources.files("firstspike.worker").joinpath("pins", f"{name}.txt")
    if not file.is_file():
        return ()
    lines = (line.partition("#")[0].strip() for line in file.read_text("utf-8").splitlines())
    return tuple(line for line in lines if line)

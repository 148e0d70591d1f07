"""Where configuration values come from: files, environment and command line, merged, each value with its origin."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from firstspike.errors import ConfigError, NoInputError

ENVIRONMENT_PREFIX = "FIRSTSPIKE__"
ENVIRONMENT_FILE = "FIRSTSPIKE_CONFIG"
SYSTEM_FILE = Path("/etc/firstspike/config.toml")
MAX_FILE_BYTES = 1 << 20

STREAM = "stream"
Origin = str
"""`config.toml:12`, `environment FIRSTSPIKE__…`, `--set` or `default`."""
Key = tuple[str, ...]


@dataclass(slots=True)
class Layers:
    """Values by key, later ones over earlier ones."""

    base: Path = field(default_factory=Path.cwd)
    main_file: Path | None = None
    _values: dict[Key, tuple[Any, Origin]] = field(default_factory=dict)

    def put(self, key: Key, value: Any, origin: Origin) -> None:
        """Set a key; a section in its place, or it in a section's place, gives way."""
        for other in [k for k in self._values if k[: len(key)] == key or key[: len(k)] == k]:
            del self._values[other]
        self._values[key] = (value, origin)

    def tree(self) -> dict[str, Any]:
        """Nested sections, as pydantic takes them."""
        root: dict[str, Any] = {}
        for key, (value, _) in self._values.items():
            place = root
            for part in key[:-1]:
                place = place.setdefault(part, {})
            place[key[-1]] = value
        return root

    def streams(self) -> list[str]:
        """The names of `[stream.NAME]`, in order."""
        return list(dict.fromkeys(key[1] for key in self._values if key[0] == STREAM and len(key) > 1))

    def drop_streams(self) -> None:
        """Forget `[stream.NAME]`: this command has one stream of its own."""
        for key in [key for key in self._values if key[0] == STREAM]:
            del self._values[key]

    def for_stream(self, name: str) -> Layers:
        """The layers as one stream sees them: its own section over the others."""
        own = Layers(self.base, self.main_file)
        for key, (value, origin) in self._values.items():
            if key[0] != STREAM:
                own.put(key, value, origin)
        for key, (value, origin) in self._values.items():
            if key[:2] == (STREAM, name) and len(key) > 2:
                own.put(key[2:], value, origin)
        return own

    def values(self) -> dict[Key, tuple[Any, Origin]]:
        """All values that were set."""
        return dict(self._values)

    def origin(self, key: Key) -> Origin:
        """Where a key's value came from; for a section or an element of a list, the closest there is."""
        while key:
            if key in self._values:
                return self._values[key][1]
            inside = [origin for other, (_, origin) in self._values.items() if other[: len(key)] == key]
            if inside:
                return inside[0]
            key = key[:-1]
        return "default"


def read_layers(file: Path | None, settings: Sequence[str], environment: Mapping[str, str] | None = None) -> Layers:
    """Gather all layers.

    Args:
        file: `--config`, or None to look where the environment and the system say.
        settings: `--set` arguments, `section.key=value`.
        environment: default `os.environ`.

    Raises:
        NoInputError: a file that was named is not there.
        ConfigError: a file is not TOML, or a setting is not `section.key=value`.
    """
    environment = os.environ if environment is None else environment
    layers = Layers()
    if file is None and (given := environment.get(ENVIRONMENT_FILE)):
        file = Path(given)
    if file is None and SYSTEM_FILE.exists():
        file = SYSTEM_FILE
    if file is not None:
        layers.main_file, layers.base = file, file.resolve().parent
        _read_file(layers, file)
        for part in sorted((layers.base / "conf.d").glob("*.toml")):
            _read_file(layers, part)
    for name, text in sorted(environment.items()):
        if name.startswith(ENVIRONMENT_PREFIX):
            key = tuple(name.removeprefix(ENVIRONMENT_PREFIX).lower().split("__"))
            layers.put(key, _value(text), f"environment {name}")
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or not all(name.split(".")):
            raise ConfigError(f"--set {setting}: must be section.key=value")
        layers.put(tuple(name.strip().split(".")), _value(text), "--set")
    return layers


def _value(text: str) -> Any:
    """A value as TOML would read it; what is no TOML value is a string, so that quotes are not needed."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, KeyError, RecursionError):  # TOMLDecodeError, and integers beyond Python's limit
        return text


def _read_file(layers: Layers, file: Path) -> None:
    try:
        with file.open("rb") as stream:
            raw = stream.read(MAX_FILE_BYTES + 1)
        if len(raw) > MAX_FILE_BYTES:
            raise ConfigError(f"{file}: larger than {MAX_FILE_BYTES} bytes: not a configuration")
        text = raw.decode()
        parsed = tomllib.loads(text)
    except FileNotFoundError:
        raise NoInputError(f"{file}: no such configuration file") from None
    except OSError as error:
        raise NoInputError(f"{file}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # TOMLDecodeError, UnicodeDecodeError, integers beyond the limit
        raise ConfigError(f"{file}: not valid TOML: {error}") from None
    lines = _line_numbers(text)
    for key, value in _flatten(parsed, ()):
        line = lines.get(key)
        layers.put(key, value, f"{file}:{line}" if line else str(file))


def _flatten(tree: dict[str, Any], prefix: Key) -> list[tuple[Key, Any]]:
    found: list[tuple[Key, Any]] = []
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            found += _flatten(value, (*prefix, name))
        else:
            found.append(((*prefix, name), value))
    return found


def _line_numbers(text: str) -> dict[Key, int]:
    """Line of each plain `key = value`. tomllib keeps no positions; what this misses is named by its file alone."""
    section: Key = ()
    lines: dict[Key, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[([\w.\- ]+)\]\s*(#.*)?$", line):
            section = tuple(part.strip() for part in header[1].split("."))
        elif entry := re.match(r"\s*([\w.\-]+)\s*=", line):
            lines[(*section, *entry[1].split("."))] = number
    return lines

"""Engines on disk, so that a device builds each network once: a build may take minutes where loading takes a second.

A file is one line that says whose it is, one of JSON (the whole key, the engine's length and SHA-256), and the engine.
An engine is native code: a folder that others can write to is not read, and nothing with a wrong sum gets to TensorRT.
Nothing here raises for the folder's sake: without a cache the engine is built anew, and the notes say why.

Runs in a worker under Python 3.6 or newer.
"""

import hashlib
import json
import os
import stat
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Dict, List, Optional

MAGIC = b"firstspike engine 1\n"
SUFFIX, UNFINISHED = ".engine", ".engine-unfinished"
MAX_LINE = 65536
STALE_S = 3600
"""An unfinished file of this age belongs to nobody any more."""


def default_folder() -> Optional[Path]:
    """Where engines lie if nothing was said: systemd's cache directory, else the user's. None: there is neither."""
    given = os.environ.get("CACHE_DIRECTORY", "").split(":")[0]
    if given:
        return Path(given) / "engines"
    given = os.environ.get("XDG_CACHE_HOME", "")
    if given:
        return Path(given) / "firstspike" / "engines"
    try:
        return Path.home() / ".cache" / "firstspike" / "engines"
    except (KeyError, RuntimeError):  # a user without a home
        return None


def folder(text: str) -> Optional[Path]:
    """The folder that a configuration names; empty: the default one; `none`: none, so that nothing is kept."""
    if text == "none":
        return None
    return Path(text).expanduser() if text else default_folder()


class Cache:
    """A folder of engines.

    Args:
        folder: it is made when needed, for its owner alone; None: nothing is kept.
        limit: bytes that all engines together may take; the one used longest ago goes first.
    """

    def __init__(self, folder: Optional[Path], limit: int) -> None:
        self._folder, self._limit = folder, limit
        self.notes: List[str] = []
        """What was amiss with the folder or a file, one sentence each."""

    def get(self, key: Dict[str, Any]) -> Optional[bytes]:
        """The engine with this very key; None: there is none that can be trusted."""
        if self._folder is None or not self._is_safe(self._folder):
            return None
        path = _file(self._folder, key)
        try:
            with path.open("rb") as stream:
                magic, line, engine = stream.readline(MAX_LINE), stream.readline(MAX_LINE), stream.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            self.notes.append(f"the engine {path} cannot be read: {error.strerror}")
            return None
        wrong = _wrong(magic, line, engine, key)
        if wrong:
            self.notes.append(f"the engine {path} {wrong}: it is built anew")
            self.drop(key)
            return None
        with suppress(OSError):
            os.utime(str(path))  # used last now
        return engine

    def put(self, key: Dict[str, Any], engine: bytes) -> None:
        """Keep an engine: whole or not at all, also if the power fails."""
        if self._folder is None:
            return
        if len(engine) > self._limit:
            self.notes.append(f"an engine of {len(engine)} bytes is not kept: all may have {self._limit}")
            return
        head = {"key": key, "bytes": len(engine), "sha256": hashlib.sha256(engine).hexdigest()}
        unfinished = None
        try:
            self._folder.mkdir(0o700, parents=True, exist_ok=True)
            if not self._is_safe(self._folder):
                return
            descriptor, name = tempfile.mkstemp(UNFINISHED, dir=str(self._folder))
            unfinished = Path(name)
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(MAGIC + _text(head) + b"\n" + engine)
                stream.flush()
                os.fsync(stream.fileno())
            unfinished.replace(_file(self._folder, key))
        except OSError as error:
            self.notes.append(f"the engine is not kept: {self._folder}: {error.strerror}")
            if unfinished is not None:
                _remove(unfinished)
            return
        self._make_room(self._folder, _file(self._folder, key))

    def drop(self, key: Dict[str, Any]) -> None:
        """Forget an engine."""
        if self._folder is not None:
            _remove(_file(self._folder, key))

    def _is_safe(self, folder: Path) -> bool:
        try:
            about = folder.stat()
        except OSError:
            return False  # not there yet, or not to be reached: `put` says which
        if about.st_uid == os.geteuid() and not about.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return True
        note = f"{folder} is not used for engines: it must be the user's own, and no one else may write to it"
        if note not in self.notes:
            self.notes.append(note)
        return False

    def _make_room(self, folder: Path, keep: Path) -> None:
        """Delete the engines used longest ago, but never the one just written."""
        files = []
        for path in folder.iterdir():
            with suppress(OSError):  # another worker may be faster
                about = path.lstat()
                if path.name.endswith(UNFINISHED) and time.time() - about.st_mtime > STALE_S:
                    _remove(path)
                elif path.name.endswith(SUFFIX):
                    files.append((about.st_mtime, about.st_size, path))
        size = sum(entry[1] for entry in files)
        for _, taken, path in sorted(files):
            if size <= self._limit:
                break
            if path != keep:
                _remove(path)
                size -= taken


def _file(folder: Path, key: Dict[str, Any]) -> Path:
    return folder / (hashlib.sha256(_text(key)).hexdigest()[:32] + SUFFIX)


def _text(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


def _wrong(magic: bytes, line: bytes, engine: bytes, key: Dict[str, Any]) -> str:
    """What is wrong with a file; empty: nothing."""
    if magic != MAGIC:
        return "is none of ours"
    try:
        head = json.loads(line.decode())
        told, length, digest = head["key"], head["bytes"], head["sha256"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return "has no readable head"
    if told != key:
        return "is for another network, device or version"
    if length != len(engine):
        return f"has {len(engine)} bytes of {length}"
    return "" if hashlib.sha256(engine).hexdigest() == digest else "has changed on disk"


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()

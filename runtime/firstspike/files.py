"""Files that are whole or not there, also after a power cut."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def is_there(path: Path) -> bool:
    """Whether a path is there, as far as one may see: `Path.exists` raises in a folder that may not be looked into."""
    try:
        return path.exists()
    except OSError:
        return False


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file's content as a whole: temporary file, fsync, rename, fsync of the folder.

    Raises:
        OSError: nothing has changed.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Let a rename or a removal in a folder survive a power cut.

    Raises:
        OSError: it cannot.
    """
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)

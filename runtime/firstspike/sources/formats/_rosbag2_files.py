"""Which files a ROS 2 bag consists of: a folder with `metadata.yaml` and one file or, where it was split, several.

Source: github.com/ros2/rosbag2, `rosbag2_storage/metadata_io.cpp`. Of the YAML only four plain keys are needed, which
is no reason for a YAML library.
"""

from __future__ import annotations

import re
from pathlib import Path

from firstspike.sources.formats._stream import data_error

_METADATA = "metadata.yaml"
_MAX_METADATA = 8 << 20
_SUFFIXES = (".db3", ".mcap")


def bag_files(path: Path) -> list[Path]:
    """Returns the bag's files in their order: the file itself, or what a folder holds; empty where it is no bag.

    Raises:
        DataError: A file that the metadata name is missing, or the bag is compressed as a whole.
    """
    if not path.is_dir():
        return [path]
    stated = _stated(path)
    if stated is not None:
        return stated
    return sorted((file for file in path.iterdir() if file.suffix in _SUFFIXES and file.is_file()), key=_by_number)


def _by_number(file: Path) -> tuple[str, int]:
    """Orders `bag_2.db3` before `bag_10.db3`."""
    parts = re.fullmatch(r"(.*?)(\d{1,9})?", file.stem)
    return (parts[1], int(parts[2] or -1)) if parts else (file.stem, -1)


def _stated(folder: Path) -> list[Path] | None:
    """The files that the metadata name; None where there are no metadata or they name none."""
    metadata = folder / _METADATA
    if not metadata.is_file():
        return None
    with metadata.open("rb") as opened:
        text = opened.read(_MAX_METADATA).decode("utf-8", "replace")
    mode = re.search(r"^\s*compression_mode:[ \t]*[\"']?(\w+)", text, re.MULTILINE)
    if mode is not None and mode[1].lower() != "none":
        raise data_error(folder, f"is a ROS 2 bag compressed by {mode[1].lower()}: rewrite it with `ros2 bag convert`")
    block = re.search(r"^([ \t]*)relative_file_paths:[ \t]*\n((?:[ \t]*- .*\n?)+)", text, re.MULTILINE)
    if block is None:
        return None
    # Only the names: the first releases wrote the folder's name before them, and nothing outside it is to be read.
    names = [Path(line.strip()[2:].strip().strip("\"'")).name for line in block[2].splitlines()]
    files = [folder / name for name in names if name]
    for file in files:
        if not file.is_file():
            raise data_error(folder, f"lacks the file {file.name}, which its {_METADATA} names")
    return files or None

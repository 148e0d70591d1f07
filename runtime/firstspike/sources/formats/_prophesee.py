"""The text header of Prophesee files (RAW and DAT): lines of `% keyword value`, and the sensors' known sizes.

Source: docs.prophesee.ai, «RAW File Format», «DAT File Format»; system identifiers from OpenEB's
`device_system_id.h`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from firstspike.sources.formats._stream import Options, data_error, printable

_SENSOR_SIZES = (
    ("genx320", (320, 320)),
    ("imx636", (1280, 720)),
    ("imx646", (1280, 720)),
    ("gen41", (1280, 720)),
    ("gen4", (1280, 720)),
    ("gen31", (640, 480)),
    ("gen3", (640, 480)),
)
"""Longer names first: `gen31` contains `gen3`."""

_SYSTEMS = {
    "gen3": (0x15, 0x17, 0x19, 0x1D, 0x21),
    "gen31": (0x1C, 0x22, 0x23, 0x28, 0x29),
    "gen4": (0x1A, 0x1E, 0x1F, 0x20, 0x2E),
    "gen41": (0x27, 0x30),
    "imx636": (0x31, 0x32, 0x3A, 0x42),
    "imx646": (0x35,),
    "genx320": (0x3B, 0x40),
}


@dataclass(frozen=True, slots=True)
class Header:
    """A Prophesee header's contents."""

    fields: dict[str, str] = field(default_factory=dict)
    """Keyword in lower case to value; of a repeated keyword, the last."""
    length: int = 0
    """Bytes, so the offset of what follows."""


def parse_header(head: bytes) -> Header:
    """Reads the lines that begin with `%`; stops at `% end`, and where a line is no text."""
    fields: dict[str, str] = {}
    position = 0
    while head[position : position + 1] == b"%":
        end = head.find(b"\n", position)
        if end < 0 or not printable(head[position:end]):
            break
        words = head[position + 1 : end].decode("utf-8", "replace").strip().split(None, 1)
        position = end + 1
        if words and words[0].lower() == "end":
            break
        if words:
            fields[words[0].lower()] = words[1].strip() if len(words) > 1 else ""
    return Header(fields, position)


def evt_version(header: Header) -> str | None:
    """The encoding of a RAW file: `2`, `2.1`, `3`; None where the header does not say."""
    match = re.match(r"(?:evt)?(\d)\.?(\d?)(?!\d)", header.fields.get("format", header.fields.get("evt", "")).lower())
    if match is None:
        return None
    return match[1] if match[2] in ("", "0") else f"{match[1]}.{match[2]}"


def format_option(header: Header, key: str) -> str | None:
    """A value from `% format EVT3;height=480;width=640`."""
    for part in header.fields.get("format", "").split(";")[1:]:
        name, _, value = part.partition("=")
        if name.strip().lower() == key:
            return value.strip()
    return None


def sensor_name(header: Header) -> str | None:
    """The sensor as the plug-in's name or the system identifier tell it, such as `gen41`."""
    text = " ".join(header.fields.get(key, "") for key in ("sensor_name", "plugin_name", "generation")).lower()
    generation = re.search(r"(?<![\w.])([34])\.([01])(?![\w.])", header.fields.get("generation", ""))
    if generation:
        return f"gen{generation[1]}{generation[2].replace('0', '')}"
    for name, _ in _SENSOR_SIZES:
        if name in text:
            return name
    system = header.fields.get("system_id", "")
    if system.isascii() and system.isdigit() and len(system) < 6:
        for name, identifiers in _SYSTEMS.items():
            if int(system) in identifiers:
                return name
    return None


def geometry(path: Path, header: Header, options: Options) -> tuple[int, int, str]:
    """Returns width, height (pixels) and where they come from; `header` beats `sensor`.

    Raises:
        DataError: Neither the header, nor the sensor's name, nor the user tells.
    """
    found = geometry_in_header(header)
    if found is not None:
        return *found, "header"
    name = sensor_name(header)
    if name is not None:
        return *dict(_SENSOR_SIZES)[name], "sensor"
    if options.width is not None and options.height is not None:
        return options.width, options.height, "given"
    raise data_error(path, "has a header without geometry or a known sensor: give width and height")


def geometry_in_header(header: Header) -> tuple[int, int] | None:
    """Width and height where the header states them, in any of its three spellings."""
    stated = re.fullmatch(r"(\d{1,5})\s*x\s*(\d{1,5})", header.fields.get("geometry", ""))
    pairs = (
        (stated[1], stated[2]) if stated else (None, None),
        (format_option(header, "width"), format_option(header, "height")),
        (header.fields.get("width"), header.fields.get("height")),
    )
    for width, height in pairs:
        if width and height and re.fullmatch(r"\d{1,5}", width) and re.fullmatch(r"\d{1,5}", height):
            return int(width), int(height)
    return None


def camera(header: Header) -> str | None:
    """What names the camera, for RecordingInfo.sensor."""
    return header.fields.get("plugin_name") or header.fields.get("sensor_name") or sensor_name(header)

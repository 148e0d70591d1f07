"""CSV and TXT: one event a line, four columns or more, with or without a header line.

There is no specification: the delimiter, the order of the columns and the unit of the times are found from the header's
names or the values, stated in a note, or given (`columns`). Integers are µs; fractions are seconds, unless a header
names another unit. Lines that begin with `#` or `%` are comments; a first line of two integers is taken
as the sensor's width and height, as in the text files of the Event Camera Dataset (Mueggler et al. 2017).
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from firstspike.sources.formats import _columns
from firstspike.sources.formats._columns import Columns
from firstspike.sources.formats._numbers import parse_integers, seconds_to_us
from firstspike.sources.formats._stream import (
    Options,
    Stats,
    data_error,
    extent,
    read_blocks,
    split,
)
from firstspike.types import EVENT, Events, RecordingInfo

NAME = "csv"
_DELIMITERS = ",;\t "
_SAMPLE_BYTES = 64 * 1024
_MAX_LINE = 4096
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


@dataclass(frozen=True, slots=True)
class _Layout:
    delimiter: str
    start: int
    """First byte of the first line of events."""
    columns: Columns
    size: tuple[int, int] | None


def _fields(line: str, delimiter: str) -> list[str]:
    return line.split() if delimiter == " " else [part.strip() for part in line.split(delimiter)]


def _is_numbers(fields: list[str]) -> bool:
    return all(_NUMBER.fullmatch(part) for part in fields)


def _delimiter(line: str) -> str | None:
    for delimiter in _DELIMITERS:
        if len(_fields(line, delimiter)) >= 4:
            return delimiter
    return None


def sniff(head: bytes, path: Path) -> float:
    """Whether there is text in which a line of four or more numbers follows a few others."""
    if b"\0" in head[:1024]:
        return 0.0
    for raw in head.split(b"\n", 64)[:64]:
        line = raw.strip()
        if len(line) > _MAX_LINE or not line.isascii():
            continue
        text = line.decode("ascii")
        delimiter = _delimiter(text)
        if delimiter and _is_numbers(_fields(text, delimiter)):
            return 0.8 if path.suffix.lower() in (".csv", ".txt", ".tsv") else 0.6
    return 0.0


def open(path: Path, options: Options, stats: Stats) -> tuple[RecordingInfo, Iterator[Events]]:  # noqa: A001 the interface
    """Opens a table of events; a first pass finds the geometry unless it is given.

    Raises:
        DataError: No line holds four numbers, or the order of the columns cannot be told.
        UsageError: `options.columns` is not an order of t, x, y and p.
    """
    with path.open("rb") as file:
        head = file.read(_SAMPLE_BYTES)
    layout = _layout(path, head, options)
    if options.width is not None and options.height is not None:
        width, height, origin = options.width, options.height, "given"
    elif layout.size is not None:
        (width, height), origin = layout.size, "header"
    else:
        first_pass = Stats(tick=stats.tick)
        width, height = extent(_events(path, layout, first_pass), first_pass)
        stats.bytes_read += first_pass.bytes_read
        origin = "events"
    info = RecordingInfo(NAME, width, height, origin, None, (layout.columns.note,))
    return info, _events(path, layout, stats)


def _layout(path: Path, head: bytes, options: Options) -> _Layout:
    position, names, size = 0, None, None
    lines = head.split(b"\n")
    whole = lines if len(head) < _SAMPLE_BYTES or len(lines) == 1 else lines[:-1]
    for number, raw in enumerate(whole):
        text = raw.decode("utf-8-sig" if number == 0 else "utf-8", "replace").strip()
        delimiter = _delimiter(text)
        fields = _fields(text, delimiter) if delimiter else text.split()
        if text and text[0] not in "#%" and delimiter and _is_numbers(fields):
            return _Layout(delimiter, position, _find(path, whole[number:], delimiter, names, options), size)
        position += len(raw) + 1
        bare = _fields(text.lstrip("#% "), _delimiter(text.lstrip("#% ")) or " ")
        if len(bare) >= 4:
            names = bare
        elif len(fields) == 2 and all(re.fullmatch(r"[1-9]\d{0,4}", part) for part in fields):
            size = (int(fields[0]), int(fields[1]))
    raise data_error(path, "has no line with four numbers: an event needs t, x, y and p")


def _find(path: Path, lines: list[bytes], delimiter: str, names: list[str] | None, options: Options) -> Columns:
    rows = []
    width = len(_fields(lines[0].decode("utf-8-sig", "replace").strip(), delimiter))
    for raw in lines[:2000]:
        fields = _fields(raw.decode("utf-8", "replace").strip().lstrip("\ufeff"), delimiter)
        if len(fields) == width and _is_numbers(fields):
            rows.append([float(part) for part in fields])
    sample = np.array(rows, np.float64).reshape(-1, width)
    named = _columns.from_names(names) if names and len(names) == width else None
    if options.columns is not None:
        columns = _columns.given(options.columns, width, path, 1.0)
        unit = None
    elif named is not None:
        columns = Columns(**named[0], count=width, scale=1.0, note="columns {} by the header line")
        unit = named[1]
    else:
        found = _columns.from_values(sample, path)
        columns = Columns(**found, count=width, scale=1.0, note="columns {} by their values")
        unit = None
    scale, word = _columns.scale_of(sample[:, columns.t], unit)
    note = f"{columns.note.format(columns.letters)}, times in {word}"
    return replace(columns, scale=scale, note=note)


def _events(path: Path, layout: _Layout, stats: Stats) -> Iterator[Events]:
    rest = b""
    line = 1  # counted from the first line of events
    for block in read_blocks(path, layout.start, 1, stats):
        cut = block.rfind(b"\n") + 1
        if not cut:
            rest += block
            if len(rest) > _MAX_LINE:
                raise data_error(path, f"has a line longer than {_MAX_LINE} bytes: event line {line}")
            continue
        lines, rest = rest + block[:cut], block[cut:]
        yield from _parse(path, layout, lines, line)
        line += lines.count(b"\n")
    if not rest.strip():
        return
    fields = _fields(rest.decode("utf-8", "replace").strip(), layout.delimiter)
    if len(fields) < layout.columns.count or not _is_numbers(fields):
        stats.truncated_bytes += len(rest)
        return
    stats.notes.append("the last line has no line end: its last number may be cut")
    yield from _parse(path, layout, rest + b"\n", line)


def _parse(path: Path, layout: _Layout, lines: bytes, number: int) -> Iterator[Events]:
    """Yields the events of whole lines; on a fault those before it, and then a DataError that names the line."""
    fast = _fast(layout, lines)
    if fast is not None:
        yield from split(_columns.make_events(fast, 1.0, path))
        return
    try:
        yield from split(_slow(path, layout, lines))
    except (ValueError, IndexError, OverflowError):
        good, bad = _first_fault(lines.split(b"\n"), layout)
        if good:
            yield from split(_slow(path, layout, b"\n".join(lines.split(b"\n")[:good]) + b"\n"))
        what = lines.split(b"\n")[bad][:60].decode("utf-8", "replace").strip()
        raise data_error(path, f"has a line that is no event: event line {number + bad}, '{what}'") from None


def _fast(layout: _Layout, lines: bytes) -> list[NDArray[np.int64]] | None:
    """Times (µs), x, y and polarities of lines of integers, or of times in seconds with a decimal point."""
    columns = layout.columns
    separators = layout.delimiter.encode() * (columns.count - 1) + b"\n"
    places = [columns.t, columns.x, columns.y, columns.p]
    if columns.scale == 1.0:
        parsed = parse_integers(lines, separators)
        return None if parsed is None else [parsed[0][place] for place in places]
    if columns.scale != 1e6:
        return None
    parsed = parse_integers(lines, separators[: columns.t] + b"." + separators[columns.t :])
    if parsed is None:
        return None
    table, uniform = parsed
    t = seconds_to_us(table[columns.t], table[columns.t + 1], uniform[columns.t + 1])
    return None if t is None else [t, *(table[place + (place > columns.t)] for place in places[1:])]


def _slow(path: Path, layout: _Layout, lines: bytes) -> Events:
    """Fractions, exponents, comments, blank lines, padding: NumPy's own parser; ValueError on anything else."""
    columns = layout.columns
    use = (columns.t, columns.x, columns.y, columns.p)
    if not lines.strip():
        return np.zeros(0, EVENT)
    table: NDArray[np.float64] = np.loadtxt(
        io.StringIO(lines.decode("utf-8-sig", "replace")),  # a comment may hold anything
        np.float64,
        comments=("#", "%"),
        delimiter=None if layout.delimiter == " " else layout.delimiter,
        usecols=use,
        ndmin=2,
    )
    return _columns.make_events(list(table.T), columns.scale, path)


def _first_fault(lines: list[bytes], layout: _Layout) -> tuple[int, int]:
    """Index of the first line that is neither an event, nor blank, nor a comment (twice: lines before it, it)."""
    for i, raw in enumerate(lines):
        text = raw.decode("utf-8", "replace").split("#")[0].split("%")[0].strip()
        fields = _fields(text, layout.delimiter)
        if text and (len(fields) < layout.columns.count or not _is_numbers(fields)):
            return i, i
    return 0, 0

"""NPZ (NumPy): a structured array with t, x, y, p, an array of shape (n, 4), or one array a field.

Source: NumPy's «NEP 1 — .npy format», zip file of such. Members are streamed, so that compressed files
and large ones need no more memory; nothing is unpickled.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from firstspike.sources.formats import _columns
from firstspike.sources.formats._stream import Options, Stats, data_error, extent
from firstspike.types import Events, RecordingInfo

NAME = "npz"
_CHUNK = 32_768
_MAX_HEADER = 10_000
_FAULTS = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError, RuntimeError)
"""What zipfile and NumPy raise on damaged members; SyntaxError becomes ValueError inside NumPy."""


@dataclass(frozen=True, slots=True)
class _Member:
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


@dataclass(frozen=True, slots=True)
class _Layout:
    members: tuple[_Member, ...]
    """One (structured or two-dimensional), or four in the order t, x, y, p."""
    fields: tuple[str, ...] | tuple[int, ...] | None
    """Names or columns within the one member, in the order t, x, y, p."""
    scale: float
    note: str


def sniff(head: bytes, path: Path) -> float:
    """1 for a zip file with a `.npy` member near its start, 0.3 for another zip file named .npz."""
    if not head.startswith(b"PK\x03\x04"):
        return 0.0
    if b".npy" in head[:1024]:
        return 1.0
    return 0.3 if path.suffix.lower() == ".npz" else 0.0


def open(path: Path, options: Options, stats: Stats) -> tuple[RecordingInfo, Iterator[Events]]:  # noqa: A001 the interface
    """Opens an NPZ file; members `width` and `height`, the user, or a first pass give the geometry.

    Raises:
        DataError: Not a whole zip file, object arrays, or no member with events.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = _members(archive, path)
            layout = _layout(path, archive, members, options)
            size = _stated_size(archive, members)
    except _FAULTS as error:
        raise data_error(path, f"is no whole NPZ file: {error}") from error
    if options.width is not None and options.height is not None:
        width, height, origin = options.width, options.height, "given"
    elif size is not None:
        (width, height), origin = size, "header"
    else:
        first_pass = Stats(tick=stats.tick)
        width, height = extent(_events(path, layout, first_pass), first_pass)
        stats.bytes_read += first_pass.bytes_read
        origin = "events"
    return RecordingInfo(NAME, width, height, origin, None, (layout.note,)), _events(path, layout, stats)


def _members(archive: zipfile.ZipFile, path: Path) -> dict[str, _Member]:
    found = {}
    for entry in archive.infolist()[:64]:
        if not entry.filename.endswith(".npy"):
            continue
        with archive.open(entry) as file:
            shape, fortran, dtype = _header(file)
        if dtype.hasobject:
            raise data_error(path, f"holds Python objects in '{entry.filename}', which are not read: save plain arrays")
        if fortran and len(shape) > 1:
            raise data_error(path, f"stores '{entry.filename}' in Fortran order: save it in C order")
        name = entry.filename.removesuffix(".npy")
        found[name] = _Member(name, shape, dtype)
    return found


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = npy.read_magic(file)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read(file, max_header_size=_MAX_HEADER)
    return shape, fortran, dtype


def _stated_size(archive: zipfile.ZipFile, members: dict[str, _Member]) -> tuple[int, int] | None:
    size = []
    for name in ("width", "height"):
        member = members.get(name)
        if member is None or member.dtype.kind not in "iu" or member.shape not in ((), (1,)):
            return None
        with archive.open(f"{name}.npy") as file:
            _header(file)
            size.append(int(np.frombuffer(file.read(member.dtype.itemsize), member.dtype)[0]))
    return (size[0], size[1]) if all(0 < v <= 65535 for v in size) else None


def _layout(path: Path, archive: zipfile.ZipFile, members: dict[str, _Member], options: Options) -> _Layout:
    flat = {name: m for name, m in members.items() if len(m.shape) == 1}
    for member in flat.values():
        found = _columns.from_names(list(member.dtype.names or ()))
        if found is not None:
            names = list(member.dtype.names or ())
            picked = tuple(names[found[0][letter]] for letter in "txyp")
            return _scaled(path, archive, _Layout((member,), picked, 1.0, f"fields of '{member.name}'"), found[1])
    found = _columns.from_names(list(flat))
    if found is not None:
        order = [list(flat.values())[found[0][letter]] for letter in "txyp"]
        if len({member.shape for member in order}) > 1:
            lengths = ", ".join(f"{m.name} {m.shape[0]}" for m in order)
            raise data_error(path, f"has arrays of different lengths: {lengths}")
        return _scaled(path, archive, _Layout(tuple(order), None, 1.0, "one array a field"), found[1])
    for member in members.values():
        if len(member.shape) == 2 and member.shape[1] == 4 and member.dtype.kind in "iuf":
            layout = _Layout((member,), (0, 1, 2, 3), 1.0, "")
            with archive.open(f"{member.name}.npy") as file:
                _header(file)
                sample = _read(file, member, min(2000, member.shape[0]), path).astype(np.float64)
            if options.columns is not None:
                given = _columns.given(options.columns, 4, path, 1.0)
                at = {"t": given.t, "x": given.x, "y": given.y, "p": given.p}
            else:
                at = _columns.from_values(sample, path)
            places = tuple(at[letter] for letter in "txyp")
            letters = "".join(sorted(at, key=lambda letter: at[letter]))
            return _scaled(path, archive, replace(layout, fields=places, note=f"columns {letters}"), None)
    raise data_error(path, f"has no events: t, x, y and p are looked for, found {', '.join(members) or 'nothing'}")


def _scaled(path: Path, archive: zipfile.ZipFile, layout: _Layout, unit: float | None) -> _Layout:
    """Completes a layout with the unit of its times, from the first values."""
    with ExitStack() as stack:
        files = [stack.enter_context(_body(archive, member)) for member in layout.members]
        count = min(2000, layout.members[0].shape[0])
        t, *_ = _pick(layout, [_read(f, m, count, path) for f, m in zip(files, layout.members, strict=True)])
    if any(column.dtype.kind not in "iufb" for column in (t, *_)):
        raise data_error(path, "holds events that are not numbers")
    scale, word = _columns.scale_of(t, unit)
    return replace(layout, scale=scale, note=f"{layout.note}, times in {word}")


def _body(archive: zipfile.ZipFile, member: _Member) -> IO[bytes]:
    file = archive.open(f"{member.name}.npy")
    _header(file)
    return file


def _read(file: IO[bytes], member: _Member, count: int, path: Path) -> NDArray[Any]:
    """Reads `count` rows; DataError where the member ends before them."""
    row = member.dtype.itemsize * int(np.prod(member.shape[1:], dtype=np.int64))
    data = file.read(count * row)
    if len(data) < count * row:
        raise data_error(path, f"ends within '{member.name}'")
    return np.frombuffer(data, member.dtype).reshape(count, *member.shape[1:])


def _pick(layout: _Layout, arrays: list[NDArray[Any]]) -> list[NDArray[Any]]:
    if layout.fields is None:
        return arrays
    table = arrays[0]
    return [table[field] if isinstance(field, str) else table[:, field] for field in layout.fields]


def _events(path: Path, layout: _Layout, stats: Stats) -> Iterator[Events]:
    total = layout.members[0].shape[0]
    done = 0
    try:
        with zipfile.ZipFile(path) as archive, ExitStack() as stack:
            files = [stack.enter_context(_body(archive, member)) for member in layout.members]
            while done < total:
                count = min(_CHUNK, total - done)
                arrays = [_read(file, m, count, path) for file, m in zip(files, layout.members, strict=True)]
                stats.bytes_read += sum(array.nbytes for array in arrays)
                done += count
                yield _columns.make_events(_pick(layout, arrays), layout.scale, path)
    except _FAULTS as error:
        raise data_error(path, f"is damaged after {done:,} events: {error}") from error

"""Networks' files: NumPy archives (.npz) read without trusting them.

Nothing in them is ever unpickled or evaluated: sizes are checked before anything is decompressed, and array headers are
matched against the one form that NumPy writes (NEP 1, version 1.0).
"""

from __future__ import annotations

import io
import re
import struct
import zipfile
import zlib
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from firstspike.errors import BundleError, NoInputError

MAX_HEAD_BYTES = 1 << 20
_NPY = re.compile(
    rb"\x93NUMPY\x01\x00(..)\{'descr': '([^']+)', 'fortran_order': False, 'shape': \(([0-9, ]*)\), \} *\n", re.DOTALL
)


def read(path: Path, most: int) -> bytes:
    """A file's content, at most one byte more than `most`; NoInputError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(most + 1)
    except OSError as error:
        raise NoInputError(f"{path}: cannot be read: {error.strerror or error}") from None


def members(raw: bytes, *, most_bytes: int, most_arrays: int) -> dict[str, bytes]:
    """Names (without .npy) and contents of an archive; BundleError if it is none or larger than allowed."""
    if len(raw) > most_bytes:
        raise BundleError(f"larger than {most_bytes} bytes: not a network's file")
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            infos = archive.infolist()
            if len(infos) > most_arrays or sum(info.file_size for info in infos) > most_bytes:
                raise BundleError(f"holds more than {most_arrays} arrays or {most_bytes} bytes: not a network")
            if any(info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for info in infos):
                raise BundleError("is compressed in a way that NumPy does not write: build the bundle again")
            # A member cannot give more bytes than its entry states: zipfile stops there and compares the checksum.
            return {info.filename.removesuffix(".npy"): archive.read(info) for info in infos}
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, RuntimeError, ValueError,
            OverflowError, OSError) as error:  # fmt: skip
        raise BundleError(f"not a NumPy archive (.npz), or damaged ({error}): build the bundle again") from None


def header(members: dict[str, bytes]) -> bytes:
    """Takes the entry `network`, the archive's JSON, out of it."""
    raw = members.pop("network", None)
    if raw is None:
        raise BundleError("has no entry 'network': not a network's file")
    if len(raw) > MAX_HEAD_BYTES:
        raise BundleError(f"entry 'network' is larger than {MAX_HEAD_BYTES} bytes: not a network's file")
    return array("entry 'network'", raw, "|u1", 1).tobytes()


def array(name: str, raw: bytes, descr: str, ndim: int) -> NDArray[Any]:
    """The array of one entry, checked for dtype and dimensions; BundleError names it."""
    header = _NPY.match(raw)
    if header is None or int.from_bytes(header[1], "little") != header.end() - 10:
        raise BundleError(f"{name}: not a NumPy array in C order (.npy, version 1.0): build the bundle again")
    found = header[2].decode("latin-1")
    shape = tuple(int(side) for side in header[3].split(b",") if side.strip().isdigit() and len(side) < 12)
    if found != descr or len(shape) != ndim:
        raise BundleError(f"{name}: dtype {found} with {len(shape)} dimensions, must be {descr} with {ndim}")
    dtype = np.dtype(descr)
    if prod(shape) * dtype.itemsize != len(raw) - header.end():
        raise BundleError(f"{name}: {len(raw) - header.end()} bytes for shape {shape}: damaged; build the bundle again")
    return np.frombuffer(raw, dtype, offset=header.end()).reshape(shape)


def explain(error: ValidationError) -> str:
    """One sentence from pydantic's first error, with the layer's number where there is one."""
    first = error.errors(include_url=False)[0]
    where = [str(part) for part in first["loc"]]
    if len(where) >= 2 and where[0] == "layers":
        kind = f" ({where[2]})" if len(where) > 2 else ""
        where = [f"layer {where[1]}{kind}", *where[3:]]
    return f"{', '.join(where) or 'network'}: {first['msg']} (found {first['input']!r:.80})"

"""Which column is the time, which the pixel, which the polarity; and how times become µs. For CSV and NPZ."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firstspike.errors import UsageError
from firstspike.sources.formats._stream import data_error, pack
from firstspike.types import Events

_ALIASES = {
    "t": ("t", "ts", "time", "times", "timestamp", "timestamps"),
    "x": ("x", "xs", "col", "column", "u"),
    "y": ("y", "ys", "row", "v"),
    "p": ("p", "ps", "pol", "polarity", "polarities", "on", "sign"),
}
_UNITS = {"s": 1e6, "sec": 1e6, "ms": 1e3, "us": 1.0, "µs": 1.0, "ns": 1e-3}
_NAME = re.compile(r"([a-z]+?)s?[\s_]*(?:[\[(]?\s*(µs|us|ms|ns|sec|s)\s*[\])]?)?")
_ORDERS = ("txyp", "xypt", "xytp", "ptxy", "pxyt", "txpy", "tpxy", "xtyp", "xpyt", "xtpy", "xpty", "ptyx")
"""Orders that are tried, the usual ones first; of several that fit, the first is taken."""
OUTSIDE = 65535
"""Stands for a coordinate that a uint16 cannot hold: outside of every sensor."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Where each field is, and the scale that makes µs of the time."""

    t: int
    x: int
    y: int
    p: int
    count: int
    """Columns of the table."""
    scale: float
    """µs of one unit of time: 1 for integers, 1e6 for seconds."""
    note: str
    """How this was found, for the user."""

    @property
    def letters(self) -> str:
        """The order as letters, `-` for a column that is not used."""
        names = {self.t: "t", self.x: "x", self.y: "y", self.p: "p"}
        return "".join(names.get(i, "-") for i in range(self.count))


def field_of(name: str) -> tuple[str, float | None] | None:
    """Which field a name means, and the µs of its unit where the name tells it (`t_ns`, `time [s]`)."""
    match = _NAME.fullmatch(name.strip().strip("\"'").lower())
    if match is None:
        return None
    words = {match[1], match[1] + "s"}
    for letter, aliases in _ALIASES.items():
        if words & set(aliases):
            return letter, _UNITS[match[2]] if match[2] and letter == "t" else None
    return None


def given(letters: str, count: int, path: Path, scale: float) -> Columns:
    """Columns as the user states them.

    Raises:
        UsageError: Not exactly one each of t, x, y, p.
        DataError: The table has fewer columns.
    """
    letters = letters.lower()
    if sorted(letters.replace("-", "")) != ["p", "t", "x", "y"]:
        raise UsageError(f"columns '{letters}' must name t, x, y and p once each, as in 'xypt' ('-' skips a column)")
    if len(letters) > count:
        raise data_error(path, f"has {count} columns, fewer than columns='{letters}' names")
    at = {letter: letters.index(letter) for letter in "txyp"}
    return Columns(**at, count=count, scale=scale, note=f"columns {letters} as given")


def from_names(names: list[str]) -> tuple[dict[str, int], float | None] | None:
    """Positions by field from a header line, and the time's unit; None where a field is missing."""
    at: dict[str, int] = {}
    unit = None
    for i, name in enumerate(names):
        found = field_of(name)
        if found and found[0] not in at:
            at[found[0]] = i
            unit = found[1] if found[0] == "t" else unit
    return (at, unit) if len(at) == 4 else None


def from_values(rows: NDArray[np.float64], path: Path) -> dict[str, int]:
    """Positions by field from the values: the time hardly falls, the polarity has two values, pixels are whole.

    Args:
        rows: Shape (n, 4): the first rows of the table.
        path: For the message.

    Raises:
        DataError: No order fits.
    """
    if rows.shape[1] == 4 and len(rows):
        columns = list(rows.T)
        rises = [np.count_nonzero(np.diff(c) < 0) <= 0.02 * len(c) for c in columns]
        binary = [set(np.unique(c)) <= {0.0, 1.0} or set(np.unique(c)) <= {-1.0, 1.0} for c in columns]
        pixel = [bool(((c == np.floor(c)) & (c >= 0) & (c <= OUTSIDE)).all()) for c in columns]
        # Of columns that hardly fall, the time is the one with fractions (seconds), or else the widest.
        rank = [(rises[i], bool((c != np.floor(c)).any()), float(np.ptp(c))) for i, c in enumerate(columns)]
        for order in _ORDERS:
            t, x, y, p = (order.index(letter) for letter in "txyp")
            if rank[t] == max(rank) and rises[t] and binary[p] and pixel[x] and pixel[y]:
                return {"t": t, "x": x, "y": y, "p": p}
    raise data_error(path, "has columns whose order its values do not tell: state it as columns='txyp'")


def scale_of(times: NDArray[Any], unit: float | None) -> tuple[float, str]:
    """µs of one unit of time: as named, else seconds for fractions, else µs; and the words for it."""
    if unit is not None:
        return unit, {1e6: "s", 1e3: "ms", 1.0: "µs", 1e-3: "ns"}[unit]
    values = np.asarray(times, np.float64)
    if len(values) and not (values == np.floor(values)).all():
        return 1e6, "s"
    return 1.0, "µs"


def make_events(txyp: Sequence[NDArray[Any]], scale: float, path: Path) -> Events:
    """Builds events from columns of numbers of any type.

    Args:
        txyp: Times, x, y and polarities, each of shape (n,).
        scale: µs of one unit of time.
        path: For the message.

    Raises:
        DataError: A value is not finite, or a time does not fit 63 bits of µs.
    """
    t, x, y, p = txyp
    if t.dtype.kind in "iu" and scale == 1.0:
        times = t.astype(np.int64)
        if t.dtype.kind == "u" and len(t) and int(t.max()) > np.iinfo(np.int64).max:
            raise data_error(path, "has a time that does not fit 63 bits of µs")
    else:
        exact = np.round(t.astype(np.float64) * scale)
        if not (np.abs(exact) < 2.0**62).all():  # false for NaN too
            raise data_error(path, "has a time that is no number or does not fit 63 bits of µs")
        times = exact.astype(np.int64)
    return pack(times, _pixels(x, path), _pixels(y, path), _polarities(p))


def _pixels(values: NDArray[Any], path: Path) -> NDArray[np.uint16]:
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise data_error(path, "has a coordinate that is no number")
    if values.dtype.kind == "u" and values.dtype.itemsize <= 2:
        return values.astype(np.uint16)
    inside = (values >= 0) & (values < OUTSIDE)
    return np.where(inside, values, OUTSIDE).astype(np.uint16)


def _polarities(values: NDArray[Any]) -> NDArray[np.bool_]:
    return values.astype(np.bool_) if values.dtype.kind == "b" else values > 0

"""Parses a block of lines of integers without a Python loop over lines."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_MAX_DIGITS = 18  # of an int64, always


def parse_integers(block: bytes, delimiter: bytes, count: int) -> NDArray[np.int64] | None:
    """Parses lines of exactly `count` integers.

    Args:
        block: Whole lines, each ended by a newline (with or without a carriage return).
        delimiter: One byte between the columns.
        count: Columns.

    Returns:
        Shape (count, lines), int64; None where anything but plain integers occurs, for which a slower parser exists.
    """
    if b"\r" in block:
        block = block.replace(b"\r\n", b"\n")
    data = np.frombuffer(block, np.uint8)
    digits = data - np.uint8(48)  # wraps for smaller bytes, so they are large
    ends = np.flatnonzero(digits > 9)
    minus = data[ends] == 45
    negative = minus.any()
    if negative:
        ends = ends[~minus]
    if not len(ends) or len(ends) % count:
        return None
    table = ends.reshape(-1, count)
    if not (data[table[:, :-1]] == delimiter[0]).all() or not (data[table[:, -1]] == 10).all():
        return None
    flat = ends
    starts = np.empty_like(flat)
    starts[0] = 0
    starts[1:] = flat[:-1] + 1
    if negative:
        signed = data[starts] == 45
        if np.count_nonzero(signed) != np.count_nonzero(minus):
            return None  # a minus inside a number
        starts = starts + signed
    lengths = flat - starts
    if lengths.min() < 1 or lengths.max() > _MAX_DIGITS:
        return None
    values = np.empty((count, len(table)), np.int64)
    for column in range(count):
        values[column] = _column(digits, starts[column::count], lengths[column::count])
    if negative:
        values *= np.where(signed.reshape(-1, count).T, -1, 1)
    return values


def _column(digits: NDArray[np.uint8], starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Horner's rule over the digits' places, for all lines at once."""
    value = digits[starts].astype(np.int64)
    shortest, longest = int(lengths.min()), int(lengths.max())
    for place in range(1, longest):
        if place < shortest:
            value = value * 10 + digits[starts + place]
        else:
            more = np.flatnonzero(lengths > place)
            value[more] = value[more] * 10 + digits[starts[more] + place]
    return value

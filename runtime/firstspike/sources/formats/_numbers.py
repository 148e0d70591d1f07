"""Parses a block of lines of numbers without a Python loop over lines."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_MAX_DIGITS = 18  # of an int64, always


def parse_integers(block: bytes, separators: bytes) -> tuple[NDArray[np.int64], list[int]] | None:
    """Parses lines that all have the same number of integers and the same separators.

    Args:
        block: Whole lines, each ended by a newline (with or without a carriage return).
        separators: The byte after each column, the last of them a newline. A decimal point may be one, so that a
            fraction is two columns.

    Returns:
        The values, shape (columns, lines), int64, and of each column the digits that all its numbers have (-1
        where they differ); None where anything but this occurs, for which a slower parser exists.
    """
    if b"\r" in block:
        block = block.replace(b"\r\n", b"\n")
    count = len(separators)
    data = np.frombuffer(block, np.uint8)
    digits = data - np.uint8(48)  # wraps for smaller bytes, so they are large
    ends = np.flatnonzero(digits > 9)
    minus = data[ends] == 45
    negative = bool(minus.any())
    if negative:
        ends = ends[~minus]
    if not len(ends) or len(ends) % count:
        return None
    if not (data[ends].reshape(-1, count) == np.frombuffer(separators, np.uint8)).all():
        return None
    starts = np.empty_like(ends)
    starts[0] = 0
    starts[1:] = ends[:-1] + 1
    if negative:
        signed = data[starts] == 45
        if np.count_nonzero(signed) != np.count_nonzero(minus):
            return None  # a minus inside a number
        starts = starts + signed
    lengths = ends - starts
    if lengths.min() < 1 or lengths.max() > _MAX_DIGITS:
        return None
    values = np.empty((count, len(ends) // count), np.int64)
    uniform = []
    for column in range(count):
        own = lengths[column::count]
        uniform.append(int(own[0]) if own.min() == own.max() else -1)
        values[column] = _column(digits, starts[column::count], own)
    if negative:
        if separators.find(b".") >= 0 and signed.reshape(-1, count)[:, separators.index(b".")].any():
            return None  # the sign belongs to the fraction too
        values *= np.where(signed.reshape(-1, count).T, -1, 1)
    return values, uniform


def seconds_to_us(whole: NDArray[np.int64], fraction: NDArray[np.int64], digits: int) -> NDArray[np.int64] | None:
    """Joins `12.000345` of two columns to µs, rounded to the nearest; None where it might overflow."""
    if digits < 0 or int(whole.max()) > 1 << 42:
        return None
    micros = whole * np.int64(1_000_000)
    if digits <= 6:
        return micros + fraction * np.int64(10 ** (6 - digits))
    unit = np.int64(10 ** (digits - 6))
    return micros + (fraction + unit // 2) // unit


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

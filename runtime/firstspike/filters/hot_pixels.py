"""Pixels that never rest: how they are told from the scene, and the file that lists them.

While it learns, a `Learner` counts each pixel's events, and in how many slices of 100 ms it had any. A pixel is hot if

- it has `min_hz` events a second or more, and
- `ratio` times as many as its surroundings: the median of the up to 24 other pixels of the 5×5 around it (and at
  least as many as if that were 1): an edge makes a pixel's neighbours fire too, a defect does not; and
- it was active in `share` of the slices: what a scene lights up for a moment comes and goes.

The median needs no threshold of its own for each scene, and up to eleven hot pixels side by side do not hide one
another.
"""

from __future__ import annotations

import os
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firstspike.errors import ConfigError, DataError, OutputError
from firstspike.filters.definition import MAX_TIME_US, check_sensor
from firstspike.types import Events

SLICE_US = 100_000
_AFTER_RESET = 256
"""As in `window`: a stream of nothing but resets must not cost its square."""
REACH = 2
MAX_FILE_BYTES = 1 << 24


@dataclass(frozen=True, slots=True)
class Thresholds:
    """When a pixel is hot; the module explains them."""

    min_hz: float = 10.0
    ratio: float = 5.0
    share: float = 0.5


@dataclass(frozen=True, slots=True)
class HotPixels:
    """A sensor's hot pixels."""

    width: int
    height: int
    learned_s: float
    """Over how long."""
    pixels: tuple[tuple[int, int], ...]
    """(x, y), the busiest first."""
    hz: tuple[float, ...] = ()
    """Their rates while learned, or empty."""


class Learner:
    """Counts a sensor's events.

    Args:
        width, height: of the sensor, pixels.
        back_us: a time this far below the largest begins another stretch of learning: the clock was reset.

    What it learns depends on the order of the events alone, not on how they were cut into arrays.
    """

    def __init__(self, width: int, height: int, back_us: int = 1_000_000) -> None:
        check_sensor(width, height, None)
        self.size = (width, height)
        """Of the sensor."""
        self._back_us = back_us
        self._count = np.zeros(width * height, np.int64)
        self._active = np.zeros(width * height, np.int64)
        self._last = np.full(width * height, -1, np.int64)
        """Number of the slice in which a pixel was last active."""
        self._slices = 0
        """Of former stretches: numbers go on from there."""
        self._past_us = 0
        self._start: int | None = None
        self._largest = 0

    @property
    def learned_us(self) -> int:
        """µs of events seen so far."""
        return self._past_us + (0 if self._start is None else self._largest - self._start)

    def add(self, events: Events, until_us: int | None = None) -> int:
        """Take events, in order of arrival; returns how many were taken.

        Args:
            events: dtype `EVENT`; those outside the sensor count as time alone.
            until_us: stop before the first event with which `learned_us` would reach this.

        Raises:
            DataError: a timestamp that cannot be a time.
        """
        if len(events) and (int(events["t"].min()) < -MAX_TIME_US or int(events["t"].max()) > MAX_TIME_US):
            raise DataError(f"a timestamp beyond ±{MAX_TIME_US} µs: the recording is corrupt")
        taken, ahead = 0, len(events)
        while taken < len(events):
            times = events["t"][taken : taken + ahead]
            if self._start is None:
                self._start = self._largest = int(times[0])
            largest = np.maximum(np.maximum.accumulate(times), self._largest)
            before = np.concatenate([[self._largest], largest[:-1]])
            jump = times < before - self._back_us
            reset = bool(jump.any())
            end = int(jump.argmax()) if reset else len(times)
            full = end
            if until_us is not None:
                full = int(np.searchsorted(largest[:end], self._start + until_us - self._past_us))
            self._take(events[taken : taken + full], largest[:full])
            taken += full
            if full < end:
                break
            if reset:
                self.end()
            ahead = _AFTER_RESET if reset else 2 * ahead
        return taken

    def end(self) -> None:
        """A recording ends, or a time base."""
        if self._start is not None:
            self._slices += (self._largest - self._start) // SLICE_US + 1
            self._past_us, self._start = self.learned_us, None

    def _take(self, events: Events, largest: NDArray[np.int64]) -> None:
        if len(events) == 0:
            return
        assert self._start is not None  # noqa: S101 (set by add)
        self._largest = int(largest[-1])
        width, height = self.size
        inside = (events["x"] < width) & (events["y"] < height)
        at = events["y"][inside].astype(np.int64) * width + events["x"][inside]
        number = self._slices + (largest[inside] - self._start) // SLICE_US
        np.add.at(self._count, at, 1)
        order = np.argsort(at, kind="stable")  # a pixel's slices then follow one another, none going back
        at, number = at[order], number[order]
        first = np.ones(len(at), bool)
        first[1:] = at[1:] != at[:-1]
        before = np.where(first, self._last[at], np.roll(number, 1))
        np.add.at(self._active, at[number != before], 1)
        self._last[at] = number  # of equal indices NumPy keeps the last

    def found(self, thresholds: Thresholds | None = None) -> HotPixels:
        """The hot pixels, from all that was taken."""
        self.end()
        thresholds = thresholds or Thresholds()
        width, height = self.size
        seconds = self._past_us / 1e6
        if not seconds:
            return HotPixels(width, height, 0.0, ())
        count = self._count.reshape(height, width)
        hot = (count >= thresholds.min_hz * seconds) & (
            self._active.reshape(height, width) >= thresholds.share * self._slices
        )
        rows, columns = np.nonzero(hot)
        around = surroundings(count, rows, columns)
        stays = count[rows, columns] >= thresholds.ratio * np.maximum(around, 1)
        rows, columns = rows[stays], columns[stays]
        order = np.lexsort((columns, rows, -count[rows, columns]))
        found = [(int(columns[i]), int(rows[i])) for i in order]
        hz = tuple(round(float(count[y, x]) / seconds, 1) for x, y in found)
        return HotPixels(width, height, round(seconds, 3), tuple(found), hz)


def surroundings(count: NDArray[np.int64], rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.float64]:
    """For each pixel asked for, the median count of the others of the 5×5 around it; 0 if there are none."""
    padded = np.pad(count.astype(np.float64), REACH, constant_values=np.nan)
    offsets = [(dy, dx) for dy in range(2 * REACH + 1) for dx in range(2 * REACH + 1) if (dy, dx) != (REACH, REACH)]
    others = np.array([padded[rows + dy, columns + dx] for dy, dx in offsets]).reshape(len(offsets), len(rows))
    alone = np.isnan(others).all(axis=0)
    others[0, alone] = 0.0
    median: NDArray[np.float64] = np.nanmedian(others, axis=0)
    return median


def read_hot_pixels(path: Path) -> HotPixels:
    """Read the list.

    Raises:
        ConfigError: it cannot be read, or is none.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ConfigError(f"{path}: {path.stat().st_size} bytes: no list of hot pixels is so long")
        values = tomllib.loads(path.read_text(encoding="utf-8"))
        return _checked(values)
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read: {error.strerror}: `firstspike filters learn` writes it, for filter.hot_pixels"
        ) from None
    except KeyError as error:
        raise ConfigError(f"{path}: no list of hot pixels: there is no key {error}") from None
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{path}: no list of hot pixels: {error}") from None


def _checked(values: dict[str, Any]) -> HotPixels:
    """The list that a file holds; KeyError, TypeError or ValueError if it holds none."""
    width, height, pixels = values.pop("width"), values.pop("height"), values.pop("pixels")
    learned, hz = values.pop("learned_s", 0.0), values.pop("hz", [])
    whole = all(type(value) is int and 1 <= value <= 65535 for value in (width, height))
    if not whole or values or not isinstance(pixels, list):
        raise ValueError("its keys are width, height, learned_s, pixels and hz")
    for pixel in pixels:
        if not (isinstance(pixel, list) and len(pixel) == 2 and all(type(value) is int for value in pixel)):
            raise ValueError(f"pixels: {pixel!r:.40} is no [x, y]")
        if not (0 <= pixel[0] < width and 0 <= pixel[1] < height):
            raise ValueError(f"pixels: {pixel} is outside of {width}×{height}")
    return HotPixels(width, height, float(learned), tuple((x, y) for x, y in pixels), tuple(map(float, hz)))


def write_hot_pixels(path: Path, hot: HotPixels) -> None:
    """Write the list: whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    pixels = "".join(f"  [{x}, {y}],\n" for x, y in hot.pixels)
    text = (
        "# Hot pixels, the busiest first; hz: their rates while learned. For the configuration's filter.hot_pixels.\n"
        f"width = {hot.width}\nheight = {hot.height}\nlearned_s = {hot.learned_s}\n"
        f"hz = {list(hot.hz)}\npixels = [\n{pixels}]\n"
    )
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as file:
            try:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
                Path(file.name).chmod(0o644)
                Path(file.name).replace(path)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror}") from None

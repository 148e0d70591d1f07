"""The table of places: what is known of each of the sensor's pixels before any event comes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from firstspike.errors import ConfigError
from firstspike.filters.definition import DROPPED, REASONS, Places, Reason, check_sensor
from firstspike.filters.hot_pixels import HotPixels
from firstspike.filters.undistort import Camera


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a sensor's pixels go. In this order: undistorted, cut to the region, then turned.

    The region is in the coordinates of the undistorted image (the sensor's own, if nothing is undistorted), and
    becomes the whole image. It is turned by `transpose` (x and y change places), then `flip_x` (left and right),
    `flip_y` (up and down), then `rotate`, degrees clockwise.
    """

    camera: Camera | None = None
    region: tuple[int, int, int, int] | None = None
    """x, y, width, height."""
    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False
    rotate: Literal[0, 90, 180, 270] = 0

    def places(self, width: int, height: int, hot: HotPixels | None = None) -> tuple[Places | None, tuple[int, int]]:
        """The table for a sensor, None if all stay where they are; and width and height of what comes out.

        Raises:
            ConfigError: calibration, region or hot pixels are another sensor's.
            DataError: the sensor is too large.
        """
        check_sensor(width, height, None)
        size = (width, height)
        if self == Layout() and not (hot and hot.pixels):
            return None, size
        rows, columns = np.mgrid[0:height, 0:width].astype(np.int64)
        dropped = np.zeros((height, width), np.uint32)  # reasons; later ones give way to earlier ones
        if self.camera is not None:
            _require_same("filter.undistort", (self.camera.width, self.camera.height), size, "calibrate this one")
            columns, rows, inside = self.camera.undistorted()
            dropped[~inside] = _code("undistorted")
        if self.region is not None:
            x, y, *size_ = self.region
            if x + size_[0] > width or y + size_[1] > height:
                raise ConfigError(
                    f"filter.region {list(self.region)} reaches beyond the sensor's {width}×{height} pixels"
                )
            columns, rows, size = columns - x, rows - y, (size_[0], size_[1])
            outside = (columns < 0) | (columns >= size[0]) | (rows < 0) | (rows >= size[1])
            dropped[outside & (dropped == 0)] = _code("region")
        if self.transpose:
            columns, rows, size = rows, columns, size[::-1]
        if self.flip_x:
            columns = size[0] - 1 - columns
        if self.flip_y:
            rows = size[1] - 1 - rows
        for _ in range(self.rotate // 90):  # clockwise: what was below is now on the left
            columns, rows, size = size[1] - 1 - rows, columns, size[::-1]
        if hot is not None:
            _require_same("filter.hot_pixels", (hot.width, hot.height), (width, height), "learn this one's")
            for x, y in hot.pixels:
                dropped[y, x] = _code("hot_pixel")
        return np.where(dropped > 0, dropped, (rows << 16 | columns).astype(np.uint32)), size


def _code(reason: Reason) -> int:
    return DROPPED + REASONS.index(reason)


def _require_same(key: str, theirs: tuple[int, int], ours: tuple[int, int], fix: str) -> None:
    if theirs != ours:
        raise ConfigError(
            f"{key}: is of a sensor of {theirs[0]}×{theirs[1]} pixels, this one has {ours[0]}×{ours[1]}: {fix}"
        )

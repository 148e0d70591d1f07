"""A camera's calibration, and where a lens without distortion would have put each pixel.

The file is TOML or npz. TOML:

    width = 346                     # of the sensor that was calibrated
    height = 260
    model = "radial"                # default; or "fisheye"
    matrix = [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]
    distortion = [k1, k2, p1, p2, k3]

npz: arrays of the same names (`width` and `height` as numbers), as `numpy.savez` writes what OpenCV's calibration
gives. `radial` is OpenCV's model with 4, 5 or 8 coefficients (k1 k2 p1 p2 [k3 [k4 k5 k6]]), `fisheye` its fisheye
model with 4. The undistorted image has the sensor's size and the same matrix.
"""

from __future__ import annotations

import tomllib
import zipfile
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from firstspike.errors import ConfigError

MAX_FILE_BYTES = 1 << 20
STEPS = 50
CLOSE_PX = 0.01
"""A pixel whose place is not found this closely in so many of Newton's steps has none: the model does not reach it."""

Floats = NDArray[np.float64]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class Camera(BaseModel):
    """A camera's calibration; the module says what the file looks like."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    width: Annotated[int, Field(ge=1, le=65535)]
    height: Annotated[int, Field(ge=1, le=65535)]
    model: Literal["radial", "fisheye"] = "radial"
    matrix: Annotated[
        list[Annotated[list[Finite], Field(min_length=3, max_length=3)]], Field(min_length=3, max_length=3)
    ]
    distortion: list[Finite]

    @field_validator("matrix")
    @classmethod
    def _a_pinhole(cls, value: list[list[float]]) -> list[list[float]]:
        (fx, skew, _), (zero, fy, _), last = value
        if not (fx > 0 and fy > 0 and skew == zero == 0 and last == [0, 0, 1]):
            raise ValueError("must be [[fx, 0, cx], [0, fy, cy], [0, 0, 1]] with fx and fy above 0, in pixels")
        return value

    @model_validator(mode="after")
    def _coefficients(self) -> Camera:
        allowed = (4, 5, 8) if self.model == "radial" else (4,)
        if len(self.distortion) not in allowed:
            raise ValueError(
                f"distortion has {len(self.distortion)} coefficients: a {self.model} model has "
                f"{' or '.join(map(str, allowed))}"
            )
        return self

    def distort(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Where the lens puts what lies at x, y, both in units of the focal length from the axis."""
        if self.model == "fisheye":
            k1, k2, k3, k4 = self.distortion
            r = np.hypot(x, y)
            angle = np.arctan(r)
            s = angle * angle
            bent = angle * (1 + s * (k1 + s * (k2 + s * (k3 + s * k4))))
            scale = np.divide(bent, r, out=np.ones_like(r), where=r > 0)
            return x * scale, y * scale
        k1, k2, p1, p2, k3, k4, k5, k6 = [*self.distortion, 0.0, 0.0, 0.0, 0.0][:8]
        s = x * x + y * y
        scale = (1 + s * (k1 + s * (k2 + s * k3))) / (1 + s * (k4 + s * (k5 + s * k6)))
        return (
            x * scale + 2 * p1 * x * y + p2 * (s + 2 * x * x),
            y * scale + p1 * (s + 2 * y * y) + 2 * p2 * x * y,
        )

    def undistorted(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        """Column and row, each (height, width), that each pixel's events belong to, and whether they are in the image.

        A pixel takes the place that its centre has, rounded to the nearest pixel's; halves go up.
        """
        (fx, _, cx), (_, fy, cy), _ = self.matrix
        rows, columns = np.mgrid[0 : self.height, 0 : self.width].astype(np.float64)
        wanted_x, wanted_y = (columns - cx) / fx, (rows - cy) / fy
        x, y = self._undistort(wanted_x, wanted_y)
        with np.errstate(all="ignore"):
            again_x, again_y = self.distort(x, y)
            off = np.hypot((again_x - wanted_x) * fx, (again_y - wanted_y) * fy)
            column, row = np.floor(x * fx + cx + 0.5), np.floor(y * fy + cy + 0.5)
            inside = (off < CLOSE_PX) & (column >= 0) & (column < self.width) & (row >= 0) & (row < self.height)
        # Beyond the circle in which a lens's polynomial rises it folds the image over: what comes back is wrong.
        inside &= self._rising(x, y)
        return np.where(inside, column, 0).astype(np.int64), np.where(inside, row, 0).astype(np.int64), inside

    def _undistort(self, wanted_x: Floats, wanted_y: Floats) -> tuple[Floats, Floats]:
        """Newton's method from where the lens put it."""
        x, y = wanted_x.copy(), wanted_y.copy()
        with np.errstate(all="ignore"):
            for _ in range(STEPS):
                at_x, at_y = self.distort(x, y)
                a, b, c, d = self._slopes(x, y)
                det = a * d - b * c
                ex, ey = wanted_x - at_x, wanted_y - at_y
                if float(np.nanmax(np.abs([ex, ey]), initial=0.0)) < 1e-9:
                    break
                step_x, step_y = (d * ex - b * ey) / det, (a * ey - c * ex) / det
                # Not further than the image is wide at a time: near a fold the slope points anywhere.
                x, y = x + np.clip(step_x, -0.5, 0.5), y + np.clip(step_y, -0.5, 0.5)
        return x, y

    def _slopes(self, x: Floats, y: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        """The derivatives dx′/dx, dx′/dy, dy′/dx, dy′/dy, from differences."""
        h = 1e-6
        right, left = self.distort(x + h, y), self.distort(x - h, y)
        down, up = self.distort(x, y + h), self.distort(x, y - h)
        a, c = (right[0] - left[0]) / (2 * h), (right[1] - left[1]) / (2 * h)
        return a, (down[0] - up[0]) / (2 * h), c, (down[1] - up[1]) / (2 * h)

    def _rising(self, x: Floats, y: Floats) -> NDArray[np.bool_]:
        with np.errstate(all="ignore"):
            a, b, c, d = self._slopes(x, y)
            return (a * d - b * c > 0) & (a + d > 0)


def read_camera(path: Path) -> Camera:
    """Read a calibration.

    Raises:
        ConfigError: it cannot be read, or is none; the text names file and key.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ConfigError(f"{path}: {path.stat().st_size} bytes: no calibration is larger than {MAX_FILE_BYTES}")
        values = _npz(path) if path.suffix == ".npz" else tomllib.loads(path.read_text(encoding="utf-8"))
        return Camera.model_validate(values)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}: set filter.undistort") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{path}: no calibration: {where + ': ' if where else ''}{first['msg']}") from None
    except (ValueError, zipfile.BadZipFile, EOFError, KeyError) as error:
        raise ConfigError(f"{path}: no calibration: {error}") from None


def _npz(path: Path) -> dict[str, Any]:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        values = {name: arrays[name].tolist() for name in arrays.files}
    flat = values.get("distortion")
    if isinstance(flat, list) and len(flat) == 1 and isinstance(flat[0], list):
        values["distortion"] = flat[0]  # OpenCV gives it as one row
    return values

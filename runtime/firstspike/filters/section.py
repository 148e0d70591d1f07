"""`[filter]`: the configuration of what is dropped between source and window."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from firstspike.filters.definition import MAX_BACK_US, MAX_PERIOD_US, Rules
from firstspike.filters.hot_pixels import Thresholds, read_hot_pixels
from firstspike.filters.places import Layout
from firstspike.filters.segment import Filters
from firstspike.filters.undistort import read_camera

Coordinate = Annotated[int, Field(ge=0, le=65535)]


class FilterSection(BaseModel):
    """`[filter]`, in the order in which events go through; all of it is off unless set."""

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)

    hot_pixels: Annotated[
        str, Field(description="file of `firstspike filters learn`; relative to the configuration")
    ] = ""
    learn_s: Annotated[
        float, Field(ge=0, le=86_400, description="learn hot pixels over so long, if that file is not there")
    ] = 0.0
    hot_min_hz: Annotated[float, Field(gt=0, le=1e9, description="a hot pixel has so many events a second, ...")] = 10.0
    hot_ratio: Annotated[float, Field(ge=1, le=1e9, description="... so many times its surroundings' ...")] = 5.0
    hot_share: Annotated[float, Field(ge=0, le=1, description="... and is active in this share of the time")] = 0.5
    undistort: Annotated[str, Field(description="file of the camera's calibration: docs/filters.md")] = ""
    region: Annotated[
        list[Coordinate], Field(max_length=4, description="[x, y, width, height] to keep; it becomes the whole image")
    ] = []
    refractory_us: Annotated[int, Field(ge=0, le=MAX_PERIOD_US, description="of a pixel; 0: off")] = 0
    refractory_polarity: Annotated[bool, Field(description="each polarity has its own")] = False
    background_us: Annotated[
        int, Field(ge=0, le=MAX_PERIOD_US, description="an event needs a neighbour's within this time; 0: off")
    ] = 0
    background_support: Annotated[int, Field(ge=1, le=8, description="or so many neighbours'")] = 1
    transpose: Annotated[bool, Field(description="x and y change places")] = False
    flip_x: Annotated[bool, Field(description="left and right, after that")] = False
    flip_y: Annotated[bool, Field(description="up and down")] = False
    rotate: Annotated[Literal[0, 90, 180, 270], Field(description="degrees clockwise, last")] = 0

    @field_validator("region")
    @classmethod
    def _four(cls, value: list[int]) -> list[int]:
        if value and (len(value) != 4 or value[2] == 0 or value[3] == 0):
            raise ValueError("must be [x, y, width, height], with width and height above 0, or []: all")
        return value

    def filters(self, base: Path, reset_us: int, *, keep: bool) -> Filters | None:
        """What this section asks for, its files read; None: nothing.

        Args:
            base: relative paths count from here.
            reset_us: `window.reset_us`: what a reset of the sensor's clock is.
            keep: whether hot pixels that are learned on the way are written to their file.

        Raises:
            ConfigError: a file cannot be read, or is wrong.
        """
        path = base / self.hot_pixels if self.hot_pixels else None
        layout = Layout(
            camera=read_camera(base / self.undistort) if self.undistort else None,
            region=(self.region[0], self.region[1], self.region[2], self.region[3]) if self.region else None,
            transpose=self.transpose, flip_x=self.flip_x, flip_y=self.flip_y, rotate=self.rotate,
        )  # fmt: skip
        rules = Rules(
            refractory_us=self.refractory_us, by_polarity=self.refractory_polarity, background_us=self.background_us,
            support=self.background_support, back_us=min(reset_us, MAX_BACK_US),
        )  # fmt: skip
        learns = self.learn_s > 0 and not (path and path.exists())
        hot = read_hot_pixels(path) if path and not learns else None
        if hot is None and not learns and layout == Layout() and not (rules.refractory_us or rules.background_us):
            return None
        return Filters(
            rules, layout, hot, learn_us=round(self.learn_s * 1e6) if learns else 0, learn_to=path if keep else None,
            thresholds=Thresholds(self.hot_min_hz, self.hot_ratio, self.hot_share),
        )  # fmt: skip

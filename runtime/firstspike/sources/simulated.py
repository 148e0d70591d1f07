"""`[source] kind = "simulated"`: drawn digits in front of a modelled DVS, for ever. No camera, no file."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from firstspike.simulate.scene import Scene, digit_shows
from firstspike.sources import Segment, Stream
from firstspike.sources._pacing import Speed
from firstspike.types import Events, RecordingInfo, RecordingStats


class Options(BaseModel):
    """`[source.simulated]`."""

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)

    digits: Annotated[str, Field(pattern=r"^[0-9]+$", max_length=10_000, description="shown in this order")] = (
        "0123456789"
    )
    seed: Annotated[int, Field(ge=0, description="of hand, sensor and noise")] = 0
    pause_ms: Annotated[int, Field(ge=0, le=60_000, description="between two digits")] = 200
    speed: Annotated[Speed, Field(description='times real time, or "max"')] = 1.0
    loop: Annotated[bool, Field(description="begin again after the last digit, for ever")] = True


@dataclass(frozen=True, slots=True)
class _Simulation:
    info: RecordingInfo
    options: Options
    scene: Scene
    outcome: RecordingStats | None = None  # nothing of a simulation is cut off

    def __iter__(self) -> Iterator[Events]:
        digits = [int(digit) for digit in self.options.digits]
        shown = itertools.cycle(digits) if self.options.loop else digits
        for _, steps in digit_shows(shown, self.options.seed, self.scene, self.options.pause_ms * 1000):
            yield from steps


class SimulatedSource:
    """One segment: a simulated camera."""

    live = False

    def __init__(self, options: Options) -> None:
        self.speed = None if options.speed == "max" else options.speed
        self.max_silence_us = 60_000_000  # the longest pause that can be asked for
        self._options = options

    def segments(self) -> Iterator[Segment]:
        """The one camera."""

        @contextmanager
        def opened() -> Iterator[Stream]:
            scene = Scene()
            info = RecordingInfo("simulated", scene.width, scene.height, "given", "modelled DVS", ("simulated",))
            yield _Simulation(info, self._options, scene)

        yield Segment("simulated", opened)

    def close(self) -> None:
        """Nothing is held."""


def create(options: Options, base: Path) -> SimulatedSource:
    """See `sources`."""
    del base
    return SimulatedSource(options)

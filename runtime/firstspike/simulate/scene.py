"""What the simulated sensor looks at: an image moved by saccades, and a row of drawn digits one after another.

The motion follows the recording of N-MNIST (Orchard, Jayawant, Cohen, Thakor 2015, "Converting Static Image Datasets
to Spiking Neuromorphic Datasets Using Saccades"): three saccades of about 100 ms with rests between. Positions and
times here were measured on recordings of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from firstspike.errors import UsageError
from firstspike.simulate import digits as pen
from firstspike.simulate.dvs import Pixel, PixelArray, Raw, to_events
from firstspike.types import Events, join

SIDE = 34
"""Height and width of the sensor that the lengths of `Saccades` are meant for, pixels."""


@dataclass(frozen=True, slots=True)
class Saccades:
    """Where the image is at a time: rests, and smooth moves between them."""

    points: tuple[tuple[float, float], ...] = ((-2.75, -1.65), (-0.85, 3.75), (2.9, -1.7), (-2.7, -1.6))
    """Resting positions (x right, y down) relative to the middle, pixels of a 34×34 sensor."""
    moves_us: tuple[tuple[float, float], ...] = ((0.0, 91e3), (99e3, 197e3), (229e3, 285e3))
    """Start and end of each move, µs: one fewer than `points`."""

    @property
    def duration_us(self) -> int:
        """End of the last move, µs."""
        return int(self.moves_us[-1][1])

    def at(self, t_us: float) -> tuple[float, float]:
        """Position (x, y) at a time, pixels of a 34×34 sensor; each move has the speed of a raised cosine."""
        x, y = self.points[0]
        for (start, end), (to_x, to_y) in zip(self.moves_us, self.points[1:], strict=True):
            share = min(max((t_us - start) / (end - start), 0.0), 1.0)
            share = 0.5 - 0.5 * float(np.cos(np.pi * share))
            x, y = x + share * (to_x - x), y + share * (to_y - y)
        return x, y


@dataclass(frozen=True, slots=True)
class Scene:
    """A sheet of paper with an image in front of a sensor, moved by saccades.

    Raises:
        UsageError: a value is out of its range; the text names it.
    """

    height: int = SIDE
    """Of the sensor, pixels."""
    width: int = SIDE
    """Of the sensor, pixels."""
    saccades: Saccades = field(default_factory=Saccades)
    contrast: float = 0.5
    """Share of the light that ink takes away: paper has luminance 1, ink 1 − contrast. Between 0 and 1, exclusive."""
    step_us: float = 2_000.0
    """Time between two frames of the simulation, µs."""
    pixel: Pixel = field(default_factory=Pixel)

    def __post_init__(self) -> None:
        if not 0 < self.contrast < 1:
            raise UsageError(f"scene: contrast is {self.contrast}: give a number between 0 and 1, exclusive")
        if not self.step_us > 0:
            raise UsageError(f"scene: step_us is {self.step_us}: give a number of µs above 0")
        if min(self.height, self.width) < 8:
            raise UsageError(f"scene: a sensor of {self.width}×{self.height} is too small: give at least 8×8 pixels")

    @property
    def scale(self) -> float:
        """Lengths on this sensor relative to a 34×34 one."""
        return min(self.height, self.width) / SIDE

    @property
    def image_side(self) -> int:
        """Side of the square image, pixels: what 28 is to 34."""
        return round(28 * self.scale)

    def frames(self, ink: NDArray[np.float32], until_us: float) -> Iterator[tuple[float, NDArray[np.float32]]]:
        """Yield (time in µs from 0, luminance), the first at 0 and the last at `until_us`.

        Args:
            ink: coverage 0 to 1, shape (…, image height, image width); it is centred on the sensor.
            until_us: when to stop, µs. After the last move the image rests.
        """
        paper = self._canvas(ink)
        count = max(round(until_us / self.step_us), 1)
        for number in range(count + 1):
            t_us = until_us * number / count
            x, y = self.saccades.at(t_us)
            covered = _slide(paper, x * self.scale, y * self.scale, self.height, self.width)
            yield t_us, np.float32(1) - np.float32(self.contrast) * covered

    def watch(self, ink: NDArray[np.float32], array: PixelArray, start_us: float, until_us: float) -> Iterator[Raw]:
        """Reset the array on the image at rest, run the saccades, and yield the events step by step.

        Args:
            ink: as in `frames`; its leading axes are those of the array.
            array: of shape (…, height, width).
            start_us: time of the first frame on the sensor's clock, µs.
            until_us: length, µs.
        """
        for t_us, luminance in self.frames(ink, until_us):
            if t_us == 0:
                array.reset(luminance, start_us)
            else:
                yield array.expose(luminance, start_us + t_us)

    def _canvas(self, ink: NDArray[np.float32]) -> NDArray[np.float32]:
        """The image on empty paper, with room to move it by the largest saccade in each direction."""
        room = int(np.ceil(self.scale * max(abs(c) for point in self.saccades.points for c in point))) + 1
        height, width = self.height + 2 * room, self.width + 2 * room
        top, left = (height - ink.shape[-2]) // 2, (width - ink.shape[-1]) // 2
        if min(top, left) < 0:
            raise UsageError(f"scene: an image of {ink.shape[-1]}×{ink.shape[-2]} is larger than the paper")
        paper = np.zeros((*ink.shape[:-2], height, width), np.float32)
        paper[..., top : top + ink.shape[-2], left : left + ink.shape[-1]] = ink
        return paper


def _slide(paper: NDArray[np.float32], x: float, y: float, height: int, width: int) -> NDArray[np.float32]:
    """The sensor's view of the paper moved right by x and down by y pixels, by bilinear interpolation."""
    room_y, room_x = (paper.shape[-2] - height) // 2, (paper.shape[-1] - width) // 2
    from_top, from_left = room_y - y, room_x - x
    row, column = int(np.floor(from_top)), int(np.floor(from_left))
    share_y, share_x = np.float32(from_top - row), np.float32(from_left - column)
    one = np.float32(1)
    rows = paper[..., row : row + height, :] * (one - share_y) + paper[..., row + 1 : row + height + 1, :] * share_y
    left, right = rows[..., column : column + width], rows[..., column + 1 : column + width + 1]
    seen: NDArray[np.float32] = (left * (one - share_x) + right * share_x).astype(np.float32, copy=False)
    return seen


def digit_shows(
    digits: Iterable[int], seed: int, scene: Scene | None = None, pause_us: int = 200_000, hand: pen.Hand | None = None
) -> Iterator[tuple[int, Iterator[Events]]]:
    """Show one drawn digit after another to the same sensor.

    For each digit the sensor is held in reset while the paper is changed (`pause_us`, no events), then sees the
    saccades and a rest of 15 ms. Memory does not grow with the number of digits, which may be endless. The same
    arguments give the same events.

    Args:
        digits: what to draw, 0 to 9 each.
        seed: of the hand, the sensor's pattern and its noise.
        scene: sensor, motion and light; None for the defaults.
        pause_us: between the end of one digit and the start of the next, µs; at least 0.
        hand: how the digits are written; None for the default.

    Yields:
        The digit, and its events step by step of the simulation, with times that go on from the digit before; sorted by
        time. The steps are made as they are asked for; those left over are skipped.

    Raises:
        UsageError: a digit cannot be drawn, or the pause is negative.
    """
    if pause_us < 0:
        raise UsageError(f"digit sequence: a pause of {pause_us} µs: give 0 or more")
    scene = scene or Scene()
    # Two streams, so that a change to the sensor does not change how the digits are written.
    draws, sensor = (np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(2))
    array = PixelArray((scene.height, scene.width), scene.pixel, sensor)
    start_us, length_us = 0, scene.saccades.duration_us + 15_000
    for digit in digits:
        strokes, width = pen.draw(digit, draws, hand)
        ink = pen.render(strokes, width, scene.image_side)
        yield digit, (to_events(raw, scene.height, scene.width) for raw in scene.watch(ink, array, start_us, length_us))
        start_us += length_us + pause_us


def digit_sequence(
    digits: Iterable[int], seed: int, scene: Scene | None = None, pause_us: int = 200_000, hand: pen.Hand | None = None
) -> Iterator[tuple[int, Events]]:
    """As `digit_shows`, with all events of a digit together."""
    for digit, steps in digit_shows(digits, seed, scene, pause_us, hand):
        yield digit, join(list(steps))

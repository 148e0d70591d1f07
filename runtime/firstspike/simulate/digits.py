"""Digits drawn with a pen: strokes of our own, jittered from a seed, and their rendering.

Each digit has one or more ways to write it, each a few strokes through points that we placed by hand in a box of
width and height 1 (x right, y down). A stroke is a Catmull-Rom spline through its points (Catmull and Rom 1974, "A
class of local interpolating splines", in its uniform cubic form), or straight between them where marked so.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from firstspike.errors import UsageError

Stroke = NDArray[np.float64]
"""Points (n, 2) of (x, y) along the pen's way, in units of the image's side once laid out."""

_CURVE, _LINE = True, False
_WAYS: dict[int, list[list[tuple[bool, list[tuple[float, float]]]]]] = {
    0: [[(_CURVE, [(0.52, 0.02), (0.25, 0.15), (0.18, 0.5), (0.28, 0.87), (0.52, 0.98), (0.75, 0.85), (0.82, 0.5),
                   (0.74, 0.14), (0.5, 0.02)])],
        [(_CURVE, [(0.6, 0.05), (0.3, 0.12), (0.12, 0.5), (0.25, 0.92), (0.55, 0.95), (0.86, 0.62), (0.84, 0.22),
                   (0.58, 0.03), (0.42, 0.09)])]],
    1: [[(_LINE, [(0.5, 0.0), (0.5, 1.0)])],
        [(_LINE, [(0.56, 0.0), (0.46, 1.0)])],
        [(_LINE, [(0.34, 0.22), (0.54, 0.0), (0.54, 1.0)])]],
    2: [[(_CURVE, [(0.18, 0.25), (0.32, 0.05), (0.6, 0.02), (0.78, 0.2), (0.7, 0.45), (0.42, 0.75), (0.16, 0.98)]),
         (_LINE, [(0.16, 0.98), (0.86, 0.97)])],
        [(_CURVE, [(0.2, 0.2), (0.45, 0.02), (0.74, 0.12), (0.74, 0.4), (0.5, 0.72), (0.24, 0.94), (0.14, 0.86),
                   (0.3, 0.78), (0.55, 0.9), (0.9, 0.92)])]],
    3: [[(_CURVE, [(0.2, 0.12), (0.45, 0.01), (0.74, 0.12), (0.72, 0.36), (0.42, 0.47)]),
         (_CURVE, [(0.42, 0.47), (0.74, 0.56), (0.8, 0.8), (0.55, 0.98), (0.18, 0.9)])],
        [(_LINE, [(0.2, 0.03), (0.78, 0.03), (0.45, 0.4)]),
         (_CURVE, [(0.45, 0.4), (0.76, 0.5), (0.8, 0.78), (0.52, 0.98), (0.18, 0.86)])]],
    4: [[(_LINE, [(0.3, 0.02), (0.18, 0.56), (0.86, 0.54)]), (_LINE, [(0.7, 0.1), (0.66, 1.0)])],
        [(_LINE, [(0.66, 0.0), (0.12, 0.66), (0.9, 0.66)]), (_LINE, [(0.66, 0.0), (0.66, 1.0)])],
        [(_CURVE, [(0.24, 0.04), (0.2, 0.34), (0.34, 0.5), (0.74, 0.44)]), (_LINE, [(0.78, 0.02), (0.7, 1.0)])]],
    5: [[(_LINE, [(0.8, 0.03), (0.3, 0.04), (0.26, 0.44)]),
         (_CURVE, [(0.26, 0.44), (0.5, 0.36), (0.78, 0.52), (0.76, 0.84), (0.48, 0.98), (0.18, 0.88)])],
        [(_CURVE, [(0.36, 0.06), (0.28, 0.42), (0.56, 0.44), (0.74, 0.68), (0.56, 0.94), (0.2, 0.94)]),
         (_LINE, [(0.36, 0.05), (0.84, 0.0)])]],
    6: [[(_CURVE, [(0.68, 0.02), (0.36, 0.26), (0.2, 0.66), (0.36, 0.96), (0.66, 0.94), (0.78, 0.72), (0.62, 0.53),
                   (0.36, 0.6), (0.23, 0.76)])],
        [(_CURVE, [(0.44, 0.0), (0.24, 0.4), (0.24, 0.82), (0.5, 0.99), (0.76, 0.84), (0.7, 0.6), (0.46, 0.56),
                   (0.26, 0.72)])]],
    7: [[(_LINE, [(0.16, 0.04), (0.82, 0.04), (0.42, 1.0)])],
        [(_LINE, [(0.16, 0.14), (0.2, 0.04), (0.82, 0.06)]),
         (_CURVE, [(0.82, 0.06), (0.62, 0.38), (0.5, 0.68), (0.44, 1.0)])],
        [(_LINE, [(0.16, 0.04), (0.84, 0.04), (0.44, 1.0)]), (_LINE, [(0.36, 0.5), (0.8, 0.48)])]],
    8: [[(_CURVE, [(0.72, 0.16), (0.5, 0.01), (0.26, 0.14), (0.32, 0.38), (0.6, 0.54), (0.78, 0.78), (0.52, 0.99),
                   (0.24, 0.82), (0.38, 0.56), (0.66, 0.38), (0.74, 0.16)])],
        [(_CURVE, [(0.5, 0.01), (0.27, 0.14), (0.32, 0.4), (0.5, 0.48), (0.7, 0.38), (0.74, 0.14), (0.5, 0.01)]),
         (_CURVE, [(0.5, 0.48), (0.24, 0.64), (0.24, 0.88), (0.5, 0.99), (0.77, 0.88), (0.78, 0.64), (0.5, 0.48)])]],
    9: [[(_CURVE, [(0.74, 0.24), (0.56, 0.02), (0.28, 0.14), (0.26, 0.4), (0.5, 0.5), (0.7, 0.36), (0.75, 0.12)]),
         (_LINE, [(0.75, 0.14), (0.66, 1.0)])],
        [(_CURVE, [(0.72, 0.2), (0.5, 0.02), (0.24, 0.2), (0.34, 0.46), (0.6, 0.42), (0.74, 0.2), (0.74, 0.5),
                   (0.64, 0.84), (0.36, 0.98)])]],
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Hand:
    """How unsteady the hand is; each amount is the standard deviation of a normal draw."""

    slant: float = 0.12
    """Shear: x moved by this share of y."""
    turn: float = 0.06
    """Rotation, radians."""
    scale: float = 0.07
    """Width and height, relative, each on its own."""
    place: float = 0.015
    """Shift, in image sides."""
    shake: float = 0.025
    """Each point of a stroke, in digit heights."""
    width: float = 0.012
    """Of the stroke, in image sides, about a mean of 0.085."""


def draw(digit: int, rng: np.random.Generator, hand: Hand | None = None) -> tuple[list[Stroke], float]:
    """Write a digit.

    Args:
        digit: 0 to 9.
        rng: chooses the way of writing and the jitter.
        hand: how unsteady; None for the default.

    Returns:
        The strokes, dense points in units of the image's side (the digit about 0.7 high, centred), and the pen's
        width in the same unit.

    Raises:
        UsageError: the digit is not 0 to 9.
    """
    if digit not in _WAYS:
        raise UsageError(f"digit {digit} cannot be drawn: give a whole number from 0 to 9")
    hand = hand or Hand()
    ways = _WAYS[digit]
    way = ways[int(rng.integers(len(ways)))]
    turn, slant = rng.normal(0, hand.turn), rng.normal(0, hand.slant)
    linear = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) @ np.array([[1, -slant], [0, 1]])
    linear = linear @ np.diag(np.clip(rng.normal(1, hand.scale, 2), 0.7, 1.3)) * 0.7
    place = 0.5 + rng.normal(0, hand.place, 2)
    strokes = []
    for curved, points in way:
        knots = np.array(points) + rng.normal(0, hand.shake, (len(points), 2))
        knots = (knots - 0.5) @ linear.T + place
        strokes.append(_spline(knots) if curved else knots)
    return strokes, float(np.clip(rng.normal(0.085, hand.width), 0.05, 0.13))


def render(strokes: list[Stroke], width: float, side: int) -> NDArray[np.float32]:
    """Ink the strokes with a round pen.

    Args:
        strokes: as from `draw`.
        width: of the pen, in image sides.
        side: of the square image, pixels.

    Returns:
        Coverage 0 (paper) to 1 (ink), float32 of shape (side, side); the edge falls off over one pixel.
    """
    centres = (np.arange(side) + 0.5) / side
    at = np.stack(np.meshgrid(centres, centres), axis=-1).reshape(-1, 1, 2)
    begin = np.concatenate([stroke[:-1] for stroke in strokes])
    way = np.concatenate([np.diff(stroke, axis=0) for stroke in strokes])
    square = np.maximum((way**2).sum(-1), 1e-12)
    share = np.clip(((at - begin) * way).sum(-1) / square, 0, 1)
    distance = np.sqrt(((at - begin - share[..., None] * way) ** 2).sum(-1)).min(1)
    covered: NDArray[np.float32] = np.clip((width / 2 - distance) * side + 0.5, 0, 1).astype(np.float32)
    return covered.reshape(side, side)


def _spline(knots: Stroke, pieces: int = 6) -> Stroke:
    """Points along the uniform Catmull-Rom spline through the knots, `pieces` to each span."""
    before = np.vstack([2 * knots[0] - knots[1], knots, 2 * knots[-1] - knots[-2]])
    u = (np.arange(pieces) / pieces)[:, None]
    spans = [
        0.5 * (2 * b + (c - a) * u + (2 * a - 5 * b + 4 * c - d) * u**2 + (3 * b - a - 3 * c + d) * u**3)
        for a, b, c, d in zip(before, before[1:], before[2:], before[3:], strict=False)
    ]
    return np.vstack([*spans, knots[-1:]])

"""Signed distances of eight plane shapes of about unit radius: negative inside, positive outside, zero on the edge.

Coordinates are float arrays of any common shape, x to the right and y downwards, in units of the shape's radius.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]


def _disc(x: Floats, y: Floats) -> Floats:
    return np.hypot(x, y) - 0.9


def _ring(x: Floats, y: Floats) -> Floats:
    return np.abs(np.hypot(x, y) - 0.75) - 0.25


def _square(x: Floats, y: Floats) -> Floats:
    return np.maximum(np.abs(x), np.abs(y)) - 0.82


def _triangle(x: Floats, y: Floats) -> Floats:
    slopes = np.sqrt(0.75) * np.abs(x) - 0.5 * y
    return np.maximum(y, slopes) - 0.56


def _cross(x: Floats, y: Floats) -> Floats:
    wide, tall = np.abs(x), np.abs(y)
    return np.minimum(np.maximum(wide - 1.0, tall - 0.4), np.maximum(wide - 0.4, tall - 1.0))


def _star(x: Floats, y: Floats, points: int = 5, outer: float = 1.15, inner: float = 0.55) -> Floats:
    half = np.pi / points
    # All points of the star are mirrored onto the one half of one point, whose only edge is a line.
    angle = np.arctan2(x, -y)
    folded = np.abs((angle + half) % (2 * half) - half)
    radius = np.hypot(x, y)
    tip, notch = np.array([outer, 0.0]), inner * np.array([np.cos(half), np.sin(half)])
    along = (notch - tip) / np.hypot(*(notch - tip))
    return along[1] * (radius * np.cos(folded) - tip[0]) - along[0] * (radius * np.sin(folded) - tip[1])


def _crescent(x: Floats, y: Floats) -> Floats:
    return np.maximum(np.hypot(x, y) - 1.0, 0.78 - np.hypot(x - 0.5, y))


def _heart(x: Floats, y: Floats) -> Floats:
    side = np.maximum(np.abs(x + y), np.abs(x - y)) / np.sqrt(2.0) - 0.55
    lobes = np.hypot(np.abs(x) - 0.39, y + 0.39) - 0.55
    return np.minimum(side, lobes)


SILHOUETTES: dict[str, Callable[[Floats, Floats], Floats]] = {
    "disc": _disc,
    "ring": _ring,
    "square": _square,
    "triangle": _triangle,
    "cross": _cross,
    "star": _star,
    "crescent": _crescent,
    "heart": _heart,
}

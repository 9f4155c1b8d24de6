"""The world of scenes: one to three soft-edged ellipses and rectangles on a tilted gray background (dvdp §3.1).

Everything about a scene is drawn from its seed and its place, whatever the size it is drawn at.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

# Images are drawn in groups with a generator each, so an image depends on the seed and its place alone.
_GROUP = 256
_MOST = 3
# Width of a soft edge in half image sides: one and a half pixels of 64.
_EDGE = 3 / 64
# Lowest and highest value: lengths in half image sides, angles in radians, grey values in -1..1.
_BACKGROUND = {"grey": (-0.6, 0.6), "slope": (0.0, 0.5), "towards": (0.0, 2 * np.pi)}
_SHAPE = {
    "x": (-0.6, 0.6),
    "y": (-0.6, 0.6),
    "wide": (0.15, 0.45),
    "tall": (0.15, 0.45),
    "turn": (0.0, np.pi),
    "contrast": (0.5, 1.2),
    "sign": (-1.0, 1.0),
    "kind": (-1.0, 1.0),
}
LABELS = {"shapes": 3, "ellipses": 4, "largest": 3, "towards": 4}
"""What is known of a scene, each a class number: how many shapes (less one), how many of them ellipses, the size of the
largest (in thirds of the range), the quarter of the circle that the background rises towards."""


class Scenes(NamedTuple):
    """Images uint8 [n, 1, size, size] and their labels int64 [n, 4], in the order of LABELS."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]


def _drawn(
    ranges: dict[str, tuple[float, float]], rng: np.random.Generator, shape: tuple[int, ...]
) -> dict[str, Floats]:
    low, high = np.array(list(ranges.values()), np.float32).T
    values = low + (high - low) * rng.random((*shape, len(ranges)), np.float32)
    return {name: values[..., place] for place, name in enumerate(ranges)}


def _coverage(shape: dict[str, Floats], x: Floats, y: Floats) -> Floats:
    """Return how much of each pixel [n, h, w] a shape covers, 0..1."""
    wide, tall, turn = (shape[name][:, None, None] for name in ("wide", "tall", "turn"))
    x, y = x - shape["x"][:, None, None], y - shape["y"][:, None, None]
    x, y = np.cos(turn) * x + np.sin(turn) * y, np.cos(turn) * y - np.sin(turn) * x
    ellipse = (np.hypot(x / wide, y / tall) - 1) * np.minimum(wide, tall)
    rectangle = np.maximum(np.abs(x) - wide, np.abs(y) - tall)
    distance = np.where(shape["kind"][:, None, None] < 0, ellipse, rectangle)
    return np.clip(0.5 - distance / max(_EDGE, 2 / x.shape[-1]), 0, 1)


def _render_group(rng: np.random.Generator, size: int) -> Scenes:
    background, shapes = _drawn(_BACKGROUND, rng, (_GROUP,)), _drawn(_SHAPE, rng, (_GROUP, _MOST))
    count = rng.integers(1, _MOST + 1, _GROUP)
    centres = ((np.arange(size, dtype=np.float32) + 0.5) * 2 / size - 1)[None, None]
    x, y = centres, centres.transpose(0, 2, 1)
    grey, slope, towards = (background[name][:, None, None] for name in _BACKGROUND)
    image = grey + slope * (np.cos(towards) * x + np.sin(towards) * y)
    for place in range(_MOST):
        shape = {name: values[:, place] for name, values in shapes.items()}
        level = background["grey"] + np.sign(shape["sign"]) * shape["contrast"]
        # A shape that would be blacker than black is as far on the other side of its background.
        level = np.where(np.abs(level) > 1, 2 * background["grey"] - level, level).clip(-1, 1)
        covered = _coverage(shape, x, y) * (place < count)[:, None, None]
        image = image + covered * (level[:, None, None] - image)
    there = np.arange(_MOST) < count[:, None]
    largest = np.where(there, np.maximum(shapes["wide"], shapes["tall"]), 0).max(axis=1)
    low, high = _SHAPE["wide"]
    known = [
        count - 1,
        (there & (shapes["kind"] < 0)).sum(axis=1),
        ((largest - low) / (high - low) * LABELS["largest"]).astype(np.int64).clip(0, LABELS["largest"] - 1),
        (background["towards"] / (2 * np.pi) * LABELS["towards"]).astype(np.int64).clip(0, LABELS["towards"] - 1),
    ]
    pixels = (np.clip(image, -1, 1) * 127.5 + 128).astype(np.uint8)
    return Scenes(pixels[:, None], np.stack(known, axis=1).astype(np.int64))


def render(count: int, seed: int, size: int) -> Scenes:
    """Draw scenes; scene k depends on (`seed`, k) alone.

    Args:
        count: number of images.
        seed: seed of everything, not negative.
        size: side of the images in pixels.
    """
    groups = [_render_group(np.random.default_rng([seed, k]), size) for k in range(-(-count // _GROUP))]
    return Scenes(*(np.concatenate(parts)[:count] for parts in zip(*groups, strict=True)))

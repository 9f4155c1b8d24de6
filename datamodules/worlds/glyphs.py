"""The world of glyphs: any number of classes, each of two to four curved strokes (u_tuning §3.1).

The strokes of a class depend on the world's seed and the class number alone. Every image has its own affine distortion
and stroke width, which are the nuisance; there is no noise.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

MOST_STROKES = 4
# A curve is drawn as this many straight pieces; with more, no pixel of a 32 x 32 image changes visibly.
_PIECES = 6
# Images are drawn in groups with a generator each, so an image depends on the seed and its place alone.
_GROUP = 64
# Ends of a stroke keep this distance, so that no stroke is a dot.
_SHORTEST = 1.0
# Half the longer side of an undistorted glyph, in half image sides.
_REACH = 0.75
# Lowest and highest value of each nuisance: lengths in half image sides, angles in radians. Our choice, made on a
# linear head and full fine-tuning alone (§3.1).
_NUISANCE = {
    "x": (-0.15, 0.15),
    "y": (-0.15, 0.15),
    "turn": (-0.32, 0.32),
    "shear": (-0.24, 0.24),
    "wide": (0.72, 1.1),
    "tall": (0.72, 1.1),
    "width": (0.12, 0.33),
}


@cache
def strokes(label: int, world_seed: int = 0) -> Floats:
    """Return the curves of a class: control points of quadratic Bezier curves.

    Args:
        label: class number, not negative.
        world_seed: seed of the geometry of all classes, not negative.

    Returns:
        Control points float32 [s, 3, 2], s in 2..4, x to the right and y downwards, within -1..1.
    """
    if label < 0:
        raise ValueError(f"there is no class {label}: the glyphs world counts its classes from 0")
    rng = np.random.default_rng([world_seed, label])
    curves = []
    for _ in range(rng.integers(2, MOST_STROKES + 1)):
        start, bend, end = rng.uniform(-1, 1, (3, 2))
        while np.hypot(*(end - start)) < _SHORTEST:
            end = rng.uniform(-1, 1, 2)
        curves.append([start, bend, end])
    return np.array(curves, np.float32)


@cache
def _polyline(label: int, world_seed: int) -> Floats:
    """Return the corners [4 * _PIECES, 2, 2] of the straight pieces (piece, end, coordinate) that draw a class.

    The glyph is centred and its longer side made 2 * _REACH long, so that every class fills the image alike.
    """
    t = np.linspace(0, 1, _PIECES + 1, dtype=np.float32)[:, None, None]
    curves = strokes(label, world_seed)
    # Missing strokes repeat the first, which changes nothing that is drawn.
    start, bend, end = np.concatenate([curves, curves[:1].repeat(MOST_STROKES - len(curves), 0)]).transpose(1, 0, 2)
    points = (1 - t) ** 2 * start + 2 * t * (1 - t) * bend + t**2 * end
    low, high = points.min(axis=(0, 1)), points.max(axis=(0, 1))
    points = (points - (low + high) / 2) * (2 * _REACH / (high - low).max())
    return np.stack([points[:-1], points[1:]], axis=2).reshape(-1, 2, 2)


def _nuisance(rng: np.random.Generator, count: int) -> dict[str, Floats]:
    low, high = np.array(list(_NUISANCE.values()), np.float32).T
    # Always a whole group of draws, so that the number of images asked for changes none of them.
    draws = (low + (high - low) * rng.random((_GROUP, len(low)), np.float32))[:count]
    return {name: draws[:, i, None, None] for i, name in enumerate(_NUISANCE)}


def _distorted(corners: Floats, nuisance: dict[str, Floats]) -> Floats:
    """Return the corners [n, pieces, 2, 2] of every image, scaled, sheared, turned and moved."""
    x, y = corners[..., 0] * nuisance["wide"], corners[..., 1] * nuisance["tall"]
    x = x + nuisance["shear"] * y
    cos, sin = np.cos(nuisance["turn"]), np.sin(nuisance["turn"])
    return np.stack([cos * x - sin * y + nuisance["x"], sin * x + cos * y + nuisance["y"]], axis=-1)


def _distance(corners: Floats, size: int) -> Floats:
    """Return the distance [n, size * size] of every pixel's centre to the nearest of the pieces [n, pieces, 2, 2]."""
    centres = (np.arange(size, dtype=np.float32) + 0.5) * 2 / size - 1
    y, x = (axis.reshape(1, 1, -1) for axis in np.meshgrid(centres, centres, indexing="ij"))
    from_x, from_y = corners[:, :, 0, 0, None], corners[:, :, 0, 1, None]
    along_x, along_y = corners[:, :, 1, 0, None] - from_x, corners[:, :, 1, 1, None] - from_y
    dx, dy = x - from_x, y - from_y
    share = (dx * along_x + dy * along_y) / np.maximum(along_x**2 + along_y**2, 1e-12)
    np.clip(share, 0, 1, out=share)
    dx -= share * along_x
    dy -= share * along_y
    return np.sqrt((dx * dx + dy * dy).min(axis=1))


def render(
    classes: Sequence[int] | NDArray[np.int64], seed: int, size: int = 16, *, world_seed: int = 0
) -> NDArray[np.uint8]:
    """Draw one image of each class named, its edges smoothed over a pixel.

    Image k depends on (`seed`, k, its class, `size`, `world_seed`) alone, whatever other images are drawn with it.

    Args:
        classes: class number of each image, of length n.
        seed: seed of the nuisance, not negative.
        size: side of the images in pixels.
        world_seed: seed of the strokes of all classes, not negative.

    Returns:
        Images uint8 [n, 1, size, size], 0 where there is no ink.
    """
    labels = np.asarray(classes, np.int64)
    images = np.empty((len(labels), 1, size, size), np.uint8)
    for group, first in enumerate(range(0, len(labels), _GROUP)):
        chosen = labels[first : first + _GROUP].tolist()
        nuisance = _nuisance(np.random.default_rng([seed, group]), len(chosen))
        corners = np.stack([_polyline(label, world_seed) for label in chosen])
        beyond = _distance(_distorted(corners, nuisance), size) - nuisance["width"][:, 0] / 2
        ink = np.clip(0.5 - beyond * size / 2, 0, 1)
        images[first : first + _GROUP] = (ink * 255 + 0.5).astype(np.uint8).reshape(-1, 1, size, size)
    return images

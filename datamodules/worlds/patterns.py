"""The world of patterns: any number of classes, each a smooth random pattern of its own, with nothing in common.

It is the unstructured twin of the world of shapes (neural_dependency §3.1): no class shares an attribute
with another. The pattern of a class depends on the world's seed and the class number alone; position, scale, rotation,
contrast, tint and noise are nuisance, drawn anew for every image. All values are our choice.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

# Waves of which a pattern is the sum, and their highest frequency in waves per image side.
_WAVES = 8
_FASTEST = 1.6
# Images are drawn in groups with a generator each, so an image depends on the seed and its place alone.
_GROUP = 256
_NOISE = 0.15
# Standard deviation of a pattern about middle grey, over the whole plane and in every channel alike.
_STRENGTH = 0.1
# Lowest and highest value of each nuisance: lengths in half image sides, angles in radians, tints in units of a pixel.
_NUISANCE = {
    "x": (-0.25, 0.25),
    "y": (-0.25, 0.25),
    "scale": (0.75, 1.3),
    "turn": (-0.5, 0.5),
    "contrast": (0.5, 1.2),
    "red": (-0.2, 0.2),
    "green": (-0.2, 0.2),
    "blue": (-0.2, 0.2),
}


@cache
def waves(label: int, world_seed: int = 0) -> tuple[Floats, Floats]:
    """Return the plane waves whose sum is the pattern of a class.

    Args:
        label: class number, not negative.
        world_seed: seed of all patterns, not negative.

    Returns:
        Wave vectors float32 [w, 2], in radians per half image side, and weights [2, w, 3] of cosine and sine in the
        three channels.
    """
    if label < 0:
        raise ValueError(f"there is no class {label}: the patterns world counts its classes from 0")
    rng = np.random.default_rng([world_seed, label])
    # Waves per side of length 2, spread evenly over a disc.
    speed, angle = _FASTEST * np.sqrt(rng.random(_WAVES)), rng.uniform(0, 2 * np.pi, _WAVES)
    vectors = np.pi * speed[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    weights = rng.standard_normal((2, _WAVES, 3))
    weights *= _STRENGTH / np.sqrt((weights**2).sum(axis=(0, 1)) / 2)
    return vectors.astype(np.float32), weights.astype(np.float32)


def _render_group(
    labels: list[int], rng: np.random.Generator, size: int, noise: float, world_seed: int
) -> NDArray[np.uint8]:
    low, high = np.array(list(_NUISANCE.values()), np.float32).T
    # Always a whole group of draws, so that the number of images asked for changes none of them.
    draws = (low + (high - low) * rng.random((_GROUP, len(low)), np.float32))[: len(labels)]
    nuisance = {name: draws[:, i, None] for i, name in enumerate(_NUISANCE)}
    centres = (np.arange(size, dtype=np.float32) + 0.5) * 2 / size - 1
    y, x = (axis.reshape(1, -1) for axis in np.meshgrid(centres, centres, indexing="ij"))
    x, y = (x - nuisance["x"]) / nuisance["scale"], (y - nuisance["y"]) / nuisance["scale"]
    cos, sin = np.cos(nuisance["turn"]), np.sin(nuisance["turn"])
    places = np.stack([cos * x + sin * y, cos * y - sin * x], axis=1)
    vectors = np.stack([waves(label, world_seed)[0] for label in labels])
    weights = np.stack([waves(label, world_seed)[1] for label in labels]).transpose(1, 0, 3, 2)
    phase = vectors @ places
    pattern = weights[0] @ np.cos(phase) + weights[1] @ np.sin(phase)
    tint = np.concatenate([nuisance[name] for name in ("red", "green", "blue")], axis=1)[:, :, None]
    images = 0.5 + tint + nuisance["contrast"][:, None] * pattern
    images = images + np.float32(noise) * rng.standard_normal(images.shape, np.float32)
    return (np.clip(images, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8).reshape(-1, 3, size, size)


def render(
    classes: Sequence[int] | NDArray[np.int64],
    seed: int,
    size: int = 16,
    *,
    noise: float = _NOISE,
    world_seed: int = 0,
) -> NDArray[np.uint8]:
    """Draw one image of each class named.

    Image k depends on (`seed`, k, its class, `size`, `noise`, `world_seed`) alone, whatever is drawn with it.

    Args:
        classes: class number of each image, not negative, of length n.
        seed: seed of the nuisance, not negative.
        size: side of the images in pixels.
        noise: standard deviation of the noise, in the unit in which pixels are 0..1.
        world_seed: seed of the patterns of all classes, not negative.

    Returns:
        Images uint8 [n, 3, size, size].
    """
    labels = np.asarray(classes, np.int64)
    images = np.empty((len(labels), 3, size, size), np.uint8)
    for group, first in enumerate(range(0, len(labels), _GROUP)):
        rng = np.random.default_rng([seed, group])
        chosen = labels[first : first + _GROUP].tolist()
        images[first : first + _GROUP] = _render_group(chosen, rng, size, noise, world_seed)
    return images

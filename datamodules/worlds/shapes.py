"""The world of rendered shapes: 256 classes, each a shape with pale and deep stripes of one direction in one hue.

The class number spells its attributes: class = (shape * 4 + stripe) * 8 + hue. Position, scale, rotation, stripe phase
and frequency, hue jitter, background colour and noise are nuisance, drawn anew for every image.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from datamodules.worlds.silhouettes import SILHOUETTES, Floats

SHAPES = tuple(SILHOUETTES)
STRIPES = ("upright", "rising", "level", "falling")
HUES = ("red", "orange", "lime", "green", "cyan", "blue", "violet", "pink")
NUM_CLASSES = len(SHAPES) * len(STRIPES) * len(HUES)

# Images are drawn in groups with a generator each, so an image depends on the seed and its place alone.
_GROUP = 256
_NOISE = 0.25
# Pale stripes are half white and deep ones 60 % lit: both stand out from the background, so the outline is never cut.
_PALE, _DEEP = 0.5, 0.6
# Lowest and highest value of each nuisance: lengths in half image sides, angles in radians, hue in steps of 1/8 turn.
_NUISANCE = {
    "x": (-0.25, 0.25),
    "y": (-0.25, 0.25),
    "radius": (0.4, 0.7),
    "turn": (-0.5, 0.5),
    "tilt": (-0.25, 0.25),
    "phase": (0.0, 2 * np.pi),
    "frequency": (1.4, 2.2),
    "hue": (-0.4, 0.4),
    "red": (0.1, 0.5),
    "green": (0.1, 0.5),
    "blue": (0.1, 0.5),
}


class Attributes(NamedTuple):
    """What a class is made of: numbers into SHAPES, STRIPES and HUES."""

    shape: int
    stripe: int
    hue: int

    def __str__(self) -> str:
        return f"{HUES[self.hue]} {SHAPES[self.shape]}, {STRIPES[self.stripe]} stripes"


def attributes(label: int) -> Attributes:
    """Return the attributes of a class.

    Args:
        label: class number, 0 to 255.

    Raises:
        ValueError: if there is no such class.
    """
    if not 0 <= label < NUM_CLASSES:
        raise ValueError(f"there is no class {label}: the shapes world has classes 0 to {NUM_CLASSES - 1}")
    return Attributes(label // 32, label // 8 % 4, label % 8)


def shared(first: int, second: int) -> int:
    """Return how many of the three attributes two classes have in common, 0 to 3."""
    return sum(a == b for a, b in zip(attributes(first), attributes(second), strict=True))


def neighbours(label: int, classes: Sequence[int]) -> int:
    """Return how many of `classes` differ from a class in one attribute only."""
    return sum(shared(label, other) == 2 for other in classes)


def _colour(hue: Floats) -> Floats:
    """Return the fully lit, 85 % saturated colour [n, 3] in 0..1 of hues [n] in turns."""
    ramp = np.abs((hue[:, None] + np.array([0.0, 2 / 3, 1 / 3], np.float32)) % 1.0 * 6.0 - 3.0) - 1.0
    return 0.15 + 0.85 * np.clip(ramp, 0.0, 1.0)


def _coverage(shapes: NDArray[np.int64], x: Floats, y: Floats, nuisance: dict[str, Floats]) -> Floats:
    """Return how much of each pixel [n, h, w] the shape covers, 0..1."""
    cos, sin, radius = np.cos(nuisance["turn"]), np.sin(nuisance["turn"]), nuisance["radius"]
    x, y = (x - nuisance["x"]) / radius, (y - nuisance["y"]) / radius
    x, y = cos * x + sin * y, cos * y - sin * x
    distance = np.empty_like(x)
    for number, name in enumerate(SHAPES):
        chosen = shapes == number
        distance[chosen] = SILHOUETTES[name](x[chosen], y[chosen])
    pixel = 2.0 / x.shape[-1]
    return np.clip(0.5 - distance * radius / pixel, 0.0, 1.0)


def _stripes(stripes: NDArray[np.int64], x: Floats, y: Floats, nuisance: dict[str, Floats]) -> Floats:
    """Return where the stripes [n, h, w] are pale, 1, or deep, 0."""
    angle = stripes[:, None, None].astype(np.float32) * np.float32(np.pi / 4) + nuisance["tilt"]
    along = np.cos(angle) * x + np.sin(angle) * y
    wave = np.sin(2 * np.float32(np.pi) * nuisance["frequency"] * along + nuisance["phase"])
    return 0.5 + 0.5 * np.clip(2.0 * wave, -1.0, 1.0)


def _ranges(spread: float) -> tuple[Floats, Floats]:
    """Return lowest and highest value [11] of each nuisance; the stripes' phase always takes its whole range."""
    low, high = np.array(list(_NUISANCE.values()), np.float32).T
    half = (high - low) / 2 * np.where([name == "phase" for name in _NUISANCE], 1, np.float32(spread))
    middle = (low + high) / 2
    return (low, high) if spread == 1 else (middle - half, middle + half)


def _render_group(
    labels: NDArray[np.int64], rng: np.random.Generator, size: int, noise: float, spread: float
) -> NDArray[np.uint8]:
    low, high = _ranges(spread)
    # Always a whole group of draws, so that the number of images asked for changes none of them.
    draws = (low + (high - low) * rng.random((_GROUP, len(low)), np.float32))[: len(labels)]
    nuisance: dict[str, Floats] = {name: draws[:, i, None, None] for i, name in enumerate(_NUISANCE)}
    centres = (np.arange(size, dtype=np.float32) + 0.5) * 2 / size - 1
    x = np.broadcast_to(centres, (len(labels), size, size))
    y = np.broadcast_to(centres[:, None], (len(labels), size, size))
    covered = _coverage(labels // 32, x, y, nuisance)[:, None]
    pale = _stripes(labels // 8 % 4, x, y, nuisance)[:, None]
    colour = _colour((labels % 8 + draws[:, list(_NUISANCE).index("hue")]) / np.float32(8))[:, :, None, None]
    background = np.concatenate([nuisance[name][:, None] for name in ("red", "green", "blue")], axis=1)
    filling = pale * (_PALE + (1 - _PALE) * colour) + (1 - pale) * _DEEP * colour
    images = background + covered * (filling - background)
    images = images + np.float32(noise) * rng.standard_normal(images.shape, np.float32)
    return (np.clip(images, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)


def render(
    classes: Sequence[int] | NDArray[np.int64],
    seed: int,
    size: int = 16,
    *,
    noise: float | None = None,
    spread: float = 1.0,
) -> NDArray[np.uint8]:
    """Draw one image of each class named.

    Image k depends on (`seed`, k, its class, `size`, `noise`, `spread`) alone, whatever other images are drawn with it.

    Args:
        classes: class number of each image, 0 to 255, of length n.
        seed: seed of the nuisance, not negative.
        size: side of the images in pixels.
        noise: standard deviation of the noise, in the unit in which pixels are 0..1; 0.25 unless told.
        spread: share of its range, about the middle, that each nuisance but the stripes' phase takes.

    Returns:
        Images uint8 [n, 3, size, size].
    """
    labels = np.asarray(classes, np.int64)
    strength = _NOISE if noise is None else noise
    if labels.size and not 0 <= labels.min() <= labels.max() < NUM_CLASSES:
        raise ValueError(f"the shapes world has classes 0 to {NUM_CLASSES - 1}, not {labels.min()} to {labels.max()}")
    images = np.empty((len(labels), 3, size, size), np.uint8)
    for group, first in enumerate(range(0, len(labels), _GROUP)):
        rng = np.random.default_rng([seed, group])
        images[first : first + _GROUP] = _render_group(labels[first : first + _GROUP], rng, size, strength, spread)
    return images


def sheet(
    classes: Sequence[int],
    per_class: int,
    *,
    seed: int = 0,
    size: int = 16,
    zoom: int = 4,
    noise: float | None = None,
    spread: float = 1.0,
) -> NDArray[np.uint8]:
    """Draw a picture sheet: a row per class, a column per draw.

    Returns:
        One picture uint8 [len(classes) * size * zoom, per_class * size * zoom, 3].
    """
    images = render(np.repeat(np.asarray(classes, np.int64), per_class), seed, size, noise=noise, spread=spread)
    rows = images.reshape(len(classes), per_class, 3, size, size).transpose(0, 3, 1, 4, 2)
    picture = rows.reshape(len(classes) * size, per_class * size, 3)
    return picture.repeat(zoom, axis=0).repeat(zoom, axis=1)

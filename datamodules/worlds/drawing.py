"""What rendered worlds of colored shapes are drawn with: parameters by range, covered shares of pixels, layers."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

GROUP = 256
"""Images are drawn in groups with a generator each, so an image depends on the seed and its place alone."""


class Segmented(NamedTuple):
    """Rendered images and everything known about them.

    `images` uint8 [n, 3, s, s]; `segmentation` uint8 [n, s, s], the class of the topmost layer that covers at least
    half of a pixel; `factors` float32 [n, f], what the images were drawn from; `labels` int64 [n, k], class numbers of
    the most visible factors.
    """

    images: NDArray[np.uint8]
    segmentation: NDArray[np.uint8]
    factors: Floats
    labels: NDArray[np.int64]


def in_groups(draw: Callable[[np.random.Generator], Segmented], count: int, seed: int) -> Segmented:
    """Return the first images of as many groups as they fill; image k depends on (`seed`, k) alone.

    Args:
        draw: renders GROUP images.
        count: number of images.
        seed: seed of everything, not negative.
    """
    groups = [draw(np.random.default_rng([seed, k])) for k in range(-(-count // GROUP))]
    return Segmented(*(np.concatenate(parts)[:count] for parts in zip(*groups, strict=True)))


def uniform(ranges: Mapping[str, tuple[float, float]], rng: np.random.Generator, count: int) -> dict[str, Floats]:
    """Return parameters float32 [count] by name, each uniform between its lowest and highest value."""
    low, high = np.array(list(ranges.values()), np.float32).T
    values = low + (high - low) * rng.random((count, len(ranges)), np.float32)
    return {name: values[:, place] for place, name in enumerate(ranges)}


def binned(values: Floats, low: float, high: float, bins: int) -> NDArray[np.int64]:
    """Return the number of the equal part of low..high that each value is in."""
    return ((values - low) / (high - low) * bins).astype(np.int64).clip(0, bins - 1)


def pixel_centers(size: int) -> tuple[Floats, Floats]:
    """Return x [1, 1, s] and y [1, s, 1] of the pixel centers, the image being -1..1 with y down."""
    centers = (np.arange(size, dtype=np.float32) + 0.5) * 2 / size - 1
    return centers[None, None], centers[None, :, None]


def coverage(distance: Floats, size: int) -> Floats:
    """Return which share of a pixel is covered, 0..1, from signed distances (negative inside, images are -1..1)."""
    return np.clip(0.5 - distance * (size / 2), 0, 1)


def ellipse(x: Floats, y: Floats, wide: Floats | float, tall: Floats | float) -> Floats:
    """Return signed distances from an ellipse around the origin, exact to first order near its border.

    Args:
        x: coordinates relative to the center, as y broadcastable to [n, h, w].
        y: as x.
        wide: half its width, a number or one for each image.
        tall: half its height.
    """
    wide, tall = (np.asarray(half, np.float32).reshape(-1, 1, 1) for half in (wide, tall))
    radius = np.hypot(x / wide, y / tall)
    slope = np.hypot(x / wide**2, y / tall**2) / np.maximum(radius, 1e-6)
    estimate = (radius - 1) / np.maximum(slope, 1 / np.maximum(wide, tall))
    # The estimate is too small far from a thin ellipse, but nothing is closer than the box around it.
    return np.maximum(estimate, np.maximum(np.abs(x) - wide, np.abs(y) - tall))


def over(image: Floats, cover: Floats, color: Floats) -> Floats:
    """Return images [n, 3, h, w] with a layer over them that covers [n, h, w] in colors [n, 3] or [n, 3, h, w]."""
    color = color if color.ndim == 4 else color[:, :, None, None]
    return image + cover[:, None] * (color - image)


def rgb(hue: Floats, saturation: Floats, value: Floats) -> Floats:
    """Return colors [n, 3] in 0..1 of hues, saturations and values in 0..1, all [n] (HSV)."""
    offsets = np.array([5, 3, 1], np.float32)
    place = (offsets + hue[:, None] * 6) % 6
    return value[:, None] * (1 - saturation[:, None] * np.clip(np.minimum(place, 4 - place), 0, 1))


def as_bytes(image: Floats) -> NDArray[np.uint8]:
    """Return images of 0..1 as whole bytes."""
    return (np.clip(image, 0, 1) * 255).round().astype(np.uint8)

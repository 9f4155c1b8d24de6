"""The world of placed objects: one colored object anywhere over a textured background, so that its mask varies.

Everything about an image is drawn from its seed and its place, whatever the size it is drawn at.
"""

import numpy as np

from datamodules.worlds.drawing import (
    GROUP,
    Floats,
    Segmented,
    as_bytes,
    binned,
    coverage,
    ellipse,
    in_groups,
    over,
    pixel_centers,
    rgb,
    uniform,
)

CLASSES = ("background", "object")
"""Classes of the segmentation by number."""
# Lowest and highest value: lengths in half image sides, the wave's number of periods, angles in radians, else 0..1.
_FACTORS = {
    "x": (-0.5, 0.5),
    "y": (-0.5, 0.5),
    "size": (0.28, 0.45),
    "aspect": (0.7, 1.0),
    "shape": (0.0, 1.0),
    "hue": (0.0, 1.0),
    "value": (0.6, 1.0),
    "background_hue": (0.0, 1.0),
    "background_value": (0.25, 0.75),
    "contrast": (0.1, 0.3),
    "waves": (1.0, 2.5),
    "direction": (0.0, np.pi),
    "phase": (0.0, 2 * np.pi),
    "texture": (0.0, 1.0),
}
FACTORS = tuple(_FACTORS)
"""Names of the factors, in their order."""
_SHAPES, _TEXTURES = 3, 2
LABELS = {
    "x": 3,
    "y": 3,
    "size": 2,
    "shape": _SHAPES,
    "hue": 4,
    "background_hue": 4,
    "background_value": 2,
    "direction": 4,
    "texture": _TEXTURES,
}
"""What is known of an image as class numbers: factors in equal parts of their range, with the number of parts. Shapes
are ellipse, box and diamond; textures stripes and checks."""
_SATURATION, _BACKGROUND_SATURATION = 0.9, 0.3


def _cover(f: dict[str, Floats], size: int) -> Floats:
    """Return how much of each pixel [n, h, w] the object covers; f are factors [n, 1, 1]."""
    x, y = pixel_centers(size)
    x, y = x - f["x"], y - f["y"]
    wide, tall = f["size"], f["size"] * f["aspect"]
    diamond = (np.abs(x) / wide + np.abs(y) / tall - 1) / np.hypot(1 / wide, 1 / tall)
    box = np.maximum(np.abs(x) - wide, np.abs(y) - tall)
    shape = binned(f["shape"], 0, 1, _SHAPES)
    return coverage(np.choose(shape, [ellipse(x, y, wide, tall), box, diamond]), size)


def _background(factors: dict[str, Floats], f: dict[str, Floats], size: int) -> Floats:
    """Return the texture [n, 3, h, w]: a wave that brightens and darkens one color, alone or times a second across."""
    x, y = pixel_centers(size)
    cos, sin = np.cos(f["direction"]), np.sin(f["direction"])
    along = np.sin(np.pi * f["waves"] * (cos * x + sin * y) + f["phase"])
    across = np.sin(np.pi * f["waves"] * (cos * y - sin * x) + f["phase"])
    wave = np.where(binned(f["texture"], 0, 1, _TEXTURES) == 0, along, along * across)
    saturation = np.full_like(factors["hue"], _BACKGROUND_SATURATION)
    color = rgb(factors["background_hue"], saturation, factors["background_value"])
    return color[:, :, None, None] + (f["contrast"] * wave)[:, None]


def draw(factors: dict[str, Floats], size: int) -> Segmented:
    """Draw the images of given factors.

    Args:
        factors: values [n] of each of FACTORS.
        size: side of the images in pixels.
    """
    f = {name: values[:, None, None] for name, values in factors.items()}
    cover = _cover(f, size)
    color = rgb(factors["hue"], np.full_like(factors["hue"], _SATURATION), factors["value"])
    image = over(_background(factors, f, size), cover, color)
    labels = [binned(factors[name], *_FACTORS[name], parts) for name, parts in LABELS.items()]
    known = np.stack([factors[name] for name in FACTORS], axis=1)
    return Segmented(as_bytes(image), (cover >= 0.5).astype(np.uint8), known, np.stack(labels, axis=1))


def render(count: int, seed: int, size: int) -> Segmented:
    """Draw images of random factors; image k depends on (`seed`, k) alone.

    Args:
        count: number of images.
        seed: seed of everything, not negative.
        size: side of the images in pixels.
    """
    return in_groups(lambda rng: draw(uniform(_FACTORS, rng, GROUP), size), count, seed)

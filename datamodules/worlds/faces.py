"""The world of aligned faces: soft ellipses over a tinted background, every factor drawn independently of the others.

Eyes and mouth stay within fixed boxes, as in aligned photographs, so that a region can be a box as well as a class.
Everything about a face is drawn from its seed and its place, whatever the size it is drawn at.
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

CLASSES = ("background", "skin", "eye", "mouth", "hair")
"""Classes of the segmentation by number; brows and nose count as skin."""
BOXES = {"eyes": (0.25, 0.1875, 0.5, 0.8125), "mouth": (0.625, 0.25, 0.875, 0.75)}
"""Top, left, bottom and right of the box that holds all pixels of a class, in fractions of the side."""
# Lowest and highest value: lengths in half image sides, others in 0..1 unless said.
_FACTORS = {
    "background_hue": (0.0, 1.0),
    "background_value": (0.35, 0.95),
    "background_ramp": (-0.3, 0.3),
    "skin": (0.0, 1.0),
    "face_wide": (0.58, 0.72),
    "face_tall": (0.70, 0.86),
    "hair": (0.0, 1.0),
    "hair_line": (0.42, 0.62),
    "brow": (0.0, 0.06),
    "eye_openness": (0.05, 0.16),
    "eye_spacing": (0.27, 0.36),
    "iris": (0.0, 1.0),
    "mouth_wide": (0.18, 0.40),
    "mouth_opening": (0.0, 0.14),
    "mouth_color": (0.0, 1.0),
}
FACTORS = tuple(_FACTORS)
"""Names of the factors, in their order."""
# Colors of equal parts of a factor's range, as hue, saturation and value.
_HAIR = np.array([[0.07, 0.5, 0.1], [0.07, 0.7, 0.35], [0.12, 0.6, 0.85], [0.03, 0.85, 0.65]], np.float32)
_IRIS = np.array([[0.07, 0.9, 0.3], [0.6, 0.9, 0.85], [0.35, 0.9, 0.6]], np.float32)
LABELS = {
    "background_hue": 4,
    "background_ramp": 2,
    "skin": 3,
    "face_wide": 2,
    "hair": len(_HAIR),
    "eye_openness": 3,
    "eye_spacing": 2,
    "iris": len(_IRIS),
    "mouth_wide": 2,
    "mouth_opening": 3,
    "mouth_color": 2,
}
"""What is known of a face as class numbers: factors in equal parts of their range, with the number of parts."""
_DARK_SKIN, _LIGHT_SKIN = np.array([0.40, 0.25, 0.17], np.float32), np.array([0.98, 0.82, 0.71], np.float32)
_DARK_LIPS, _LIGHT_LIPS = np.array([0.50, 0.08, 0.16], np.float32), np.array([0.92, 0.28, 0.36], np.float32)
_EYE_WIDE, _EYES_UP, _IRIS_RADIUS, _MOUTH_DOWN, _LIPS = 0.18, 0.19, 0.1, 0.46, 0.06


def _colors(drawn: dict[str, Floats]) -> dict[str, Floats]:
    hair, iris = (table[binned(drawn[name], 0, 1, len(table))].T for name, table in (("hair", _HAIR), ("iris", _IRIS)))
    skin = _DARK_SKIN + drawn["skin"][:, None] * (_LIGHT_SKIN - _DARK_SKIN)
    saturation = np.full_like(drawn["skin"], 0.5)
    return {
        "background": rgb(drawn["background_hue"], saturation, drawn["background_value"]),
        "skin": skin,
        "nose": 0.8 * skin,
        "hair": rgb(*hair),
        "brow": 0.8 * rgb(*hair),
        "white": np.full_like(skin, 0.97),
        "iris": rgb(*iris),
        "lips": _DARK_LIPS + drawn["mouth_color"][:, None] * (_LIGHT_LIPS - _DARK_LIPS),
        "throat": np.full_like(skin, 0.08),
    }


def _layers(drawn: dict[str, Floats], size: int) -> list[tuple[str, str | None, Floats]]:
    """Return the color, the class and the covered shares [n, h, w] of every layer from back to front.

    A layer without a class belongs to what it lies on.
    """
    x, y = pixel_centers(size)
    f = {name: values[:, None, None] for name, values in drawn.items()}
    face = ellipse(x, y - 0.06, f["face_wide"], f["face_tall"])
    # Hair: a larger ellipse that ends at the ears, in front of the forehead as well.
    hair = np.maximum(ellipse(x, y + 0.06, f["face_wide"] + 0.1, f["face_tall"] + 0.02), y - 0.15)
    forehead = np.maximum(hair, y + f["hair_line"])
    side, eye_y = np.abs(x) - f["eye_spacing"], y + _EYES_UP
    # The upper lid moves, the lower one stays.
    eye_y = eye_y + f["eye_openness"] / 2 - 0.05
    white = ellipse(side, eye_y, _EYE_WIDE, f["eye_openness"])
    iris = np.maximum(ellipse(side, eye_y, _IRIS_RADIUS, _IRIS_RADIUS), white)
    brow = ellipse(side, y + 0.40 + f["brow"], 0.17, 0.035)
    mouth_y = y - _MOUTH_DOWN
    lips = ellipse(x, mouth_y, f["mouth_wide"], f["mouth_opening"] + _LIPS)
    throat = ellipse(x, mouth_y, f["mouth_wide"] - _LIPS, np.maximum(f["mouth_opening"], 1e-3))
    distances: list[tuple[str, str | None, Floats]] = [
        ("hair", "hair", hair),
        ("skin", "skin", face),
        ("hair", "hair", forehead),
        ("nose", None, ellipse(x, y - 0.12, 0.06, 0.1)),
        ("brow", None, brow),
        ("white", "eye", white),
        ("iris", None, iris),
        ("lips", "mouth", lips),
        ("throat", None, throat),
    ]
    return [(color, kind, coverage(distance, size)) for color, kind, distance in distances]


def draw(factors: dict[str, Floats], size: int) -> Segmented:
    """Draw the faces of given factors.

    Args:
        factors: values [n] of each of FACTORS.
        size: side of the images in pixels.
    """
    colors, y = _colors(factors), pixel_centers(size)[1]
    ramp = (factors["background_ramp"][:, None, None] * y)[:, None]
    image: Floats = np.repeat(colors["background"][:, :, None, None] + ramp, size, axis=3)
    segmentation = np.zeros((len(image), size, size), np.uint8)
    for color, kind, cover in _layers(factors, size):
        image = over(image, cover, colors[color])
        if kind is not None:
            segmentation[cover >= 0.5] = CLASSES.index(kind)
    labels = [binned(factors[name], *_FACTORS[name], parts) for name, parts in LABELS.items()]
    known = np.stack([factors[name] for name in FACTORS], axis=1)
    return Segmented(as_bytes(image), segmentation, known, np.stack(labels, axis=1))


def render(count: int, seed: int, size: int) -> Segmented:
    """Draw faces of random factors; face k depends on (`seed`, k) alone.

    Args:
        count: number of images.
        seed: seed of everything, not negative.
        size: side of the images in pixels.
    """
    return in_groups(lambda rng: draw(uniform(_FACTORS, rng, GROUP), size), count, seed)

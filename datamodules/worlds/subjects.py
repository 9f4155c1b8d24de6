"""The world of subjects: flat backgrounds with one to four objects side by side, each an outer shape and an inner disc.

Captions may name everything but the color of the inner disc, so no words can describe a subject, which is a class with
its two colors: it has to be learned from pictures. Everything is drawn from a seed (cones §3.1).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]

CLASSES = ("circle", "square", "triangle", "cross")
COLORS = ("red", "green", "blue", "yellow", "cyan", "magenta")
BACKGROUNDS = ("black", "grey", "white", "brown")
IDENTIFIERS = ("V1", "V2", "V3", "V4", "V5", "V6")
"""Words that mean nothing in the captions of pretraining."""
LETTERS = ("A", "B", "C", "D", "E", "F")
"""Subjects by name; subject A is called V1, and so on."""
SLOTS = 4
"""The most objects in a picture."""
VOCABULARY = (*IDENTIFIERS, *COLORS, *CLASSES, "thing", "and", "on", *BACKGROUNDS)

_COLORS = np.array(
    [[0.9, 0.1, 0.1], [0.1, 0.75, 0.1], [0.15, 0.2, 0.95], [0.95, 0.9, 0.1], [0.1, 0.85, 0.9], [0.9, 0.1, 0.85]],
    np.float32,
)
_BACKGROUNDS = np.array([[0.08, 0.08, 0.08], [0.45, 0.45, 0.45], [0.92, 0.92, 0.92], [0.45, 0.28, 0.12]], np.float32)
# Lengths in pixels of a slot of 16.
_JITTER, _RADIUS, _INNER = 1.5, (4.2, 5.6), 0.45
_SAME_COLOR = 0.4
# How often a caption has each word, and how often it is empty (cones §3.1).
_SAYS = {"identifier": 0.15, "color": 0.4, "class": 0.95, "background": 0.6}
_EMPTY = 0.1
# Pictures drawn at a time.
_GROUP = 64


class Scenes(NamedTuple):
    """What is in pictures: objects int64 [n, slots, 3] (class, outer color, inner color) and backgrounds int64 [n]."""

    objects: Ints
    backgrounds: Ints


class Caption(NamedTuple):
    """A phrase for each slot, and the end of the sentence, either of which may be empty."""

    phrases: list[str]
    ending: str

    def of(self, slots: int) -> str:
        """Return the caption of a picture of the first `slots` objects."""
        return " ".join([*" and ".join(filter(None, self.phrases[:slots])).split(), *self.ending.split()])


def draw_scenes(count: int, rng: np.random.Generator) -> Scenes:
    """Draw the content of pictures; the inner color equals the outer one in four of ten objects."""
    objects = np.stack([rng.integers(0, size, (count, SLOTS)) for size in (len(CLASSES), len(COLORS), len(COLORS))], -1)
    same = rng.random((count, SLOTS)) < _SAME_COLOR
    objects[..., 2] = np.where(same, objects[..., 1], objects[..., 2])
    return Scenes(objects, rng.integers(0, len(BACKGROUNDS), count))


def subject(letter: str, seed: int) -> tuple[int, int, int]:
    """Return class, outer and inner color of a subject; those of one seed differ in both colors from one another.

    Args:
        letter: A to F.
        seed: of the six subjects.
    """
    rng = np.random.default_rng([seed, 77])
    place, colors = LETTERS.index(letter), rng.permutation(len(COLORS))
    classes = np.concatenate([rng.permutation(len(CLASSES)), rng.permutation(len(CLASSES))])
    # The inner colors are the outer ones, moved by one to five places.
    inner = np.roll(colors, rng.integers(1, len(COLORS)))
    return int(classes[place]), int(colors[place]), int(inner[place])


def caption(scene: Ints, background: int, rng: np.random.Generator) -> Caption:
    """Draw what a caption says of a scene [slots, 3]: never the inner color, sometimes nothing."""
    drawn = rng.random((SLOTS, 3))
    names = rng.integers(0, len(IDENTIFIERS), SLOTS)
    ending = f"on {BACKGROUNDS[background]}" if rng.random() < _SAYS["background"] else ""
    if rng.random() < _EMPTY:
        return Caption([""] * len(scene), "")
    phrases = []
    for (kind, outer, _), chance, name in zip(scene, drawn, names, strict=False):
        words = [IDENTIFIERS[name]] if chance[0] < _SAYS["identifier"] else []
        words += [COLORS[outer]] if chance[1] < _SAYS["color"] else []
        words += [CLASSES[kind] if chance[2] < _SAYS["class"] else "thing"]
        phrases.append(" ".join(words))
    return Caption(phrases, ending)


def _distance(kind: Ints, x: Floats, y: Floats, radius: Floats) -> Floats:
    """Return the signed distance to the outline of each class, about, in pixels."""
    across, down = np.abs(x), np.abs(y)
    arm = 0.38 * radius
    shapes = [
        np.sqrt(x * x + y * y) - radius,
        np.maximum(across, down) - 0.86 * radius,
        np.maximum(0.866 * across - 0.5 * y, y) - 0.62 * radius,
        np.minimum(np.maximum(across - radius, down - arm), np.maximum(down - radius, across - arm)),
    ]
    return np.choose(kind, shapes)


def _render_group(scenes: Scenes, rng: np.random.Generator, size: int) -> NDArray[np.uint8]:
    count, slots = scenes.objects.shape[:2]
    places = np.arange(size, dtype=np.float32) + 0.5 - size / 2
    scale = size / 16
    # A full group is drawn whatever is asked for, so that a picture depends on its place alone.
    shift = (scale * rng.uniform(-_JITTER, _JITTER, (2, _GROUP, SLOTS, 1, 1))).astype(np.float32)[:, :count, :slots]
    radius = (scale * rng.uniform(*_RADIUS, (_GROUP, SLOTS, 1, 1))).astype(np.float32)[:count, :slots]
    x, y = places[None, None, None, :] - shift[0], places[None, None, :, None] - shift[1]
    kinds = scenes.objects[..., 0, None, None]
    outer = np.clip(0.5 - _distance(kinds, x, y, radius), 0, 1)[:, :, None]
    inner = np.clip(0.5 - (np.sqrt(x * x + y * y) - _INNER * radius), 0, 1)[:, :, None]
    image: Floats = np.broadcast_to(
        _BACKGROUNDS[scenes.backgrounds][:, None, :, None, None], (count, slots, 3, size, size)
    )
    for cover, place in ((outer, 1), (inner, 2)):
        color = _COLORS[scenes.objects[..., place]][..., None, None]
        image = image + cover * (color - image)
    return np.rint(image * 255).astype(np.uint8)


def render(scenes: Scenes, seed: int, size: int = 16) -> NDArray[np.uint8]:
    """Return slots uint8 [n, slots, 3, size, size]; a picture is its first slots, side by side.

    Args:
        scenes: what is in them.
        seed: of places and sizes; those of picture k depend on (`seed`, k) alone.
        size: side of a slot in pixels.
    """
    groups = [
        _render_group(
            Scenes(*(part[first : first + _GROUP] for part in scenes)), np.random.default_rng([seed, first]), size
        )
        for first in range(0, len(scenes.backgrounds), _GROUP)
    ]
    return np.concatenate(groups)


def canvas(slots: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    """Return pictures [n, 3, h, count * w] of the first `count` slots [n, slots, 3, h, w], side by side."""
    return np.concatenate(list(slots[:, :count].transpose(1, 0, 2, 3, 4)), axis=-1)

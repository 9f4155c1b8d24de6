"""The world of actors: short clips of a colored disc that moves, with another disc in its way (clip_fsar §3.1).

A class is a colour and a motion of the actor, and its name says both. A distractor of another colour moves by itself in
every clip, so one clip alone does not tell which of the two is meant; the name does. Every frame has a faint trail of
the frame before, so that stills show motion too.
"""

import numpy as np
from numpy.typing import NDArray

COLOURS = {
    "red": (0.9, 0.15, 0.15),
    "green": (0.15, 0.8, 0.2),
    "blue": (0.2, 0.3, 0.95),
    "yellow": (0.9, 0.85, 0.15),
    "cyan": (0.15, 0.85, 0.85),
    "magenta": (0.85, 0.2, 0.85),
    "orange": (0.95, 0.5, 0.1),
    "white": (0.9, 0.9, 0.9),
}
# What changes over a clip: places across and down, in half image sides, and the radius as a factor.
MOTIONS = {
    "moving right": (1.0, 0.0, 0.0),
    "moving left": (-1.0, 0.0, 0.0),
    "moving up": (0.0, -1.0, 0.0),
    "moving down": (0.0, 1.0, 0.0),
    "growing": (0.0, 0.0, 1.0),
    "shrinking": (0.0, 0.0, -1.0),
}
NAMES = [f"{colour} disc {motion}" for colour in COLOURS for motion in MOTIONS]
"""Names of all classes: class k has colour k // 6 and motion k % 6."""
_NOISE = 0.08
_TRAIL = 0.5
_GREY = 0.25
# Clips are drawn in groups with a generator each, so a clip depends on the seed and its place alone.
_GROUP = 64
Floats = NDArray[np.float32]


def classes_of(split: str) -> list[int]:
    """Return the classes of "fit" (24), "val" (8) or "test" (16): three, one and two motions of every colour.

    No class is in two splits, and every word of every name is in the names of training.
    """
    turns = {"fit": (1, 3, 5), "val": (4,), "test": (0, 2)}[split]
    return [6 * colour + (colour + turn) % 6 for colour in range(len(COLOURS)) for turn in turns]


def _paths(rng: np.random.Generator, motions: NDArray[np.int64], frames: int) -> tuple[Floats, Floats, Floats]:
    """Return x, y and radius [n, frames] of discs, in half image sides."""
    count = len(motions)
    across, down, grows = np.array(list(MOTIONS.values()), np.float32)[motions].T[..., None]
    # From the start of the way to its end, -.5 to .5.
    way = (np.linspace(-0.5, 0.5, frames, dtype=np.float32) + rng.uniform(-0.05, 0.05, (count, 1))).astype(np.float32)
    length = rng.uniform(1.1, 1.4, (count, 1)).astype(np.float32)
    x, y = rng.uniform(-0.45, 0.45, (2, count, 1)).astype(np.float32)
    # Along its way a disc goes through the middle.
    x, y = x * (across == 0) + length * across * way, y * (down == 0) + length * down * way
    radius = rng.uniform(0.22, 0.3, (count, 1)).astype(np.float32)
    return x, y, radius * np.exp2(1.6 * grows * way)


def _covered(x: Floats, y: Floats, radius: Floats, size: int) -> Floats:
    """Return how much of each pixel [n, frames, h, w] a disc covers, 0..1."""
    line = (np.arange(size, dtype=np.float32) + 0.5) * 2 / size - 1
    off = np.hypot(line[None, None, None, :] - x[..., None, None], line[None, None, :, None] - y[..., None, None])
    return np.clip(0.5 + (radius[..., None, None] - off) * size / 2, 0, 1)


def _group(
    rng: np.random.Generator, classes: NDArray[np.int64], frames: int, size: int, alone: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    count, palette = len(classes), np.array(list(COLOURS.values()), np.float32)
    colours = np.stack([classes // 6, (classes // 6 + rng.integers(1, len(COLOURS), count)) % len(COLOURS)])
    motions = np.stack([classes % 6, rng.integers(0, len(MOTIONS), count)])
    image = np.full((count, frames, 3, size, size), _GREY, np.float32)
    # One frame more at the start, for the first trail.
    paths = [_paths(rng, motion, frames + 1) for motion in motions]
    in_front = rng.integers(0, 2, count)
    for turn in range(2):
        for who in range(2):
            shown = (in_front == (who if turn else 1 - who)) & ~(alone & (who == 1))
            x, y, radius = (part * 1.0 for part in paths[who])
            colour = palette[colours[who]][:, None, :, None, None]
            for first, strength in ((0, _TRAIL), (1, 1.0)):
                part = slice(first, first + frames)
                covered = _covered(x[:, part], y[:, part], radius[:, part], size) * shown[:, None, None, None]
                image += strength * covered[:, :, None] * (colour - image)
    image += _NOISE * rng.standard_normal(image.shape, np.float32)
    return (np.clip(image, 0, 1) * 255).round().astype(np.uint8)


def render(
    classes: NDArray[np.int64], seed: int, size: int, *, frames: int = 8, alone_share: float = 0.0
) -> NDArray[np.uint8]:
    """Draw clips; clip k depends on (`seed`, k) and its class alone.

    Args:
        classes: class numbers [n].
        seed: seed of everything but the class.
        size: side of a frame in pixels.
        frames: frames of a clip.
        alone_share: share of clips without a distractor.

    Returns:
        Clips uint8 [n, frames, 3, size, size].
    """
    clips = np.empty((len(classes), frames, 3, size, size), np.uint8)
    for number, first in enumerate(range(0, len(classes), _GROUP)):
        rng = np.random.default_rng([seed, number])
        own = np.zeros(_GROUP, np.int64)
        own[: len(classes[first : first + _GROUP])] = classes[first : first + _GROUP]
        alone = rng.random(_GROUP) < alone_share
        clips[first : first + _GROUP] = _group(rng, own, frames, size, alone)[: len(classes) - first]
    return clips

"""Shifts of a target from the images that a backbone was pre-trained on: none, inverted contrast, a background.

All values are our choice (u_tuning §3.1).
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from datamodules.loading import mix

Shift = Literal["plain", "inverted", "background"]
SHIFTS: tuple[Shift, ...] = ("plain", "inverted", "background")

# What is left of the image; the waves take the rest, so that nothing is cut off.
_KEPT = 0.55
# Lowest and highest number of waves over the side of an image; chosen like the nuisance of the glyphs.
_FREQUENCY = (0.5, 1.0)


def waves(count: int, size: int, seed: int) -> NDArray[np.float32]:
    """Return a sinusoidal pattern of random direction, frequency and phase for each of `count` images.

    Pattern k depends on (`seed`, k, `size`) alone.

    Returns:
        Patterns float32 [count, size, size] in 0..1.
    """
    turn, phase, frequency = np.random.default_rng(seed).random((count, 3)).T.astype(np.float32)[..., None, None]
    angle = 2 * np.float32(np.pi) * turn
    across = (np.arange(size, dtype=np.float32) + 0.5) / size
    along = np.cos(angle) * across + np.sin(angle) * across[:, None]
    cycles = _FREQUENCY[0] + (_FREQUENCY[1] - _FREQUENCY[0]) * frequency
    return 0.5 + 0.5 * np.sin(2 * np.float32(np.pi) * (cycles * along + phase))


def shifted(pixels: NDArray[np.uint8], shift: Shift, seed: int) -> NDArray[np.uint8]:
    """Return square images as a target shows them.

    Image k depends on (`seed`, k) and its own pixels alone.

    Args:
        pixels: images uint8 [n, c, s, s], bright on dark.
        shift: "plain" leaves them; "inverted" makes bright dark; "background" is .55 of the image over waves.
        seed: seed of the backgrounds, not negative.

    Returns:
        Images uint8 [n, c, s, s].

    Raises:
        ValueError: if there is no such shift.
    """
    if shift == "plain":
        return pixels
    if shift == "inverted":
        return 255 - pixels
    if shift != "background":
        raise ValueError(f"there is no shift '{shift}': take {', '.join(SHIFTS)}")
    background = (255 * (1 - _KEPT)) * waves(len(pixels), pixels.shape[-1], mix(seed, 1))[:, None]
    return (_KEPT * pixels.astype(np.float32) + background + 0.5).astype(np.uint8)

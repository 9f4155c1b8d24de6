"""Data sets of small images held in memory as whole bytes and normalised when a batch is taken."""

from collections.abc import Callable, Sequence
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from datamodules.loading import Batch


class Images(Dataset[Any]):
    """Images without any random augmentation, taken a whole batch at a time.

    Args:
        pixels: uint8 [n, c, h, w].
        labels: int [n].
        white: the brightest value a pixel can have; values 0..white become -1..1.
        resize: a deterministic transform of a batch of images uint8 [b, c, h, w].
    """

    def __init__(
        self,
        pixels: NDArray[np.uint8],
        labels: NDArray[Any],
        *,
        white: int = 255,
        resize: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        assert len(pixels) == len(labels)
        self.pixels, self.labels = pixels, np.asarray(labels, np.int64)
        self.white, self.resize = white, resize

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Batch:
        return {key: value[0] for key, value in self.fetch([index]).items()}

    def fetch(self, indices: Sequence[int]) -> Batch:
        """Return images float32 [b, c, h, w] in -1..1 and labels int64 [b]."""
        images = torch.from_numpy(self.pixels[list(indices)])
        if self.resize:
            images = self.resize(images)
        images = images.float().div_(self.white / 2).sub_(1.0)
        return {"image": images, "label": torch.from_numpy(self.labels[list(indices)])}

    def where(self, chosen: NDArray[Any]) -> "Images":
        """Return the images that a mask or an array of indices chooses, in that order."""
        return Images(self.pixels[chosen], self.labels[chosen], white=self.white, resize=self.resize)


class Augmented(Dataset[Any]):
    """Images of which each is augmented by itself, with noise from torch's generator.

    Args:
        pixels: uint8 [n, ...], or the .npy file that holds them.
        labels: int [n].
        transform: from one image as stored to float32 [c, h, w].
    """

    def __init__(
        self, pixels: NDArray[np.uint8] | Path, labels: NDArray[Any], transform: Callable[[Tensor], Tensor]
    ) -> None:
        self.pixels, self.labels, self.transform = pixels, np.asarray(labels, np.int64), transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Batch:
        pixels = mapped(self.pixels) if isinstance(self.pixels, Path) else self.pixels
        image = torch.from_numpy(np.array(pixels[index]))
        return {"image": self.transform(image), "label": self.labels[index]}


@cache
def mapped(path: Path) -> NDArray[np.uint8]:
    """Return the array of a .npy file, which stays on disk; it is opened once in every process."""
    return np.load(path, mmap_mode="r", allow_pickle=False)


def pixel_hashes(pixels: NDArray[np.uint8]) -> NDArray[np.bytes_]:
    """Return a key of each image that two images share only if all their pixels are equal."""
    return np.array([sha256(np.ascontiguousarray(image).data).hexdigest() for image in pixels], dtype="S64")


def not_among(pixels: NDArray[np.uint8], others: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return for each image [n] whether none of the others has the same pixels."""
    return ~np.isin(pixel_hashes(pixels), pixel_hashes(others))


def first_of_each(pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the indices, rising, of the images that no earlier image equals."""
    return np.sort(np.unique(pixel_hashes(pixels), return_index=True)[1])

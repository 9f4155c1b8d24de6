"""Few handwritten digits of each class under a shift: the targets of the small U-Tuning experiments (u_tuning §3.1).

The digits are the 1,797 images of 8 x 8 pixels that come with scikit-learn, enlarged to 16 x 16.
"""

from functools import cached_property
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from common.ranges import NonNegativeInt, PositiveInt, Range
from datamodules.base import BaseDataModule, digest
from datamodules.loading import mix
from datamodules.memory import Images, first_of_each
from datamodules.shifts import Shift, shifted


class ShiftedDigits(BaseDataModule):
    """Ten digits, `per_class` images of each for training and validation together, all others for the test.

    Which images are taken is drawn by `seed`; images that equal an earlier one are left out first, so that no two
    splits share an image.

    Args:
        batch_size: the GLOBAL batch.
        num_workers: loader processes of each rank; the images are in memory, so 0 is fastest.
        seed: seed of the choice of images, of the backgrounds and of the sample order.
        shift: what is done to the images, see `datamodules.shifts`.
        per_class: images of a class that are not for the test.
        val_fraction: share of those by which the learning rate is chosen, at least one image of a class.
        num_classes: the digits are ten.
        channels: the images are grey.
        image_size: side of an image in pixels.
    """

    offers: ClassVar = {"images": "", "classes": ""}

    def __init__(
        self,
        *,
        batch_size: PositiveInt = 50,
        num_workers: NonNegativeInt = 0,
        seed: NonNegativeInt = 0,
        shift: Shift = "inverted",
        per_class: Annotated[int, Range(low=2, high=100)] = 10,
        val_fraction: Annotated[float, Range(above=0, below=1)] = 0.2,
        num_classes: Literal[10] = 10,
        channels: Literal[1] = 1,
        image_size: PositiveInt = 16,
    ) -> None:
        super().__init__(batch_size=batch_size, num_workers=num_workers, seed=seed)
        self.val_count = max(1, round(val_fraction * per_class))
        if self.val_count == per_class:
            raise ValueError(f"data.val_fraction is {val_fraction}: take one that leaves images to train on")
        self.shift, self.per_class, self.num_classes = shift, per_class, num_classes
        self.image_shape = (channels, image_size, image_size)
        self.test_names = ["test"]

    @cached_property
    def _digits(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """The distinct digits, enlarged: uint8 [n, 1, s, s] and labels [n]."""
        from sklearn.datasets import load_digits

        found = load_digits()
        kept = first_of_each(found.images.astype(np.uint8))
        small = torch.from_numpy(found.images[kept] / 16.0)[:, None]
        large = functional.interpolate(small, size=self.image_shape[1:], mode="bilinear", align_corners=False)
        return (255 * large + 0.5).numpy().astype(np.uint8), found.target[kept].astype(np.int64)

    @cached_property
    def _splits(self) -> dict[str, Images]:
        pixels, labels = self._digits
        pixels = shifted(pixels, self.shift, mix(self.seed, 7))
        generator = np.random.default_rng([self.seed, 11])
        chosen: dict[str, list[NDArray[np.int64]]] = {"fit": [], "val": [], "test": []}
        for digit in range(self.num_classes):
            order = generator.permutation(np.flatnonzero(labels == digit))
            chosen["val"].append(order[: self.val_count])
            chosen["fit"].append(order[self.val_count : self.per_class])
            chosen["test"].append(np.sort(order[self.per_class :]))
        places = {name: np.concatenate(parts) for name, parts in chosen.items()}
        return {name: Images(pixels[place], labels[place]) for name, place in places.items()}

    def source(self, name: str) -> Images:
        """Return a split: "fit", "val" or "test"."""
        return self._splits[name]

    def fingerprint(self) -> str:
        """Return a hash of every split's images and labels."""
        parts = [(name, split.pixels.tobytes().hex(), split.labels.tolist()) for name, split in self._splits.items()]
        return digest("digits", parts)

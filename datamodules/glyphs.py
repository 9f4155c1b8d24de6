"""Procedural glyphs for the small U-Tuning experiments: the source of pre-training, or a target under a shift."""

from functools import cached_property
from typing import Annotated, ClassVar, Literal

import numpy as np

from common.ranges import NonNegativeInt, PositiveInt, Range
from datamodules.base import BaseDataModule, digest
from datamodules.loading import mix
from datamodules.memory import Images
from datamodules.shifts import Shift, shifted
from datamodules.worlds import glyphs

_SPLITS = ("fit", "val", "test")


class Glyphs(BaseDataModule):
    """Balanced images of glyph classes; every split is drawn with a seed of its own, so no two share an image.

    Args:
        batch_size: the GLOBAL batch.
        num_workers: loader processes of each rank; the images are in memory, so 0 is fastest.
        seed: seed of the nuisance of every image and of the sample order.
        num_classes: number of classes.
        first_class: number of the first class in the world; a target takes classes that the source has not.
        shift: what is done to the images, see `datamodules.shifts`.
        world_seed: seed of the strokes of all classes.
        channels: the images are grey.
        image_size: side of an image in pixels.
        train_size: training images.
        val_size: validation images.
        test_size: test images.
    """

    offers: ClassVar = {"images": "", "classes": ""}

    def __init__(
        self,
        *,
        batch_size: PositiveInt = 128,
        num_workers: NonNegativeInt = 0,
        seed: NonNegativeInt = 0,
        num_classes: Annotated[int, Range(low=2)] = 64,
        first_class: NonNegativeInt = 0,
        shift: Shift = "plain",
        world_seed: NonNegativeInt = 0,
        channels: Literal[1] = 1,
        image_size: PositiveInt = 16,
        train_size: PositiveInt = 20000,
        val_size: PositiveInt = 2000,
        test_size: PositiveInt = 2000,
    ) -> None:
        super().__init__(batch_size=batch_size, num_workers=num_workers, seed=seed)
        if train_size < num_classes:
            raise ValueError(f"data.train_size is {train_size}: each of {num_classes} classes needs a training image")
        self.image_shape = (channels, image_size, image_size)
        self.classes = np.arange(first_class, first_class + num_classes)
        self.shift, self.world_seed = shift, world_seed
        self.sizes = dict(zip(_SPLITS, (train_size, val_size, test_size), strict=True))
        self.test_names = ["test"]

    @cached_property
    def _drawn(self) -> dict[str, Images]:
        drawn = {}
        for number, split in enumerate(_SPLITS):
            labels = np.arange(self.sizes[split]) % len(self.classes)
            seed, size = mix(self.seed, number), self.image_shape[1]
            pixels = glyphs.render(self.classes[labels], seed, size, world_seed=self.world_seed)
            drawn[split] = Images(shifted(pixels, self.shift, seed), labels)
        return drawn

    def source(self, name: str) -> Images:
        """Return a split: "fit", "val" or "test"."""
        return self._drawn[name]

    def fingerprint(self) -> str:
        """Return a hash of the classes, the sizes and some rendered pictures."""
        picture = glyphs.render(self.classes[:8], self.seed, self.image_shape[1], world_seed=self.world_seed)
        shown = shifted(picture, self.shift, self.seed).tobytes().hex()
        return digest("glyphs", self.classes.tolist(), self.sizes, self.seed, self.image_shape, shown)

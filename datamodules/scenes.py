"""Rendered scenes for generative models (dvdp §3.1): procedural, gray, any size."""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from common.ranges import NonNegativeInt, PositiveInt, Range
from datamodules.base import BaseDataModule, digest
from datamodules.loading import Batch, mix
from datamodules.memory import Images
from datamodules.worlds import scenes

_SPLITS = ("fit", "val", "test")


class _Labelled(Images):
    """Scenes with all that is known of each, as `labels` int64 [b, 4] beside the image."""

    def __init__(self, pixels: NDArray[np.uint8], labels: NDArray[np.int64]) -> None:
        super().__init__(pixels, labels[:, 0])
        self.known = labels

    def fetch(self, indices: Sequence[int]) -> Batch:
        """Return images, the number of shapes (less one) as `label`, and all labels."""
        return super().fetch(indices) | {"labels": torch.from_numpy(self.known[list(indices)])}


class Scenes(BaseDataModule):
    """Scenes of one to three shapes; "fit", "val" and "test" are drawn with seeds of their own.

    The pictures are those of `world_seed`, like a data set on disk: all runs are trained and measured on the same.

    Args:
        batch_size: the GLOBAL batch.
        num_workers: loader processes of each rank; the images are in memory, so 0 is fastest.
        seed: seed of the sample order.
        world_seed: seed of the scenes.
        channels: grey images have 1.
        image_size: side of the images in pixels.
        train_size: training images.
        val_size: validation images.
        test_size: test images, which generated ones are compared with.
    """

    offers: ClassVar = {"images": "", "attributes": ""}

    def __init__(
        self,
        *,
        batch_size: PositiveInt = 64,
        num_workers: NonNegativeInt = 0,
        seed: NonNegativeInt = 0,
        world_seed: NonNegativeInt = 0,
        channels: Literal[1] = 1,
        image_size: Annotated[int, Range(low=8)] = 64,
        train_size: PositiveInt = 3000,
        val_size: PositiveInt = 256,
        test_size: PositiveInt = 1000,
    ) -> None:
        super().__init__(batch_size=batch_size, num_workers=num_workers, seed=seed)
        self.world_seed, self.image_shape = world_seed, (channels, image_size, image_size)
        self.sizes = dict(zip(_SPLITS, (train_size, val_size, test_size), strict=True))
        self.test_names = ["test"]
        self._drawn: dict[str, _Labelled] = {}

    def source(self, name: str) -> _Labelled:
        """Return "fit", "val" or "test"."""
        if name not in self._drawn:
            seed = mix(self.world_seed, _SPLITS.index(name))
            self._drawn[name] = _Labelled(*scenes.render(self.sizes[name], seed, self.image_shape[1]))
        return self._drawn[name]

    def fake_batch(self, size: int) -> dict[str, Any]:
        """Return a batch of empty scenes."""
        return super().fake_batch(size) | {"labels": torch.zeros(size, len(scenes.LABELS), dtype=torch.int64)}

    def fingerprint(self) -> str:
        """Return a hash of the sizes and of a few scenes of every split."""
        few = {
            name: scenes.render(4, mix(self.world_seed, k), self.image_shape[1]).images.tobytes().hex()
            for k, name in enumerate(_SPLITS)
        }
        return digest("scenes", self.world_seed, self.image_shape, self.sizes, few)

"""Rendered heads with the truth about their shape (geod §3.1): procedural, colored, any size."""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch

from common.ranges import NonNegativeInt, PositiveInt, Range
from datamodules.base import BaseDataModule, digest
from datamodules.loading import Batch, mix
from datamodules.memory import Images
from datamodules.worlds import heads

_SPLITS = ("fit", "val", "test")


class _Known(Images):
    """Heads with the truth of each beside the image: `depth`, `mask`, `camera` and `labels`."""

    def __init__(self, world: heads.Heads) -> None:
        super().__init__(world.images, world.labels[:, 0])
        self.world, self.cameras = world, world.camera

    def fetch(self, indices: Sequence[int]) -> Batch:
        """Return images, the family as `label`, and what is known: see `heads.Heads`."""
        places = list(indices)
        names = ("depth", "mask", "camera", "labels")
        return super().fetch(places) | {name: torch.from_numpy(getattr(self.world, name)[places]) for name in names}


class RenderedHeads(BaseDataModule):
    """Heads of one or several families of shapes; "fit", "val" and "test" are drawn with seeds of their own.

    The pictures are those of `world_seed`, like a data set on disk: all runs are trained and measured on the same.

    Args:
        batch_size: the GLOBAL batch.
        num_workers: loader processes of each rank; the images are in memory, so 0 is fastest.
        seed: seed of the sample order.
        world_seed: seed of the heads.
        image_size: side of the images in pixels.
        families: families of shapes, of ellipsoid, cone, ridge, gable, dome and bumps.
        asymmetric: whether one cheek has a coloured patch.
        train_size: training images.
        val_size: validation images.
        test_size: test images, which generated ones are compared with.
    """

    offers: ClassVar = {"images": "", "color images": "", "cameras": "", "depth": "", "attributes": ""}

    def __init__(
        self,
        *,
        batch_size: PositiveInt = 16,
        num_workers: NonNegativeInt = 0,
        seed: NonNegativeInt = 0,
        world_seed: NonNegativeInt = 0,
        image_size: Annotated[int, Range(low=16)] = 32,
        families: list[Literal["ellipsoid", "cone", "ridge", "gable", "dome", "bumps"]],
        asymmetric: bool = False,
        train_size: PositiveInt = 4096,
        val_size: PositiveInt = 128,
        test_size: PositiveInt = 512,
    ) -> None:
        super().__init__(batch_size=batch_size, num_workers=num_workers, seed=seed)
        unknown = [name for name in families if name not in heads.FAMILIES]
        if unknown or not families:
            raise ValueError(f"data.families is {families}, should be some of {', '.join(heads.FAMILIES)}")
        self.world_seed, self.image_shape = world_seed, (3, image_size, image_size)
        self.families, self.asymmetric = families, asymmetric
        self.sizes = dict(zip(_SPLITS, (train_size, val_size, test_size), strict=True))
        self.test_names = ["test"]
        self._drawn: dict[str, _Known] = {}

    def _render(self, count: int, name: str) -> heads.Heads:
        seed = mix(self.world_seed, _SPLITS.index(name))
        return heads.render(count, seed, self.image_shape[1], self.families, asymmetric=self.asymmetric)

    def source(self, name: str) -> _Known:
        """Return "fit", "val" or "test"."""
        if name not in self._drawn:
            self._drawn[name] = _Known(self._render(self.sizes[name], name))
        return self._drawn[name]

    def fake_batch(self, size: int) -> dict[str, Any]:
        """Return a batch of empty images of flat heads seen from the front."""
        side = self.image_shape[1]
        still = np.zeros(size, np.float32)
        return super().fake_batch(size) | {
            "depth": torch.full((size, side, side), heads.CENTRE),
            "mask": torch.ones(size, side, side, dtype=torch.bool),
            "camera": torch.tensor(heads.cameras(still, still, side).tolist()),
            "labels": torch.zeros(size, len(heads.LABELS), dtype=torch.int64),
        }

    def fingerprint(self) -> str:
        """Return a hash of the sizes and of a few heads of every split."""
        few = {name: self._render(4, name).images.tobytes().hex() for name in _SPLITS}
        return digest("heads", self.world_seed, self.image_shape, self.families, self.asymmetric, self.sizes, few)

"""What DataModules of rendered, segmented images share: splits with seeds of their own, and all that is known."""

from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Annotated, Any, ClassVar, Literal

import torch

from common.ranges import NonNegativeInt, PositiveInt, Range
from datamodules.base import BaseDataModule, digest
from datamodules.loading import Batch, mix
from datamodules.memory import Images
from datamodules.worlds.drawing import Segmented

_SPLITS = ("fit", "val", "test")


class _Known(Images):
    """Images with everything known about them: `segmentation`, `factors` and `labels`."""

    def __init__(self, world: Segmented) -> None:
        super().__init__(world.images, world.labels[:, 0])
        self.world = world

    def fetch(self, indices: Sequence[int]) -> Batch:
        """Return images, the first label as `label`, and what is known: see `Segmented`."""
        places = list(indices)
        known = {name: torch.from_numpy(getattr(self.world, name)[places]) for name in ("factors", "labels")}
        segmentation = torch.from_numpy(self.world.segmentation[places]).long()
        return super().fetch(places) | known | {"segmentation": segmentation}


class SegmentedImages(BaseDataModule):
    """Rendered images in -1..1 with the class of every pixel; "fit", "val" and "test" have seeds of their own.

    The pictures are those of `world_seed`, like a data set on disk: all runs are trained and measured on the same.

    Args:
        batch_size: the GLOBAL batch.
        num_workers: loader processes of each rank; the images are in memory, so 0 is fastest.
        seed: seed of the sample order.
        world_seed: seed of the images.
        channels: color images have 3.
        image_size: side of the images in pixels.
        train_size: training images.
        val_size: validation images.
        test_size: test images, which generated ones are compared with.
    """

    offers: ClassVar = {"images": "", "color images": "", "attributes": "", "segmentation": ""}
    world: ModuleType
    """What renders: `render`, `CLASSES`, `FACTORS` and `LABELS`."""

    def __init__(
        self,
        *,
        batch_size: PositiveInt = 32,
        num_workers: NonNegativeInt = 0,
        seed: NonNegativeInt = 0,
        world_seed: NonNegativeInt = 0,
        channels: Literal[3] = 3,
        image_size: Annotated[int, Range(low=16)] = 16,
        train_size: PositiveInt = 8192,
        val_size: PositiveInt = 256,
        test_size: PositiveInt = 2048,
    ) -> None:
        super().__init__(batch_size=batch_size, num_workers=num_workers, seed=seed)
        self.world_seed, self.image_shape = world_seed, (channels, image_size, image_size)
        self.sizes = dict(zip(_SPLITS, (train_size, val_size, test_size), strict=True))
        self.test_names = ["test"]
        self._rendered: dict[str, _Known] = {}

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes of `segmentation`, by number."""
        return self.world.CLASSES

    @property
    def label_sizes(self) -> Mapping[str, int]:
        """Number of classes of each of `labels`, by name."""
        return self.world.LABELS

    def _render(self, count: int, name: str) -> Segmented:
        return self.world.render(count, mix(self.world_seed, _SPLITS.index(name)), self.image_shape[1])

    def source(self, name: str) -> _Known:
        """Return "fit", "val" or "test"."""
        if name not in self._rendered:
            self._rendered[name] = _Known(self._render(self.sizes[name], name))
        return self._rendered[name]

    def fake_batch(self, size: int) -> dict[str, Any]:
        """Return a batch of empty images, all background."""
        side = self.image_shape[1]
        return super().fake_batch(size) | {
            "factors": torch.zeros(size, len(self.world.FACTORS)),
            "labels": torch.zeros(size, len(self.world.LABELS), dtype=torch.int64),
            "segmentation": torch.zeros(size, side, side, dtype=torch.int64),
        }

    def fingerprint(self) -> str:
        """Return a hash of the sizes and of a few images of every split."""
        few = {name: self._render(4, name).images.tobytes().hex() for name in _SPLITS}
        return digest(type(self).__name__, self.world_seed, self.image_shape, self.sizes, few)

"""Many rendered categories at once: a scaled-down protocol (neural_dependency §3.1).

One permutation orders the 256 classes of a world. The first `num_classes` are trained, the next `num_new` come later as
unseen categories, the rest stay unused, for out-of-distribution tests. So the classes of a smaller experiment are among
those of a larger one. Images of the splits are drawn with seeds of their own, so no two splits share an image.
"""

from functools import cached_property
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from common.ranges import Fraction, NonNegativeFloat, NonNegativeInt, PositiveInt, Range
from datamodules.base import BaseDataModule, digest
from datamodules.loading import mix
from datamodules.memory import Images
from datamodules.worlds import patterns, shapes

_SPLITS = ("fit", "val", "moments", "test", "new_fit", "new_test", "unused")
NUM_CLASSES = shapes.NUM_CLASSES


class Shapes(BaseDataModule):
    """Balanced images of the first classes of a world: image k of a split is of its class k modulo their number.

    Sources: "fit" and "val" for the training; "moments", fresh images that second moments are taken from; "test",
    fresh images that everything is measured on; "new_fit" and "new_test" of the new classes, whose labels go on from
    `num_classes`; "unused", of all other classes, with labels behind those. Nuisance depends on `seed`, the order of
    the classes on `split_seed` alone.

    Args:
        batch_size: the GLOBAL batch.
        num_workers: loader processes of each rank; the images are in memory, so 0 is fastest.
        seed: seed of the nuisance of every image and of the sample order.
        world: "shapes" (shape x stripes x hue) or "patterns" (nothing in common).
        num_classes: number K of trained classes.
        num_new: number of classes that are new to the trained network.
        split_seed: seed of the order of the 256 classes.
        channels: colour channels of an image.
        image_size: side of an image in pixels.
        noise: standard deviation of the noise, pixels being 0..1.
        spread: world "shapes" only: share of its range that each nuisance takes, by which the accuracy is calibrated.
        train_size: training images, and as many per class of the new ones.
        val_size: validation images.
        moments_size: images for the second moments; their rank is this at most.
        test_size: test images, of the new classes too.
        unused_size: images of the unused classes.
    """

    offers: ClassVar = {"images": "", "color images": "", "classes": ""}

    def __init__(
        self,
        *,
        batch_size: PositiveInt = 128,
        num_workers: NonNegativeInt = 0,
        seed: NonNegativeInt = 0,
        world: Literal["shapes", "patterns"] = "shapes",
        num_classes: Annotated[int, Range(low=2)] = 128,
        num_new: NonNegativeInt = 0,
        split_seed: NonNegativeInt = 0,
        channels: Literal[3] = 3,
        image_size: PositiveInt = 16,
        noise: NonNegativeFloat = 0.15,
        spread: Fraction = 0.85,
        train_size: PositiveInt = 20000,
        val_size: PositiveInt = 2000,
        moments_size: PositiveInt = 6000,
        test_size: PositiveInt = 4000,
        unused_size: PositiveInt = 4000,
    ) -> None:
        super().__init__(batch_size=batch_size, num_workers=num_workers, seed=seed)
        if world not in {"shapes", "patterns"}:
            raise ValueError(f"data.world is {world!r}, should be shapes or patterns")
        if num_classes + num_new > NUM_CLASSES:
            raise ValueError(
                f"data.num_classes is {num_classes}, data.num_new is {num_new}: the world has {NUM_CLASSES} classes"
            )
        if train_size < num_classes:
            raise ValueError(f"data.train_size is {train_size}: each of {num_classes} classes needs a training image")
        self.world, self.num_classes, self.num_new, self.split_seed = world, num_classes, num_new, split_seed
        self.image_shape, self.noise, self.spread = (channels, image_size, image_size), noise, spread
        # As many training images of a new class as of a trained one.
        new_fit = max(num_new, train_size * num_new // num_classes)
        counts = (train_size, val_size, moments_size, test_size, new_fit, test_size, unused_size)
        self.sizes = dict(zip(_SPLITS, counts, strict=True))
        self._drawn: dict[str, Images] = {}
        self.new_names = ["new_fit", "new_test"] if num_new else []
        self.ood_names = ["unused"] if num_classes + num_new < NUM_CLASSES else []
        self.test_names = ["moments", "test", *self.new_names, *self.ood_names]

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """The 256 classes of the world, trained ones first, then new ones; label k is class order[k] in every split."""
        return np.random.default_rng(self.split_seed).permutation(NUM_CLASSES)

    def _labels(self, split: str) -> NDArray[np.int64]:
        ends = np.cumsum([0, self.num_classes, self.num_new])
        first = ends[1] if split.startswith("new") else ends[2] if split == "unused" else 0
        last = {"unused": NUM_CLASSES, "new_fit": ends[2], "new_test": ends[2]}.get(split, ends[1])
        if first == last:
            raise ValueError(f"no class is left for {split}: lower data.num_classes or see data.num_new")
        return first + np.arange(self.sizes[split]) % (last - first)

    def source(self, name: str) -> Images:
        """Return a split, rendered once however often it is asked for.

        Raises:
            ValueError: if there are no classes for it.
        """
        if name not in self._drawn:
            labels = self._labels(name)
            seed = mix(self.seed, _SPLITS.index(name), 1)
            self._drawn[name] = Images(self._render(self.order[labels], seed), labels)
        return self._drawn[name]

    def _render(self, classes: NDArray[np.int64], seed: int) -> NDArray[np.uint8]:
        size = self.image_shape[1]
        if self.world == "patterns":
            return patterns.render(classes, seed, size, noise=self.noise)
        return shapes.render(classes, seed, size, noise=self.noise, spread=self.spread)

    def shared_attributes(self) -> NDArray[np.int64] | None:
        """Return how many attributes two trained or new classes share, int [K + new, K + new], None without any."""
        if self.world == "patterns":
            return None
        of = np.array([shapes.attributes(int(label)) for label in self.order[: self.num_classes + self.num_new]])
        return (of[:, None] == of[None]).sum(axis=2)

    def class_names(self) -> list[str]:
        """Return what every trained or new class is called, in the order of the labels."""
        chosen = self.order[: self.num_classes + self.num_new].tolist()
        return [str(shapes.attributes(k)) if self.world == "shapes" else f"pattern {k}" for k in chosen]

    def fingerprint(self) -> str:
        """Return a hash of the classes, the sizes and the renderer's first pictures."""
        picture = self._render(self.order[:8], self.seed)
        told = (self.world, self.num_classes, self.num_new, self.split_seed, self.seed, self.image_shape)
        return digest("many shapes", told, self.sizes, picture.tobytes().hex())

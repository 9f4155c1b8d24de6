"""Open-set recognition on rendered shapes: a scaled-down protocol (uosr §3.1).

One permutation splits the 256 classes of the world into 40 known, 40 unknown, 120 for pre-training and 56 for outlier
exposure. Images of the splits are drawn with seeds of their own, so no two splits share an image.
"""

from functools import cache
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from common.ranges import NonNegativeInt, PositiveInt
from datamodules.base import BaseDataModule, digest
from datamodules.loading import mix
from datamodules.memory import Images
from datamodules.worlds import shapes

# How many of the 256 classes each part gets, in the order of the permutation (§3.1).
PARTS = {"known": 40, "unknown": 40, "pretrain": 120, "outlier": 56}


@cache
def split_classes(split_seed: int) -> dict[str, NDArray[np.int64]]:
    """Return the classes of each part, all different."""
    order = np.random.default_rng(split_seed).permutation(shapes.NUM_CLASSES)
    ends = np.cumsum(list(PARTS.values()))
    return {name: order[end - PARTS[name] : end] for name, end in zip(PARTS, ends, strict=True)}


class ShapesOpenSet(BaseDataModule):
    """Rendered shapes with known and unknown classes.

    Labels run from 0 in each part, in the order of `split_classes`. Of every split, image k is of class k modulo the
    number of classes, so any number of images is balanced. Nuisance depends on `seed`, the split of the classes not.

    Args:
        batch_size: the GLOBAL batch; as many outliers come beside it.
        num_workers: loader processes of each rank; the images are in memory, so 0 is fastest.
        seed: seed of the nuisance of every image and of the sample order.
        role: "open_set" trains on the known classes; "pretrain" trains on the pre-training classes and takes its
            unknown ones from the outlier classes, so that the classes of the open-set test stay unseen.
        outliers: whether training batches hold images of the outlier classes.
        near_far_splits: whether the unknown classes are also tested as two halves, nearer to the known ones and farther
            from them, by how many known classes differ in one attribute only.
        split_seed: seed of the permutation of the classes.
        num_known: number of known classes, the first ones of their part.
        num_unknown: number of unknown classes, the first ones of their part.
        channels: colour channels of an image.
        image_size: side of an image in pixels.
        train_size: training images.
        val_size: validation images of the known classes.
        test_size: test images of the known classes, and as many of the unknown ones.
        reference_size: images of the unknown classes from which few-shot references are taken.
        outlier_size: images of the outlier classes.
    """

    offers: ClassVar = {
        "images": "",
        "color images": "",
        "classes": "",
        "unknown classes": "",
        "outliers": "outliers=true and role=open_set",
    }

    def __init__(
        self,
        *,
        batch_size: PositiveInt = 128,
        num_workers: NonNegativeInt = 0,
        seed: NonNegativeInt = 0,
        role: Literal["open_set", "pretrain"] = "open_set",
        outliers: bool = False,
        near_far_splits: bool = False,
        split_seed: NonNegativeInt = 0,
        num_known: PositiveInt = 40,
        num_unknown: PositiveInt = 40,
        channels: Literal[3] = 3,
        image_size: PositiveInt = 16,
        train_size: PositiveInt = 8000,
        val_size: PositiveInt = 2000,
        test_size: PositiveInt = 4000,
        reference_size: PositiveInt = 4000,
        outlier_size: PositiveInt = 8000,
    ) -> None:
        super().__init__(batch_size=batch_size, num_workers=num_workers, seed=seed)
        self.role, self.split_seed, self.num_known, self.num_unknown = role, split_seed, num_known, num_unknown
        self.image_shape = (channels, image_size, image_size)
        open_set = role == "open_set"
        if outliers and not open_set:
            raise ValueError("data.outliers=true goes with data.role=open_set only")
        known, unknown = ("known", "unknown") if open_set else ("pretrain", "outlier")
        for key, part, count in (("num_known", known, num_known), ("num_unknown", unknown, num_unknown)):
            if not 1 <= count <= PARTS[part]:
                raise ValueError(f"data.{key} is {count}: the {part} classes are {PARTS[part]}")
        # Of each split: which classes, and how many images.
        self._splits = {
            "train": (self._classes(known)[:num_known], train_size),
            "val": (self._classes(known)[:num_known], val_size),
            "known": (self._classes(known)[:num_known], test_size),
            "unknown": (self._classes(unknown)[:num_unknown], test_size),
            "references": (self._classes(unknown)[:num_unknown], reference_size),
            "outlier": (self._classes("outlier"), outlier_size),
        }
        self._drawn: dict[str, Images] = {}
        self.beside = ("outlier",) if outliers else ()
        self.ood_names = ["unknown", *(["unknown_near", "unknown_far"] if near_far_splits else [])]
        self.reference_ood = "unknown" if open_set else None
        self.test_names = ["train", "known", *self.ood_names, *(["references"] if open_set else [])]

    def _classes(self, part: str) -> NDArray[np.int64]:
        return split_classes(self.split_seed)[part]

    def _draw(self, split: str) -> Images:
        """Return a split, rendered once however often it is asked for."""
        if split not in self._drawn:
            classes, count = self._splits[split]
            labels = np.arange(count) % len(classes)
            seed = mix(self.seed, list(self._splits).index(split), self.role == "pretrain")
            self._drawn[split] = Images(shapes.render(classes[labels], seed, self.image_shape[1]), labels)
        return self._drawn[split]

    def nearness(self) -> NDArray[np.int64]:
        """Return of each unknown class [num_unknown] how many known classes share two of its three attributes."""
        known = self._splits["known"][0].tolist()
        return np.array([shapes.neighbours(label, known) for label in self._splits["unknown"][0].tolist()])

    def source(self, name: str) -> Images:
        """Return a split; "fit" and "train" are the same images, as the nuisance is all the augmentation there is."""
        if name in {"unknown_near", "unknown_far"}:
            unknown = self._draw("unknown")
            ranks = np.argsort(np.argsort(-self.nearness(), kind="stable"))
            near = ranks[unknown.labels] < self.num_unknown // 2
            return unknown.where(near if name == "unknown_near" else ~near)
        return self._draw("train" if name == "fit" else name)

    def fingerprint(self) -> str:
        """Return a hash of the classes, the sizes and the renderer's first pictures."""
        sizes = {name: (classes.tolist(), count) for name, (classes, count) in self._splits.items()}
        picture = shapes.sheet(self._splits["train"][0][:8].tolist(), 2, seed=self.seed, zoom=1)
        return digest("shapes", self.role, self.seed, self.image_shape, sizes, picture.tobytes().hex())

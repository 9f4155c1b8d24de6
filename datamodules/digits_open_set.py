"""Open-set recognition on handwritten digits: the 1,797 images of 8 x 8 pixels that come with scikit-learn."""

from functools import cached_property
from typing import Annotated, ClassVar, Literal

import numpy as np

from common.ranges import NonNegativeInt, PositiveInt, Range
from datamodules.base import BaseDataModule, digest
from datamodules.loading import mix
from datamodules.memory import Images, first_of_each


class DigitsOpenSet(BaseDataModule):
    """Ten digits, of which some are known and the others unknown; which ones is drawn by `seed`.

    Every class is split by itself. Images that equal an earlier one pixel by pixel are left out first, so that no two
    splits share an image.

    Args:
        batch_size: the GLOBAL batch.
        num_workers: loader processes of each rank; the images are in memory, so 0 is fastest.
        seed: seed of the choice of classes, of the splits and of the sample order.
        num_known: number of known digits, of ten.
        channels: the images are grey.
        image_size: side of an image in pixels.
        val_fraction: share of a known class kept for validation.
        test_fraction: share of a known class kept for the test.
        reference_fraction: share of an unknown class from which few-shot references are taken; the rest is the test.
    """

    offers: ClassVar = {"images": "", "classes": "", "unknown classes": ""}

    def __init__(
        self,
        *,
        batch_size: PositiveInt = 64,
        num_workers: NonNegativeInt = 0,
        seed: NonNegativeInt = 0,
        num_known: Annotated[int, Range(low=1, high=9)] = 6,
        channels: Literal[1] = 1,
        image_size: Literal[8] = 8,
        val_fraction: Annotated[float, Range(above=0, below=1)] = 0.1,
        test_fraction: Annotated[float, Range(above=0, below=1)] = 0.3,
        reference_fraction: Annotated[float, Range(above=0, below=1)] = 0.4,
    ) -> None:
        super().__init__(batch_size=batch_size, num_workers=num_workers, seed=seed)
        if val_fraction + test_fraction >= 1:
            raise ValueError(
                f"data.val_fraction + data.test_fraction is {val_fraction + test_fraction}, which leaves no training"
            )
        self.num_known, self.image_shape = num_known, (channels, image_size, image_size)
        self.shares = {"val": val_fraction, "test": test_fraction, "references": reference_fraction}
        self.ood_names = ["unknown"]
        self.reference_ood = "unknown"
        self.test_names = ["train", "known", "unknown", "references"]

    @cached_property
    def _splits(self) -> dict[str, Images]:
        from sklearn.datasets import load_digits

        digits = load_digits()
        kept = first_of_each(digits.images.astype(np.uint8))
        pixels, labels = digits.images[kept].astype(np.uint8)[:, None], digits.target[kept]
        rng = np.random.default_rng(mix(self.seed, 0))
        chosen: dict[str, list[np.ndarray]] = {name: [] for name in ("train", "val", "known", "unknown", "references")}
        numbers = np.empty_like(labels)
        for place, digit in enumerate(rng.permutation(10)):
            members = rng.permutation(np.flatnonzero(labels == digit))
            known = place < self.num_known
            numbers[members] = place if known else place - self.num_known
            for name, part in self._cut(members, known=known).items():
                chosen[name].append(part)
        everything = Images(pixels, numbers, white=16)
        return {name: everything.where(np.concatenate(parts)) for name, parts in chosen.items()}

    def _cut(self, members: np.ndarray, *, known: bool) -> dict[str, np.ndarray]:
        """Return the splits of the images of one class."""
        count = len(members)
        if not known:
            references = round(count * self.shares["references"])
            return {"references": members[:references], "unknown": members[references:]}
        val, test = round(count * self.shares["val"]), round(count * self.shares["test"])
        return {"val": members[:val], "known": members[val : val + test], "train": members[val + test :]}

    def source(self, name: str) -> Images:
        """Return a split; "fit" and "train" are the same images, there is no augmentation."""
        return self._splits["train" if name == "fit" else name]

    def fingerprint(self) -> str:
        """Return a hash of the images of every split."""
        return digest("digits", {name: split.pixels.tobytes().hex() for name, split in self._splits.items()})

"""Classification on CIFAR-100 as distributed, enlarged for a pre-trained backbone (u_tuning §3.3)."""

from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from torchvision.transforms import v2

from common.ranges import NonNegativeInt, PositiveInt
from datamodules.base import BaseDataModule, digest
from datamodules.formats.cifar import read_cifar100
from datamodules.memory import Augmented
from datamodules.transforms import check_input, direct_resize

FOLDER = "cifar-100-python"
FILES = ("train", "test", "meta")


class Cifar100(BaseDataModule):
    """CIFAR-100 with its official test, and a part of the official training images held out as "val".

    Args:
        batch_size: the GLOBAL batch.
        num_workers: loader processes of each rank; the images are enlarged one by one.
        seed: seed of the sample order and of the augmentation.
        root: folder that holds `cifar-100-python/`.
        num_classes: classes of CIFAR-100.
        channels: colour channels of an image.
        image_size: side of the images the network sees, enlarged from 32.
        augmentation: "crop" moves training images by up to 4 of 32 pixels and flips half of them; "resize" does not.
        val_size: training images held out for validation, the same number of every class.
        split_seed: seed of the choice of these.
        mean: what is taken from each channel, in 0..1, or null (with `std`) for that of the backbone's pre-training.
        std: what each channel is then divided by.
    """

    offers: ClassVar = {"images": "", "color images": "", "classes": ""}

    def __init__(
        self,
        *,
        batch_size: PositiveInt = 128,
        num_workers: NonNegativeInt = 4,
        seed: NonNegativeInt = 0,
        root: str = "data",
        num_classes: Literal[100] = 100,
        channels: Literal[3] = 3,
        image_size: PositiveInt = 224,
        augmentation: Literal["crop", "resize"] = "crop",
        val_size: PositiveInt = 5000,
        split_seed: NonNegativeInt = 0,
        mean: list[float] | None = None,
        std: list[float] | None = None,
    ) -> None:
        super().__init__(batch_size=batch_size, num_workers=num_workers, seed=seed)
        self.statistics = check_input(channels, image_size, mean, std)
        if not 0 < val_size < 50000 or val_size % num_classes:
            raise ValueError(f"data.val_size is {val_size}, should be a multiple of {num_classes} between 0 and 50000")
        self.root, self.num_classes, self.val_size, self.split_seed = Path(root), num_classes, val_size, split_seed
        self.augmentation, self.image_shape = augmentation, (channels, image_size, image_size)
        self.test_names = ["test"]

    def check(self) -> None:
        """Raise FileNotFoundError if a file is not there, with what is expected and where."""
        if not all((self.root / FOLDER / name).is_file() for name in FILES):
            layout = f"{FOLDER}/{{{','.join(FILES)}}}"
            raise FileNotFoundError(f"no {FOLDER} under data.root={self.root}; expected there: {layout}")

    def fingerprint(self) -> str:
        """Return a hash of the names and sizes of the files, of the split, and of how images are prepared."""
        sizes = {name: (self.root / FOLDER / name).stat().st_size for name in FILES}
        prepared = (self.image_shape, self.augmentation, self.statistics)
        return digest("cifar100 closed", self.val_size, self.split_seed, prepared, sizes)

    @cached_property
    def _train(self) -> dict[str, tuple[NDArray[np.uint8], NDArray[np.int64]]]:
        pixels, labels = read_cifar100(self.root / FOLDER / "train")
        rng = np.random.default_rng(self.split_seed)
        per_class = self.val_size // self.num_classes
        members = [rng.permutation(np.flatnonzero(labels == number)) for number in range(self.num_classes)]
        if min(map(len, members)) <= per_class:
            raise ValueError(f"data.val_size is {self.val_size}, which leaves a class nothing to train on")
        val = np.sort(np.concatenate([of_class[:per_class] for of_class in members]))
        fit = np.setdiff1d(np.arange(len(labels)), val)
        return {"fit": (pixels[fit], labels[fit]), "val": (pixels[val], labels[val])}

    def source(self, name: str) -> Augmented:
        """Return "fit", "val" or "test"; only the first is augmented."""
        moved = name == "fit" and self.augmentation == "crop"
        before = [v2.RandomCrop(32, padding=4), v2.RandomHorizontalFlip()] if moved else []
        transform = direct_resize(self.image_shape[1], before)
        images = read_cifar100(self.root / FOLDER / "test") if name == "test" else self._train[name]
        return Augmented(*images, transform)

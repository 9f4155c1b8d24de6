"""Classification on a task of VTAB-1k: 1,000 training pictures and the whole test (u_tuning §3.3)."""

from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from common.ranges import NonNegativeInt, PositiveInt
from datamodules.base import BaseDataModule, digest
from datamodules.formats.vtab import LISTS, read_list
from datamodules.pictures import Pictures, check_pictures
from datamodules.transforms import check_input, direct_resize

# By the name of the task's folder.
NUM_CLASSES = {
    "caltech101": 102,
    "cifar": 100,
    "dtd": 47,
    "oxford_flowers102": 102,
    "oxford_iiit_pet": 37,
    "sun397": 397,
    "svhn": 10,
    "patch_camelyon": 2,
    "eurosat": 10,
    "resisc45": 45,
    "diabetic_retinopathy": 5,
    "clevr_count": 8,
    "clevr_dist": 6,
    "dmlab": 6,
    "kitti": 4,
    "dsprites_loc": 16,
    "dsprites_ori": 16,
    "smallnorb_azi": 18,
    "smallnorb_ele": 9,
}


class Vtab1k(BaseDataModule):
    """One task, its pictures resized to a square without keeping their shape and without any augmentation.

    Args:
        batch_size: the GLOBAL batch.
        num_workers: loader processes of each rank.
        seed: seed of the sample order.
        task: name of the task's folder.
        num_classes: classes of the task.
        root: folder that holds the tasks' folders.
        train_on_val: whether training takes all 1,000 pictures, "val" among them, so that its figures choose nothing
            any more.
        channels: colour channels of an image.
        image_size: side of the images the network sees.
        mean: what is taken from each channel, in 0..1, or null (with `std`) for that of the backbone's pre-training.
        std: what each channel is then divided by.
    """

    offers: ClassVar = {"images": "", "color images": "", "classes": ""}

    def __init__(
        self,
        *,
        batch_size: PositiveInt = 64,
        num_workers: NonNegativeInt = 4,
        seed: NonNegativeInt = 0,
        task: str = "cifar",
        num_classes: PositiveInt = 100,
        root: str = "data/vtab-1k",
        train_on_val: bool = False,
        channels: Literal[3] = 3,
        image_size: PositiveInt = 224,
        mean: list[float] | None = None,
        std: list[float] | None = None,
    ) -> None:
        super().__init__(batch_size=batch_size, num_workers=num_workers, seed=seed)
        if task not in NUM_CLASSES:
            raise ValueError(f"data.task is {task!r}, should be one of {', '.join(NUM_CLASSES)}")
        if num_classes != NUM_CLASSES[task]:
            raise ValueError(f"data.num_classes is {num_classes}, but {task} has {NUM_CLASSES[task]} classes")
        self.statistics = check_input(channels, image_size, mean, std)
        self.root, self.task, self.num_classes, self.train_on_val = Path(root), task, num_classes, train_on_val
        self.image_shape = (channels, image_size, image_size)
        self.test_names = ["test"]

    def check(self) -> None:
        """Raise FileNotFoundError if lists or pictures are not there, ValueError if the lists are wrong."""
        layout = f"expected there: {self.task}/{{{','.join(LISTS)}}} and the pictures that they name"
        missing = [name for name in LISTS if not (self.root / self.task / name).is_file()]
        if missing:
            raise FileNotFoundError(f"no {self.task}/{missing[0]} under data.root={self.root}; {layout}")
        check_pictures(dict.fromkeys(path for paths, _ in self._lists.values() for path in paths), layout)

    @cached_property
    def _lists(self) -> dict[str, tuple[list[Path], NDArray[np.int64]]]:
        lists = {name: read_list(self.root / self.task / name, self.num_classes) for name in LISTS}
        train, val, both, test = (set(lists[name][0]) for name in LISTS)
        if train & val or (train | val | both) & test:
            raise ValueError(f"the lists in {self.root / self.task} name a picture in two splits, see test.txt")
        return lists

    def fingerprint(self) -> str:
        """Return a hash of the pictures' names and labels in every list, and of how they are prepared."""
        lists = {
            name: ([path.relative_to(self.root).as_posix() for path in paths], labels.tolist())
            for name, (paths, labels) in self._lists.items()
        }
        return digest("vtab", self.task, self.train_on_val, self.image_shape, self.statistics, lists)

    def source(self, name: str) -> Pictures:
        """Return "fit", "val" or "test"."""
        fit = "train800val200.txt" if self.train_on_val else "train800.txt"
        paths, labels = self._lists[{"fit": fit, "val": "val200.txt", "test": "test.txt"}[name]]
        return Pictures(paths, labels, direct_resize(self.image_shape[1]))
